//! How long a wait takes: time-outs, wake-ups and signals.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::Signal;
use oxlip_selectors::backend::Backend;
use oxlip_selectors::event::Readiness;
use oxlip_selectors::interest::Interest;

use crate::fixture::{pair, ready, wait};

on_every_backend! {
    zero_polls
    nothing_watched_waits_all_the_same
    no_time_out_is_early
    less_than_a_millisecond_is_possible
    the_longest_time_out_is_accepted
    what_is_ready_ends_the_wait
    another_thread_can_end_the_wait
    a_signal_ends_the_wait_with_nothing
}

fn zero_polls<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (reader, mut writer) = io::pipe().unwrap();
    assert_eq!(ready(&mut backend), []);
    backend.add(reader.as_raw_fd(), 1, Interest::READ).unwrap();
    let start = Instant::now();
    for _ in 0..10 {
        assert_eq!(ready(&mut backend), []);
    }
    assert!(start.elapsed() < FAR_OFF);
    writer.write_all(b"x").unwrap();
    assert_eq!(ready(&mut backend), [(1, Readiness::READABLE)]);
}

fn nothing_watched_waits_all_the_same<B: Backend>() {
    let mut backend = B::new().unwrap();
    let timeout = Duration::from_micros(1500);
    let start = Instant::now();
    assert_eq!(wait(&mut backend, Some(timeout)), []);
    assert!(start.elapsed() >= timeout);
}

fn no_time_out_is_early<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    backend.add(reader.as_raw_fd(), 1, Interest::READ).unwrap();
    for nanos in [
        1, 999, 1_000, 99_999, 333_333, 999_999, 1_000_001, 1_500_000, 2_000_001,
    ] {
        let timeout = Duration::from_nanos(nanos);
        let start = Instant::now();
        assert_eq!(wait(&mut backend, Some(timeout)), []);
        let waited = start.elapsed();
        assert!(waited >= timeout, "{waited:?} instead of {timeout:?}");
    }
}

/// One of many waits must come close: how many do not depends on the machine's other work. Fails for
/// epoll on kernels older than 5.11, which round up to milliseconds.
fn less_than_a_millisecond_is_possible<B: Backend>() {
    let mut backend = B::new().unwrap();
    let timeout = Duration::from_micros(100);
    let waits = (0..1000).map(|_| {
        let start = Instant::now();
        assert_eq!(wait(&mut backend, Some(timeout)), []);
        start.elapsed()
    });
    let mut shortest = Duration::MAX;
    for waited in waits {
        shortest = shortest.min(waited);
        if shortest < Duration::from_millis(1) {
            return;
        }
    }
    panic!("100 µs took {shortest:?} at best");
}

fn the_longest_time_out_is_accepted<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (ours, _theirs) = pair();
    backend.add(ours.as_raw_fd(), 1, Interest::WRITE).unwrap();
    for timeout in [
        Duration::MAX,
        Duration::from_secs(i64::MAX as u64),
        Duration::from_secs(1 << 40),
    ] {
        assert_eq!(
            wait(&mut backend, Some(timeout)),
            [(1, Readiness::WRITABLE)]
        );
    }
}

fn what_is_ready_ends_the_wait<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (ours, _theirs) = pair();
    backend.add(ours.as_raw_fd(), 1, Interest::WRITE).unwrap();
    let start = Instant::now();
    assert_eq!(
        wait(&mut backend, Some(FAR_OFF)),
        [(1, Readiness::WRITABLE)]
    );
    assert_eq!(wait(&mut backend, None), [(1, Readiness::WRITABLE)]);
    assert!(start.elapsed() < FAR_OFF);
}

fn another_thread_can_end_the_wait<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (reader, mut writer) = io::pipe().unwrap();
    backend.add(reader.as_raw_fd(), 1, Interest::READ).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| writer.write_all(b"x").unwrap());
        assert_eq!(wait(&mut backend, None), [(1, Readiness::READABLE)]);
    });
}

fn a_signal_ends_the_wait_with_nothing<B: Backend>() {
    let caught = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&caught)).unwrap();
    let mut backend = B::new().unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    backend.add(reader.as_raw_fd(), 1, Interest::READ).unwrap();
    for timeout in [None, Some(FAR_OFF)] {
        let waiter = pthread_self();
        let over = AtomicBool::new(false);
        let start = Instant::now();
        thread::scope(|scope| {
            // The first may come before the wait begins, so there are more until it is over.
            scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    pthread_kill(waiter, Signal::SIGUSR1).unwrap();
                    thread::yield_now();
                }
            });
            let mut events = Vec::new();
            let waited = backend.wait(timeout, &mut events);
            over.store(true, Ordering::Release);
            waited.unwrap();
            assert_eq!(events, []);
        });
        assert!(start.elapsed() < FAR_OFF);
        assert!(caught.load(Ordering::Acquire));
    }
}

/// Longer than any of these tests may take.
const FAR_OFF: Duration = Duration::from_secs(60);
