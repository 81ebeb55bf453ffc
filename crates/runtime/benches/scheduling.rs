//! What the loop costs without any I/O: `cargo bench -p oxlip --bench scheduling`.

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use oxlip::{LocalLoop, Time};
use oxlip_core::inbox::Inbox;
use oxlip_core::tick::Scheduler;

const MANY: usize = 1000;

fn main() {
    divan::main();
}

#[divan::bench]
fn scheduler_push_and_next(bencher: Bencher<'_, '_>) {
    let mut scheduler = Scheduler::new();
    bencher.counter(ItemsCount::new(MANY)).bench_local(|| {
        for handle in 0..MANY {
            scheduler.push(black_box(handle));
        }
        scheduler.begin(Time::ZERO);
        while let Some(handle) = scheduler.next() {
            black_box(handle);
        }
    });
}

/// As a server does with its time-outs: hardly one of them is ever due.
#[divan::bench(args = [0, 1_000, 1_000_000])]
fn timer_push_and_cancel(bencher: Bencher<'_, '_>, others: u64) {
    let mut scheduler = Scheduler::new();
    for n in 0..others {
        scheduler.push_at(Time::from_nanos(1_000_000_000 + n), 0);
    }
    let mut now = 0;
    bencher.counter(ItemsCount::new(MANY)).bench_local(|| {
        for handle in 0..MANY {
            now += 1;
            let timer = scheduler.push_at(Time::from_nanos(now), handle);
            black_box(scheduler.cancel_timer(timer));
        }
        black_box(scheduler.timeout(Time::from_nanos(now)));
    });
}

#[divan::bench(args = [0, 1_000, 1_000_000])]
fn timer_push_and_run(bencher: Bencher<'_, '_>, others: u64) {
    let mut scheduler = Scheduler::new();
    for n in 0..others {
        scheduler.push_at(Time::from_nanos(u64::MAX - n), 0);
    }
    let mut now = 0;
    bencher.counter(ItemsCount::new(MANY)).bench_local(|| {
        for handle in 0..MANY {
            scheduler.push_at(Time::from_nanos(now + handle as u64), handle);
        }
        now += MANY as u64;
        scheduler.begin(Time::from_nanos(now));
        while let Some(handle) = scheduler.next() {
            black_box(handle);
        }
    });
}

#[divan::bench]
fn inbox_push_and_drain(bencher: Bencher<'_, '_>) {
    let inbox = Inbox::<_>::new();
    bencher.counter(ItemsCount::new(MANY)).bench_local(|| {
        for item in 0..MANY {
            black_box(inbox.push(item));
        }
        inbox.drain(|item| {
            black_box(item);
        });
    });
}

#[divan::bench(sample_count = 20)]
fn inbox_from_another_thread(bencher: Bencher<'_, '_>) {
    const ITEMS: usize = 100_000;
    bencher.counter(ItemsCount::new(ITEMS)).bench_local(|| {
        let inbox = Arc::new(Inbox::<_>::new());
        let pushing = inbox.clone();
        let pusher = thread::spawn(move || {
            for item in 0..ITEMS {
                black_box(pushing.push(item));
            }
        });
        let mut seen = 0;
        while seen < ITEMS {
            seen += inbox.drain(|item| {
                black_box(item);
            });
        }
        pusher.join().expect("the pusher");
    });
}

/// A closure that schedules itself again: one tick each, with its wait and its look at the clock.
#[divan::bench]
fn ticks(bencher: Bencher<'_, '_>) {
    let owner = LocalLoop::new().expect("a loop");
    bencher.counter(ItemsCount::new(MANY)).bench_local(|| {
        let left = Rc::new(Cell::new(MANY));
        again(&owner, left);
        owner.run();
    });

    fn again(lp: &oxlip::Loop, left: Rc<Cell<usize>>) {
        left.set(left.get() - 1);
        if left.get() == 0 {
            return lp.stop();
        }
        let next = lp.clone();
        lp.call_soon(move || again(&next, left));
    }
}

#[divan::bench]
fn spawn_and_join(bencher: Bencher<'_, '_>) {
    let owner = LocalLoop::new().expect("a loop");
    bencher.counter(ItemsCount::new(MANY)).bench_local(|| {
        owner.block_on(async {
            let tasks: Vec<_> = (0..MANY).map(|n| owner.spawn(async move { n })).collect();
            for task in tasks {
                black_box(task.await.expect("not aborted"));
            }
        });
    });
}

#[divan::bench]
fn call_later_and_cancel(bencher: Bencher<'_, '_>) {
    let owner = LocalLoop::new().expect("a loop");
    bencher.counter(ItemsCount::new(MANY)).bench_local(|| {
        for _ in 0..MANY {
            let timer = owner.call_later(Duration::from_secs(60), || ());
            assert!(owner.cancel(timer));
        }
    });
}
