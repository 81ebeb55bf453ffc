//! Running, stopping and closing the loop.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use pyo3::exceptions::{PyResourceWarning, PyRuntimeError};
use pyo3::prelude::*;

use super::{EventLoop, Runnable, State, fork, replaced, tick};
use crate::handle::collector;
use crate::names;
use crate::owner::{Ownership, thread_token};
use crate::tasks::current;
use crate::transport::{self, AnyTransport, Link};

/// Says that the loop runs from now on, until [`release`].
///
/// # Errors
/// `RuntimeError` if the loop runs already.
pub(super) fn claim(event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
    replaced::look(event_loop);
    let event_loop = event_loop.get();
    event_loop.check_open()?;
    if event_loop.running.swap(true, Ordering::Relaxed) {
        return Err(already_running());
    }
    event_loop
        .running_thread
        .store(thread_token(), Ordering::Relaxed);
    Ok(())
}

/// Says so for a library that runs the ticks itself.
pub(super) fn set_running(event_loop: &Bound<'_, EventLoop>, running: bool) {
    let this = event_loop.get();
    this.running_thread.store(thread_token(), Ordering::Relaxed);
    this.running.store(running, Ordering::Relaxed);
    // From here on nothing is hidden any more, so that this finds all that is. A loop that was
    // closed holds nothing.
    if !running && let Ok(owned) = own(event_loop) {
        this.drain_inbox(event_loop.py());
        let _keywords = owned.with(|state| state.future_keywords.take());
        show_waiting(this, event_loop.py(), &owned);
    }
}

/// Says that the loop runs no longer.
pub(super) fn release(event_loop: &Bound<'_, EventLoop>) {
    event_loop.get().stopping.store(false, Ordering::Relaxed);
    set_running(event_loop, false);
}

