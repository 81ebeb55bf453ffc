//! `Timeout`: when it expires, and what happens to the task then. For Python 3.11 and later.

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt, PyTuple, PyType};

use super::{Any, Slot, held, is_exactly, shown};
use crate::counts::{Counted, Kind};
use crate::fields::{Fields, has_fields, hold};
use crate::handle::TimerHandle;
use crate::loop_::fastcall;
use crate::prompt::Deed;
use crate::tasks::{self, Task, current};
use crate::{ffi, names};

/// asyncio's states, in its order.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Created,
    Entered,
    Expiring,
    Expired,
    Exited,
}

impl State {
    const ALL: [Self; 5] = [
        Self::Created,
        Self::Entered,
        Self::Expiring,
        Self::Expired,
        Self::Exited,
    ];
}

/// The native half of `oxlip.Timeout`.
#[pyclass(frozen, subclass, module = "oxlip._native")]
pub(crate) struct Timeout {
    fields: Fields<TimeoutFields>,
    _counted: Counted,
}

pub(crate) struct TimeoutFields {
    state: State,
    when: Slot,
    handler: Slot,
    task: Slot,
    /// How often the task was cancelled before.
    cancelling: Slot,
}

has_fields!(Timeout, TimeoutFields);

/// A [`Timeout`] that expires `delay` seconds from now.
///
/// # Errors
/// `RuntimeError` without a running loop.
pub(crate) fn timeout<'py>(delay: &Any<'py>) -> PyResult<Any<'py>> {
    let py = delay.py();
    let event_loop = names::GET_RUNNING_LOOP.get(py)?.call0()?;
    if event_loop.is_none() {
        return Err(PyRuntimeError::new_err("no running event loop"));
    }
    let when = if delay.is_none() {
        delay.clone()
    } else if let (Some(now), Some(delay)) = (fastcall::seconds(&event_loop), usual(delay)) {
        PyFloat::new(py, now + delay).into_any()
    } else {
        fastcall::time(&event_loop)?.add(delay)?
    };
    // `__init__` is not called, because it would do nothing.
    let class = names::OUR_TIMEOUT.get(py)?.cast::<PyType>()?;
    ffi::new_object(class, &PyTuple::new(py, [when])?, None)
}

/// A number of a usual kind and size.
#[inline]
fn usual(seconds: &Any<'_>) -> Option<f64> {
    match seconds.cast_exact::<PyFloat>() {
        Ok(seconds) => Some(seconds.value()),
        Err(_) => {
            let seconds = seconds.cast_exact::<PyInt>().ok()?;
            seconds.extract::<i32>().ok().map(f64::from)
        }
    }
}

#[pymethods]
impl Timeout {
    #[new]
    fn new(when: Option<Py<PyAny>>) -> Self {
        Self {
            fields: Fields::new(TimeoutFields {
                state: State::Created,
                when,
                handler: None,
                task: None,
                cancelling: None,
            }),
            _counted: Counted::new(Kind::Timeout),
        }
    }

    /// Enters the timeout, unless that is an error or it is of a derived class.
    fn _enter(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        if !is_exactly(slf, &names::OUR_TIMEOUT)? || hold(slf).state != State::Created {
            return Ok(false);
        }
        let event_loop = names::GET_RUNNING_LOOP.get(py)?.call0()?;
        let task = match current::running_on(&event_loop)? {
            Some(task) => task,
            None => names::CURRENT_TASK.get(py)?.call0()?,
        };
        if task.is_none() {
            return Ok(false);
        }
        let cancelling = match tasks::as_ours(&task) {
            Some(task) => PyInt::new(py, Task::cancelling(task)).into_any(),
            None => ffi::call_method(intern!(py, "cancelling"), [&task])?,
        };
        let (when, _before) = {
            let mut this = hold(slf);
            this.state = State::Entered;
            let before = (
                this.task.replace(task.unbind()),
                this.cancelling.replace(cancelling.unbind()),
            );
            (held(py, &this.when), before)
        };
        if let Some(when) = when {
            let expire = slf.getattr(intern!(py, "_on_timeout"))?;
            let is_due = match (fastcall::seconds(&event_loop), usual(&when)) {
                (Some(now), Some(when)) => when <= now,
                _ => when.le(fastcall::time(&event_loop)?)?,
            };
            let handler = if is_due {
                ffi::call_method(intern!(py, "call_soon"), [&event_loop, &expire])?
            } else {
                fastcall::timer(&event_loop, &when, &expire)?
            };
            let _before = hold(slf).handler.replace(handler.unbind());
        }
        Ok(true)
    }

