//! Which task a loop is running: what `asyncio.current_task()` reads, and asyncio's tasks in C
//! check.

use std::sync::atomic::Ordering;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::Any;
use crate::errors::shown;
use crate::loop_::EventLoop;
use crate::names;

/// # Errors
/// `RuntimeError` if the loop runs a task already.
#[inline]
pub(super) fn enter(event_loop: &Any<'_>, task: &Any<'_>) -> PyResult<()> {
    let current = current_tasks(event_loop.py())?;
    if let Some(other) = current.get_item(event_loop)? {
        return Err(PyRuntimeError::new_err(format!(
            "Cannot enter into task {} while another task {} is being executed.",
            shown(task)?,
            shown(&other)?
        )));
    }
    current.set_item(event_loop, task)
}

/// # Errors
/// `RuntimeError` if the loop runs another task.
#[inline]
pub(super) fn leave(event_loop: &Any<'_>, task: &Any<'_>) -> PyResult<()> {
    let current = current_tasks(event_loop.py())?;
    let found = current.get_item(event_loop)?;
    if !found.as_ref().is_some_and(|found| found.is(task)) {
        let found = match found {
            Some(found) => shown(&found)?,
            None => "None".to_owned(),
        };
        return Err(PyRuntimeError::new_err(format!(
            "Leaving task {} does not match the current task {found}.",
            shown(task)?
        )));
    }
    current.del_item(event_loop)
}

/// Whether the running task is of asyncio's C class.
///
/// # Errors
/// Those of a loop's `__hash__`.
#[inline]
pub(crate) fn is_asyncios(event_loop: &Bound<'_, EventLoop>) -> PyResult<bool> {
    let py = event_loop.py();
    let running = current_tasks(py)?.get_item(event_loop)?;
    let class = names::C_TASK.get(py)?;
    Ok(running.is_some_and(|task| task.get_type().is(class)))
}

/// The task that this loop runs, or None, where our tasks run; without them nothing is known.
///
/// # Errors
/// Those of a loop's `__hash__`.
#[inline]
pub(crate) fn running_on<'py>(event_loop: &Any<'py>) -> PyResult<Option<Any<'py>>> {
    if !super::switched() {
        return Ok(None);
    }
    let running = current_tasks(event_loop.py())?.get_item(event_loop)?;
    Ok(running.filter(|task| !task.is_none()))
}

/// As [`enter`], for a step in the queue of a loop of ours.
///
/// # Errors
/// As [`enter`].
#[inline]
pub(super) fn enter_next(event_loop: &Bound<'_, EventLoop>, task: &Any<'_>) -> PyResult<()> {
    // The loop's thread alone changes it.
    let between_tasks = &event_loop.get().between_tasks;
    if between_tasks.load(Ordering::Relaxed) {
        between_tasks.store(false, Ordering::Relaxed);
        return current_tasks(event_loop.py())?.set_item(event_loop, task);
    }
    enter(event_loop, task)
}

/// As [`leave`], if another such step is likely to follow: until [`settle`] the entry stays, with None in it,
/// which `asyncio.current_task()` takes for none.
///
/// # Errors
/// As [`leave`].
#[inline]
pub(super) fn leave_for_next(event_loop: &Bound<'_, EventLoop>, task: &Any<'_>) -> PyResult<()> {
    let py = event_loop.py();
    let current = current_tasks(py)?;
    if !current
        .get_item(event_loop)?
        .is_some_and(|found| found.is(task))
    {
        return leave(event_loop, task);
    }
    current.set_item(event_loop, py.None())?;
    event_loop
        .get()
        .between_tasks
        .store(true, Ordering::Relaxed);
    Ok(())
}

/// Takes the entry of [`leave_for_next`] away, before anything else of the program runs than such a step:
/// handles, callbacks of protocols, signal handlers, exception handlers, and what frees a task or a future that
/// nobody else has. The interpreter may still run something of its own accord where an object is made: a cycle's
/// end, while the loop prepares a step.
///
/// # Errors
/// Out of memory.
#[inline]
pub(crate) fn settle(event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
    if is_unsettled(event_loop) {
        return remove(event_loop);
    }
    Ok(())
}

/// Whether there is an entry for [`settle`] to take away.
#[inline]
pub(crate) fn is_unsettled(event_loop: &Bound<'_, EventLoop>) -> bool {
    event_loop.get().between_tasks.load(Ordering::Relaxed)
}

#[cold]
fn remove(event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
    event_loop
        .get()
        .between_tasks
        .store(false, Ordering::Relaxed);
    let current = current_tasks(event_loop.py())?;
    if current
        .get_item(event_loop)?
        .is_some_and(|found| found.is_none())
    {
        current.del_item(event_loop)?;
    }
    Ok(())
}

#[inline]
fn current_tasks(py: Python<'_>) -> PyResult<&Bound<'_, PyDict>> {
    Ok(names::CURRENT_TASKS.get(py)?.cast::<PyDict>()?)
}
