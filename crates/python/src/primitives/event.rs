//! `Event`: whether it is set, and who waits for it.

use pyo3::exceptions::PyAttributeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyTuple, PyType};

use super::member::Member;
use super::{
    Any, Slot, deque_in, filled, held, is_exactly, new_waiter, no_arguments, nothing, shown, wake,
};
use crate::counts::{Counted, Kind};
use crate::fields::{Fields, has_fields, hold};
use crate::{ffi, names};

/// The native half of `oxlip.Event`.
#[pyclass(frozen, subclass, module = "oxlip._native")]
pub(crate) struct Event {
    /// `_value`, true or false unless a program has set it to something else.
    value: Member,
    fields: Fields<EventFields>,
    _counted: Counted,
}

pub(crate) struct EventFields {
    /// A deque of futures; None before it is first asked for.
    waiters: Slot,
    event_loop: Slot,
}

has_fields!(Event, EventFields);

#[pymethods]
impl Event {
    /// Arguments are allowed for derived classes only.
    #[new]
    #[classmethod]
    #[pyo3(signature = (*args, **kwargs))]
    fn new(
        cls: &Bound<'_, PyType>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        no_arguments(cls, &names::OUR_EVENT, &names::STOCK_EVENT, args, kwargs)?;
        Ok(Self::unset(cls.py()))
    }

    fn is_set<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        let value = slf.get().value.get(slf);
        value.ok_or_else(|| PyAttributeError::new_err("_value"))
    }

    /// Sets the event and wakes all who wait for it.
    fn set(slf: &Bound<'_, Self>) -> PyResult<()> {
        if Self::has_happened(slf)? {
            return Ok(());
        }
        Self::put(slf, true);
        let waiters = held(slf.py(), &hold(slf).waiters);
        if let Some(waiters) = filled(waiters)? {
            let result = nothing(slf.py());
            for waiter in waiters.try_iter()? {
                wake(&waiter?, &result)?;
            }
        }
        Ok(())
    }

    /// Resets the event.
    fn clear(slf: &Bound<'_, Self>) {
        Self::put(slf, false);
    }

    /// Appends a future to the waiters. `None` if this object is of a derived class, which may do that differently.
    fn _arrival<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Any<'py>>> {
        let py = slf.py();
        if !is_exactly(slf, &names::OUR_EVENT)? {
            return Ok(None);
        }
        let bound = held(py, &hold(slf).event_loop);
        let waiter = new_waiter(slf, bound)?;
        ffi::call_method(intern!(py, "append"), [&Self::waiters(slf)?, &waiter])?;
        Ok(Some(waiter))
    }

    /// Removes a waiter.
    fn _leave(slf: &Bound<'_, Self>, waiter: &Any<'_>) -> PyResult<()> {
        let waiters = Self::waiters(slf)?;
        ffi::call_method(intern!(slf.py(), "remove"), [&waiters, waiter]).map(drop)
    }

    // asyncio's attributes.

    #[getter(_waiters)]
    fn waiters<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        deque_in(slf, |this| &mut this.waiters)
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
        self.value.traverse(&visit)?;
        self.fields.traverse(&visit, |fields, visit| {
            visit.call(&fields.waiters)?;
            visit.call(&fields.event_loop)
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let unset = truth(slf.py(), false);
        let _value = slf.get().value.replace(slf, Some(unset));
        let _fields = {
            let mut fields = hold(slf);
            (fields.waiters.take(), fields.event_loop.take())
        };
    }
}

impl Event {
    /// Lets the interpreter read and write `_value`.
    pub(super) fn export(py: Python<'_>) -> PyResult<()> {
        let event = Bound::new(py, Self::unset(py))?;
        // SAFETY: a field of this object of this class.
        unsafe {
            let value = &event.get().value;
            value.export(&event, &event.get_type(), c"_value")
        }
    }

    fn unset(py: Python<'_>) -> Self {
        Self {
            value: Member::new(Some(truth(py, false))),
            fields: Fields::new(EventFields {
                waiters: None,
                event_loop: None,
            }),
            _counted: Counted::new(Kind::Event),
        }
    }

    #[inline]
    fn has_happened(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let value = Self::is_set(slf)?;
        match value.cast_exact::<PyBool>() {
            Ok(value) => Ok(value.is_true()),
            Err(_) => value.is_truthy(),
        }
    }

    #[inline]
    fn put(slf: &Bound<'_, Self>, happened: bool) {
        let value = truth(slf.py(), happened);
        let _before = slf.get().value.replace(slf, Some(value));
    }
}

fn truth(py: Python<'_>, value: bool) -> Any<'_> {
    PyBool::new(py, value).to_owned().into_any()
}
