//! The wake protocol of `Inbox` in the interleavings that loom finds. A lost wake leaves the owner
//! asleep, which loom reports as a deadlock.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p oxlip-core --test loom_inbox --release`

#![cfg(loom)]

use std::sync::Arc;

use loom::model::Builder;
use loom::sync::Notify;
use loom::thread;
use oxlip_core::inbox::Inbox;

/// Each of `pushers` pushes this many items and wakes as it is told; the owner sleeps before every
/// look. Without a bound on the preemptions
/// every interleaving is tried.
fn no_wake_is_lost(pushers: Vec<usize>, preemptions: Option<usize>) {
    let mut model = Builder::new();
    model.preemption_bound = preemptions;
    model.check(move || {
        let inbox = Arc::new(Inbox::<_>::new());
        let wake = Arc::new(Notify::new());
        let expected: usize = pushers.iter().sum();
        let threads: Vec<_> = pushers
            .iter()
            .map(|&items| {
                let (inbox, wake) = (Arc::clone(&inbox), Arc::clone(&wake));
                thread::spawn(move || {
                    for item in 0..items {
                        if inbox.push(item) {
                            wake.notify();
                        }
                    }
                })
            })
            .collect();
        let mut taken = 0;
        while taken < expected {
            wake.wait();
            taken += inbox.drain(|_| ());
        }
        assert!(inbox.is_empty());
        for thread in threads {
            thread.join().expect("a pusher does not panic");
        }
    });
}

#[test]
fn one_pusher_of_three() {
    no_wake_is_lost(vec![3], None);
}

#[test]
fn two_pushers() {
    no_wake_is_lost(vec![1, 1], None);
}

/// All interleavings would take minutes.
#[test]
fn two_pushers_one_of_them_twice() {
    no_wake_is_lost(vec![2, 1], Some(3));
}

/// A loop that is busy looks without having been woken; the wakes of what it took come late and
/// find nothing, and what comes later must still be found.
#[test]
fn looking_without_a_wake_loses_none() {
    loom::model(|| {
        let inbox = Arc::new(Inbox::<_>::new());
        let wake = Arc::new(Notify::new());
        let pusher = {
            let (inbox, wake) = (Arc::clone(&inbox), Arc::clone(&wake));
            thread::spawn(move || {
                for item in 0..2 {
                    if inbox.push(item) {
                        wake.notify();
                    }
                }
            })
        };
        let mut taken = inbox.drain(|_| ());
        while taken < 2 {
            wake.wait();
            taken += inbox.drain(|_| ());
        }
        pusher.join().expect("a pusher does not panic");
    });
}

/// The owner lends again what it has taken; a pusher that finds nothing lent brings something of its own.
#[test]
fn what_is_lent_is_in_one_place_at_a_time() {
    loom::model(|| {
        let inbox = Arc::new(Inbox::<u8, Vec<u8>>::new());
        inbox.lend(|lent| lent.push(0));
        let wake = Arc::new(Notify::new());
        let pusher = {
            let (inbox, wake) = (Arc::clone(&inbox), Arc::clone(&wake));
            thread::spawn(move || {
                for own in 1..=2 {
                    let mut made = false;
                    let wakes = inbox.push_made(|lent| {
                        let item = lent.pop();
                        made = item.is_some();
                        item
                    });
                    if wakes || (!made && inbox.push(own)) {
                        wake.notify();
                    }
                }
            })
        };
        let mut taken = Vec::new();
        while taken.len() < 2 {
            wake.wait();
            let mut came = Vec::new();
            let _ = inbox.drain(|item| came.push(item));
            inbox.lend(|lent| lent.extend(&came));
            taken.extend(came);
        }
        pusher.join().expect("a pusher does not panic");
        // The first is the one that was lent; the second is it again, or the pusher's own.
        assert!(taken == [0, 0] || taken == [0, 2]);
    });
}
