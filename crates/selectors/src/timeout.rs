//! Time-outs in the units of the system calls: rounded up, so that no wait ends early.

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
    // The difference is exact; of infinity it is not a number, which `as` makes zero.
    let nanos = ((secs.max(0.0) - whole) * 1e9).ceil() as u32;
    Some(Duration::from_secs(whole as u64).saturating_add(Duration::from_nanos(nanos.into())))
}

/// Linux takes any count of seconds and ends such waits at the end of its time.
#[cfg(any(target_os = "linux", target_os = "android"))]
const LONGEST: Duration = Duration::new(i64::MAX as u64, 0);

/// Where there is no ppoll(2), time-outs end up as milliseconds in a C int.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{from_secs, timespec};

    #[test]
    fn the_system_gets_what_it_can_count() {
        let exact = timespec(Some(Duration::new(3, 7))).expect("a time-out");
        assert_eq!((exact.tv_sec, exact.tv_nsec), (3, 7));
        assert!(timespec(None).is_none());
        let longest = timespec(Some(Duration::MAX)).expect("a time-out");
        assert!(longest.tv_sec > 0);
        assert!(longest.tv_nsec < 1_000_000_000);
    }

    #[test]
    fn seconds_are_rounded_up_to_nanoseconds() {
        let nanos = |secs| from_secs(secs).expect("a number").as_nanos();
        for (secs, expected) in [
            (0.0, 0),
            (-0.0, 0),
            (-1.5, 0),
            (f64::NEG_INFINITY, 0),
            (f64::MIN_POSITIVE, 1),
            (1e-12, 1),
            (1e-9, 1),
            (0.5, 500_000_000),
            (2.25, 2_250_000_000),
        ] {
            assert_eq!(nanos(secs), expected, "for {secs}");
        }
        assert!(nanos(0.1) >= 100_000_000);
        // The float next below 1: its fraction rounds up to a whole second.
        assert_eq!(nanos(1.0 - f64::EPSILON / 2.0), 1_000_000_000);
    }

    #[test]
    fn seconds_out_of_range() {
        assert_eq!(from_secs(f64::NAN), None);
        for secs in [f64::INFINITY, f64::MAX, 1e30] {
            assert!(from_secs(secs).expect("a number") >= Duration::from_secs(u64::MAX));
        }
    }
}
