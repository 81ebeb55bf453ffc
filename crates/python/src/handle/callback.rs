//! The call that a handle stands for: how it is run, cancelled and shown. Both classes of handle
//! have one.
//!
//! The fields that `cancel()` clears are guarded by the object's critical section: the GIL where
//! there is one, and otherwise a lock of the object's own. Nothing inside such a section runs
//! Python code.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::PyClass;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::args::Args;
use super::freed::Freeing;
use super::spare::Used;
use super::turn::{self, Turn};
use crate::chains::End;
use crate::context::{self, Chosen};
use crate::counts::{Counted, Kind};
use crate::loop_::{EventLoop, exception_handler, fork};
use crate::{ffi, names};

/// The callback a handle stands for, and what is known about it.
pub(super) struct Callback {
    pub(super) cancelled: AtomicBool,
    /// Whether another thread may wait for the callback's end: see `turn.rs`.
    takes_turns: AtomicBool,
    slots: UnsafeCell<Slots>,
    pub(super) event_loop: Py<EventLoop>,
    _counted: Counted,
}

pub(super) struct Slots {
    pub(super) call: Option<(Py<PyAny>, Args)>,
    /// `None` only while the handle waits to be reused.
    pub(super) context: Option<Chosen>,
    pub(super) rare: Option<Box<Rare>>,
}

/// What most handles never have: most of it is for debug mode.
#[derive(Default)]
pub(super) struct Rare {
    source_traceback: Option<Py<PyAny>>,
    /// The `repr` of the cancelled handle, with the callback that it no longer has.
    repr: Option<Py<PyString>>,
    /// While the callback runs, if others may wait for its end.
    pub(super) turn: Option<Turn>,
}

// SAFETY: `slots` is reached only through `with_slots`, inside the object's critical section, and
// from `traverse`, which the collector calls with the GIL held or every other thread stopped.
unsafe impl Sync for Callback {}

/// What `Handle` and `TimerHandle` have in common: a place for their callback.
pub(super) trait HasCallback:
    PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync
{
    fn callback(&self) -> &Callback;
    /// PyO3's deallocator of the class.
    fn freeing() -> &'static Freeing;
    /// Wraps a handle that is empty, and that nobody else refers to.
    fn used(handle: Bound<'_, Self>) -> Used;
    fn when(&self) -> Option<f64> {
        None
    }
}
impl Callback {
    pub(super) fn new(
        event_loop: Py<EventLoop>,
        callback: Py<PyAny>,
        args: Args,
        context: Chosen,
        kind: Kind,
    ) -> Self {
        Self {
            cancelled: AtomicBool::new(false),
            takes_turns: AtomicBool::new(false),
            slots: UnsafeCell::new(Slots {
                call: Some((callback, args)),
                context: Some(context),
                rare: None,
            }),
            event_loop,
            _counted: Counted::new(kind),
        }
    }

    #[inline]
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Whether the handle's methods take turns (`turn.rs`), as asyncio's do since 3.14.
    #[inline]
    pub(super) fn takes_turns(&self) -> bool {
        cfg!(Py_3_14) && self.takes_turns.load(Ordering::Relaxed)
    }

    /// Before the handle is queued.
    #[inline]
    pub(super) fn set_takes_turns(&self, takes_turns: bool) {
        if cfg!(Py_3_14) {
            self.takes_turns.store(takes_turns, Ordering::Relaxed);
        }
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs while no other thread is inside a critical section: under the
        // GIL it holds the GIL, without one it has stopped the world.
        let slots = unsafe { &*self.slots.get() };
        if let Some((callback, args)) = &slots.call {
            visit.call(callback)?;
            args.traverse(visit)?;
        }
        if let Some(rare) = &slots.rare {
            visit.call(&rare.source_traceback)?;
            if let Some(turn) = &rare.turn {
                turn.traverse(visit)?;
            }
        }
        if let Some(context) = &slots.context {
            context.traverse(visit)?;
        }
        visit.call(&self.event_loop)
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        // In the interpreter, whose deallocator this is: it is attached.
        Python::attach(|py| {
            let end = End::begin(py);
            let slots = self.slots.get_mut();
            if let Some((callback, args)) = slots.call.take() {
                end.release(callback);
                args.end(&end);
            }
            if let Some(Chosen::Own(context) | Chosen::Shared(context)) = slots.context.take() {
                end.release(context);
            }
        });
    }
}

pub(super) fn with_slots<H: HasCallback, R>(
    handle: &Bound<'_, H>,
    access: impl FnOnce(&mut Slots) -> R,
) -> R {
    with_critical_section(handle.as_any(), || {
        // SAFETY: inside the object's critical section, and `access` runs no Python code (every
        // caller in this folder only moves, counts or clones references).
        access(unsafe { &mut *handle.get().callback().slots.get() })
    })
}

/// Clears the callback and remembers that it was cancelled; false if it was before.
pub(super) fn cancel<H: HasCallback>(handle: &Bound<'_, H>) -> PyResult<bool> {
    let callback = handle.get().callback();
    let repr = if callback.event_loop.get().is_debug() && !callback.is_cancelled() {
        Some(text(handle, true)?)
    } else {
        None
    };
    // In one step: a thread that is about to run it finds it cancelled, or has begun before.
    let clear = |slots: &mut Slots| {
        // Inside the section nobody else writes it: no exchange, which would cost as much as the rest.
        if callback.is_cancelled() {
            return None;
        }
        callback.cancelled.store(true, Ordering::Relaxed);
        if let Some(repr) = repr {
            slots.rare.get_or_insert_default().repr = Some(repr);
        }
        Some(slots.call.take())
    };
    let cleared = if callback.takes_turns() {
        turn::wait(handle, clear)?
    } else {
        with_slots(handle, clear)
    };
    Ok(cleared.is_some())
}

/// `handle.cancel()`.
pub(super) fn cancelled<H: HasCallback>(handle: &Bound<'_, H>) -> PyResult<bool> {
    let callback = handle.get().callback();
    if callback.takes_turns() {
        turn::wait(handle, |_| callback.is_cancelled())
    } else {
        Ok(callback.is_cancelled())
    }
}

/// `(callback, args)` as new references, unless cancelled.
#[inline]
pub(super) fn call_of<'py, H: HasCallback>(
    handle: &Bound<'py, H>,
) -> Option<(Bound<'py, PyAny>, Args)> {
    let py = handle.py();
    with_slots(handle, |slots| {
        let (callback, args) = slots.call.as_ref()?;
        Some((callback.bind(py).clone(), args.clone_ref(py)))
    })
}

