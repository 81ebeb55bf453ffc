//! `Queue`: its items, who waits for one, and who waits for room.

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyTuple};

use super::{Any, Slot, filled, held, is_exactly, new_waiter, shown, wake};
use crate::counts::{Counted, Kind};
use crate::fields::{Fields, has_fields, hold};
use crate::{ffi, names};

/// The native half of `oxlip.Queue`.
#[pyclass(frozen, subclass, module = "oxlip._native")]
pub(crate) struct Queue {
    fields: Fields<QueueFields>,
    _counted: Counted,
}

pub(crate) struct QueueFields {
    /// A deque, unless the program has set something else.
    items: Slot,
    /// Deques of futures.
    getters: Slot,
    putters: Slot,
    /// The event that there are no unfinished tasks.
    finished: Slot,
    event_loop: Slot,
    /// As the program gave it.
    maxsize: Slot,
    /// How many items it may hold, if that is an `int` of usual size.
    capacity: Option<usize>,
    unfinished: i64,
    shut_down: bool,
}

has_fields!(Queue, QueueFields);

/// Why a native method leaves the call to asyncio's.
enum Outcome<T> {
    Done(T),
    /// It is full, or empty.
    NotNow,
    /// Its class, capacity or container is not as in asyncio's `Queue`, or it is shut down.
    Stock,
}

