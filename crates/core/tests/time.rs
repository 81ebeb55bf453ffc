//! `Time`: conversions never make a timer early.

mod cases;

use std::time::Duration;

use oxlip_core::time::Time;
use proptest::prelude::*;

/// From fractions of a nanosecond to the age of the universe, and around whole nanoseconds, where
/// the rounding is decided.
fn seconds() -> impl Strategy<Value = f64> {
    prop_oneof![
        0.0..1e-6,
        0.0..10.0,
        0.0..1e7,
        0.0..1e11,
        (0..1u64 << 60, -2i64..=2).prop_map(|(nanos, ulps)| {
            let secs = Time::from_nanos(nanos).as_secs_f64();
            f64::from_bits(
                secs.to_bits()
                    .saturating_add_signed(ulps)
                    .min(f64::MAX.to_bits()),
            )
        }),
    ]
}

proptest! {
    #![proptest_config(cases::cases())]

    #[test]
    fn the_clock_never_reads_less_than_what_was_waited_for(
        secs in seconds(), late in 0..1_000_000_000u64
    ) {
        let due = Time::from_secs_f64(secs);
        prop_assume!(due != Time::NEVER);
        prop_assert!(due.as_secs_f64() >= secs);
        prop_assert!(due.after(Duration::from_nanos(late)).as_secs_f64() >= secs);
    }

    #[test]
    fn a_point_read_from_the_clock_is_waited_for_exactly(
        // In seconds, an f64 tells nanoseconds apart below 2^22.
        nanos in 0..(1u64 << 22) * 1_000_000_000
    ) {
        let now = Time::from_nanos(nanos);
        prop_assert_eq!(Time::from_secs_f64(now.as_secs_f64()), now);
    }

    #[test]
    fn after_and_since_are_inverse(start in any::<u64>(), delay in any::<u64>()) {
        let start = Time::from_nanos(start);
        let end = start.after(Duration::from_nanos(delay));
        prop_assert!(end >= start);
        prop_assert_eq!(start.since(end), Duration::ZERO);
        if end != Time::NEVER {
            prop_assert_eq!(end.since(start), Duration::from_nanos(delay));
        }
    }
}

#[test]
fn what_is_out_of_range_saturates() {
    assert_eq!(Time::from_secs_f64(-1.0), Time::ZERO);
    assert_eq!(Time::from_secs_f64(-0.0), Time::ZERO);
    assert_eq!(Time::from_secs_f64(f64::NEG_INFINITY), Time::ZERO);
    assert_eq!(Time::from_secs_f64(f64::INFINITY), Time::NEVER);
    assert_eq!(Time::from_secs_f64(1e300), Time::NEVER);
    assert_eq!(Time::from_secs_f64(f64::NAN), Time::NEVER);
    assert_eq!(Time::ZERO.after(Duration::MAX), Time::NEVER);
    assert_eq!(Time::NEVER.after(Duration::from_nanos(1)), Time::NEVER);
}

#[test]
fn whole_and_broken_seconds() {
    assert_eq!(Time::from_secs_f64(1.5).as_nanos(), 1_500_000_000);
    assert_eq!(Time::from_nanos(2_500_000_000).as_secs_f64(), 2.5);
    // A fraction of a nanosecond is a whole one.
    assert_eq!(Time::from_secs_f64(1e-12).as_nanos(), 1);
}
