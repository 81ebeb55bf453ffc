//! The call that a handle stands for: how it is run, cancelled and shown. Both classes of handle
//! have one.
//!
//! The fields that `cancel()` clears are behind the object's critical section, which is the GIL
//! where there is one and a lock of the object's own where there is not. Nothing inside such a
//! section runs Python code.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyClass, ffi};

use crate::counts::{Counted, Kind};
use crate::loop_::EventLoop;
use crate::{context, names};

/// The callback a handle stands for, and what is known about it.
pub(super) struct Callback {
    pub(super) cancelled: AtomicBool,
    slots: UnsafeCell<Slots>,
    pub(super) event_loop: Py<EventLoop>,
    _counted: Counted,
}

pub(super) struct Slots {
    pub(super) call: Option<(Py<PyAny>, Py<PyTuple>)>,
    /// Gone only while the handle waits to be used again.
    pub(super) context: Option<Py<PyAny>>,
    /// Only in debug mode.
    pub(super) debug: Option<Box<Debug>>,
}

#[derive(Default)]
pub(super) struct Debug {
    source_traceback: Option<Py<PyAny>>,
    /// What the handle looked like before it was cancelled.
    repr: Option<Py<PyString>>,
}

// SAFETY: `slots` is reached only through `with_slots`, inside the object's critical section, and
// from `traverse`, which the collector calls with every other thread stopped or without the GIL.
unsafe impl Sync for Callback {}

/// What `Handle` and `TimerHandle` have in common: a place for their callback.
pub(super) trait HasCallback:
    PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync
{
    fn callback(&self) -> &Callback;
    fn when(&self) -> Option<f64> {
        None
    }
}
impl Callback {
    pub(super) fn new(
        event_loop: Py<EventLoop>,
        callback: Py<PyAny>,
        args: Py<PyTuple>,
        context: Py<PyAny>,
        kind: Kind,
    ) -> Self {
        Self {
            cancelled: AtomicBool::new(false),
            slots: UnsafeCell::new(Slots {
                call: Some((callback, args)),
                context: Some(context),
                debug: None,
            }),
            event_loop,
            _counted: Counted::new(kind),
        }
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs while no other thread is inside a critical section: under the
        // GIL it holds the GIL, without one it has stopped the world.
        let slots = unsafe { &*self.slots.get() };
        if let Some((callback, args)) = &slots.call {
            visit.call(callback)?;
            visit.call(args)?;
        }
        if let Some(debug) = &slots.debug {
            visit.call(&debug.source_traceback)?;
        }
        visit.call(&slots.context)?;
        visit.call(&self.event_loop)
    }
}

pub(super) fn with_slots<H: HasCallback, R>(
    handle: &Bound<'_, H>,
    access: impl FnOnce(&mut Slots) -> R,
) -> R {
    with_critical_section(handle.as_any(), || {
        // SAFETY: inside the object's critical section, and `access` runs no Python code (every
        // caller in this file only moves or clones references).
        access(unsafe { &mut *handle.get().callback().slots.get() })
    })
}

/// Clears the callback and remembers that it was cancelled; false if it was before.
pub(super) fn cancel<H: HasCallback>(handle: &Bound<'_, H>) -> PyResult<bool> {
    if handle.get().callback().cancelled.load(Ordering::Relaxed) {
        return Ok(false);
    }
    let repr = if handle.get().callback().event_loop.get().is_debug() {
        Some(repr(handle)?)
    } else {
        None
    };
    handle
        .get()
        .callback()
        .cancelled
        .store(true, Ordering::Relaxed);
    let cleared = with_slots(handle, |slots| {
        if let Some(repr) = repr {
            slots.debug.get_or_insert_default().repr = Some(repr);
        }
        slots.call.take()
    });
    drop(cleared);
    Ok(true)
}

/// `(callback, args)` as new references, unless cancelled.
#[inline]
pub(super) fn call_of<'py, H: HasCallback>(
    handle: &Bound<'py, H>,
) -> Option<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
    let py = handle.py();
    with_slots(handle, |slots| {
        let (callback, args) = slots.call.as_ref()?;
        Some((callback.bind(py).clone(), args.bind(py).clone()))
    })
}

pub(super) fn source_traceback<H: HasCallback>(handle: &Bound<'_, H>) -> Option<Py<PyAny>> {
    let py = handle.py();
    with_slots(handle, |slots| {
        slots
            .debug
            .as_ref()?
            .source_traceback
            .as_ref()
            .map(|stack| stack.clone_ref(py))
    })
}

