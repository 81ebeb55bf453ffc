//! What futures and tasks have in common: state, outcome, callbacks. Each class is a Python type
//! over one [`Core`].
//!
//! Used on the thread of the future's loop, as asyncio's must be. The mutable part is guarded by
//! the object's critical section, which is the GIL where there is one; nothing inside it runs
//! Python code or drops an object.

use std::cell::UnsafeCell;

use pyo3::PyClass;
use pyo3::exceptions::{PyBaseException, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::PyDict;
use pyo3::{ffi, intern};

use super::callbacks::Callback;
use super::{Any, Future, Task, part};
use crate::chains::End;
use crate::counts::{Counted, Kind};
use crate::loop_::fastcall;
use crate::names;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Pending,
    Cancelled,
    Finished,
}

/// The outcome of a future that is done and not cancelled.
pub(super) enum Outcome<'py> {
    Result(Any<'py>),
    Exception(Bound<'py, PyBaseException>),
}

/// The mutable part of a future.
pub(super) struct Slots {
    /// None before `__init__()`.
    pub(super) event_loop: Option<Py<PyAny>>,
    pub(super) life: Life,
    /// `_asyncio_future_blocking`: it was just awaited.
    pub(super) blocking: bool,
    /// Nobody has seen the exception yet.
    pub(super) logs: bool,
    pub(super) first: Option<Callback>,
    pub(super) rest: Vec<Callback>,
    pub(super) result: Option<Py<PyAny>>,
    pub(super) rare: Option<Box<Rare>>,
}

/// Fields that most futures never use.
#[derive(Default)]
pub(super) struct Rare {
    pub(super) exception: Option<Py<PyBaseException>>,
    pub(super) traceback: Option<Py<PyAny>>,
    pub(super) cancel_message: Option<Py<PyAny>>,
    pub(super) cancelled_error: Option<Py<PyAny>>,
    pub(super) source_traceback: Option<Py<PyAny>>,
}

/// The native part of a future or a task.
pub(crate) struct Core {
    slots: UnsafeCell<Slots>,
    _counted: Counted,
}

// SAFETY: `slots` is reached only through `Native::with`, inside the object's critical section, and from
// `traverse`, which the collector calls with the GIL held or every other thread stopped.
unsafe impl Sync for Core {}

impl Life {
    /// The state's name in asyncio.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Cancelled => "CANCELLED",
            Self::Finished => "FINISHED",
        }
    }
}

