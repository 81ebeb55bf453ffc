//! `wait()`: counts futures of ours that are done, and wakes the task that waits for enough of
//! them.
//!
//! The coroutine is in `python/oxlip/_groups.py`. Other futures, and invalid arguments, are left to
//! asyncio.

use std::mem;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFrozenSet, PyList, PySet, PyString, PyTuple};

use super::{Any, Slot, held, nothing, shown, wake};
use crate::counts::{Counted, Kind};
use crate::fields::{Fields, has_fields, hold};
use crate::loop_::fastcall;
use crate::tasks::part;
use crate::tasks::told::{self, Ended, Told};
use crate::{context, ffi, names};

/// What it waits for.
#[derive(Clone, Copy, PartialEq)]
enum Until {
    AllCompleted,
    FirstCompleted,
    FirstException,
}

/// One call.
#[pyclass(frozen, module = "oxlip._native")]
pub(crate) struct Waiting {
    fields: Fields<WaitingFields>,
    _counted: Counted,
}

pub(crate) struct WaitingFields {
    futures: Option<Py<PySet>>,
    waiter: Slot,
    timer: Slot,
    context: Slot,
    /// The task that waits, on releases on which asyncio records it in what it waits for.
    caller: Slot,
    until: Until,
    /// How many have not ended.
    left: usize,
}

has_fields!(Waiting, WaitingFields);

#[pymethods]
impl Waiting {
    /// Makes one for a collection of our futures; None for anything else.
    #[staticmethod]
    #[pyo3(signature = (futures, return_when, /))]
    fn of<'py>(futures: &Any<'py>, return_when: &Any<'py>) -> PyResult<Option<Bound<'py, Self>>> {
        let py = futures.py();
        let Ok(return_when) = return_when.cast_exact::<PyString>() else {
            return Ok(None);
        };
        let until = match return_when.to_str()? {
            "ALL_COMPLETED" => Until::AllCompleted,
            "FIRST_COMPLETED" => Until::FirstCompleted,
            "FIRST_EXCEPTION" => Until::FirstException,
            _ => return Ok(None),
        };
        let is_plain = futures.is_exact_instance_of::<PyList>()
            || futures.is_exact_instance_of::<PySet>()
            || futures.is_exact_instance_of::<PyTuple>()
            || futures.is_exact_instance_of::<PyFrozenSet>();
        if !is_plain || futures.len()? == 0 {
            return Ok(None);
        }
        for future in futures.try_iter()? {
            if !told::is_known(&future?) {
                return Ok(None);
            }
        }
        let futures: Bound<'py, PySet> = py.get_type::<PySet>().call1((futures,))?.cast_into()?;
        let fields = WaitingFields {
            left: futures.len(),
            futures: Some(futures.unbind()),
            waiter: None,
            timer: None,
            context: None,
            caller: None,
            until,
        };
        let waiting = Self {
            fields: Fields::new(fields),
            _counted: Counted::new(Kind::Waiting),
        };
        Bound::new(py, waiting).map(Some)
    }

