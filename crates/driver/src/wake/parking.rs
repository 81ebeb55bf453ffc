//! A waker for a driver that has no descriptors to sleep on.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

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

    /// Sleeps until woken, but not for long: a condition variable goes back to sleep after a signal,
    /// and the owner may have to look whether there was one.
    pub(crate) fn sleep(&self) {
        let woken = self.0.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .0
            .changed
            .wait_timeout_while(woken, NAP, |woken| !*woken);
        let (mut woken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *woken = false;
    }
}

/// Short for somebody who has pressed Ctrl-C, long for a processor.
const NAP: Duration = Duration::from_millis(50);

impl Wake for Spot {
    fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}
