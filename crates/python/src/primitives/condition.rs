//! `Condition`: the tasks that wait to be notified, and the lock that goes with it.
//!
//! What is undone and what is raised when an exception interrupts a wait differs between the
//! releases of Python, and is left to asyncio. All of this runs on the thread of the running loop.

use pyo3::exceptions::{PyAttributeError, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyTuple};

use super::member::Member;
use super::{Any, Lock, Slot, held, is_exactly, new_waiter, nothing, shown, wake};
use crate::counts::{Counted, Kind};
use crate::fields::{Fields, has_fields, hold};
use crate::loop_::fastcall;
use crate::prompt::Deed;
use crate::{ffi, names};

/// The native half of `oxlip.Condition`.
#[pyclass(frozen, subclass, module = "oxlip._native")]
pub(crate) struct Condition {
    lock: Member,
    // Methods of the lock, which may be of any class.
    locked: Member,
    acquire: Member,
    release: Member,
    fields: Fields<ConditionFields>,
    _counted: Counted,
}

pub(crate) struct ConditionFields {
    /// A deque of futures, which asyncio's `__init__` makes.
    waiters: Slot,
    event_loop: Slot,
}

has_fields!(Condition, ConditionFields);

#[pymethods]
impl Condition {
    /// The rest is done by asyncio's `__init__`.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::bare()
    }

    /// Wakes up to `n` of those that have waited longest.
    #[pyo3(signature = (n = None), text_signature = "($self, n=1)")]
    fn notify<'py>(
        slf: &Bound<'py, Self>,
        #[pyo3(from_py_with = given)] n: Option<Any<'py>>,
    ) -> PyResult<()> {
        let number = match &n {
            None => Some(1),
            // Other kinds of numbers are compared in Python.
            Some(n) => n.cast_exact::<PyInt>().ok().and_then(|n| n.extract().ok()),
        };
        match number {
            Some(number) if is_exactly(slf, &names::OUR_CONDITION)? => Self::wake_some(slf, number),
            _ => {
                let stock = names::STOCK_CONDITION.get(slf.py())?;
                let notify = stock.getattr(intern!(slf.py(), "notify"))?;
                match n {
                    None => ffi::vectorcall(&notify, [slf.as_any()], None),
                    Some(n) => ffi::vectorcall(&notify, [slf.as_any(), &n], None),
                }
                .map(drop)
            }
        }
    }

    /// Wakes all that wait.
    fn notify_all(slf: &Bound<'_, Self>) -> PyResult<()> {
        if is_exactly(slf, &names::OUR_CONDITION)? {
            let all = Self::waiters(slf)?.len()?;
            return Self::wake_some(slf, i64::try_from(all)?);
        }
        let stock = names::STOCK_CONDITION.get(slf.py())?;
        stock
            .call_method1(intern!(slf.py(), "notify_all"), (slf,))
            .map(drop)
    }

    /// Begins a wait: releases the lock and appends a future to the waiters. `None` if asyncio's own code is to do
    /// all of it: for an object of a derived class, on the wrong loop, and if a program keeps waiters of its own
    /// kind.
    fn _arrival<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Any<'py>>> {
        let py = slf.py();
        if !is_exactly(slf, &names::OUR_CONDITION)? {
            return Ok(None);
        }
        let bound = held(py, &hold(slf).event_loop);
        if let Some(bound) = &bound {
            match names::GET_RUNNING_LOOP.get(py)?.call0() {
                Ok(running) if running.is(bound) => {}
                _ => return Ok(None),
            }
        }
        let waiters = Self::waiters(slf)?;
        if !is_exactly(&waiters, &names::DEQUE)? {
            return Ok(None);
        }
        Self::must_be_locked(slf, "cannot wait on un-acquired lock")?;
        let waiter = match bound {
            Some(event_loop) => fastcall::create_future(&event_loop)?,
            None => new_waiter(slf, None)?,
        };
        ffi::vectorcall(&Self::release(slf)?, [], None)?;
        ffi::call_method(intern!(py, "append"), [&waiters, &waiter])?;
        Ok(Some(waiter))
    }

    /// Ends a wait: removes the waiter, and takes the lock if `_take()` can.
    fn _return(slf: &Bound<'_, Self>, waiter: &Any<'_>) -> PyResult<bool> {
        let waiters = Self::waiters(slf)?;
        ffi::call_method(intern!(slf.py(), "remove"), [&waiters, waiter])?;
        Self::_take(slf)
    }

    /// Takes the lock if it is one of ours and free. Never if this object or the lock is of a derived class.
    fn _take(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if !is_exactly(slf, &names::OUR_CONDITION)? {
            return Ok(false);
        }
        let acquire = slf.get().acquire.get(slf);
        // Anything else that a program has put there is called by the caller.
        match acquire.as_ref().and_then(ffi::bound_method) {
            Some((function, lock)) if function.is(names::LOCK_ACQUIRE.get(slf.py())?) => {
                match lock.cast::<Lock>() {
                    Ok(lock) => Lock::_take(&lock),
                    Err(_) => Ok(false),
                }
            }
            _ => Ok(false),
        }
    }

    // asyncio's attributes.

    #[getter(_waiters)]
    fn waiters<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        let waiters = held(slf.py(), &hold(slf).waiters);
        waiters.ok_or_else(|| PyAttributeError::new_err("_waiters"))
    }

    #[setter(_waiters)]
    fn set_waiters(slf: &Bound<'_, Self>, waiters: Py<PyAny>) {
        let _before = hold(slf).waiters.replace(waiters);
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
        for member in [&self.lock, &self.locked, &self.acquire, &self.release] {
            member.traverse(&visit)?;
        }
        self.fields.traverse(&visit, |fields, visit| {
            visit.call(&fields.waiters)?;
            visit.call(&fields.event_loop)
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let this = slf.get();
        let _members = [&this.lock, &this.locked, &this.acquire, &this.release]
            .map(|member| member.replace(slf, None));
        let _fields = {
            let mut fields = hold(slf);
            (fields.waiters.take(), fields.event_loop.take())
        };
    }
}

/// An argument that may be missing, which is not the same as `None`.
#[expect(
    clippy::unnecessary_wraps,
    reason = "PyO3 calls it for an optional argument"
)]
fn given<'py>(argument: &Any<'py>) -> PyResult<Option<Any<'py>>> {
    Ok(Some(argument.clone()))
}

