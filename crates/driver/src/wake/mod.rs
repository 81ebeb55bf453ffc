//! Ending a wait from another thread.
//!
//! The [`Waker`] is the only part of a driver that crosses threads. It coalesces: between two
//! waits, any number of wakes cost one system call.

mod descriptor;
mod parking;

use std::fmt;
use std::sync::Arc;

pub(crate) use descriptor::WakeDescriptor;
pub(crate) use parking::Parking;

/// Ends the current wait of a driver, or the next one if none is running.
///
/// What was published before [`Waker::wake`] (a push to an inbox) is seen by the owner after the
/// wait that it ended.
#[derive(Clone)]
pub struct Waker(Arc<dyn Wake>);

/// How one kind of driver is woken. Never blocks.
pub(crate) trait Wake: Send + Sync {
    fn wake(&self);
}

impl Waker {
    pub(crate) fn new(inner: Arc<dyn Wake>) -> Self {
        Self(inner)
    }

    /// Wakes the driver. Never blocks, never fails, harmless after the driver is gone.
    pub fn wake(&self) {
        self.0.wake();
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}
