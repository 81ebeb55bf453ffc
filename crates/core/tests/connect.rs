//! `Connect` against a reckoning of the whole race at once.

mod cases;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use oxlip_core::connect::{Connect, ConnectStep, interleave};
use oxlip_core::time::Time;
use proptest::prelude::*;

/// How an attempt would go if nobody called it off.
#[derive(Clone, Copy, Debug)]
struct Fate {
    lasts: u64,
    connects: bool,
}

fn fate() -> impl Strategy<Value = Fate> {
    (1..12u64, prop::bool::weighted(0.3)).prop_map(|(lasts, connects)| Fate { lasts, connects })
}

/// What came of a race: when each attempt began, who won when, who failed and who was called off.
#[derive(Debug, Default, PartialEq)]
struct Story {
    begun: Vec<u64>,
    winner: Option<(usize, u64)>,
    failed: Vec<usize>,
    called_off: Vec<usize>,
}

/// Runs the race on a clock that jumps from event to event. Of reports at the same time that of the
/// earlier address comes first, and all come before an attempt that would begin at that time.
fn run(fates: &[Fate], delay: Option<Duration>) -> Story {
    let mut race = Connect::new(addrs(fates.len()), delay);
    let mut story = Story::default();
    let mut running: Vec<(u64, usize)> = Vec::new();
    let mut now = 0;
    loop {
        let until = match race.next(Time::from_nanos(now)) {
            ConnectStep::Start { attempt, addr } => {
                assert_eq!(addr, addrs(fates.len())[attempt]);
                assert_eq!(attempt, story.begun.len(), "in order, none twice");
                story.begun.push(now);
                running.push((now + fates[attempt].lasts, attempt));
                continue;
            }
            ConnectStep::Wait(until) => until,
            ConnectStep::Won(attempt) => {
                assert_eq!(story.winner, Some((attempt, now)));
                break;
            }
            ConnectStep::Over => {
                assert!(running.is_empty());
                break;
            }
        };
        let report = running.iter().min().copied();
        let wake = until.map(Time::as_nanos);
        assert!(report.is_some(), "there is something to wait for");
        if let Some((at, _)) = report
            && wake.is_none_or(|wake| at <= wake)
        {
            now = at;
            running.sort_unstable();
            let later = running.split_off(running.partition_point(|other| other.0 <= now));
            for (_, attempt) in std::mem::replace(&mut running, later) {
                if !fates[attempt].connects {
                    race.failed(attempt, attempt);
                } else if let Some(losers) = race.connected(attempt) {
                    assert_eq!(story.winner.replace((attempt, now)), None);
                    story.called_off = losers;
                }
            }
        } else if let Some(wake) = wake {
            assert!(wake > now, "a wait ends after it began");
            now = wake;
        }
    }
    // Whoever has been called off is not heard any more.
    for (_, attempt) in running {
        assert_eq!(race.connected(attempt), None);
        race.failed(attempt, attempt);
    }
    let errors: Vec<usize> = race.errors().map(|error| *error.1).collect();
    for (addr, error) in race.into_errors() {
        assert_eq!(addr, addrs(fates.len())[error]);
        story.failed.push(error);
    }
    assert_eq!(errors, story.failed);
    story
}

/// The same, reckoned from the rule for when an attempt begins.
fn reckon(fates: &[Fate], delay: Option<u64>) -> Story {
    let mut begins: Vec<Option<u64>> = Vec::new();
    for n in 0..fates.len() {
        let begin = match n
            .checked_sub(1)
            .map(|before| (begins[before], fates[before]))
        {
            None => Some(0),
            Some((None, _)) => None,
            Some((Some(before), fate)) => {
                let failure = (!fate.connects).then_some(before + fate.lasts);
                let patience = delay.map(|delay| before + delay);
                [failure, patience].into_iter().flatten().min()
            }
        };
        begins.push(begin);
    }
    let ends = |n: usize| begins[n].map(|begin| begin + fates[n].lasts);
    let winner = (0..fates.len())
        .filter(|&n| fates[n].connects)
        .filter_map(|n| ends(n).map(|end| (end, n)))
        .min();
    let begun: Vec<usize> = (0..fates.len())
        .filter(|&n| begins[n].is_some_and(|begin| winner.is_none_or(|(won, _)| begin < won)))
        .collect();
    let over = |n: usize| ends(n).map(|end| (end, n)) < winner || winner.is_none();
    Story {
        begun: begun.iter().filter_map(|&n| begins[n]).collect(),
        winner: winner.map(|(end, n)| (n, end)),
        failed: begun.iter().copied().filter(|&n| over(n)).collect(),
        called_off: begun
            .iter()
            .copied()
            .filter(|&n| !over(n) && winner.is_none_or(|(_, won)| n != won))
            .collect(),
    }
}

