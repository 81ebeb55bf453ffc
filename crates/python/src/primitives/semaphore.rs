//! `Semaphore` and `BoundedSemaphore`: their counter, and who waits for it.

use pyo3::exceptions::{PyAttributeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyTuple};

use super::{Any, Slot, filled, held, is_exactly, shown};
use crate::counts::{Counted, Kind};
use crate::fields::{Fields, has_fields, hold};
use crate::prompt::Deed;
use crate::{ffi, names};

/// A number as the program gave it: an `int` of usual size, or another kind of number.
enum Number {
    Small(i64),
    Other(Py<PyAny>),
}

impl Number {
    fn new(value: Any<'_>) -> Self {
        let small = value.cast_exact::<PyInt>().ok();
        match small.and_then(|small| small.extract().ok()) {
            Some(small) => Self::Small(small),
            None => Self::Other(value.unbind()),
        }
    }

    fn shown<'py>(&self, py: Python<'py>) -> Any<'py> {
        match self {
            Self::Small(small) => PyInt::new(py, *small).into_any(),
            Self::Other(other) => other.bind(py).clone(),
        }
    }
}

/// The native half of `oxlip.Semaphore` and `oxlip.BoundedSemaphore`.
#[pyclass(frozen, subclass, module = "oxlip._native")]
pub(crate) struct Semaphore {
    fields: Fields<SemaphoreFields>,
    _counted: Counted,
}

pub(crate) struct SemaphoreFields {
    value: Number,
    /// For a bounded semaphore only.
    bound: Option<Number>,
    /// A deque of futures; None before the first wait.
    waiters: Slot,
    event_loop: Slot,
}

has_fields!(Semaphore, SemaphoreFields);

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            fields: Fields::new(SemaphoreFields {
                value: Number::Small(0),
                bound: None,
                waiters: None,
                event_loop: None,
            }),
            _counted: Counted::new(Kind::Semaphore),
        }
    }

    /// Acquires the semaphore if there is room and nobody waits. Never if it is of a derived class.
    fn _take(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if !Self::is_ours(slf)? || Self::waiting(slf)?.is_some() {
            return Ok(false);
        }
        match &mut hold(slf).value {
            Number::Small(value) if *value != 0 => {
                *value -= 1;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Releases the semaphore, and wakes the one who has waited longest.
    fn release(slf: &Bound<'_, Self>) -> PyResult<()> {
        if Self::is_ours(slf)? && Self::give_back(slf)? {
            return Ok(());
        }
        Self::stock(slf)?
            .call_method1(intern!(slf.py(), "release"), (slf,))
            .map(drop)
    }

    // asyncio's attributes.

    #[getter(_value)]
    fn value<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        hold(slf).value.shown(slf.py())
    }

    #[setter(_value)]
    fn set_value(slf: &Bound<'_, Self>, value: Any<'_>) {
        let value = Number::new(value);
        let _before = std::mem::replace(&mut hold(slf).value, value);
    }

    #[getter(_bound_value)]
    fn bound_value<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        let bound = &hold(slf).bound;
        let bound = bound.as_ref().map(|bound| bound.shown(slf.py()));
        bound.ok_or_else(|| PyAttributeError::new_err("_bound_value"))
    }

    #[setter(_bound_value)]
    fn set_bound_value(slf: &Bound<'_, Self>, bound: Any<'_>) {
        let bound = Some(Number::new(bound));
        let _before = std::mem::replace(&mut hold(slf).bound, bound);
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
            for number in [Some(&fields.value), fields.bound.as_ref()]
                .into_iter()
                .flatten()
            {
                if let Number::Other(other) = number {
                    visit.call(other)?;
                }
            }
            visit.call(&fields.waiters)?;
            visit.call(&fields.event_loop)
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let _taken = {
            let this = &mut *hold(slf);
            let value = std::mem::replace(&mut this.value, Number::Small(0));
            (
                value,
                this.bound.take(),
                this.waiters.take(),
                this.event_loop.take(),
            )
        };
    }
}

impl Semaphore {
    /// Whether it is of exactly one of the two classes.
    fn is_ours(object: &Any<'_>) -> PyResult<bool> {
        Ok(is_exactly(object, &names::OUR_SEMAPHORE)?
            || is_exactly(object, &names::OUR_BOUNDED_SEMAPHORE)?)
    }

    /// asyncio's class of the same kind.
    fn stock<'py>(slf: &Bound<'py, Self>) -> PyResult<&'py Any<'py>> {
        let py = slf.py();
        let bounded = slf.is_instance(names::STOCK_BOUNDED_SEMAPHORE.get(py)?)?;
        if bounded {
            names::STOCK_BOUNDED_SEMAPHORE.get(py)
        } else {
            names::STOCK_SEMAPHORE.get(py)
        }
    }

    fn waiting<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Any<'py>>> {
        let waiters = held(slf.py(), &hold(slf).waiters);
        filled(waiters)
    }

    /// Releases it natively. Returns whether that was possible.
    fn give_back(slf: &Bound<'_, Self>) -> PyResult<bool> {
        {
            let this = &mut *hold(slf);
            let Number::Small(value) = &mut this.value else {
                return Ok(false);
            };
            match this.bound {
                None => {}
                Some(Number::Small(bound)) if *value < bound => {}
                Some(Number::Small(_)) => {
                    return Err(PyValueError::new_err(
                        "BoundedSemaphore released too many times",
                    ));
                }
                Some(Number::Other(_)) => return Ok(false),
            }
            let Some(more) = value.checked_add(1) else {
                return Ok(false);
            };
            *value = more;
        }
        if Self::waiting(slf)?.is_some() {
            ffi::call_method(intern!(slf.py(), "_wake_up_next"), [slf.as_any()])?;
        }
        Ok(true)
    }
}

pub(super) const ENTER: Deed = Deed {
    qualname: "_NativeSemaphore.__aenter__",
    arguments: 0,
    suits: Semaphore::is_ours,
    at_once: |semaphore| Semaphore::_take(semaphore.cast()?),
    wait: None,
};

pub(super) const EXIT: Deed = Deed {
    qualname: "_NativeSemaphore.__aexit__",
    arguments: 3,
    suits: Semaphore::is_ours,
    at_once: |semaphore| Semaphore::release(semaphore.cast()?).map(|()| true),
    wait: None,
};