impl Slots {
    fn new(event_loop: Option<Py<PyAny>>) -> Self {
        Self {
            event_loop,
            life: Life::Pending,
            blocking: false,
            logs: false,
            first: None,
            rest: Vec::new(),
            result: None,
            rare: None,
        }
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

impl Core {
    pub(super) fn new(event_loop: Option<Py<PyAny>>, kind: Kind) -> Self {
        Self {
            slots: UnsafeCell::new(Slots::new(event_loop)),
            _counted: Counted::new(kind),
        }
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs while no other thread is inside a critical section: under the
        // GIL it holds the GIL, without one it has stopped the world.
        let slots = unsafe { &*self.slots.get() };
        visit.call(&slots.event_loop)?;
        for callback in slots.first.iter().chain(&slots.rest) {
            callback.traverse(visit)?;
        }
        visit.call(&slots.result)?;
        if let Some(rare) = &slots.rare {
            visit.call(&rare.exception)?;
            visit.call(&rare.traceback)?;
            visit.call(&rare.cancel_message)?;
            visit.call(&rare.cancelled_error)?;
            visit.call(&rare.source_traceback)?;
        }
        Ok(())
    }
}

/// One of our two classes.
pub(super) trait Ours: PyClass<Frozen = True> + Sync {
    /// Gives up all references.
    fn release(&mut self, end: &End<'_>);
    fn core(&self) -> &Core;
    /// Removes the object from where others could find it.
    fn is_gone(&self, _py: Python<'_>) {}
    /// Called before the object is freed, after its finalizer: from here on nothing may find it.
    ///
    /// # Safety
    /// `object` is an instance of this class, or a derived one.
    unsafe fn is_no_more(object: *mut ffi::PyObject) {
        let _ = object;
    }
    /// Whether the finalizer has anything to say.
    fn speaks(object: &Bound<'_, Self>) -> bool;
}

/// A future or a task of ours, to be worked on.
#[derive(Clone, Copy)]
pub(super) struct Native<'a, 'py> {
    pub(super) object: &'a Any<'py>,
    pub(super) core: &'a Core,
}

impl<'a, 'py> Native<'a, 'py> {
    /// For an object of one of our classes, or of a derived one.
    #[inline]
    pub(super) fn of<T: Ours>(object: &'a Bound<'py, T>) -> Self {
        Self {
            object: object.as_any(),
            core: object.get().core(),
        }
    }

    /// The object's native part, if it is of exactly one of our classes: nothing of it is overridden.
    #[inline]
    pub(super) fn exact(object: &'a Any<'py>) -> Option<Self> {
        let core = if let Ok(future) = object.cast_exact::<Future>() {
            &future.get().core
        } else {
            &object.cast_exact::<Task>().ok()?.get().core
        };
        Some(Self { object, core })
    }

    /// As [`Native::exact`], for objects of derived classes too.
    #[inline]
    pub(super) fn derived(object: &'a Any<'py>) -> Option<Self> {
        if let Some(native) = Self::exact(object) {
            return Some(native);
        }
        let core = if let Ok(future) = object.cast::<Future>() {
            &future.get().core
        } else {
            &object.cast::<Task>().ok()?.get().core
        };
        Some(Self { object, core })
    }

    #[inline(always)]
    pub(super) fn with<R>(self, access: impl FnOnce(&mut Slots) -> R) -> R {
        with_critical_section(self.object, || {
            // SAFETY: inside the object's critical section, and `access` runs no Python code (every
            // caller in this folder only moves, counts or clones references).
            access(unsafe { &mut *self.core.slots.get() })
        })
    }

    /// The fields that most futures never use.
    pub(super) fn rare(
        self,
        choose: impl FnOnce(&mut Rare) -> &mut Option<Py<PyAny>>,
    ) -> Option<Any<'py>> {
        let py = self.object.py();
        self.with(|slots| {
            let held = choose(slots.rare.as_mut()?);
            held.as_ref().map(|it| it.bind(py).clone())
        })
    }

    pub(super) fn set_cancel_message(self, message: Option<Any<'py>>) {
        let message = message
            .filter(|message| !message.is_none())
            .map(Bound::unbind);
        let before = self.with(|slots| {
            if message.is_none() && slots.rare.is_none() {
                return None;
            }
            std::mem::replace(&mut slots.rare().cancel_message, message)
        });
        drop(before);
    }

    /// `__init__()`, also of an object that was initialised before.
    ///
    /// # Errors
    /// Those of finding the loop; from Python 3.15 on `RuntimeError` of such an object.
    pub(super) fn init(self, event_loop: Option<Any<'py>>) -> PyResult<()> {
        let py = self.object.py();
        if cfg!(Py_3_15) && self.alive().is_ok() {
            return Err(PyRuntimeError::new_err(format!(
                "{} object is already initialized",
                self.object.get_type().name()?
            )));
        }
        let event_loop = match event_loop {
            Some(event_loop) => event_loop,
            None => names::GET_EVENT_LOOP.get(py)?.call0()?,
        };
        let debug = match fastcall::direct(&event_loop) {
            Some(_) => false,
            None => event_loop
                .call_method0(intern!(py, "get_debug"))?
                .is_truthy()?,
        };
        let mut fresh = Slots::new(Some(event_loop.unbind()));
        if debug && !finalizing(py)? {
            fresh.rare().source_traceback = Some(names::EXTRACT.get(py)?.call0()?.unbind());
        }
        let before = self.with(|slots| std::mem::replace(slots, fresh));
        drop(before);
        part::forget_waiters(self.object);
        Ok(())
    }

    /// The loop, of a future that has been initialised.
    ///
    /// # Errors
    /// `RuntimeError` of one that has not.
    #[inline]
    pub(super) fn event_loop(self) -> PyResult<Any<'py>> {
        let py = self.object.py();
        self.with(|slots| slots.event_loop.as_ref().map(|it| it.bind(py).clone()))
            .ok_or_else(not_initialized)
    }

    /// # Errors
    /// `RuntimeError` before it was initialised.
    #[inline]
    pub(super) fn alive(self) -> PyResult<()> {
        match self.with(|slots| slots.event_loop.is_some()) {
            true => Ok(()),
            false => Err(not_initialized()),
        }
    }

    /// `result()`.
    ///
    /// # Errors
    /// The future's exception, its cancellation, `InvalidStateError`.
    #[inline]
    pub(super) fn result(self) -> PyResult<Any<'py>> {
        match self.outcome()? {
            Outcome::Result(result) => Ok(result),
            Outcome::Exception(exception) => Err(crate::ffi::raise(exception.as_any())),
        }
    }

    /// As `result()`, with an exception that is returned and not raised.
    ///
    /// # Errors
    /// The future's cancellation, `InvalidStateError`.
    pub(super) fn outcome(self) -> PyResult<Outcome<'py>> {
        let py = self.object.py();
        let (life, result) = self.with(|slots| {
            if slots.life == Life::Finished {
                slots.logs = false;
            }
            let result = slots.result.as_ref().map(|it| it.bind(py).clone());
            (slots.life, result)
        });
        match (life, result) {
            (Life::Finished, Some(result)) => Ok(Outcome::Result(result)),
            (Life::Finished, None) => self.failure().map(Outcome::Exception),
            (Life::Cancelled, _) => Err(crate::ffi::raise(&self.make_cancelled_error()?)),
            (Life::Pending, _) => Err(self.not_done("Result is not set.")),
        }
    }

    fn not_done(self, message: &str) -> PyErr {
        match self.alive() {
            Ok(()) => invalid_state(self.object.py(), message),
            Err(_) => invalid_state(self.object.py(), NOT_INITIALIZED),
        }
    }

    /// The exception of a future that has one, with the traceback it was set with.
    fn failure(self) -> PyResult<Bound<'py, PyBaseException>> {
        let py = self.object.py();
        let (exception, traceback) = self.with(|slots| {
            let rare = slots.rare();
            let exception = rare.exception.as_ref().map(|it| it.bind(py).clone());
            let traceback = rare.traceback.as_ref();
            (exception, traceback.map(|it| it.bind(py).clone()))
        });
        let Some(exception) = exception else {
            // The collector has cleared it.
            return Err(invalid_state(py, "Result is not set."));
        };
        // Not what was added by those who have raised it since.
        crate::ffi::set_traceback(&exception, traceback.as_ref())?;
        Ok(exception)
    }

