//! `Future` and `Task` in place of asyncio's own in C, for loops of ours: what they do over and
//! over is native from end to end, without objects whose only purpose is to carry a step to the
//! loop (ADR 12).
//!
//! * `core.rs`: what both have, state and outcome;
//! * `callbacks.rs`: who is told when they are done; `told.rs`: how `gather()` and others count
//!   those;
//! * `awaiting.rs`: what `await` iterates;
//! * `step.rs`: how a task goes on;
//! * `current.rs`, from 3.14 on `current_of_thread.rs`: what `asyncio.current_task()` reads;
//! * `part.rs`: what else asyncio reads of ours;
//! * `registered.rs`: where asyncio finds our tasks; `unlisted.rs`: those that its set does not
//!   have yet;
//! * `end.rs`: what is said about those that nobody has looked at.
//!
//! All of it has asyncio's meaning, and runs on the thread of the future's loop, whatever its
//! class.

mod awaiting;
mod base;
mod callbacks;
mod calls;
mod core;
#[cfg(not(Py_3_14))]
pub(crate) mod current;
#[cfg(Py_3_14)]
pub(crate) mod current_of_thread;
mod end;
mod future;
pub(crate) mod part;
mod registered;
pub(crate) mod step;
mod task;
pub(crate) mod told;
mod unlisted;

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyModule;

use self::core::{Life, Native};
use crate::names;

#[cfg(Py_3_14)]
pub(crate) use self::current_of_thread as current;
pub(crate) use self::future::Future;
pub(crate) use self::task::Task;

type Any<'py> = Bound<'py, PyAny>;

/// Whether there are the classes.
static EXPORTED: AtomicBool = AtomicBool::new(false);

/// Whether loops of ours make ours.
static SWITCHED: AtomicBool = AtomicBool::new(false);

/// Puts the classes into the module, where the running Python's are known.
///
/// # Errors
/// asyncio cannot be imported; out of memory.
pub(crate) fn export(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    if !supported(py)? {
        return Ok(());
    }
    // At the interpreter's end nothing can be imported any more, and futures still have something to say.
    for name in [
        &names::FUTURE_REPR,
        &names::TASK_REPR,
        &names::TASK_GET_STACK,
        &names::TASK_PRINT_STACK,
        &names::INVALID_STATE_ERROR,
        &names::CANCELLED_ERROR,
        &names::EXTRACT,
        &names::IS_FINALIZING,
        &names::IS_COROUTINE,
        &names::IS_GENERATOR,
        &names::PYTHON_FUTURE,
        &names::GET_EVENT_LOOP,
        &names::SWAP_CURRENT_TASK,
        &names::REGISTER_EAGER_TASK,
        &names::UNREGISTER_EAGER_TASK,
    ] {
        name.get(py)?;
    }
    if part::IS_KEPT {
        names::ADD_TO_AWAITED_BY.get(py)?;
        names::DISCARD_FROM_AWAITED_BY.get(py)?;
    } else {
        names::CURRENT_TASKS.get(py)?;
        names::SCHEDULED_TASKS.get(py)?;
    }
    end::install::<Future>(py);
    end::install::<Task>(py);
    awaiting::install(py);
    calls::install(py)?;
    base::make_immutable::<Future>(py);
    base::make_immutable::<Task>(py);
    module.add_class::<Future>()?;
    module.add_class::<Task>()?;
    EXPORTED.store(true, Ordering::Relaxed);
    Ok(())
}

/// Whether this Python's classes are those that ours are made for.
///
/// # Errors
/// asyncio cannot be imported.
pub(crate) fn supported(py: Python<'_>) -> PyResult<bool> {
    let version = py.version_info();
    let known =
        (3, 12) <= (version.major, version.minor) && (version.major, version.minor) <= (3, 15);
    Ok(known && cfg!(not(Py_GIL_DISABLED)) && base::fits(py)? && part::find(py)?)
}

/// From here on, or no longer, loops of ours make ours.
///
/// # Errors
/// asyncio has no set of its tasks.
pub(crate) fn switch(py: Python<'_>, on: bool) -> PyResult<()> {
    let on = on && EXPORTED.load(Ordering::Relaxed);
    if on || switched() {
        registered::find_set(py, on)?;
    }
    SWITCHED.store(on, Ordering::Relaxed);
    Ok(())
}

/// Has asyncio's set of all tasks know those that it was not told of yet.
///
/// # Errors
/// Out of memory.
pub(crate) fn list_all(py: Python<'_>) -> PyResult<()> {
    registered::list_all(py)
}

/// The task, if it is of exactly our class; there are none where the running Python's are not known.
#[inline]
pub(crate) fn as_ours<'a, 'py>(task: &'a Any<'py>) -> Option<&'a Bound<'py, Task>> {
    if !EXPORTED.load(Ordering::Relaxed) {
        return None;
    }
    task.cast_exact::<Task>().ok()
}

/// Gives a future of exactly our class its result; false if it is done. None: it is another future.
///
/// # Errors
/// What `call_soon()` raises.
#[inline]
pub(crate) fn wake<'py>(future: &Any<'py>, result: &Any<'py>) -> Option<PyResult<bool>> {
    // Without the classes nobody can ask for them.
    if !EXPORTED.load(Ordering::Relaxed) {
        return None;
    }
    let native = Native::of(future.cast_exact::<Future>().ok()?);
    if native.with(|slots| slots.life != Life::Pending) {
        return Some(Ok(false));
    }
    Some(native.set_result(result.clone()).map(|()| true))
}

/// Gives a future to the task that will wait for it, as the first step of its `await` does. False: it is not of
/// exactly our class, or done.
#[inline]
pub(crate) fn give(future: &Any<'_>) -> bool {
    let Ok(future) = future.cast_exact::<Future>() else {
        return false;
    };
    Native::of(future).with(|slots| {
        let waits = slots.life == Life::Pending;
        slots.blocking |= waits;
        waits
    })
}

/// Whether a future of ours has a result, and not an exception.
#[inline]
pub(crate) fn has_result(future: &Any<'_>) -> bool {
    let Ok(future) = future.cast_exact::<Future>() else {
        return false;
    };
    Native::of(future).with(|slots| slots.life == Life::Finished && slots.result.is_some())
}

#[inline]
pub(crate) fn switched() -> bool {
    SWITCHED.load(Ordering::Relaxed)
}
