//! How long to wait, in the units of the system calls: rounded up, so that no wait ends early.

use std::time::Duration;

use rustix::event::Timespec;

/// The time-out for ppoll(2), pselect(2) and `epoll_pwait2`(2): exact. More seconds than the system
/// can count are as many as it can.
#[inline]
pub(crate) fn timespec(timeout: Option<Duration>) -> Option<Timespec> {
    timeout.map(|timeout| {
        let timeout = timeout.min(LONGEST);
        Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        }
    })
}

/// The time-out for `epoll_wait`(2): whole milliseconds, -1 for ever. Longer than the call can say
/// (24 days) is as long as it can.
#[inline]
pub(crate) fn millis(timeout: Option<Duration>) -> i32 {
    timeout.map_or(-1, |timeout| {
        i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
    })
}

/// The time-out that Python gives in seconds: zero or less polls, infinity or more than can be
/// counted is as long as can be counted, the rest is rounded up to a nanosecond.
///
/// `None` if `secs` is not a number, which Python refuses with a `ValueError`.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates"
)]
pub fn from_secs(secs: f64) -> Option<Duration> {
    if secs.is_nan() {
        return None;
    }
    let whole = secs.floor().max(0.0);
    // Exact: a float's fraction has no more digits than the float.
    let nanos = ((secs.max(0.0) - whole) * 1e9).ceil() as u32;
    Some(Duration::from_secs(whole as u64).saturating_add(Duration::from_nanos(nanos.into())))
}

/// Linux takes any count of seconds and ends such waits at the end of its time.
#[cfg(any(target_os = "linux", target_os = "android"))]
const LONGEST: Duration = Duration::new(i64::MAX as u64, 0);

/// Where there is no ppoll(2), time-outs end up as milliseconds in a C int.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);