/// Runs the callback in its context. An exception goes to the loop's exception handler.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt`, which end the loop.
#[inline]
pub(super) fn run<H: HasCallback>(handle: &Bound<'_, H>) -> PyResult<()> {
    let py = handle.py();
    let parts = with_slots(handle, |slots| {
        let (callback, args) = slots.call.as_ref()?;
        let context = slots.context.as_ref()?.clone_ref(py);
        Some((callback.bind(py).clone(), args.bind(py).clone(), context))
    });
    let Some((callback, args, context)) = parts else {
        return Ok(());
    };
    match context::run(py, &context, || call(&callback, &args)) {
        Ok(_) => Ok(()),
        Err(error) => report(handle, &callback, &args, error),
    }
}

pub(super) fn context_of<H: HasCallback>(handle: &Bound<'_, H>) -> Option<Py<PyAny>> {
    let py = handle.py();
    with_slots(handle, |slots| {
        slots.context.as_ref().map(|context| context.clone_ref(py))
    })
}

/// `callback(*args)` without a tuple being built or unpacked.
#[inline]
pub(super) fn call<'py>(
    callback: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the tuple's items are `len` live references in one array, which the tuple keeps
    // alive and unchanged for the time of the call.
    unsafe {
        let items = (&raw mut (*args.as_ptr().cast::<ffi::PyTupleObject>()).ob_item).cast();
        let result =
            ffi::PyObject_Vectorcall(callback.as_ptr(), items, args.len(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(callback.py(), result)
    }
}

#[cold]
pub(super) fn report<H: HasCallback>(
    handle: &Bound<'_, H>,
    callback: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    error: PyErr,
) -> PyResult<()> {
    let py = handle.py();
    if crate::errors::ends_the_loop(py, &error) {
        return Err(error);
    }
    let event_loop = handle.get().callback().event_loop.bind(py);
    let source = format_source(event_loop.get(), callback, args)?;
    let context = PyDict::new(py);
    context.set_item("message", format!("Exception in callback {source}"))?;
    context.set_item("exception", error.into_value(py))?;
    context.set_item("handle", handle)?;
    if let Some(stack) = source_traceback(handle) {
        context.set_item("source_traceback", stack)?;
    }
    crate::errors::call_exception_handler(event_loop, &context)
}

/// The callback as asyncio shows it, with its source line; its arguments only in debug mode where
/// the running Python hides them otherwise.
pub(crate) fn format_source<'py>(
    event_loop: &EventLoop,
    callback: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = callback.py();
    let format = names::FORMAT_SOURCE.get(py)?;
    // `debug=` came with CPython 3.12.8 and 3.13.1: https://github.com/python/cpython/issues/126019
    let options = PyDict::new(py);
    options.set_item("debug", event_loop.is_debug())?;
    match format.call((callback, args), Some(&options)) {
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyTypeError>(py) => {
            format.call1((callback, args))
        }
        result => result,
    }
}

pub(super) fn repr<H: HasCallback>(handle: &Bound<'_, H>) -> PyResult<Py<PyString>> {
    let py = handle.py();
    let kept = with_slots(handle, |slots| {
        slots
            .debug
            .as_ref()?
            .repr
            .as_ref()
            .map(|repr| repr.clone_ref(py))
    });
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let mut text = format!("<{}", <H as PyClass>::NAME);
    if handle.get().callback().cancelled.load(Ordering::Relaxed) {
        text.push_str(" cancelled");
    }
    if let Some(when) = handle.get().when() {
        text.push_str(&format!(
            " when={}",
            pyo3::types::PyFloat::new(py, when).str()?
        ));
    }
    if let Some((callback, args)) = call_of(handle) {
        let source = format_source(handle.get().callback().event_loop.get(), &callback, &args)?;
        text.push_str(&format!(" {source}"));
    }
    if let Some(stack) = source_traceback(handle) {
        let frame = stack.bind(py).get_item(-1)?;
        let (file, line) = (frame.get_item(0)?, frame.get_item(1)?);
        text.push_str(&format!(" created at {file}:{line}"));
    }
    text.push('>');
    Ok(PyString::new(py, &text).unbind())
}

/// Remembers where the program scheduled the handle (debug mode).
pub(super) fn remember_source<H: HasCallback>(handle: &Bound<'_, H>) -> PyResult<()> {
    let py = handle.py();
    // No Python frame belongs to this extension: the caller's frame is the current one.
    let frame = names::GETFRAME.get(py)?.call1((0,))?;
    let stack = names::EXTRACT_STACK.get(py)?.call1((frame,))?.unbind();
    let before = with_slots(handle, |slots| {
        slots
            .debug
            .get_or_insert_default()
            .source_traceback
            .replace(stack)
    });
    drop(before);
    Ok(())
}
