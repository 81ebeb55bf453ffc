//! Closures: when they run, and when not.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use oxlip::{AnyDriver, LocalLoop, Loop, Sim, Time};

fn simulated() -> LocalLoop {
    LocalLoop::with_driver(AnyDriver::simulating(Sim::new(0)))
}

const MS: Duration = Duration::from_millis(1);

/// What was noted, in order.
#[derive(Clone, Default)]
struct Notes(Rc<RefCell<Vec<&'static str>>>);

impl Notes {
    fn add(&self, note: &'static str) {
        self.0.borrow_mut().push(note);
    }

    fn taking(&self, note: &'static str) -> impl FnOnce() + 'static {
        let notes = self.clone();
        move || notes.add(note)
    }

    fn take(&self) -> Vec<&'static str> {
        self.0.take()
    }
}

#[test]
fn calls_run_in_order_and_what_they_add_in_the_next_tick() {
    let (owner, notes) = (simulated(), Notes::default());
    let (lp, inner) = (owner.handle(), notes.clone());
    owner.call_soon(move || {
        inner.add("first");
        lp.call_soon(inner.taking("added"));
        let stopping = lp.clone();
        lp.call_soon(move || stopping.stop());
    });
    owner.call_soon(notes.taking("second"));
    owner.run();
    assert_eq!(notes.take(), ["first", "second", "added"]);
}

#[test]
fn a_stopped_loop_finishes_its_tick_and_goes_on_when_run_again() {
    let (owner, notes) = (simulated(), Notes::default());
    let (lp, inner) = (owner.handle(), notes.clone());
    owner.call_soon(move || {
        lp.stop();
        let again = lp.clone();
        let after = inner.taking("next tick");
        lp.call_soon(move || {
            after();
            again.stop();
        });
    });
    owner.call_soon(notes.taking("same tick"));
    owner.run();
    assert_eq!(notes.take(), ["same tick"]);
    owner.run();
    assert_eq!(notes.take(), ["next tick"]);
}

#[test]
fn timers_run_in_order_of_time_at_their_time() {
    let (owner, notes) = (simulated(), Notes::default());
    let start = owner.now();
    owner.call_later(3 * MS, notes.taking("three"));
    owner.call_later(MS, notes.taking("one"));
    owner.call_at(start.after(2 * MS), notes.taking("two"));
    owner.call_at(Time::ZERO, notes.taking("at once"));
    let lp = owner.handle();
    owner.call_later(3 * MS, move || lp.stop());
    owner.run();
    assert_eq!(notes.take(), ["at once", "one", "two", "three"]);
    assert_eq!(owner.now().since(start), 3 * MS);
}

#[test]
fn a_cancelled_timer_does_not_run_and_costs_no_time() {
    let (owner, notes) = (simulated(), Notes::default());
    let early = owner.call_later(MS, notes.taking("early"));
    let late = owner.call_later(9 * MS, notes.taking("late"));
    assert!(owner.cancel(late));
    assert!(!owner.cancel(late));
    let lp = owner.handle();
    owner.call_later(2 * MS, move || {
        assert!(!lp.cancel(early), "it has run");
        lp.stop();
    });
    owner.run();
    assert_eq!(notes.take(), ["early"]);
    assert_eq!(owner.now(), Time::ZERO.after(2 * MS));
}

#[test]
fn real_timers_are_never_early() {
    let owner = LocalLoop::new().expect("a loop");
    let start = owner.now();
    let lp = owner.handle();
    owner.call_later(2 * MS, move || lp.stop());
    owner.run();
    assert!(owner.now().since(start) >= 2 * MS);
}

#[test]
fn other_threads_reach_a_sleeping_loop() {
    for owner in [simulated(), LocalLoop::new().expect("a loop")] {
        let remote = owner.remote();
        let other = thread::spawn(move || {
            let (told, heard) = std::sync::mpsc::channel();
            for n in 0..1000 {
                let told = told.clone();
                remote.call_soon(move || told.send(n).expect("somebody listens"));
            }
            let numbers: Vec<i32> = heard.iter().take(1000).collect();
            assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
        });
        let lp = owner.handle();
        let remote = owner.remote();
        let waiting = thread::spawn(move || {
            let outcome = other.join();
            let (told, heard) = std::sync::mpsc::channel();
            remote.call_soon(move || told.send(()).expect("somebody listens"));
            heard.recv().expect("the loop runs until told otherwise");
            outcome.expect("all came, in order");
        });
        stop_when_finished(&lp, waiting);
        owner.run();
    }
}

/// Looks once a tick whether the thread has ended, and ends the loop then.
fn stop_when_finished(lp: &Loop, thread: thread::JoinHandle<()>) {
    let again = lp.clone();
    lp.call_soon(move || {
        if thread.is_finished() {
            thread.join().expect("the thread");
            again.stop();
        } else {
            stop_when_finished(&again, thread);
        }
    });
}

#[test]
fn a_loop_cannot_be_run_from_within_itself() {
    let owner = Rc::new(simulated());
    let same = owner.clone();
    let refused = Rc::new(Cell::new(false));
    let seen = refused.clone();
    owner.call_soon(move || {
        seen.set(catch_unwind(AssertUnwindSafe(|| same.run())).is_err());
        same.stop();
    });
    owner.run();
    assert!(refused.get());
}

#[test]
fn a_panic_comes_out_and_the_loop_can_run_on() {
    let (owner, notes) = (simulated(), Notes::default());
    owner.call_soon(|| panic!("as planned"));
    owner.call_soon(notes.taking("after"));
    assert!(catch_unwind(AssertUnwindSafe(|| owner.run())).is_err());
    let lp = owner.handle();
    owner.call_soon(move || lp.stop());
    owner.run();
    assert_eq!(notes.take(), ["after"]);
}

#[test]
fn a_dropped_loop_drops_what_it_holds() {
    let token = Rc::new(());
    let owner = simulated();
    for keeper in [token.clone(), token.clone()] {
        let lp = owner.handle();
        owner.call_later(MS, move || drop((keeper, lp)));
    }
    let (keeper, lp) = (token.clone(), owner.handle());
    owner.call_soon(move || drop((keeper, lp)));
    let outliving = owner.handle();
    drop(owner);
    assert_eq!(Rc::strong_count(&token), 1);
    outliving.call_soon(|| unreachable!("nobody runs this loop"));
}
