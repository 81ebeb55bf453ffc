//! `Lock`: whether it is held, and who waits for it.

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::{
    Any, Slot, deque_in, filled, held, is_exactly, new_waiter, no_arguments, nothing, shown, wake,
};
use crate::counts::{Counted, Kind};
use crate::fields::{Fields, has_fields, hold};
use crate::prompt::{Deed, Wait};
use crate::{ffi, names};

/// The native half of `oxlip.Lock`.
#[pyclass(frozen, subclass, module = "oxlip._native")]
pub(crate) struct Lock {
    fields: Fields<LockFields>,
    _counted: Counted,
}

pub(crate) struct LockFields {
    locked: bool,
    /// A deque of futures; None before the first wait.
    waiters: Slot,
    event_loop: Slot,
}

has_fields!(Lock, LockFields);

#[pymethods]
impl Lock {
    /// Arguments are allowed for derived classes only.
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
            fields: Fields::new(LockFields {
                locked: false,
                waiters: None,
                event_loop: None,
            }),
            _counted: Counted::new(Kind::Lock),
        })
    }

    /// Takes the lock if it is free and nobody has waited longer. Never if it is of a derived class.
    pub(super) fn _take(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if !is_exactly(slf, &names::OUR_LOCK)? || hold(slf).locked {
            return Ok(false);
        }
        if let Some(waiters) = Self::waiting(slf)? {
            for waiter in waiters.try_iter()? {
                if !ffi::call_method(intern!(slf.py(), "cancelled"), [&waiter?])?.is_truthy()? {
                    return Ok(false);
                }
            }
        }
        hold(slf).locked = true;
        Ok(true)
    }

    /// Appends a future to the waiters.
    fn _arrival<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        let py = slf.py();
        let waiters = deque_in(slf, |this| &mut this.waiters)?;
        let bound = held(py, &hold(slf).event_loop);
        let waiter = new_waiter(slf, bound)?;
        ffi::call_method(intern!(py, "append"), [&waiters, &waiter])?;
        Ok(waiter)
    }

    fn locked(slf: &Bound<'_, Self>) -> bool {
        hold(slf).locked
    }

    /// Releases the lock, and wakes the one who has waited longest.
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
        hold(slf).locked
    }

    #[setter(_locked)]
    fn set_locked(slf: &Bound<'_, Self>, locked: &Any<'_>) -> PyResult<()> {
        let locked = locked.is_truthy()?;
        hold(slf).locked = locked;
        Ok(())
    }

    #[getter(_waiters)]
    fn waiters<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        shown(slf.py(), &hold(slf).waiters)
    }

    #[setter(_waiters)]
    fn set_waiters(slf: &Bound<'_, Self>, waiters: Option<Py<PyAny>>) {
        let _before = std::mem::replace(&mut hold(slf).waiters, waiters);
    }

    #[getter(_loop)]
    fn event_loop<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        shown(slf.py(), &hold(slf).event_loop)
    }

    #[setter(_loop)]
    fn set_event_loop(slf: &Bound<'_, Self>, event_loop: Option<Py<PyAny>>) {
        let _before = std::mem::replace(&mut hold(slf).event_loop, event_loop);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.fields.traverse(&visit, |fields, visit| {
            visit.call(&fields.waiters)?;
            visit.call(&fields.event_loop)
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let _held = {
            let mut this = hold(slf);
            (this.waiters.take(), this.event_loop.take())
        };
    }
}

impl Lock {
    fn waiting<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Any<'py>>> {
        let waiters = held(slf.py(), &hold(slf).waiters);
        filled(waiters)
    }

    /// The lock was handed to the one who waits with this future.
    fn enter(slf: &Bound<'_, Self>, waiter: &Any<'_>) -> PyResult<()> {
        let waiters = Self::waiters(slf);
        ffi::call_method(intern!(slf.py(), "remove"), [&waiters, waiter])?;
        hold(slf).locked = true;
        Ok(())
    }

    fn give_back(slf: &Bound<'_, Self>) -> PyResult<()> {
        if !hold(slf).locked {
            return Err(PyRuntimeError::new_err("Lock is not acquired."));
        }
        hold(slf).locked = false;
        if let Some(waiters) = Self::waiting(slf)? {
            wake(&waiters.get_item(0)?, &nothing(slf.py()))?;
        }
        Ok(())
    }
}

pub(super) const ENTER: Deed = Deed {
    qualname: "Lock.__aenter__",
    arguments: 0,
    suits: |lock| is_exactly(lock, &names::OUR_LOCK),
    at_once: |lock| Lock::_take(lock.cast()?),
    wait: Some(&Wait {
        begin: |lock| {
            if is_exactly(lock, &names::OUR_LOCK)? {
                return Lock::_arrival(lock.cast()?).map(Some);
            }
            Ok(None)
        },
        end: |lock, waiter| Lock::enter(lock.cast()?, waiter),
        in_python: &names::WAIT_FOR_LOCK,
    }),
};

pub(super) const EXIT: Deed = Deed {
    qualname: "Lock.__aexit__",
    arguments: 3,
    suits: |lock| is_exactly(lock, &names::OUR_LOCK),
    at_once: |lock| Lock::give_back(lock.cast()?).map(|()| true),
    wait: None,
};