/// Runs ticks until `stop()`, or until it may be the program that runs them. The Python part has made this the thread's
/// running loop, after [`claim`].
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` from a callback; `OSError` if the multiplexer fails.
pub(super) fn run(event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
    let this = event_loop.get();
    let owned = own(event_loop)?;
    let mut runner = None;
    let result = loop {
        match tick::tick(event_loop, &owned, &mut runner, true) {
            Ok(()) if this.stopping.load(Ordering::Relaxed) => break Ok(()),
            Ok(()) if this.reconsiders.load(Ordering::Relaxed) => {
                this.reconsiders.store(false, Ordering::Relaxed);
                break Ok(());
            }
            Ok(()) => {}
            Err(error) => break Err(error),
        }
    };
    let settled = current::settle(event_loop);
    // What the last handle has written leaves although no tick may follow.
    result.and(settled).and(transport::flush(event_loop))
}

/// Nothing is left hidden from the cycle collector: see `handle/collector.rs`.
fn show_waiting(event_loop: &EventLoop, py: Python<'_>, owned: &Ownership<'_, State>) {
    let mut waiting = Vec::new();
    let lent = event_loop.inbox.lend(std::mem::take);
    event_loop.inbox.expect(0);
    let spare = owned.with(|state| {
        state.scheduler.for_each(|runnable| {
            if let Runnable::Call(handle) = runnable {
                waiting.push(handle.bind(py).clone());
            }
        });
        std::mem::take(&mut state.spare)
    });
    waiting.iter().for_each(collector::show);
    drop((spare, lent));
}

/// Waits until no other thread is in the middle of a call to this loop, which is short: only one
/// thread runs it.
///
/// # Errors
/// `RuntimeError` if the loop is closed, or another thread runs it.
pub(super) fn own<'a>(event_loop: &'a Bound<'_, EventLoop>) -> PyResult<Ownership<'a, State>> {
    let this = event_loop.get();
    let owned = loop {
        match this.state.own() {
            Ok(owned) => break owned,
            Err(_) if this.runs_elsewhere() => return Err(already_running()),
            Err(_) => {
                this.check_open()?;
                // The other thread may need the GIL to get on.
                event_loop.py().detach(std::thread::yield_now);
            }
        }
    };
    this.check_open()?;
    Ok(owned)
}

#[cold]
fn already_running() -> PyErr {
    PyRuntimeError::new_err("This event loop is already running")
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
    if this.life.load(Ordering::Relaxed) == fork::CLOSED {
        return Ok(());
    }
    // What was written but only gathered is sent; nobody is left to be told how that went.
    if let Err(error) = transport::flush(event_loop) {
        error.write_unraisable(py, Some(event_loop));
    }
    this.life.store(fork::CLOSED, Ordering::Relaxed);
    let open = owned.with(|state| state.transports(py));
    for transport in &open {
        let transport = transport.bind(py);
        warn_unclosed(transport);
        transport.abandon();
    }
    clear(py, this);
    Ok(())
}

/// asyncio's warning about a transport that nobody has closed. At the end of the interpreter the
/// modules it takes may be gone: then there is nobody to warn either.
fn warn_unclosed(transport: Link<'_, '_>) {
    let py = transport.py();
    let (Ok(shown), Ok(warn)) = (transport.repr(), names::WARN.get(py)) else {
        return;
    };
    let category = py.get_type::<PyResourceWarning>();
    // Not with the transport as its source: whoever records warnings would keep it alive. With
    // `python -W error` the warning is an exception, which must not keep the loop open.
    if let Err(error) = warn.call1((format!("unclosed transport {shown}"), category)) {
        error.write_unraisable(py, Some(transport.as_any()));
    }
}

impl State {
    /// Every connection's transport.
    pub(super) fn transports(&self, py: Python<'_>) -> Vec<AnyTransport> {
        let mut found = Vec::new();
        self.resources.for_each(|_, resource| {
            found.extend(resource.transport(py));
        });
        found
    }
}

impl EventLoop {
    /// # Errors
    /// `RuntimeError` once the loop is closed, or left behind by a fork.
    #[inline]
    pub(crate) fn check_open(&self) -> PyResult<()> {
        match self.life.load(Ordering::Relaxed) {
            fork::OPEN => Ok(()),
            life => Err(fork::unusable(life)),
        }
    }

    /// The state, for longer than one access; `None` if it is another thread's to touch.
    pub(crate) fn own_here(&self) -> Option<Ownership<'_, State>> {
        // A loop that is run tick by tick is owned only during each.
        if self.runs_elsewhere() {
            return None;
        }
        self.state.own().ok()
    }

    /// Whether another thread runs the loop.
    pub(super) fn runs_elsewhere(&self) -> bool {
        self.runs() && self.running_thread.load(Ordering::Relaxed) != thread_token()
    }

    /// Whether the loop runs: then something runs after the current handle.
    #[inline]
    pub(crate) fn runs(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }
}

/// Drops everything the loop holds; also what the cycle collector calls.
pub(super) fn clear(py: Python<'_>, event_loop: &EventLoop) {
    event_loop
        .waker
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let mut inbox = Vec::new();
    event_loop
        .inbox
        .drain(|runnable: Runnable| inbox.push(runnable));
    let factory = event_loop.task_factory.hold(py).take();
    let held = event_loop.state.with(|state| {
        let resources = std::mem::take(&mut state.resources);
        state.holding.clear();
        state.unsettled.clear();
        state.watched_fds.clear();
        state.keeping = Default::default();
        state.connected_fds.clear();
        state.completions.clear();
        (
            std::mem::take(&mut state.spare),
            state.snapshot.take(),
            state.future_keywords.take(),
            std::mem::take(&mut state.transfers),
            state.scheduler.clear(),
            resources,
            // Dropped with all its descriptors, and without taking them out of the multiplexer
            // one by one: in a forked child that would deafen the parent, which shares it.
            state.driver.take(),
        )
    });
    let for_others = event_loop.inbox.lend(std::mem::take);
    // Outside the borrow: what is dropped here may run Python code.
    drop((inbox, held, factory, for_others));
}