impl Condition {
    /// Lets the interpreter read and write `_lock` and the methods taken from it.
    pub(super) fn export(py: Python<'_>) -> PyResult<()> {
        let condition = Bound::new(py, Self::bare())?;
        let class = condition.get_type();
        let this = condition.get();
        for (member, name) in [
            (&this.lock, c"_lock"),
            (&this.locked, c"locked"),
            (&this.acquire, c"acquire"),
            (&this.release, c"release"),
        ] {
            // SAFETY: a field of this object of this class.
            unsafe { member.export(&condition, &class, name)? };
        }
        Ok(())
    }

    fn bare() -> Self {
        Self {
            lock: Member::new(None),
            locked: Member::new(None),
            acquire: Member::new(None),
            release: Member::new(None),
            fields: Fields::new(ConditionFields {
                waiters: None,
                event_loop: None,
            }),
            _counted: Counted::new(Kind::Condition),
        }
    }

    fn release<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        let release = slf.get().release.get(slf);
        release.ok_or_else(|| PyAttributeError::new_err("release"))
    }

    fn must_be_locked(slf: &Bound<'_, Self>, otherwise: &'static str) -> PyResult<()> {
        let locked = slf.get().locked.get(slf);
        let locked = locked.ok_or_else(|| PyAttributeError::new_err("locked"))?;
        if ffi::vectorcall(&locked, [], None)?.is_truthy()? {
            return Ok(());
        }
        Err(PyRuntimeError::new_err(otherwise))
    }

    fn wake_some(slf: &Bound<'_, Self>, number: i64) -> PyResult<()> {
        Self::must_be_locked(slf, "cannot notify on un-acquired lock")?;
        let result = nothing(slf.py());
        let mut woken = 0;
        for waiter in Self::waiters(slf)?.try_iter()? {
            let waiter = waiter?;
            if woken >= number {
                break;
            }
            woken += i64::from(wake(&waiter, &result)?);
        }
        Ok(())
    }
}

pub(super) const ENTER: Deed = Deed {
    qualname: "Condition.__aenter__",
    arguments: 0,
    suits: |condition| is_exactly(condition, &names::OUR_CONDITION),
    at_once: |condition| Condition::_take(condition.cast()?),
    wait: None,
};

pub(super) const EXIT: Deed = Deed {
    qualname: "Condition.__aexit__",
    arguments: 3,
    suits: |condition| is_exactly(condition, &names::OUR_CONDITION),
    at_once: |condition| {
        let condition = condition.cast::<Condition>()?;
        // Calls whatever a program has put there.
        match condition.get().release.get(condition) {
            Some(release) => release.call0().map(|_| true),
            None => Ok(false),
        }
    },
    wait: None,
};
