//! `Bursts`: what is kept follows them up at once, and comes down by halves.

use oxlip_core::bursts::{ALWAYS, Bursts, MOMENT, NEVER_MORE};
use oxlip_core::time::Time;

fn moment(number: u32) -> Time {
    Time::from_nanos(u64::try_from(MOMENT.as_nanos()).expect("short") * u64::from(number) + 7)
}

#[test]
fn a_small_one_changes_nothing() {
    let mut bursts = Bursts::default();
    bursts.arrived(ALWAYS);
    assert_eq!(bursts.limit(), ALWAYS);
    assert!(!bursts.is_raised());
    assert!(!bursts.pass(moment(0)));
    assert!(!bursts.pass(moment(1)));
}

#[test]
fn one_alone_is_forgotten_by_halves() {
    let mut bursts = Bursts::default();
    bursts.arrived(50_000);
    assert!(bursts.is_raised());
    // Nobody has asked before: its moment begins now.
    assert!(!bursts.pass(moment(90)));
    assert_eq!(bursts.limit(), 50_000);
    // It still counts for its own moment.
    assert!(!bursts.pass(moment(91)));
    let mut limits = Vec::new();
    for number in 92.. {
        assert!(!bursts.pass(Time::from_nanos(moment(number).as_nanos() - 1)));
        assert!(bursts.pass(moment(number)));
        limits.push(bursts.limit());
        if !bursts.is_raised() {
            break;
        }
    }
    assert_eq!(limits, [25_000, 12_500, 6_250, 3_125, 1_562, ALWAYS]);
    assert!(!bursts.pass(moment(200)));
}

#[test]
fn what_goes_on_is_kept() {
    let mut bursts = Bursts::default();
    for number in 0..20 {
        bursts.arrived(30_000);
        assert!(!bursts.pass(moment(number)));
        assert_eq!(bursts.limit(), 30_000);
    }
    // Smaller ones from now on.
    for number in 20..30 {
        bursts.arrived(20_000);
        let _ = bursts.pass(moment(number));
    }
    assert_eq!(bursts.limit(), 20_000);
}

#[test]
fn all_can_be_forgotten_at_once() {
    let mut bursts = Bursts::default();
    bursts.arrived(30_000);
    assert!(!bursts.pass(moment(0)));
    bursts.end();
    assert_eq!(bursts.limit(), ALWAYS);
    bursts.arrived(2_000);
    // A moment of its own.
    assert!(!bursts.pass(moment(5)));
    assert_eq!(bursts.limit(), 2_000);
}

#[test]
fn there_is_an_end_to_it() {
    let mut bursts = Bursts::default();
    bursts.arrived(usize::MAX);
    assert_eq!(bursts.limit(), NEVER_MORE);
}
