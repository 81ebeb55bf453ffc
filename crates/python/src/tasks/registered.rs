//! Where `asyncio.all_tasks()` finds a task of ours: in asyncio's set, or in the list of
//! `unlisted.rs` until somebody looks into the set; from Python 3.14 on, in the interpreter's own
//! list (`part.rs`).

use pyo3::intern;
use pyo3::prelude::*;

use super::{Task, part, unlisted};
use crate::fields::Fields;
use crate::names;
use crate::primitives::TaskSet;

/// The native functions of asyncio's set, if it has them.
static TASK_SET: Fields<Option<Py<TaskSet>>> = Fields::new(None);

/// Looks for them, or forgets them.
///
/// # Errors
/// asyncio has no set of its tasks.
pub(super) fn find_set(py: Python<'_>, on: bool) -> PyResult<()> {
    if part::IS_KEPT {
        return Ok(());
    }
    let add = names::SCHEDULED_TASKS
        .get(py)?
        .getattr(intern!(py, "add"))?;
    let found = add.getattr(intern!(py, "__self__"))?;
    let found = found.cast_into::<TaskSet>().ok().filter(|_| on);
    list_all(py)?;
    let before = std::mem::replace(&mut *TASK_SET.hold(py), found.map(Bound::unbind));
    drop(before);
    Ok(())
}

/// Has the set know all tasks.
///
/// # Errors
/// Out of memory: the others are still to be listed.
pub(super) fn list_all(py: Python<'_>) -> PyResult<()> {
    let native = TASK_SET
        .hold(py)
        .as_ref()
        .map(|tasks| tasks.bind(py).clone());
    while let Some(task) = unlisted::any(py) {
        // It is in one of the two at any time: others may look meanwhile.
        match &native {
            Some(native) => native.get().insert(task.as_any())?,
            None => add_to_set(&task)?,
        }
        unlisted::remove(py, &task.get().place);
    }
    Ok(())
}

/// A task that has been made.
///
/// # Errors
/// Out of memory; what the set raises, if it is not asyncio's own.
#[inline]
pub(super) fn add(task: &Bound<'_, Task>) -> PyResult<()> {
    let py = task.py();
    if part::IS_KEPT {
        part::enlist(task);
        return Ok(());
    }
    if TASK_SET.hold(py).is_some() && unlisted::add(task) {
        return Ok(());
    }
    add_to_set(task)
}

#[cold]
fn add_to_set(task: &Bound<'_, Task>) -> PyResult<()> {
    let py = task.py();
    let native = TASK_SET
        .hold(py)
        .as_ref()
        .map(|tasks| tasks.bind(py).clone());
    if let Some(native) = native {
        return native.get().add(task.as_any());
    }
    let tasks = names::SCHEDULED_TASKS.get(py)?;
    crate::ffi::call_method(intern!(py, "add"), [tasks, task.as_any()]).map(drop)
}
