//! The clock of every driver but the simulated one.

use oxlip_core::time::Time;
use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC`, the clock of Python's `time.monotonic()`. Any thread may read it.
#[must_use]
#[inline]
pub fn monotonic() -> Time {
    let now = clock_gettime(ClockId::Monotonic);
    #[expect(
        clippy::cast_sign_loss,
        reason = "the clock counts up from the system's start"
    )]
    Time::from_nanos(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}
