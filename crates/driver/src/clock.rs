//! The clocks of all drivers but the simulated one.

use std::fs;
use std::time::Duration;

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

/// How long the calling thread has been ready to run without a processor, since it began. Nothing
/// where the system does not say. It costs three system calls.
///
/// The second number of `/proc/thread-self/schedstat`, in nanoseconds:
/// <https://docs.kernel.org/scheduler/sched-stats.html#proc-pid-schedstat>
#[must_use]
#[cold]
pub fn run_delay() -> Option<Duration> {
    let line = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}
