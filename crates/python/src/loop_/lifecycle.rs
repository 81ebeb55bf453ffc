//! Running, stopping and closing the loop.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use pyo3::exceptions::{PyResourceWarning, PyRuntimeError};
use pyo3::prelude::*;

use super::{EventLoop, Resource, Runnable, State, tick};
use crate::names;
use crate::owner::{Ownership, thread_token};
use crate::transport::{self, StreamTransport};

/// Says that the loop runs from now on, until [`release`].
///
/// # Errors
/// `RuntimeError` if the loop runs already.
pub(super) fn claim(event_loop: &EventLoop) -> PyResult<()> {
    event_loop.check_open()?;
    if event_loop.running.swap(true, Ordering::Relaxed) {
        return Err(PyRuntimeError::new_err(
            "This event loop is already running",
        ));
    }
    event_loop.runner.store(thread_token(), Ordering::Relaxed);
    Ok(())
}

/// Says so for a library that runs the ticks itself.
pub(super) fn set_running(event_loop: &EventLoop, running: bool) {
    event_loop.runner.store(thread_token(), Ordering::Relaxed);
    event_loop.running.store(running, Ordering::Relaxed);
}

pub(super) fn release(event_loop: &EventLoop) {
    event_loop.stopping.store(false, Ordering::Relaxed);
    event_loop.running.store(false, Ordering::Relaxed);
}

/// Runs ticks until `stop()`. The Python part has made this the thread's running loop, after
/// [`claim`].
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` from a callback; `OSError` if the multiplexer fails.
pub(super) fn run(event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
    let this = event_loop.get();
    let owned = own(this)?;
    let result = loop {
        match tick::tick(event_loop, &owned, true) {
            Ok(()) if this.stopping.load(Ordering::Relaxed) => break Ok(()),
            Ok(()) => {}
            Err(error) => break Err(error),
        }
    };
    // What the last handle has written leaves although no tick may follow, and what other threads
    // have sent is put where the cycle collector sees it.
    let flushed = transport::flush(event_loop);
    this.drain_inbox(event_loop.py());
    result.and(flushed)
}

/// Waits until no other thread is in the middle of a call to this loop. `claim` lets only one
/// thread run it, so that such a call is short.
pub(super) fn own(event_loop: &EventLoop) -> PyResult<Ownership<'_, State>> {
    loop {
        event_loop.check_open()?;
        match event_loop.state.own() {
            Ok(owned) => return Ok(owned),
            Err(_) => std::thread::yield_now(),
        }
    }
}

pub(super) fn stop(event_loop: &EventLoop) {
    event_loop.stopping.store(true, Ordering::Relaxed);
}

/// Forgets what was scheduled and closes every descriptor the loop owns.
///
/// # Errors
/// `RuntimeError` while the loop runs.
pub(super) fn close(event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
    let py = event_loop.py();
    let this = event_loop.get();
    // Owned until it is closed: another thread that would run it meanwhile finds it closed.
    let owned = this.state.own();
    let Some(owned) = owned.ok().filter(|_| !this.running.load(Ordering::Relaxed)) else {
        return Err(PyRuntimeError::new_err("Cannot close a running event loop"));
    };
    if this.closed.load(Ordering::Relaxed) {
        return Ok(());
    }
    // What was written but only gathered is sent; nobody is left to be told how that went.
    if let Err(error) = transport::flush(event_loop) {
        error.write_unraisable(py, Some(event_loop));
    }
    this.closed.store(true, Ordering::Relaxed);
    let mut open = Vec::new();
    owned.with(|state| {
        state.resources.for_each(|_, resource| {
            if let Resource::Connection(connection) = resource {
                open.push(connection.transport.bind(py).clone());
            }
        });
    });
    for transport in &open {
        warn_unclosed(transport);
        StreamTransport::abandon(transport);
    }
    clear(this);
    Ok(())
}

/// asyncio's warning about a transport that nobody has closed. At the end of the interpreter the
/// modules it takes may be gone: then there is nobody to warn either.
fn warn_unclosed(transport: &Bound<'_, StreamTransport>) {
    let py = transport.py();
    let (Ok(shown), Ok(warn)) = (transport.repr(), names::WARN.get(py)) else {
        return;
    };
    let category = py.get_type::<PyResourceWarning>();
    // Not with the transport as its source: whoever records warnings would keep it alive. With
    // `python -W error` the warning is an exception, which must not keep the loop open.
    if let Err(error) = warn.call1((format!("unclosed transport {shown}"), category)) {
        error.write_unraisable(py, Some(transport));
    }
}

impl EventLoop {
    /// # Errors
    /// `RuntimeError` once the loop is closed.
    #[inline]
    pub(crate) fn check_open(&self) -> PyResult<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err("Event loop is closed"));
        }
        Ok(())
    }

    /// Whether the loop runs: then something runs after the current handle.
    #[inline]
    pub(crate) fn runs(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }
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
    let factory = event_loop
        .task_factory
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let held = event_loop.state.with(|state| {
        let resources = std::mem::take(&mut state.resources);
        state.holding.clear();
        state.watched_fds.clear();
        state.connected_fds.clear();
        state.waits.clear();
        state.completions.clear();
        (
            std::mem::take(&mut state.spare_handles),
            state.scheduler.clear(),
            resources,
            // Dropped with all its descriptors, and without taking them out of the multiplexer
            // one by one: in a forked child that would deafen the parent, which shares it.
            state.driver.take(),
        )
    });
    // Outside the borrow: what is dropped here may run Python code.
    drop((inbox, held, factory));
}
