//! What becomes of a loop when its process forks. Called by `oxlip._fork` around every `os.fork()`.
//!
//! The child has a copy of the loop, but its multiplexer and waker are not copies: they are shared
//! with the parent, and what one process does to them affects the other. So the child's loop gets
//! its own. Then it goes on, running or not, with everything that was scheduled and connected, as
//! asyncio's does.
//!
//! It cannot go on if it was running in another thread: that thread is not in the child, and may
//! have been in the middle of anything.
//!
//! As in asyncio, no loop counts as running in the child, so that code called there may run a loop
//! of its own, such as `multiprocessing` with `asyncio.run`. If that code returns into the loop
//! that was running, the loop goes on, and is the running one again from the next handle on.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use oxlip_driver::Driver;
use pyo3::PyErr;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use super::{EventLoop, Runnable, lifecycle};
use crate::context::{self, Chosen};
use crate::handle::{Args, Handle, collector};
use crate::owner::thread_token;
use crate::{errors, names, transport};

/// `EventLoop::life`: it can be used.
pub(super) const OPEN: u8 = 0;
/// It was closed.
pub(super) const CLOSED: u8 = 1;
/// It is the parent's, and this process is a forked child that could not make it anew.
pub(super) const LEFT_BEHIND: u8 = 2;

/// What was only gathered leaves now: both processes would send it. And the driver learns that its sockets will be
/// the child's, too.
pub(super) fn before(event_loop: &Bound<'_, EventLoop>) {
    let state = &event_loop.get().state;
    // A loop of another thread: the child will have no use for it.
    if state.is_elsewhere() {
        return;
    }
    // Errors of protocols have been reported; what ends the loop is nothing that a fork should raise.
    if let Err(error) = transport::flush(event_loop) {
        error.write_unraisable(event_loop.py(), Some(event_loop));
    }
    state.try_with(|state| state.driver.as_mut().map(Driver::before_fork));
}

/// In the child: whether the loop can be used there.
pub(super) fn after(event_loop: &Bound<'_, EventLoop>) -> bool {
    let py = event_loop.py();
    let this = event_loop.get();
    if this.life.load(Ordering::Relaxed) != OPEN {
        return false;
    }
    let renewed = this.state.try_with(|state| {
        let driver = state.driver.as_mut()?;
        Some(driver.after_fork().map(|()| driver.waker()))
    });
    match renewed {
        Some(Some(Ok(waker))) => {
            let mut slot = this.waker.lock().unwrap_or_else(PoisonError::into_inner);
            *slot = Some(waker);
            drop(slot);
            if let Err(error) = run_on(event_loop) {
                error.write_unraisable(py, Some(event_loop));
            }
            true
        }
        Some(None) => false,
        Some(Some(Err(_))) => {
            this.life.store(LEFT_BEHIND, Ordering::Relaxed);
            let open = this.state.try_with(|state| state.transports(py));
            open.iter()
                .flatten()
                .for_each(|transport| transport.bind(py).abandon());
            lifecycle::clear(py, this);
            false
        }
        None => {
            this.life.store(LEFT_BEHIND, Ordering::Relaxed);
            this.state.forsake();
            // The child would wake the parent.
            let mut slot = this.waker.lock().unwrap_or_else(PoisonError::into_inner);
            *slot = None;
            false
        }
    }
}

/// If this thread runs the loop: the next handle says so to asyncio.
fn run_on(event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
    let py = event_loop.py();
    let this = event_loop.get();
    if !this.runs() || this.running_thread.load(Ordering::Relaxed) != thread_token() {
        return Ok(());
    }
    let set = py
        .import(intern!(py, "asyncio.events"))?
        .getattr(intern!(py, "_set_running_loop"))?;
    let itself = Args::One(event_loop.clone().into_any().unbind());
    let own = Chosen::Own(context::copy_current(py)?);
    let handle = Handle::new(event_loop, set, itself, own)?;
    collector::hide(&handle);
    let mut first = Some(Runnable::Call(handle.unbind()));
    this.state.with(|state| {
        if let Some(first) = first.take() {
            state.scheduler.ready_mut().push_front(first);
        }
    })?;
    Ok(())
}

/// What a callback has raised, or nothing if only asyncio has: since 3.14 it complains at the end of
/// a task's step that the loop does not run, if the step has forked and this is the child. The task
/// itself is well. (`SystemExit` and `KeyboardInterrupt` are all that a step raises.)
#[cold]
pub(crate) fn error_of_callback(
    event_loop: &Bound<'_, EventLoop>,
    callback: &Bound<'_, PyAny>,
    error: PyErr,
) -> PyResult<Option<PyErr>> {
    let py = event_loop.py();
    if !cfg!(Py_3_14) || !error.is_instance_of::<PyRuntimeError>(py) {
        return Ok(Some(error));
    }
    let runs = names::GET_RUNNING_LOOP.get(py)?.call0()?;
    let of_task = match callback.getattr(intern!(py, "__self__")) {
        Ok(owner) => owner.is_instance(&names::TASK.get(py)?)?,
        Err(_) => false,
    };
    if runs.is(event_loop) || !of_task {
        return Ok(Some(error));
    }
    Ok(error
        .context(py)
        .filter(|context| errors::ends_the_loop(py, context)))
}

/// Why a loop that is not open cannot be used.
#[cold]
pub(super) fn unusable(life: u8) -> PyErr {
    PyRuntimeError::new_err(if life == LEFT_BEHIND {
        "Event loop belongs to the parent process and cannot be used in a forked child"
    } else {
        "Event loop is closed"
    })
}
