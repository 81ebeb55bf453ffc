//! `Timers` against a stable sort, and at size.

mod cases;

use oxlip_core::time::Time;
use oxlip_core::timers::Timers;
use proptest::prelude::*;

proptest! {
    #![proptest_config(cases::cases())]

    #[test]
    fn come_out_in_the_order_of_a_stable_sort(
        timers in prop::collection::vec((0..20u64, any::<bool>()), 0..cases::STEPS),
        now in 0..25u64,
    ) {
        let mut heap = Timers::new();
        let ids: Vec<_> =
            (0..).zip(&timers).map(|(n, timer)| heap.push(Time::from_nanos(timer.0), n)).collect();
        let mut expected = Vec::new();
        for (n, (id, (when, cancelled))) in (0..).zip(ids.into_iter().zip(timers)) {
            if cancelled {
                prop_assert_eq!(heap.cancel(id), Some(n));
            } else {
                expected.push((when, n));
            }
        }
        expected.sort_by_key(|timer| timer.0);
        prop_assert_eq!(heap.len(), expected.len());
        let first = expected.first().map(|timer| Time::from_nanos(timer.0));
        prop_assert_eq!(heap.next_when(), first);

        let due = expected.partition_point(|timer| timer.0 <= now);
        let late: Vec<i32> = std::iter::from_fn(|| heap.pop_due(Time::from_nanos(now))).collect();
        let rest: Vec<i32> = std::iter::from_fn(|| heap.pop_due(Time::NEVER)).collect();
        let numbers: Vec<i32> = expected.iter().map(|timer| timer.1).collect();
        prop_assert_eq!(&late, &numbers[..due]);
        prop_assert_eq!(&rest, &numbers[due..]);
        prop_assert!(heap.is_empty());
        prop_assert_eq!(heap.next_when(), None);
    }
}

/// The shape of a busy server: each connection's time-out is cancelled and set anew, again and
/// again. The storage must not grow with the number of requests, and no old id may name a new timer.
#[test]
fn time_outs_that_are_set_anew_stay_apart() {
    let rounds = if cfg!(miri) { 5 } else { 200 };
    let mut timers = Timers::new();
    let mut ids: Vec<_> = (0..500)
        .map(|n| timers.push(Time::from_nanos(n), n))
        .collect();
    for round in 1..rounds {
        for (n, id) in (0..).zip(&mut ids) {
            assert_eq!(timers.cancel(*id), Some(n));
            let old = std::mem::replace(id, timers.push(Time::from_nanos(round * 500 + n), n));
            assert_eq!(timers.cancel(old), None);
        }
        assert_eq!(timers.len(), 500);
    }
    let order: Vec<u64> = std::iter::from_fn(|| timers.pop_due(Time::NEVER)).collect();
    assert_eq!(order, (0..500).collect::<Vec<_>>());
}

#[test]
fn clear_gives_every_live_handle_once_and_kills_the_ids() {
    let mut timers = Timers::new();
    let ids: Vec<_> = (0..10).map(|n| timers.push(Time::ZERO, n)).collect();
    timers.cancel(ids[3]);
    let mut shown = Vec::new();
    timers.for_each(|n| shown.push(*n));
    let mut cleared = timers.clear();
    shown.sort_unstable();
    cleared.sort_unstable();
    assert_eq!(cleared, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    assert_eq!(shown, cleared);
    timers.push(Time::ZERO, 10);
    assert!(ids.into_iter().all(|id| timers.cancel(id).is_none()));
    assert_eq!(timers.pop_due(Time::ZERO), Some(10));
    assert_eq!(timers.pop_due(Time::ZERO), None);
}
