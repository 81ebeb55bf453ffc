//! A waker for a driver that has no descriptors to sleep on.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::{Wake, Waker};

/// Where the owner sleeps until somebody wakes it. A wake that comes first is kept.
#[derive(Default)]
pub(crate) struct Parking(Arc<Spot>);

#[derive(Default)]
struct Spot {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Parking {
    pub(crate) fn waker(&self) -> Waker {
        Waker::new(self.0.clone())
    }

    /// Whether a wake has come since the last time; it counts once.
    pub(crate) fn was_woken(&self) -> bool {
        std::mem::take(&mut *self.0.woken.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sleeps until woken.
    pub(crate) fn sleep(&self) {
        let woken = self.0.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.0.changed.wait_while(woken, |woken| !*woken);
        *waiting.unwrap_or_else(PoisonError::into_inner) = false;
    }
}

impl Wake for Spot {
    fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}
