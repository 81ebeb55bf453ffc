//! Which task a thread is running, as CPython 3.14 and later know it: what `asyncio.current_task()`
//! reads, and asyncio's tasks in C check. It replaces `current.rs`, and has its functions. A
//! thread's state costs nothing to change, so there is nothing to [`settle`].

use pyo3::exceptions::PyRuntimeError;
use pyo3::{ffi, prelude::*};

use super::{Any, part};
use crate::errors::shown;
use crate::loop_::EventLoop;
use crate::names;

/// # Errors
/// `RuntimeError` if the loop does not run on this thread, or runs a task already.
#[inline]
pub(super) fn enter(event_loop: &Any<'_>, task: &Any<'_>) -> PyResult<()> {
    // SAFETY: there are tasks only where it was found.
    let current = unsafe { place(event_loop)? };
    // SAFETY: it holds a reference or NULL.
    unsafe {
        if (*current).is_null() {
            *current = ffi::Py_NewRef(task.as_ptr());
            return Ok(());
        }
        let other = Bound::from_borrowed_ptr(task.py(), *current);
        Err(PyRuntimeError::new_err(format!(
            "Cannot enter into task {} while another task {} is being executed.",
            shown(task)?,
            shown(&other)?
        )))
    }
}

/// # Errors
/// `RuntimeError` if the loop does not run on this thread, or runs another task.
#[inline]
pub(super) fn leave(event_loop: &Any<'_>, task: &Any<'_>) -> PyResult<()> {
    let py = task.py();
    // SAFETY: as in `enter`.
    let current = unsafe { place(event_loop)? };
    // SAFETY: it holds a reference or NULL.
    unsafe {
        if *current == task.as_ptr() {
            let reference = current.replace(std::ptr::null_mut());
            drop(Bound::from_owned_ptr(py, reference));
            return Ok(());
        }
        let found = match Bound::from_borrowed_ptr_or_opt(py, *current) {
            Some(found) => shown(&found)?,
            None => "None".to_owned(),
        };
        Err(PyRuntimeError::new_err(format!(
            "Invalid attempt to leave task {} while task {found} is entered.",
            shown(task)?
        )))
    }
}

/// Where the calling thread's state has the current task of this loop.
///
/// # Errors
/// `RuntimeError` if the loop does not run on this thread.
///
/// # Safety
/// There are classes of ours: `part` has found it.
#[inline]
unsafe fn place(event_loop: &Any<'_>) -> PyResult<*mut *mut ffi::PyObject> {
    // SAFETY: see above.
    unsafe {
        let running: *mut *mut ffi::PyObject = part::running(event_loop.py()).cast();
        if *running == event_loop.as_ptr() {
            return Ok(running.add(1));
        }
    }
    Err(PyRuntimeError::new_err(format!(
        "loop {} is not the running loop",
        shown(event_loop)?
    )))
}

/// Whether the running task is of asyncio's C class.
///
/// # Errors
/// asyncio has none.
#[inline]
pub(crate) fn is_asyncios(event_loop: &Bound<'_, EventLoop>) -> PyResult<bool> {
    let class = names::C_TASK.get(event_loop.py())?;
    let running = running_on(event_loop.as_any())?;
    Ok(running.is_some_and(|task| task.get_type().is(class)))
}

/// The task that this loop runs, or None, where our tasks run; without them nothing is known.
///
/// # Errors
/// None; those of `current.rs`.
#[inline]
pub(crate) fn running_on<'py>(event_loop: &Any<'py>) -> PyResult<Option<Any<'py>>> {
    if !super::switched() {
        return Ok(None);
    }
    // SAFETY: our classes are made, so it was found; each is a reference or NULL.
    unsafe {
        let [running, task] = *part::running(event_loop.py());
        let task = Bound::from_borrowed_ptr_or_opt(event_loop.py(), task);
        Ok(task.filter(|_| running == event_loop.as_ptr()))
    }
}

/// As [`enter`], for a step in the queue of a loop of ours.
///
/// # Errors
/// As [`enter`].
#[inline]
pub(super) fn enter_next(event_loop: &Bound<'_, EventLoop>, task: &Any<'_>) -> PyResult<()> {
    enter(event_loop.as_any(), task)
}

/// As [`leave`] likewise.
///
/// # Errors
/// As [`leave`].
#[inline]
pub(super) fn leave_for_next(event_loop: &Bound<'_, EventLoop>, task: &Any<'_>) -> PyResult<()> {
    leave(event_loop.as_any(), task)
}

/// Nothing is left between two steps.
///
/// # Errors
/// None; those of `current.rs`.
#[inline(always)]
pub(crate) fn settle(_: &Bound<'_, EventLoop>) -> PyResult<()> {
    Ok(())
}

#[inline(always)]
pub(crate) fn is_unsettled(_: &Bound<'_, EventLoop>) -> bool {
    false
}
