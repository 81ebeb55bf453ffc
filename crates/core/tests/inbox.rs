//! `Inbox` with real threads; the interleavings of the wake protocol are in `loom_inbox.rs`.

#![cfg(not(loom))]

use std::sync::mpsc;
use std::thread;

use oxlip_core::inbox::Inbox;

#[test]
fn only_the_first_of_a_batch_wakes() {
    let inbox = Inbox::<_>::new();
    assert!(inbox.is_empty());
    assert!(inbox.push(1));
    assert!(!inbox.push(2));
    assert!(!inbox.is_empty());
    let mut taken = Vec::new();
    assert_eq!(inbox.drain(|item| taken.push(item)), 2);
    assert_eq!(taken, [1, 2]);
    assert!(inbox.is_empty());
    assert_eq!(inbox.drain(|_| unreachable!("it is empty")), 0);
    assert!(inbox.push(3));
}

#[test]
fn what_comes_while_draining_has_a_wake_of_its_own() {
    let inbox = Inbox::<_>::new();
    assert!(inbox.push(0));
    // Whoever answers each item with a new one must not hold the owner for ever.
    let mut wakes = Vec::new();
    assert_eq!(inbox.drain(|item| wakes.push(inbox.push(item + 1))), 1);
    assert_eq!(wakes, [true]);
    assert_eq!(inbox.drain(|item| assert_eq!(item, 1)), 1);
}

#[test]
fn what_is_expected_changes_no_item() {
    let inbox = Inbox::<_>::new();
    for round in 0..3 {
        for item in 0..3000 {
            assert_eq!(inbox.push(item), item == 0);
        }
        inbox.expect([0, 5000, 10][round]);
        let mut taken = Vec::new();
        assert_eq!(inbox.drain(|item| taken.push(item)), 3000);
        assert_eq!(taken, (0..3000).collect::<Vec<_>>());
    }
}

#[test]
fn the_collector_sees_what_waits_and_what_is_lent() {
    let inbox = Inbox::<u8, Vec<u8>>::new();
    let look = || {
        let (mut items, mut lent) = (Vec::new(), Vec::new());
        inbox.for_each(|item| items.push(*item), |it| lent.clone_from(it));
        (items, lent)
    };
    assert_eq!(look(), (vec![], vec![]));
    assert!(inbox.push(1));
    assert!(!inbox.push(2));
    inbox.lend(|lent| lent.push(3));
    assert_eq!(look(), (vec![1, 2], vec![3]));
    assert_eq!(inbox.drain(|_| ()), 2);
    assert_eq!(look(), (vec![], vec![3]));
}

#[test]
fn an_item_is_made_of_what_is_lent() {
    let inbox = Inbox::<u8, Vec<u8>>::new();
    // Nothing made is nothing to wake for.
    assert!(!inbox.push_made(Vec::pop));
    assert!(inbox.is_empty());
    inbox.lend(|lent| lent.extend([1, 2]));
    assert!(inbox.push_made(Vec::pop));
    assert!(!inbox.push_made(Vec::pop));
    assert!(!inbox.push_made(Vec::pop));
    let mut taken = Vec::new();
    assert_eq!(inbox.drain(|item| taken.push(item)), 2);
    assert_eq!(taken, [2, 1]);
}

/// The owner sleeps until it is woken and takes everything: with one wake lost it would never end.
#[test]
fn no_wake_is_lost_and_each_threads_order_is_kept() {
    let (threads, items) = if cfg!(miri) { (2, 20) } else { (4, 2_000) };
    let inbox = Inbox::<_>::new();
    let (wake, woken) = mpsc::channel();
    let mut last = vec![0; threads];
    thread::scope(|scope| {
        for thread in 0..threads {
            let (inbox, wake) = (&inbox, wake.clone());
            scope.spawn(move || {
                for item in 1..=items {
                    if inbox.push((thread, item)) {
                        wake.send(()).expect("the owner outlives the pushers");
                    }
                }
            });
        }
        let mut taken = 0;
        while taken < threads * items {
            woken.recv().expect("a wake for what is not taken yet");
            taken += inbox.drain(|(thread, item)| {
                assert_eq!(item, last[thread] + 1);
                last[thread] = item;
            });
        }
    });
    assert!(inbox.is_empty());
}