    /// `exception()`.
    ///
    /// # Errors
    /// The future's cancellation, `InvalidStateError`.
    pub(super) fn exception(self) -> PyResult<Option<Any<'py>>> {
        let py = self.object.py();
        let (life, exception) = self.with(|slots| {
            if slots.life == Life::Finished {
                slots.logs = false;
            }
            let rare = slots.rare.as_ref();
            let exception = rare.and_then(|rare| rare.exception.as_ref());
            (slots.life, exception.map(|it| it.bind(py).as_any().clone()))
        });
        match life {
            Life::Finished => Ok(exception),
            Life::Cancelled => Err(crate::ffi::raise(&self.make_cancelled_error()?)),
            Life::Pending => Err(self.not_done("Exception is not set.")),
        }
    }

    /// `set_result()` of a future, and what a task does when its coroutine returns.
    ///
    /// # Errors
    /// `InvalidStateError`; what `call_soon()` raises.
    #[inline]
    pub(super) fn set_result(self, result: Any<'py>) -> PyResult<()> {
        let result = result.unbind();
        let refused = self.with(|slots| {
            if slots.life != Life::Pending {
                return Some(result);
            }
            slots.result = Some(result);
            slots.life = Life::Finished;
            None
        });
        if refused.is_some() {
            return Err(invalid_state(self.object.py(), "invalid state"));
        }
        self.schedule_callbacks()
    }

    /// `set_exception()` likewise.
    ///
    /// # Errors
    /// `InvalidStateError`, `TypeError` for what is no exception; what `call_soon()` raises.
    pub(super) fn set_exception(self, exception: Any<'py>) -> PyResult<()> {
        let py = self.object.py();
        if self.with(|slots| slots.life != Life::Pending) {
            return Err(invalid_state(py, "invalid state"));
        }
        let exception = self.valid(exception)?;
        let traceback = crate::ffi::traceback(&exception).map(Bound::unbind);
        let exception = exception.unbind();
        // The exception's class was called, and that may have ended the future.
        let outcome = self.with(|slots| {
            if slots.life != Life::Pending {
                return Err((exception, traceback));
            }
            slots.life = Life::Finished;
            let rare = slots.rare();
            let before = rare.exception.replace(exception);
            Ok((before, std::mem::replace(&mut rare.traceback, traceback)))
        });
        if outcome.is_err() {
            return Err(invalid_state(py, "invalid state"));
        }
        drop(outcome);
        self.schedule_callbacks()?;
        self.with(|slots| slots.logs = true);
        Ok(())
    }

    /// The exception to store, as an instance.
    fn valid(self, exception: Any<'py>) -> PyResult<Bound<'py, PyBaseException>> {
        let py = self.object.py();
        let exception = match exception.cast::<pyo3::types::PyType>() {
            Ok(class) if class.is_subclass_of::<PyBaseException>()? => class.call0()?,
            _ => exception,
        };
        let Ok(exception) = exception.cast_into::<PyBaseException>() else {
            return Err(pyo3::exceptions::PyTypeError::new_err(
                "invalid exception object",
            ));
        };
        if exception.is_instance_of::<pyo3::exceptions::PyStopIteration>() {
            // The releases of Python differ here, so asyncio's future in Python decides.
            let keywords = PyDict::new(py);
            keywords.set_item(intern!(py, "loop"), self.event_loop()?)?;
            let stock = names::PYTHON_FUTURE.get(py)?.call((), Some(&keywords))?;
            stock.call_method1(intern!(py, "set_exception"), (exception,))?;
            stock.setattr(intern!(py, "_log_traceback"), false)?;
            let exception = stock.getattr(intern!(py, "_exception"))?;
            return Ok(exception.cast_into::<PyBaseException>()?);
        }
        Ok(exception)
    }

    /// `cancel()` of a future, and what a task does when its coroutine was cancelled.
    ///
    /// # Errors
    /// What `call_soon()` raises.
    pub(super) fn cancel(self, message: Option<Any<'py>>) -> PyResult<bool> {
        let message = message
            .filter(|message| !message.is_none())
            .map(Bound::unbind);
        let outcome = self.with(|slots| {
            slots.logs = false;
            if slots.life != Life::Pending {
                return Err(message);
            }
            slots.life = Life::Cancelled;
            if message.is_some() || slots.rare.is_some() {
                return Ok(std::mem::replace(&mut slots.rare().cancel_message, message));
            }
            Ok(None)
        });
        if outcome.is_err() {
            return Ok(false);
        }
        drop(outcome);
        self.schedule_callbacks()?;
        Ok(true)
    }

    /// `_make_cancelled_error()`: the one that the coroutine was cancelled with, once; else a new one.
    ///
    /// # Errors
    /// Out of memory.
    pub(super) fn make_cancelled_error(self) -> PyResult<Any<'py>> {
        let py = self.object.py();
        let (error, message) = self.with(|slots| match &mut slots.rare {
            Some(rare) => {
                let message = rare.cancel_message.as_ref();
                (
                    rare.cancelled_error.take(),
                    message.map(|it| it.clone_ref(py)),
                )
            }
            None => (None, None),
        });
        let class = names::CANCELLED_ERROR.get(py)?;
        match (error, message) {
            (Some(error), _) => Ok(error.into_bound(py)),
            (None, None) => class.call0(),
            (None, Some(message)) => class.call1((message,)),
        }
    }

    /// Gives up all references, for the cycle collector.
    pub(super) fn clear(self) {
        let fresh = Slots::new(None);
        let before = self.with(|slots| {
            let (life, logs) = (slots.life, slots.logs);
            let before = std::mem::replace(slots, fresh);
            (slots.life, slots.logs) = (life, logs);
            before
        });
        drop(before);
    }
}

