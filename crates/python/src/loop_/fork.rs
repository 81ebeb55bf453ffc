//! What becomes of a loop when its process forks. Called by `oxlip._fork` around every `os.fork()`.
//!
//! The child has a copy of the loop, whose multiplexer and waker are not copies: they are shared
//! with the parent, and what one tells them the other hears. So the child's loop gets its own and
//! goes on, running or not, with everything that was scheduled and connected, as asyncio's does.
//!
//! It cannot if it was running in another thread: that thread is not in the child, and may have been
//! in the middle of anything.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use oxlip_driver::Driver as _;
use pyo3::PyErr;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::{EventLoop, lifecycle};
use crate::transport;

/// `EventLoop::life`: it can be used.
pub(super) const OPEN: u8 = 0;
/// It was closed.
pub(super) const CLOSED: u8 = 1;
/// It is the parent's, and this process is a forked child that could not make it anew.
pub(super) const LEFT_BEHIND: u8 = 2;

/// What was only gathered leaves now: both processes would send it.
pub(super) fn before(event_loop: &Bound<'_, EventLoop>) {
    // A loop of another thread: the child will have no use for it. Errors of protocols have been
    // reported; what ends the loop is nothing that a fork should raise.
    if !event_loop.get().state.is_elsewhere()
        && let Err(error) = transport::flush(event_loop)
    {
        error.write_unraisable(event_loop.py(), Some(event_loop));
    }
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
            true
        }
        Some(None) => false,
        Some(Some(Err(_))) => {
            this.life.store(LEFT_BEHIND, Ordering::Relaxed);
            let open = this.state.try_with(|state| state.transports(py));
            open.iter()
                .flatten()
                .for_each(|transport| transport.bind(py).abandon());
            lifecycle::clear(this);
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

/// Why a loop that is not open cannot be used.
#[cold]
pub(super) fn unusable(life: u8) -> PyErr {
    PyRuntimeError::new_err(if life == LEFT_BEHIND {
        "Event loop belongs to the parent process and cannot be used in a forked child"
    } else {
        "Event loop is closed"
    })
}
