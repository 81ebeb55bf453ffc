//! `Lock`: whether it is taken, and who waits for it.

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::{
    Any, Slot, filled, held, is_exactly, new_waiter, no_arguments, nothing, read, shown, wake,
    write,
};
use crate::counts::{Counted, Kind};
use crate::{ffi, names};

/// The native half of `oxlip.Lock`.
#[pyclass(subclass, module = "oxlip._native")]
pub(crate) struct Lock {
    locked: bool,
    /// A deque of futures, none before the first.
    waiters: Slot,
    event_loop: Slot,
    _counted: Counted,
}

#[pymethods]
impl Lock {
    /// Arguments are those of a derived class.
    #[new]
    #[classmethod]
    #[pyo3(signature = (*args, **kwargs))]
    fn new(
        cls: &Bound<'_, PyType>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        no_arguments(cls, &names::OUR_LOCK, &names::STOCK_LOCK, args, kwargs)?;
        Ok(Self {
            locked: false,
            waiters: None,
            event_loop: None,
            _counted: Counted::new(Kind::Lock),
        })
    }

    /// Takes it if it is free and nobody has waited longer. Never of a derived class.
    fn _take(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if !is_exactly(slf, &names::OUR_LOCK)? || read(slf).locked {
            return Ok(false);
        }
        if let Some(waiters) = Self::waiting(slf)? {
            for waiter in waiters.try_iter()? {
                if !ffi::call_method(intern!(slf.py(), "cancelled"), [&waiter?])?.is_truthy()? {
                    return Ok(false);
                }
            }
        }
        write(slf).locked = true;
        Ok(true)
    }

    /// A future that is the last of the waiters.
    fn _arrival<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        let py = slf.py();
        let (waiters, bound) = {
            let this = read(slf);
            (held(py, &this.waiters), held(py, &this.event_loop))
        };
        let waiters = match waiters {
            Some(waiters) => waiters,
            None => {
                let waiters = names::DEQUE.get(py)?.call0()?;
                write(slf).waiters = Some(waiters.clone().unbind());
                waiters
            }
        };
        let waiter = new_waiter(slf, bound)?;
        ffi::call_method(intern!(py, "append"), [&waiters, &waiter])?;
        Ok(waiter)
    }

    fn locked(slf: &Bound<'_, Self>) -> bool {
        read(slf).locked
    }

    /// Gives it back, and wakes who has waited longest.
    fn release(slf: &Bound<'_, Self>) -> PyResult<()> {
        if is_exactly(slf, &names::OUR_LOCK)? {
            return Self::give_back(slf);
        }
        let stock = names::STOCK_LOCK.get(slf.py())?;
        stock
            .call_method1(intern!(slf.py(), "release"), (slf,))
            .map(drop)
    }

    // asyncio's attributes.

    #[getter(_locked)]
    fn get_locked(slf: &Bound<'_, Self>) -> bool {
        read(slf).locked
    }

    #[setter(_locked)]
    fn set_locked(slf: &Bound<'_, Self>, locked: &Any<'_>) -> PyResult<()> {
        let locked = locked.is_truthy()?;
        write(slf).locked = locked;
        Ok(())
    }

    #[getter(_waiters)]
    fn waiters<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        shown(slf.py(), &read(slf).waiters)
    }

    #[setter(_waiters)]
    fn set_waiters(slf: &Bound<'_, Self>, waiters: Option<Py<PyAny>>) {
        let _before = std::mem::replace(&mut write(slf).waiters, waiters);
    }

    #[getter(_loop)]
    fn event_loop<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        shown(slf.py(), &read(slf).event_loop)
    }

    #[setter(_loop)]
    fn set_event_loop(slf: &Bound<'_, Self>, event_loop: Option<Py<PyAny>>) {
        let _before = std::mem::replace(&mut write(slf).event_loop, event_loop);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.waiters)?;
        visit.call(&self.event_loop)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let _held = {
            let mut this = write(slf);
            (this.waiters.take(), this.event_loop.take())
        };
    }
}

impl Lock {
    fn waiting<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Any<'py>>> {
        let waiters = held(slf.py(), &read(slf).waiters);
        filled(waiters)
    }

    fn give_back(slf: &Bound<'_, Self>) -> PyResult<()> {
        if !read(slf).locked {
            return Err(PyRuntimeError::new_err("Lock is not acquired."));
        }
        write(slf).locked = false;
        if let Some(waiters) = Self::waiting(slf)? {
            wake(&waiters.get_item(0)?, &nothing(slf.py()))?;
        }
        Ok(())
    }
}
