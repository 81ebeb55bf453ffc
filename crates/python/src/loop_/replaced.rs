//! `time()`, `call_at()`, `create_future()`, `create_task()` and `call_soon()` where a program has
//! replaced ours: by setting an attribute of the loop, or in a subclass. And `asyncio.Handle._run`.
//!
//! asyncio's loop calls these methods itself, so a program that replaces `time()` controls its
//! timers, and `call_later()` goes through `call_at()`. Ours looks at a flag, and calls them only
//! where they are not its own. Setting or deleting an attribute of a loop updates the flag; what is
//! set on a class is noticed when a loop is made, and each time it begins to run.

use std::sync::atomic::Ordering;

use oxlip_core::time::Time;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyString, PyTuple};

use super::{EventLoop, schedule};
use crate::ffi;
use crate::handle::{self, Args};

const TIME: u8 = 1;
const CALL_AT: u8 = 2;
const CREATE_FUTURE: u8 = 4;
const CALL_SOON: u8 = 8;
const CREATE_TASK: u8 = 16;
/// Of asyncio's class of handles.
const HANDLE_RUN: u8 = 32;

/// Sets an attribute of the loop, or deletes it.
///
/// # Errors
/// As `object.__setattr__` and `object.__delattr__`.
pub(super) fn set_attribute(
    event_loop: &Bound<'_, EventLoop>,
    name: &Bound<'_, PyString>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    ffi::generic_set_attribute(event_loop, name, value)?;
    const WATCHED: [&str; 6] = [
        "time",
        "call_at",
        "create_future",
        "call_soon",
        "create_task",
        "__class__",
    ];
    if WATCHED.iter().any(|watched| name == *watched) {
        look(event_loop);
    }
    if name == "_run_once" || name == "_selector" {
        reconsider(event_loop.get());
    }
    Ok(())
}

/// A loop that runs its ticks natively finds out after this one whether it still may.
pub(super) fn reconsider(event_loop: &EventLoop) {
    event_loop.reconsiders.store(true, Ordering::Relaxed);
}

/// Finds out which methods are not ours.
pub(super) fn look(event_loop: &Bound<'_, EventLoop>) {
    let py = event_loop.py();
    let mut replaced = 0;
    if !is_ours(event_loop, intern!(py, "time")) {
        replaced |= TIME;
    }
    if !is_ours(event_loop, intern!(py, "call_at")) {
        replaced |= CALL_AT;
    }
    if !is_ours(event_loop, intern!(py, "create_future")) {
        replaced |= CREATE_FUTURE;
    }
    if !is_ours(event_loop, intern!(py, "call_soon")) {
        replaced |= CALL_SOON;
    }
    if !is_ours(event_loop, intern!(py, "create_task")) {
        replaced |= CREATE_TASK;
    }
    if handle::replaced_run(py).is_ok_and(|function| function.is_some()) {
        replaced |= HANDLE_RUN;
    }
    event_loop.get().replaced.store(replaced, Ordering::Relaxed);
}

/// Whether this is a native method of this very loop.
fn is_ours(event_loop: &Bound<'_, EventLoop>, name: &Bound<'_, PyString>) -> bool {
    event_loop.getattr(name).is_ok_and(|method| {
        method.is_exact_instance_of::<PyCFunction>()
            && method
                .getattr(intern!(name.py(), "__self__"))
                .is_ok_and(|owner| owner.is(event_loop))
    })
}

/// What runs handles in the place of `asyncio.Handle._run`, if that was replaced.
///
/// # Errors
/// The import of asyncio fails.
#[inline]
pub(super) fn handle_run<'py>(
    event_loop: &Bound<'py, EventLoop>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if !event_loop.get().has_own_handle_run() {
        return Ok(None);
    }
    handle::replaced_run(event_loop.py())
}

/// What the clock shows that timers go by.
///
/// # Errors
/// What the program's `time()` raises, `TypeError` if that is no number.
pub(crate) fn clock(event_loop: &Bound<'_, EventLoop>) -> PyResult<Time> {
    Ok(own_now(event_loop)?.unwrap_or_else(|| schedule::now(event_loop.get())))
}

/// The same, if it is the program's; nothing is borrowed.
///
/// # Errors
/// As [`clock`].
#[inline]
pub(super) fn own_now(event_loop: &Bound<'_, EventLoop>) -> PyResult<Option<Time>> {
    if !event_loop.get().has_own_time() {
        return Ok(None);
    }
    let seconds = own_time(event_loop)?.extract()?;
    Ok(Some(Time::from_secs_f64(seconds)))
}

/// Until when timers are due, if the clock is the program's: as asyncio, one step of the clock on.
///
/// # Errors
/// As [`clock`].
#[inline]
pub(super) fn own_due(event_loop: &Bound<'_, EventLoop>) -> PyResult<Option<Time>> {
    if !event_loop.get().has_own_time() {
        return Ok(None);
    }
    let step = event_loop.getattr(intern!(event_loop.py(), "_clock_resolution"))?;
    let seconds = own_time(event_loop)?.add(step)?.extract()?;
    Ok(Some(Time::from_secs_f64(seconds)))
}

#[cold]
fn own_time<'py>(event_loop: &Bound<'py, EventLoop>) -> PyResult<Bound<'py, PyAny>> {
    event_loop.call_method0(intern!(event_loop.py(), "time"))
}

/// `call_later()` as asyncio does it.
///
/// # Errors
/// What `time()` and `call_at()` raise.
#[cold]
pub(super) fn call_later<'py>(
    event_loop: &Bound<'py, EventLoop>,
    delay: &Bound<'py, PyAny>,
    callback: Bound<'py, PyAny>,
    args: &Args,
    context: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let when = own_time(event_loop)?.add(delay)?;
    let positional = PyTuple::new(py, [when, callback])?;
    let positional = positional
        .as_sequence()
        .concat(args.tuple(py)?.as_sequence())?;
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "context"), context)?;
    event_loop
        .getattr(intern!(py, "call_at"))?
        .call(positional.to_tuple()?, Some(&keywords))
}

impl EventLoop {
    /// Whether the clock is the program's.
    #[inline]
    pub(super) fn has_own_time(&self) -> bool {
        self.replaced.load(Ordering::Relaxed) & TIME != 0
    }

    /// Whether `call_later()` must ask the program.
    #[inline]
    pub(super) fn has_own_timers(&self) -> bool {
        self.replaced.load(Ordering::Relaxed) & (TIME | CALL_AT) != 0
    }

    /// Whether steps of tasks must go through the program.
    #[inline]
    pub(super) fn has_own_soon(&self) -> bool {
        self.replaced.load(Ordering::Relaxed) & (CALL_SOON | HANDLE_RUN) != 0
    }

    /// Whether handles are run by the program.
    #[inline]
    pub(super) fn has_own_handle_run(&self) -> bool {
        self.replaced.load(Ordering::Relaxed) & HANDLE_RUN != 0
    }

    /// Whether futures are made by the program.
    #[inline]
    pub(super) fn has_own_futures(&self) -> bool {
        self.replaced.load(Ordering::Relaxed) & CREATE_FUTURE != 0
    }

    /// Whether tasks are made by the program.
    #[inline]
    pub(super) fn has_own_tasks(&self) -> bool {
        self.replaced.load(Ordering::Relaxed) & CREATE_TASK != 0
    }
}
