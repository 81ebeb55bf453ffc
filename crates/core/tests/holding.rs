//! Which writes wait for others, on a clock of the test's.

use std::cell::Cell;
use std::time::Duration;

use oxlip_core::holding::{Clocks, Holding};
use oxlip_core::id::Id;
use oxlip_core::time::Time;

/// Time passes when the test says so.
#[derive(Default)]
struct Clock {
    now: Cell<Duration>,
    /// Nothing: this system does not say.
    delay: Cell<Option<Duration>>,
}

impl Clocks for Clock {
    fn now(&self) -> Time {
        Time::ZERO.after(self.now.get())
    }

    fn run_delay(&self) -> Option<Duration> {
        self.delay.get()
    }
}

impl Clock {
    fn that_tells_of_delays() -> Self {
        Self {
            delay: Cell::new(Some(Duration::ZERO)),
            ..Self::default()
        }
    }

    /// The thread runs, or sleeps in a system call.
    fn pass(&self, time: Duration) {
        self.now.set(self.now.get() + time);
    }

    /// The thread would run, but another one does.
    fn starve(&self, time: Duration) {
        self.pass(time);
        self.delay.set(self.delay.get().map(|delay| delay + time));
    }
}

const MS: Duration = Duration::from_millis(1);

fn id(word: u64) -> Id {
    Id::from_u64(word)
}

#[test]
fn a_write_waits_for_the_handles_that_are_left() {
    let holding = Holding::new(false);
    assert!(holding.should_hold(1));
    assert!(!holding.should_hold(0));
}

#[test]
fn they_leave_in_the_order_of_their_first_writes() {
    let clock = Clock::default();
    let mut holding = Holding::new(false);
    for index in [3, 1, 2] {
        holding.hold(id(index), &clock);
    }
    let order: Vec<_> = std::iter::from_fn(|| holding.pop()).collect();
    assert_eq!(order, [id(3), id(1), id(2)]);
}

#[test]
fn nothing_is_due_where_nothing_waits() {
    let clock = Clock::default();
    let mut holding = Holding::new(false);
    clock.pass(1000 * MS);
    assert!(!holding.is_due(&clock));
}

#[test]
fn what_has_waited_for_a_millisecond_is_due() {
    let clock = Clock::default();
    let mut holding = Holding::new(false);
    holding.hold(id(1), &clock);
    clock.pass(MS / 2);
    holding.hold(id(2), &clock);
    assert!(!holding.is_due(&clock));
    clock.pass(MS / 2);
    assert!(holding.is_due(&clock), "the first one counts");
}

#[test]
fn many_do_not_wait_for_more() {
    let clock = Clock::default();
    let mut holding = Holding::new(false);
    for index in 1..64 {
        holding.hold(id(index), &clock);
        assert!(!holding.is_due(&clock));
    }
    holding.hold(id(64), &clock);
    assert!(holding.is_due(&clock));
    while holding.pop().is_some() {}
    holding.hold(id(65), &clock);
    assert!(!holding.is_due(&clock), "they begin anew");
}

#[test]
fn several_writes_of_a_stream_count_as_one() {
    let clock = Clock::default();
    let mut holding = Holding::new(false);
    for _ in 0..100 {
        holding.hold(id(1), &clock);
    }
    holding.hold(id(2), &clock);
    assert!(!holding.is_due(&clock));
    assert_eq!((holding.pop(), holding.pop()), (Some(id(1)), Some(id(2))));
    assert_eq!(holding.pop(), None);
}

#[test]
fn it_waits_for_the_next_tick_only_after_several_have_received_something() {
    let clock = Clock::default();
    let mut holding = Holding::new(false);
    holding.begin(&clock);
    holding.hold(id(1), &clock);
    assert!(!holding.goes_on(&clock));
    holding.received();
    assert!(!holding.goes_on(&clock), "it has the next tick for itself");
    holding.received();
    assert!(holding.goes_on(&clock));
    clock.pass(MS);
    assert!(!holding.goes_on(&clock), "it is due");
    while holding.pop().is_some() {}
    assert!(!holding.goes_on(&clock), "nothing waits");
    holding.hold(id(1), &clock);
    holding.begin(&clock);
    assert!(!holding.goes_on(&clock), "that was the tick before");
}