#[pymethods]
impl Queue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            fields: Fields::new(QueueFields {
                items: None,
                getters: None,
                putters: None,
                finished: None,
                event_loop: None,
                maxsize: None,
                capacity: None,
                unfinished: 0,
                shut_down: false,
            }),
            _counted: Counted::new(Kind::Queue),
        }
    }

    /// Puts an item in.
    fn put_nowait(slf: &Bound<'_, Self>, item: &Any<'_>) -> PyResult<()> {
        let py = slf.py();
        match Self::put_in(slf, item)? {
            Outcome::Done(()) => Ok(()),
            Outcome::NotNow => Err(crate::ffi::raise(&names::QUEUE_FULL.get(py)?.call0()?)),
            Outcome::Stock => {
                let stock = names::STOCK_QUEUE.get(py)?;
                stock
                    .call_method1(intern!(py, "put_nowait"), (slf, item))
                    .map(drop)
            }
        }
    }

    /// Takes an item out.
    fn get_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        let py = slf.py();
        match Self::take_out(slf)? {
            Outcome::Done(item) => Ok(item),
            Outcome::NotNow => Err(crate::ffi::raise(&names::QUEUE_EMPTY.get(py)?.call0()?)),
            Outcome::Stock => {
                let stock = names::STOCK_QUEUE.get(py)?;
                stock.call_method1(intern!(py, "get_nowait"), (slf,))
            }
        }
    }

    /// Notes that an item that was taken out has been processed.
    fn task_done(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if !is_exactly(slf, &names::OUR_QUEUE)? {
            let stock = names::STOCK_QUEUE.get(py)?;
            return stock
                .call_method1(intern!(py, "task_done"), (slf,))
                .map(drop);
        }
        let finished = {
            let mut this = hold(slf);
            if this.unfinished <= 0 {
                return Err(PyValueError::new_err("task_done() called too many times"));
            }
            this.unfinished -= 1;
            if this.unfinished > 0 {
                return Ok(());
            }
            shown(py, &this.finished)
        };
        ffi::call_method(intern!(py, "set"), [&finished]).map(drop)
    }

    /// Puts an item in if there is room.
    fn _put_soon(slf: &Bound<'_, Self>, item: &Any<'_>) -> PyResult<bool> {
        Ok(matches!(Self::put_in(slf, item)?, Outcome::Done(())))
    }

    /// An item, or the object that stands for "no item".
    fn _get_soon<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        match Self::take_out(slf)? {
            Outcome::Done(item) => Ok(item),
            Outcome::NotNow | Outcome::Stock => names::NO_ITEM.get(slf.py()).cloned(),
        }
    }

    /// Appends a future to those that wait for room; `None` if that is left to asyncio.
    fn _putter<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Any<'py>>> {
        Self::arrival(slf, |this| &this.putters)
    }

    /// The same for those that wait for an item.
    fn _getter<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Any<'py>>> {
        Self::arrival(slf, |this| &this.getters)
    }

    // asyncio's attributes.

    #[getter(_queue)]
    fn items<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        shown(slf.py(), &hold(slf).items)
    }

    #[setter(_queue)]
    fn set_items(slf: &Bound<'_, Self>, items: Option<Py<PyAny>>) {
        let _before = std::mem::replace(&mut hold(slf).items, items);
    }

    #[getter(_getters)]
    fn getters<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        shown(slf.py(), &hold(slf).getters)
    }

    #[setter(_getters)]
    fn set_getters(slf: &Bound<'_, Self>, getters: Option<Py<PyAny>>) {
        let _before = std::mem::replace(&mut hold(slf).getters, getters);
    }

    #[getter(_putters)]
    fn putters<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        shown(slf.py(), &hold(slf).putters)
    }

    #[setter(_putters)]
    fn set_putters(slf: &Bound<'_, Self>, putters: Option<Py<PyAny>>) {
        let _before = std::mem::replace(&mut hold(slf).putters, putters);
    }

    #[getter(_finished)]
    fn finished<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        shown(slf.py(), &hold(slf).finished)
    }

    #[setter(_finished)]
    fn set_finished(slf: &Bound<'_, Self>, finished: Option<Py<PyAny>>) {
        let _before = std::mem::replace(&mut hold(slf).finished, finished);
    }

    #[getter(_loop)]
    fn event_loop<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        shown(slf.py(), &hold(slf).event_loop)
    }

    #[setter(_loop)]
    fn set_event_loop(slf: &Bound<'_, Self>, event_loop: Option<Py<PyAny>>) {
        let _before = std::mem::replace(&mut hold(slf).event_loop, event_loop);
    }

    #[getter(_maxsize)]
    fn maxsize<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        shown(slf.py(), &hold(slf).maxsize)
    }

    #[setter(_maxsize)]
    fn set_maxsize(slf: &Bound<'_, Self>, maxsize: Any<'_>) {
        let size: Option<i64> = maxsize
            .cast_exact::<PyInt>()
            .ok()
            .and_then(|size| size.extract().ok());
        let capacity = size.map(|size| match usize::try_from(size) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(size) => size,
        });
        let _before = {
            let mut this = hold(slf);
            this.capacity = capacity;
            this.maxsize.replace(maxsize.unbind())
        };
    }

    #[getter(_unfinished_tasks)]
    fn unfinished(slf: &Bound<'_, Self>) -> i64 {
        hold(slf).unfinished
    }

    #[setter(_unfinished_tasks)]
    fn set_unfinished(slf: &Bound<'_, Self>, unfinished: i64) {
        hold(slf).unfinished = unfinished;
    }

    #[getter(_is_shutdown)]
    fn shut_down(slf: &Bound<'_, Self>) -> bool {
        hold(slf).shut_down
    }

    #[setter(_is_shutdown)]
    fn set_shut_down(slf: &Bound<'_, Self>, shut_down: bool) {
        hold(slf).shut_down = shut_down;
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.fields.traverse(&visit, |fields, visit| {
            visit.call(&fields.items)?;
            visit.call(&fields.getters)?;
            visit.call(&fields.putters)?;
            visit.call(&fields.finished)?;
            visit.call(&fields.event_loop)?;
            visit.call(&fields.maxsize)
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let _taken = {
            let this = &mut *hold(slf);
            [
                this.items.take(),
                this.getters.take(),
                this.putters.take(),
                this.finished.take(),
                this.event_loop.take(),
                this.maxsize.take(),
            ]
        };
    }
}

impl Queue {
    /// The items, if the native methods may handle this queue.
    #[inline]
    fn ours<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Any<'py>>> {
        let py = slf.py();
        if !is_exactly(slf, &names::OUR_QUEUE)? || hold(slf).shut_down {
            return Ok(None);
        }
        let items = held(py, &hold(slf).items);
        match items {
            Some(items) if is_exactly(&items, &names::DEQUE)? => Ok(Some(items)),
            _ => Ok(None),
        }
    }

    fn put_in(slf: &Bound<'_, Self>, item: &Any<'_>) -> PyResult<Outcome<()>> {
        let py = slf.py();
        let (Some(items), Some(capacity)) = (Self::ours(slf)?, hold(slf).capacity) else {
            return Ok(Outcome::Stock);
        };
        if items.len()? >= capacity {
            return Ok(Outcome::NotNow);
        }
        ffi::call_method(intern!(py, "append"), [&items, item])?;
        let (getters, finished) = {
            let mut this = hold(slf);
            this.unfinished += 1;
            // While there are unfinished tasks, it is clear already.
            let finished = (this.unfinished <= 1).then(|| shown(py, &this.finished));
            (held(py, &this.getters), finished)
        };
        if let Some(finished) = finished {
            ffi::call_method(intern!(py, "clear"), [&finished])?;
        }
        wake_first(getters)?;
        Ok(Outcome::Done(()))
    }

    fn take_out<'py>(slf: &Bound<'py, Self>) -> PyResult<Outcome<Any<'py>>> {
        let py = slf.py();
        let Some(items) = Self::ours(slf)? else {
            return Ok(Outcome::Stock);
        };
        if items.len()? == 0 {
            return Ok(Outcome::NotNow);
        }
        let item = ffi::call_method(intern!(py, "popleft"), [&items])?;
        let putters = held(py, &hold(slf).putters);
        wake_first(putters)?;
        Ok(Outcome::Done(item))
    }

    fn arrival<'py>(
        slf: &Bound<'py, Self>,
        waiters: impl FnOnce(&QueueFields) -> &Slot,
    ) -> PyResult<Option<Any<'py>>> {
        let py = slf.py();
        if Self::ours(slf)?.is_none() {
            return Ok(None);
        }
        let (waiters, bound) = {
            let this = hold(slf);
            if this.capacity.is_none() {
                return Ok(None);
            }
            (shown(py, waiters(&this)), held(py, &this.event_loop))
        };
        let waiter = new_waiter(slf, bound)?;
        ffi::call_method(intern!(py, "append"), [&waiters, &waiter])?;
        Ok(Some(waiter))
    }
}

/// Wakes the first waiter that is not done yet; those before it are forgotten.
#[inline]
fn wake_first(waiters: Option<Any<'_>>) -> PyResult<()> {
    let Some(waiters) = filled(waiters)? else {
        return Ok(());
    };
    let py = waiters.py();
    while waiters.len()? > 0 {
        let waiter = ffi::call_method(intern!(py, "popleft"), [&waiters])?;
        if wake(&waiter, &py.None().into_bound(py))? {
            break;
        }
    }
    Ok(())
}
