//! Running, stopping and closing the loop.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use oxlip_core::op::Op;
use oxlip_driver::Driver as _;
use pyo3::exceptions::{PyResourceWarning, PyRuntimeError};
use pyo3::prelude::*;

use super::{EventLoop, Resource, Runnable, tick};
use crate::names;

/// Runs ticks until `stop()`. The Python part has made this the thread's running loop.
///
/// # Errors
/// `RuntimeError` if the loop runs already; `SystemExit` and `KeyboardInterrupt` from a callback;
/// `OSError` if the multiplexer fails.
pub(super) fn run(event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
    struct Running<'a>(&'a EventLoop);
    impl Drop for Running<'_> {
        fn drop(&mut self) {
            self.0.stopping.store(false, Ordering::Relaxed);
            self.0.running.store(false, Ordering::Relaxed);
        }
    }

    let this = event_loop.get();
    check_open(this)?;
    let already_running = || PyRuntimeError::new_err("This event loop is already running");
    let owned = loop {
        match this.state.own() {
            Ok(owned) => break owned,
            Err(_) if this.running.load(Ordering::Relaxed) => return Err(already_running()),
            // Another thread is in the middle of one call to a loop that does not run yet.
            Err(_) => std::thread::yield_now(),
        }
    };
    if this.running.swap(true, Ordering::Relaxed) {
        return Err(already_running());
    }
    let _running = Running(this);
    loop {
        tick::tick(event_loop, &owned)?;
        if this.stopping.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}

pub(super) fn stop(event_loop: &EventLoop) {
    event_loop.stopping.store(true, Ordering::Relaxed);
}

/// # Errors
/// `RuntimeError` once the loop is closed.
#[inline]
pub(super) fn check_open(event_loop: &EventLoop) -> PyResult<()> {
    if event_loop.closed.load(Ordering::Relaxed) {
        return Err(PyRuntimeError::new_err("Event loop is closed"));
    }
    Ok(())
}

/// Forgets what was scheduled and closes every descriptor the loop owns.
///
/// # Errors
/// `RuntimeError` while the loop runs.
pub(super) fn close(event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
    let this = event_loop.get();
    if this.running.load(Ordering::Relaxed) {
        return Err(PyRuntimeError::new_err("Cannot close a running event loop"));
    }
    if this.closed.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let py = event_loop.py();
    let mut open = Vec::new();
    this.state.with(|state| {
        state.resources.for_each(|id, resource| {
            if let Resource::Connection(connection) = resource {
                open.push((id, connection.transport.clone_ref(py)));
            }
        });
    })?;
    for (_, transport) in &open {
        let message = format!("unclosed transport {}", transport.bind(py).repr()?);
        let category = py.get_type::<PyResourceWarning>();
        // Not with the transport as its source: whoever records warnings would keep it alive.
        // The warning may be an error (python -W error): that must not keep the loop open.
        let warning = names::WARN.get(py)?.call1((message, category));
        if let Err(error) = warning {
            error.write_unraisable(py, Some(transport.bind(py)));
        }
        transport.get().abandon();
    }
    clear(this);
    Ok(())
}

/// Drops everything the loop holds; also what the cycle collector calls.
pub(super) fn clear(event_loop: &EventLoop) {
    event_loop
        .waker
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let mut inbox = Vec::new();
    event_loop
        .inbox
        .drain(|runnable: Runnable| inbox.push(runnable));
    let held = event_loop.state.with(|state| {
        let resources = std::mem::take(&mut state.resources);
        if let Some(driver) = state.driver.as_mut() {
            resources.for_each(|id, _| {
                let _ = driver.submit(Op::Close(id));
            });
        }
        state.dirty.clear();
        state.watched_fds.clear();
        state.connected_fds.clear();
        state.waits.clear();
        state.completions.clear();
        (
            std::mem::take(&mut state.spare_handles),
            state.scheduler.clear(),
            resources,
            state.task_factory.take(),
            state.driver.take(),
        )
    });
    // Outside the borrow: what is dropped here may run Python code.
    drop((inbox, held));
}