/// Something has been held for that long; whether a write would wait in a tick that begins `later`.
fn holds(holding: &mut Holding, clock: &Clock, later: Duration) -> bool {
    assert!(holding.is_due(clock));
    while holding.pop().is_some() {}
    clock.pass(later);
    holding.begin(clock);
    holding.should_hold(1)
}

#[test]
fn nothing_waits_where_a_handle_is_slow() {
    let clock = Clock::default();
    let mut holding = Holding::new(false);
    holding.hold(id(1), &clock);
    clock.pass(MS * 5 / 4);
    assert!(holds(&mut holding, &clock, Duration::ZERO), "not slow");

    // A hundred times as long.
    holding.hold(id(1), &clock);
    clock.pass(2 * MS);
    assert!(!holds(&mut holding, &clock, 199 * MS));
    holding.hold(id(1), &clock);
    assert!(holding.is_due(&clock), "at once");
    holding.pop();
    clock.pass(MS);
    holding.begin(&clock);
    assert!(holding.should_hold(1));

    // But not for ever.
    holding.hold(id(1), &clock);
    clock.pass(1000 * MS);
    assert!(!holds(&mut holding, &clock, 999 * MS));
    clock.pass(MS);
    holding.begin(&clock);
    assert!(holding.should_hold(1));
}

#[test]
fn where_the_system_tells_of_delays_a_first_time_counts_for_less() {
    let clock = Clock::that_tells_of_delays();
    let mut holding = Holding::new(false);
    holding.hold(id(1), &clock);
    clock.pass(10 * MS);
    assert!(!holds(&mut holding, &clock, 199 * MS));
    clock.pass(MS);
    holding.begin(&clock);
    assert!(holding.should_hold(1));
}

#[test]
fn a_thread_that_lacked_a_processor_was_not_slow() {
    let clock = Clock::that_tells_of_delays();
    let mut holding = Holding::new(false);
    holding.hold(id(1), &clock);
    clock.starve(100 * MS);
    // The first time it cannot be told.
    assert!(!holds(&mut holding, &clock, MS));
    clock.pass(200 * MS);
    for _ in 0..3 {
        holding.begin(&clock);
        assert!(holding.should_hold(1));
        holding.hold(id(1), &clock);
        clock.pass(MS);
        clock.starve(100 * MS);
        assert!(
            holds(&mut holding, &clock, MS),
            "it has waited for long all the same"
        );
    }

    // The same with a handle that really takes 10 ms.
    holding.hold(id(1), &clock);
    clock.pass(10 * MS);
    clock.starve(100 * MS);
    assert!(!holds(&mut holding, &clock, 999 * MS));
}

#[test]
fn after_a_while_nobody_looks_any_more() {
    let clock = Clock::that_tells_of_delays();
    let mut holding = Holding::new(false);
    holding.hold(id(1), &clock);
    clock.starve(2 * MS);
    assert!(!holds(&mut holding, &clock, MS));
    clock.pass(2000 * MS);
    holding.begin(&clock);
    holding.hold(id(1), &clock);
    clock.starve(2 * MS);
    assert!(!holds(&mut holding, &clock, MS), "it cannot be told again");
}

#[test]
fn delays_are_looked_at_only_after_a_suspicion() {
    struct Unasked(Clock);
    impl Clocks for Unasked {
        fn now(&self) -> Time {
            self.0.now()
        }
        fn run_delay(&self) -> Option<Duration> {
            panic!("three system calls for nothing")
        }
    }
    let clock = Unasked(Clock::default());
    let mut holding = Holding::new(false);
    for _ in 0..3 {
        holding.begin(&clock);
        holding.hold(id(1), &clock);
        clock.0.pass(MS);
        assert!(holding.is_due(&clock));
        holding.pop();
    }
}

#[test]
fn what_was_left_to_a_wait_that_did_not_come_is_not_lost() {
    let clock = Clock::default();
    let mut holding = Holding::new(true);
    assert!(holding.is_with_wait());
    holding.hold(id(1), &clock);
    holding.hold(id(2), &clock);
    let first = holding.pop_new().expect("one waits");
    holding.leave_to_wait(first);
    assert_eq!(holding.pop(), Some(id(2)));
    assert_eq!(holding.pop(), Some(id(1)));
    assert_eq!(holding.pop(), None);
    assert!(holding.take_for_wait().is_empty());
}
