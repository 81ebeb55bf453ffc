//! Waiting, waking and the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::Signal;
use oxlip_core::op::Op;
use oxlip_driver::Driver;

use crate::world::{Play, Seen, World, on_every_driver, on_os_drivers};

on_every_driver!(
    a_wait_is_never_early,
    the_clock_never_goes_back,
    a_wake_ends_a_sleeping_wait,
    wakes_before_a_wait_count_once,
    a_wake_before_a_wait_with_a_time_out_ends_it,
    a_wake_does_not_hide_completions,
    no_wake_is_lost,
    a_waker_outlives_its_driver,
    completions_are_appended,
);

mod with_a_kernel {
    use super::{
        a_forked_driver_has_a_waker_of_its_own, a_forked_driver_knows_what_was_asked,
        a_signal_ends_a_wait_without_completions, on_os_drivers,
    };

    on_os_drivers!(
        a_signal_ends_a_wait_without_completions,
        a_forked_driver_knows_what_was_asked,
        a_forked_driver_has_a_waker_of_its_own,
    );
}

/// No fork here: what would be the parent's is dropped by `after_fork`, too.
fn a_forked_driver_knows_what_was_asked<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    let (full, _peer) = world.pair();
    world.start(Op::RecvStart(b));
    world.fill(full);
    world.quiet();
    world.driver().after_fork().expect("after_fork");
    world.quiet();
    world.send_all(a, b"x");
    world.until(Seen::Readable(b));
    assert_eq!(world.receive(b, 1), b"x");
    world.quiet();
    world.start(Op::RecvStop(b));
    world.send_all(a, b"y");
    world.quiet();
}

fn a_forked_driver_has_a_waker_of_its_own<W: World>() {
    let mut world = W::new();
    let old = world.driver().waker();
    world.driver().after_fork().expect("after_fork");
    old.wake();
    let before = world.driver().now();
    let timeout = Duration::from_millis(2);
    assert_eq!(world.wait(timeout), []);
    assert!(
        world.driver().now().since(before) >= timeout,
        "the old waker wakes the parent only"
    );
    let waker = world.driver().waker();
    let other = thread::spawn(move || waker.wake());
    world
        .driver()
        .wait(None, &mut Vec::new())
        .expect("the new one wakes");
    other.join().expect("the other thread");
}

fn a_wait_is_never_early<W: World>() {
    let mut world = W::new();
    for nanos in [1, 999, 1_001, 999_999, 1_000_001, 2_500_000] {
        let timeout = Duration::from_nanos(nanos);
        let before = world.driver().now();
        assert_eq!(world.wait(timeout), []);
        assert!(world.driver().now().since(before) >= timeout);
    }
}

fn the_clock_never_goes_back<W: World>() {
    let mut world = W::new();
    let mut last = world.driver().now();
    for round in 0..1000 {
        if round % 100 == 0 {
            world.wait(Duration::from_nanos(1));
        }
        let now = world.driver().now();
        assert!(now >= last);
        last = now;
    }
}

fn a_wake_ends_a_sleeping_wait<W: World>() {
    let mut world = W::new();
    let waker = world.driver().waker();
    let other = thread::spawn(move || waker.wake());
    let mut completions = Vec::new();
    world.driver().wait(None, &mut completions).expect("wait");
    assert!(completions.is_empty(), "the waker is nobody's completion");
    other.join().expect("the other thread");
    world.quiet();
}

fn wakes_before_a_wait_count_once<W: World>() {
    let mut world = W::new();
    let waker = world.driver().waker();
    for _ in 0..1000 {
        waker.clone().wake();
    }
    let mut completions = Vec::new();
    world.driver().wait(None, &mut completions).expect("wait");
    assert!(completions.is_empty());
    world.quiet();
    waker.wake();
    assert_eq!(world.poll(), []);
    world.quiet();
}

fn a_wake_before_a_wait_with_a_time_out_ends_it<W: World>() {
    const LONG: Duration = Duration::from_secs(60);
    let mut world = W::new();
    world.driver().waker().wake();
    let before = world.driver().now();
    assert_eq!(world.wait(LONG), []);
    assert!(world.driver().now().since(before) < LONG);
}

fn a_wake_does_not_hide_completions<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(b));
    world.send_all(a, b"x");
    world.driver().waker().wake();
    world.until(Seen::Readable(b));
}

fn no_wake_is_lost<W: World>() {
    const THREADS: usize = 4;
    const EACH: usize = 2_000;
    let mut world = W::new();
    let published = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (waker, published) = (world.driver().waker(), published.clone());
            thread::spawn(move || {
                for _ in 0..EACH {
                    published.fetch_add(1, Ordering::Relaxed);
                    waker.wake();
                }
            })
        })
        .collect();
    // Sleeps for ever if a wake is lost: the last one publishes the last.
    while published.load(Ordering::Relaxed) < THREADS * EACH {
        world.driver().wait(None, &mut Vec::new()).expect("wait");
    }
    for thread in threads {
        thread.join().expect("a waking thread");
    }
}

fn a_waker_outlives_its_driver<W: World>() {
    let mut world = W::new();
    let waker = world.driver().waker();
    drop(world);
    waker.wake();
}

fn completions_are_appended<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(b));
    world.send_all(a, b"x");
    world.until(Seen::Readable(b));
    let mut completions = Vec::new();
    for count in 1..4 {
        world
            .driver()
            .wait(Some(Duration::from_secs(5)), &mut completions)
            .expect("wait");
        assert_eq!(completions.len(), count);
    }
}

fn a_signal_ends_a_wait_without_completions<W: World>() {
    let caught = Arc::new(AtomicUsize::new(0));
    let counter = caught.clone();
    let signal = Signal::SIGUSR1 as i32;
    signal_hook::flag::register_usize(signal, counter, 1).expect("a signal");
    let mut world = W::new();
    let waiting = pthread_self();
    let done = Arc::new(AtomicUsize::new(0));
    let told = done.clone();
    let other = thread::spawn(move || {
        while told.load(Ordering::Relaxed) == 0 {
            pthread_kill(waiting, Signal::SIGUSR1).expect("the waiting thread");
            thread::yield_now();
        }
    });
    let mut completions = Vec::new();
    world.driver().wait(None, &mut completions).expect("wait");
    done.store(1, Ordering::Relaxed);
    other.join().expect("the other thread");
    assert!(completions.is_empty());
    assert_eq!(caught.load(Ordering::Relaxed), 1);
}