    /// The future that is done when enough of the others are, or after `timeout` seconds.
    #[pyo3(signature = (event_loop, timeout, /))]
    fn begin<'py>(
        slf: &Bound<'py, Self>,
        event_loop: &Any<'py>,
        timeout: &Any<'py>,
    ) -> PyResult<Any<'py>> {
        let py = slf.py();
        let waiter = fastcall::create_future(event_loop)?;
        let timer = if timeout.is_none() {
            None
        } else {
            let release = names::RELEASE_WAITER.get(py)?;
            let name = intern!(py, "call_later");
            Some(ffi::call_method(
                name,
                [event_loop, timeout, release, &waiter],
            )?)
        };
        let context = context::copy_current(py)?;
        let caller = part::caller(py)?;
        let before = {
            let mut this = hold(slf);
            (
                this.waiter.replace(waiter.clone().unbind()),
                mem::replace(&mut this.timer, timer.map(Bound::unbind)),
                this.context.replace(context.clone_ref(py)),
                mem::replace(
                    &mut this.caller,
                    caller.as_ref().map(|it| it.clone().unbind()),
                ),
            )
        };
        drop(before);
        for future in Self::futures(slf) {
            let told = Told::Wait(slf.clone().unbind());
            told::tell(&future, told, context.clone_ref(py))?;
            if let Some(caller) = &caller {
                part::is_awaited(&future, caller)?;
            }
        }
        Ok(waiter)
    }

    /// Nobody waits any more.
    fn end(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::cancel_timer(slf)?;
        let told = Told::Wait(slf.clone().unbind());
        for future in Self::futures(slf) {
            told::tell_no_more(&future, &told);
            Self::is_awaited_no_more(slf, &future)?;
        }
        Ok(())
    }

    /// The futures that are done, and the others.
    fn split<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PySet>, Bound<'py, PySet>)> {
        let py = slf.py();
        let (done, pending) = (PySet::empty(py)?, PySet::empty(py)?);
        for future in Self::futures(slf) {
            if told::is_done(&future)? {
                done.add(future)?;
            } else {
                pending.add(future)?;
            }
        }
        Ok((done, pending))
    }

    fn __call__(slf: &Bound<'_, Self>, future: &Any<'_>) -> PyResult<()> {
        Self::is_done(slf, future)
    }

    /// How asyncio shows it among the callbacks of a future.
    #[getter]
    fn __qualname__(&self) -> &'static str {
        "_wait.<locals>._on_completion"
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.fields.traverse(&visit, |fields, visit| {
            visit.call(&fields.futures)?;
            visit.call(&fields.waiter)?;
            visit.call(&fields.timer)?;
            visit.call(&fields.context)?;
            visit.call(&fields.caller)
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let _taken = {
            let mut this = hold(slf);
            (
                this.futures.take(),
                this.waiter.take(),
                this.timer.take(),
                this.context.take(),
                this.caller.take(),
            )
        };
    }
}

impl Waiting {
    /// Counts a future that is done. Returns false, without counting, if that may be enough.
    ///
    /// # Errors
    /// Out of memory.
    #[inline]
    pub(crate) fn count(slf: &Bound<'_, Self>, future: &Any<'_>, failed: bool) -> PyResult<bool> {
        {
            let mut this = hold(slf);
            let enough = this.left <= 1
                || match this.until {
                    Until::AllCompleted => false,
                    Until::FirstCompleted => true,
                    Until::FirstException => failed,
                };
            if enough {
                return Ok(false);
            }
            this.left -= 1;
        }
        Self::is_awaited_no_more(slf, future)?;
        Ok(true)
    }

    #[inline]
    fn is_awaited_no_more(slf: &Bound<'_, Self>, future: &Any<'_>) -> PyResult<()> {
        if !part::IS_KEPT {
            return Ok(());
        }
        let caller = held(slf.py(), &hold(slf).caller);
        caller.map_or(Ok(()), |caller| part::is_awaited_no_more(future, &caller))
    }

    pub(crate) fn context<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        shown(slf.py(), &hold(slf).context)
    }

    /// A future is done: that may be enough.
    ///
    /// # Errors
    /// What the timer raises, and the future that is waited for.
    pub(crate) fn is_done(slf: &Bound<'_, Self>, future: &Any<'_>) -> PyResult<()> {
        let (left, until) = {
            let mut this = hold(slf);
            this.left = this.left.saturating_sub(1);
            (this.left, this.until)
        };
        let enough = left == 0
            || until == Until::FirstCompleted
            || until == Until::FirstException
                && matches!(told::how_ended(future)?, Ended::WithException(_));
        if enough {
            Self::cancel_timer(slf)?;
            let waiter = held(slf.py(), &hold(slf).waiter);
            if let Some(waiter) = waiter {
                wake(&waiter, &nothing(slf.py()))?;
            }
        }
        Self::is_awaited_no_more(slf, future)
    }

    fn cancel_timer(slf: &Bound<'_, Self>) -> PyResult<()> {
        let timer = held(slf.py(), &hold(slf).timer);
        match timer {
            Some(timer) => ffi::call_method(intern!(slf.py(), "cancel"), [&timer]).map(drop),
            None => Ok(()),
        }
    }

    /// All of them, in the set's order.
    fn futures<'py>(slf: &Bound<'py, Self>) -> Vec<Any<'py>> {
        let py = slf.py();
        let futures = hold(slf).futures.as_ref().map(|it| it.bind(py).clone());
        futures.map_or_else(Vec::new, |futures| futures.iter().collect())
    }
}