fn addrs(count: usize) -> Vec<SocketAddr> {
    (1..).take(count).map(v4).collect()
}

fn v4(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn v6(port: u16) -> SocketAddr {
    (Ipv6Addr::LOCALHOST, port).into()
}

proptest! {
    #![proptest_config(cases::cases())]

    #[test]
    fn runs_the_race_as_reckoned(
        fates in prop::collection::vec(fate(), 0..10), delay in prop::option::of(0..9u64)
    ) {
        let story = run(&fates, delay.map(Duration::from_nanos));
        prop_assert_eq!(story, reckon(&fates, delay));
    }

    #[test]
    fn interleaving_takes_turns_and_keeps_the_order_within_a_family(
        families in prop::collection::vec(any::<bool>(), 0..12), first_family in 0..5usize
    ) {
        let addrs: Vec<SocketAddr> =
            (1..).zip(families).map(|(port, six)| if six { v6(port) } else { v4(port) }).collect();
        let mixed = interleave(&addrs, first_family);
        for six in [false, true] {
            let of_family = |addrs: &[SocketAddr]| -> Vec<SocketAddr> {
                addrs.iter().copied().filter(|addr| addr.is_ipv6() == six).collect()
            };
            prop_assert_eq!(of_family(&addrs), of_family(&mixed));
        }
        prop_assert_eq!(addrs.len(), mixed.len());
        // What comes from the first family before the other one has its turn.
        if let Some(first) = addrs.first() {
            let same = |addr: &&SocketAddr| addr.is_ipv6() == first.is_ipv6();
            let there = addrs.iter().filter(same).count();
            let other = addrs.len() - there;
            let ahead = mixed.iter().take_while(same).count();
            let expected = if other == 0 { there } else { first_family.max(1).min(there) };
            prop_assert_eq!(ahead, expected);
            // Then they alternate until one is used up.
            let left = (there - ahead).min(other);
            for pair in mixed[ahead..].windows(2).take((2 * left).saturating_sub(1)) {
                prop_assert_ne!(pair[0].is_ipv6(), pair[1].is_ipv6());
            }
        }
    }
}

#[test]
fn the_next_attempt_begins_at_once_when_the_last_one_fails() {
    let mut race = Connect::new(addrs(2), Some(Duration::from_millis(250)));
    let start = Time::from_nanos(7);
    let first = race.next(start);
    assert_eq!(
        first,
        ConnectStep::Start {
            attempt: 0,
            addr: v4(1)
        }
    );
    assert_eq!(
        race.next(start),
        ConnectStep::Wait(Some(start.after(Duration::from_millis(250))))
    );
    race.failed(0, "refused");
    assert_eq!(
        race.next(start),
        ConnectStep::Start {
            attempt: 1,
            addr: v4(2)
        }
    );
    assert_eq!(race.next(start), ConnectStep::Wait(None));
    race.failed(1, "unreachable");
    assert_eq!(race.next(start), ConnectStep::Over);
    assert_eq!(
        race.into_errors(),
        [(v4(1), "refused"), (v4(2), "unreachable")]
    );
}

#[test]
fn an_abandoned_race_gives_up_what_runs_and_hears_nothing_more() {
    let mut race = Connect::<()>::new(addrs(3), Some(Duration::ZERO));
    for attempt in 0..2 {
        let step = race.next(Time::ZERO);
        assert!(matches!(step, ConnectStep::Start { attempt: n, .. } if n == attempt));
    }
    assert_eq!(race.abandon(), [0, 1]);
    assert_eq!(race.next(Time::ZERO), ConnectStep::Over);
    assert_eq!(race.connected(1), None);
    assert_eq!(race.abandon(), [0usize; 0]);
}

#[test]
fn no_address_is_no_race() {
    let mut race = Connect::<()>::new(Vec::new(), None);
    assert_eq!(race.next(Time::ZERO), ConnectStep::Over);
    assert!(race.into_errors().is_empty());
}