    /// Leaves the timeout, unless it has expired, that is an error, or it is of a derived class. Those cases are left
    /// to asyncio.
    fn _leave(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        if !is_exactly(slf, &names::OUR_TIMEOUT)? || hold(slf).state != State::Entered {
            return Ok(false);
        }
        let handler = hold(slf).handler.take();
        if let Some(handler) = handler.map(|handler| handler.into_bound(py)) {
            match handler.cast_exact::<TimerHandle>() {
                Ok(handler) => TimerHandle::cancel(handler)?,
                Err(_) => drop(ffi::call_method(intern!(py, "cancel"), [&handler])?),
            }
        }
        hold(slf).state = State::Exited;
        Ok(true)
    }

    // asyncio's attributes.

    #[getter(_state)]
    fn state<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        let state = hold(slf).state;
        names::TIMEOUT_STATES
            .get(slf.py())?
            .get_item(state as usize)
    }

    #[setter(_state)]
    fn set_state(slf: &Bound<'_, Self>, state: &Any<'_>) -> PyResult<()> {
        let states = names::TIMEOUT_STATES.get(slf.py())?;
        for (known, shown) in State::ALL.into_iter().zip(states.try_iter()?) {
            if shown?.is(state) {
                hold(slf).state = known;
                return Ok(());
            }
        }
        Err(PyTypeError::new_err(format!(
            "a state of a Timeout was expected, got {}",
            state.repr()?
        )))
    }

    #[getter(_when)]
    fn get_when<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        shown(slf.py(), &hold(slf).when)
    }

    #[setter(_when)]
    fn set_when(slf: &Bound<'_, Self>, when: Option<Py<PyAny>>) {
        let _before = std::mem::replace(&mut hold(slf).when, when);
    }

    #[getter(_timeout_handler)]
    fn handler<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        shown(slf.py(), &hold(slf).handler)
    }

    #[setter(_timeout_handler)]
    fn set_handler(slf: &Bound<'_, Self>, handler: Option<Py<PyAny>>) {
        let _before = std::mem::replace(&mut hold(slf).handler, handler);
    }

    #[getter(_task)]
    fn task<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        shown(slf.py(), &hold(slf).task)
    }

    #[setter(_task)]
    fn set_task(slf: &Bound<'_, Self>, task: Option<Py<PyAny>>) {
        let _before = std::mem::replace(&mut hold(slf).task, task);
    }

    #[getter(_cancelling)]
    fn cancelling<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        shown(slf.py(), &hold(slf).cancelling)
    }

    #[setter(_cancelling)]
    fn set_cancelling(slf: &Bound<'_, Self>, cancelling: Option<Py<PyAny>>) {
        let _before = std::mem::replace(&mut hold(slf).cancelling, cancelling);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.fields.traverse(&visit, |fields, visit| {
            visit.call(&fields.when)?;
            visit.call(&fields.handler)?;
            visit.call(&fields.task)?;
            visit.call(&fields.cancelling)
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let _taken = {
            let this = &mut *hold(slf);
            [
                this.when.take(),
                this.handler.take(),
                this.task.take(),
                this.cancelling.take(),
            ]
        };
    }
}

pub(super) const EXIT: Deed = Deed {
    qualname: "Timeout.__aexit__",
    arguments: 3,
    suits: |timeout| is_exactly(timeout, &names::OUR_TIMEOUT),
    at_once: |timeout| Timeout::_leave(timeout.cast()?),
    wait: None,
};