/// `handle._args`.
pub(super) fn args_of<'py, H: HasCallback>(
    handle: &Bound<'py, H>,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    call_of(handle)
        .map(|(_, args)| args.tuple(handle.py()))
        .transpose()
}

pub(super) fn source_traceback<H: HasCallback>(handle: &Bound<'_, H>) -> Option<Py<PyAny>> {
    let py = handle.py();
    with_slots(handle, |slots| {
        slots
            .rare
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
    if handle.get().callback().takes_turns() {
        let _turn = turn::take(handle)?;
        run_now(handle)
    } else {
        run_now(handle)
    }
}

/// Has a function that a program has put in the place of `asyncio.Handle._run` run it, unless it was cancelled.
///
/// # Errors
/// What the function raises.
#[cold]
pub(super) fn run_by<H: HasCallback>(
    handle: &Bound<'_, H>,
    function: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let callback = handle.get().callback();
    let _turn = callback
        .takes_turns()
        .then(|| turn::take(handle))
        .transpose()?;
    if callback.is_cancelled() {
        return Ok(());
    }
    ffi::vectorcall(function, [handle.as_any()], None).map(drop)
}

#[inline]
fn run_now<H: HasCallback>(handle: &Bound<'_, H>) -> PyResult<()> {
    let Some((callback, args)) = call_of(handle) else {
        return Ok(());
    };
    let Some(context) = context_of(handle)? else {
        return Ok(());
    };
    match context::run(handle.py(), &context, || args.call(&callback)) {
        Ok(_) => Ok(()),
        Err(error) => report(handle, &callback, &args, error),
    }
}

/// The context that the callback runs in. From here on the handle has one of its own.
///
/// # Errors
/// Out of memory.
pub(super) fn context_of<H: HasCallback>(handle: &Bound<'_, H>) -> PyResult<Option<Py<PyAny>>> {
    let py = handle.py();
    let chosen = with_slots(handle, |slots| {
        slots.context.as_ref().map(|chosen| chosen.clone_ref(py))
    });
    let Some(chosen) = chosen else {
        return Ok(None);
    };
    let own = match chosen {
        Chosen::Own(own) => return Ok(Some(own)),
        Chosen::Shared(snapshot) => context::copy(py, &snapshot)?,
    };
    let (own, before) = with_slots(handle, |slots| match &slots.context {
        // Another thread has asked meanwhile.
        Some(Chosen::Own(first)) => (first.clone_ref(py), Some(Chosen::Own(own))),
        _ => {
            let before = slots.context.replace(Chosen::Own(own.clone_ref(py)));
            (own, before)
        }
    });
    drop(before);
    Ok(Some(own))
}

#[cold]
pub(super) fn report<H: HasCallback>(
    handle: &Bound<'_, H>,
    callback: &Bound<'_, PyAny>,
    args: &Args,
    error: PyErr,
) -> PyResult<()> {
    let py = handle.py();
    if crate::errors::ends_the_loop(py, &error) {
        return Err(error);
    }
    let event_loop = handle.get().callback().event_loop.bind(py);
    let Some(error) = fork::error_of_callback(event_loop, callback, error)? else {
        return Ok(());
    };
    if crate::errors::ends_the_loop(py, &error) {
        return Err(error);
    }
    let error = error.into_value(py);
    ffi::while_handling(error.bind(py), || {
        let source = format_source(event_loop.get(), callback, &args.tuple(py)?)?;
        let context = PyDict::new(py);
        context.set_item("message", format!("Exception in callback {source}"))?;
        context.set_item("exception", &error)?;
        context.set_item("handle", handle)?;
        if let Some(stack) = source_traceback(handle) {
            context.set_item("source_traceback", stack)?;
        }
        exception_handler::call(event_loop, &context)
    })
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
    match kept_repr(handle) {
        Some(kept) => Ok(kept),
        None => text(handle, handle.get().callback().is_cancelled()),
    }
}

/// What `repr()` was when it was cancelled, in debug mode.
pub(super) fn kept_repr<H: HasCallback>(handle: &Bound<'_, H>) -> Option<Py<PyString>> {
    with_slots(handle, |slots| {
        let repr = slots.rare.as_ref()?.repr.as_ref()?;
        Some(repr.clone_ref(handle.py()))
    })
}

fn text<H: HasCallback>(handle: &Bound<'_, H>, cancelled: bool) -> PyResult<Py<PyString>> {
    let info = info(handle, cancelled)?.join(" ");
    Ok(PyString::new(handle.py(), &format!("<{info}>")).unbind())
}

/// What `repr()` consists of.
pub(super) fn repr_info<H: HasCallback>(handle: &Bound<'_, H>) -> PyResult<Vec<String>> {
    info(handle, handle.get().callback().is_cancelled())
}

fn info<H: HasCallback>(handle: &Bound<'_, H>, cancelled: bool) -> PyResult<Vec<String>> {
    let py = handle.py();
    let class = if handle.get().callback().takes_turns() {
        turn::NAME
    } else {
        <H as PyClass>::NAME
    };
    let mut info = vec![class.to_owned()];
    if cancelled {
        info.push("cancelled".to_owned());
    }
    if let Some(when) = handle.get().when() {
        let when = pyo3::types::PyFloat::new(py, when).str()?;
        info.push(format!("when={when}"));
    }
    if let Some((callback, args)) = call_of(handle) {
        let event_loop = handle.get().callback().event_loop.get();
        let source = format_source(event_loop, &callback, &args.tuple(py)?)?;
        info.push(source.to_string());
    }
    if let Some(stack) = source_traceback(handle) {
        let frame = stack.bind(py).get_item(-1)?;
        let (file, line) = (frame.get_item(0)?, frame.get_item(1)?);
        info.push(format!("created at {file}:{line}"));
    }
    Ok(info)
}

/// Remembers where the program scheduled the handle (debug mode).
pub(super) fn remember_source<H: HasCallback>(handle: &Bound<'_, H>) -> PyResult<()> {
    let py = handle.py();
    // No Python frame belongs to this extension: the caller's frame is the current one.
    let frame = names::GETFRAME.get(py)?.call1((0,))?;
    let stack = names::EXTRACT_STACK.get(py)?.call1((frame,))?.unbind();
    let before = with_slots(handle, |slots| {
        slots
            .rare
            .get_or_insert_default()
            .source_traceback
            .replace(stack)
    });
    drop(before);
    Ok(())
}
