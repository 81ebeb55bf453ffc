//! When a wait sleeps, and what ends it.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use oxlip_core::op::{Completion, Interest, Op};
use oxlip_driver::Driver;
use rustix::pipe::pipe;
use std::os::fd::AsRawFd;

use crate::world::{PATIENCE, driver, poll, receive, stream, wait};

#[test]
fn a_poll_without_anything_to_do_is_no_system_call() {
    let Some(mut driver) = driver() else { return };
    let (id, mut peer) = stream(&mut driver);
    poll(&mut driver);
    let began = Instant::now();
    for _ in 0..100_000 {
        assert!(poll(&mut driver).is_empty());
    }
    // Hardly a proof, but ten times what it takes.
    assert!(began.elapsed() < Duration::from_secs(5));
    peer.write_all(b"x").expect("write");
    while poll(&mut driver).is_empty() {
        assert!(began.elapsed() < PATIENCE, "the polls look at nothing");
    }
    assert_eq!(receive(&mut driver, id, 1), b"x");
}

/// More requests than the ring takes at a time: some are answered before the wait sleeps.
#[test]
fn a_wait_does_not_sleep_over_answers() {
    let Some(mut driver) = driver() else { return };
    let mut streams: Vec<_> = (0..300).map(|_| stream(&mut driver)).collect();
    for (_, peer) in streams.iter_mut().take(200) {
        peer.write_all(b"x").expect("write");
    }
    let began = Instant::now();
    assert!(!wait(&mut driver).is_empty());
    assert!(began.elapsed() < PATIENCE / 2);
}

#[test]
fn a_wait_does_not_sleep_over_a_wake() {
    let Some(mut driver) = driver() else { return };
    poll(&mut driver);
    let _streams: Vec<_> = (0..300).map(|_| stream(&mut driver)).collect();
    driver.waker().wake();
    let began = Instant::now();
    assert!(wait(&mut driver).is_empty());
    assert!(began.elapsed() < PATIENCE / 2);
}

/// What is watched stays so when the multiplexer is made anew in the middle of a wait: something that
/// was closed behind its back has a duplicate that still reports.
#[test]
fn a_wait_goes_on_with_a_new_multiplexer() {
    let Some(mut driver) = driver() else { return };
    let (orphan, orphan_end) = pipe().expect("a pipe");
    let (watched, watched_end) = pipe().expect("a pipe");
    let _duplicate = rustix::io::dup(&orphan).expect("dup");
    let mut ids = [&orphan, &watched].map(|end| {
        let id = driver.borrow(end.as_raw_fd()).expect("borrow");
        let interest = Interest::READ;
        assert!(driver.submit(Op::Watch { id, interest }).is_pending());
        id
    });
    assert!(poll(&mut driver).is_empty());
    drop(orphan);
    let _ = driver.submit(Op::Close(ids[0]));
    let writer = thread::spawn(move || {
        // Let the other one sleep each time: too short a time would only prove less.
        for end in [&orphan_end, &watched_end] {
            thread::sleep(Duration::from_millis(50));
            rustix::io::write(end, b"x").expect("write");
        }
        (orphan_end, watched_end)
    });
    let began = Instant::now();
    let mut told = Vec::new();
    while told.is_empty() {
        assert!(began.elapsed() < PATIENCE / 2);
        told = wait(&mut driver);
    }
    assert!(began.elapsed() < PATIENCE / 2);
    ids.reverse();
    assert!(matches!(told[..], [Completion::Watched(of, _)] if of == ids[0]));
    drop(writer.join().expect("the writer"));
}