impl Core {
    /// Drops what it holds. The interpreter is attached, which `Py` would have to find out each time.
    pub(super) fn release(&mut self, end: &End<'_>) {
        let slots = self.slots.get_mut();
        let release = |held: Option<Py<PyAny>>| {
            if let Some(held) = held {
                end.release(held);
            }
        };
        release(slots.event_loop.take());
        release(slots.result.take());
        let callbacks = std::mem::take(&mut slots.rest);
        for callback in slots.first.take().into_iter().chain(callbacks) {
            callback.release(end);
        }
        if let Some(rare) = slots.rare.take() {
            release(rare.exception.map(Py::into_any));
            release(rare.traceback);
            release(rare.cancel_message);
            release(rare.cancelled_error);
            release(rare.source_traceback);
        }
    }
}

const NOT_INITIALIZED: &str = "Future object is not initialized.";

fn not_initialized() -> PyErr {
    PyRuntimeError::new_err(NOT_INITIALIZED)
}

/// `asyncio.InvalidStateError(message)`.
pub(super) fn invalid_state(py: Python<'_>, message: &str) -> PyErr {
    let made = names::INVALID_STATE_ERROR.get(py);
    made.and_then(|class| class.call1((message,)))
        .map_or_else(|error| error, |error| crate::ffi::raise(&error))
}

fn finalizing(py: Python<'_>) -> PyResult<bool> {
    names::IS_FINALIZING.get(py)?.call0()?.is_truthy()
}
