//! `Scheduler` against two sorted lists.

mod cases;

use std::time::Duration;

use oxlip_core::tick::{Scheduler, TimerId};
use oxlip_core::time::Time;
use proptest::prelude::*;

/// Handles are numbers in the order in which they were made.
type Handle = usize;

#[derive(Clone, Copy, Debug)]
enum Step {
    Push,
    PushAt(u64),
    /// Many timers, of which all but each nth are cancelled at once: enough to be swept.
    Burst {
        count: u64,
        keep: u64,
    },
    Cancel(prop::sample::Index),
    Advance(u64),
    Begin,
    Next,
    /// A whole tick, every handle of which pushes another.
    Tick,
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Push),
        // Few different times, so that equal ones are frequent.
        10 => (0..40u64).prop_map(Step::PushAt),
        1 => (90..150u64, 1..60u64).prop_map(|(count, keep)| Step::Burst { count, keep }),
        8 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        4 => (0..10u64).prop_map(Step::Advance),
        4 => Just(Step::Begin),
        8 => Just(Step::Next),
        2 => Just(Step::Tick),
        1 => Just(Step::Clear),
    ]
}

/// What asyncio's documentation says, in the plainest way.
#[derive(Default)]
struct Model {
    ready: Vec<Handle>,
    batch: usize,
    /// Sorted by time, equal times by insertion.
    timers: Vec<(Time, Handle)>,
}

impl Model {
    fn push_at(&mut self, when: Time, handle: Handle) {
        let place = self.timers.partition_point(|timer| timer.0 <= when);
        self.timers.insert(place, (when, handle));
    }

    fn cancel(&mut self, handle: Handle) -> Option<Handle> {
        let place = self.timers.iter().position(|timer| timer.1 == handle)?;
        Some(self.timers.remove(place).1)
    }

    fn timeout(&self, now: Time) -> Option<Duration> {
        if self.ready.is_empty() {
            self.timers.first().map(|timer| timer.0.since(now))
        } else {
            Some(Duration::ZERO)
        }
    }

    fn begin(&mut self, now: Time) {
        let due = self.timers.partition_point(|timer| timer.0 <= now);
        self.ready
            .extend(self.timers.drain(..due).map(|timer| timer.1));
        self.batch = self.ready.len();
    }

    fn next(&mut self) -> Option<Handle> {
        self.batch = self.batch.checked_sub(1)?;
        Some(self.ready.remove(0))
    }

    fn all(&self) -> Vec<Handle> {
        let timers = self.timers.iter().map(|timer| timer.1);
        self.ready.iter().copied().chain(timers).collect()
    }
}

/// Both, and all timer ids there have been.
struct Pair {
    scheduler: Scheduler<Handle>,
    model: Model,
    ids: Vec<(TimerId, Handle)>,
    now: Time,
    /// What the numbers of the steps count.
    unit: Duration,
    made: usize,
}

impl Pair {
    fn new(unit: Duration) -> Self {
        Self {
            scheduler: Scheduler::new(),
            model: Model::default(),
            ids: Vec::new(),
            now: Time::ZERO,
            unit,
            made: 0,
        }
    }

    fn in_units(&self, number: u64) -> Time {
        let number = u32::try_from(number).expect("small numbers");
        self.now.after(self.unit * number)
    }

    fn push(&mut self) {
        self.scheduler.push(self.made);
        self.model.ready.push(self.made);
        self.made += 1;
    }

    fn push_at(&mut self, delay: u64) {
        let when = self.in_units(delay);
        let id = self.scheduler.push_at(when, self.made);
        self.model.push_at(when, self.made);
        self.ids.push((id, self.made));
        self.made += 1;
    }

    fn cancel(&mut self, place: usize) -> Result<(), TestCaseError> {
        let (id, handle) = self.ids[place];
        prop_assert_eq!(self.scheduler.cancel_timer(id), self.model.cancel(handle));
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Handle>, TestCaseError> {
        let handle = self.scheduler.next();
        prop_assert_eq!(handle, self.model.next());
        Ok(handle)
    }

    fn begin(&mut self) {
        self.scheduler.begin(self.now);
        self.model.begin(self.now);
    }

    fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Push => self.push(),
            Step::PushAt(delay) => self.push_at(delay),
            Step::Burst { count, keep } => {
                let first = self.ids.len();
                for n in 0..count {
                    self.push_at(n % 7);
                }
                for place in first..self.ids.len() {
                    if !(place as u64).is_multiple_of(keep) {
                        self.cancel(place)?;
                    }
                }
            }
            Step::Cancel(index) => {
                if !self.ids.is_empty() {
                    self.cancel(index.index(self.ids.len()))?;
                }
            }
            Step::Advance(delay) => self.now = self.in_units(delay),
            Step::Begin => self.begin(),
            Step::Next => {
                self.next()?;
            }
            Step::Tick => {
                self.begin();
                let expected = self.model.ready.len();
                let mut run = 0;
                while self.next()?.is_some() {
                    self.push();
                    run += 1;
                }
                prop_assert_eq!(
                    run,
                    expected,
                    "a tick runs exactly what was ready as it began"
                );
            }
            Step::Clear => {
                let ready = self.model.ready.len();
                let mut expected = self.model.all();
                let mut cleared = self.scheduler.clear();
                self.model = Model::default();
                prop_assert_eq!(&cleared[..ready], &expected[..ready]);
                cleared.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(cleared, expected);
            }
        }
        Ok(())
    }

    fn compare(&mut self) -> Result<(), TestCaseError> {
        let (scheduler, model) = (&mut self.scheduler, &self.model);
        prop_assert_eq!(scheduler.timeout(self.now), model.timeout(self.now));
        prop_assert_eq!(scheduler.ready_len(), model.ready.len());
        prop_assert_eq!(scheduler.has_ready(), !model.ready.is_empty());
        prop_assert_eq!(scheduler.timers_len(), model.timers.len());
        let mut shown = Vec::new();
        scheduler.for_each(|handle| shown.push(*handle));
        let mut expected = model.all();
        shown.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(shown, expected);
        Ok(())
    }
}

proptest! {
    #![proptest_config(cases::cases())]

    #[test]
    fn behaves_like_two_sorted_lists(
        steps in prop::collection::vec(step(), 1..cases::STEPS),
        // Timers that are due soon and those that are not are kept apart.
        unit in prop::sample::select(&[1, 100_000_000, 3_000_000_000][..]),
    ) {
        let mut pair = Pair::new(Duration::from_nanos(unit));
        for step in steps {
            pair.apply(step)?;
            pair.compare()?;
        }
    }
}

#[test]
fn the_batch_freezes_when_the_tick_begins() {
    let mut scheduler = Scheduler::new();
    scheduler.push("first");
    scheduler.begin(Time::ZERO);
    scheduler.push("second");
    scheduler.push_at(Time::ZERO, "due at once");
    assert_eq!(scheduler.next(), Some("first"));
    assert_eq!(scheduler.next(), None);
    assert_eq!(scheduler.timeout(Time::ZERO), Some(Duration::ZERO));
    scheduler.begin(Time::ZERO);
    assert_eq!(scheduler.next(), Some("second"));
    assert_eq!(scheduler.next(), Some("due at once"));
    assert_eq!(scheduler.next(), None);
    assert_eq!(scheduler.timeout(Time::ZERO), None);
}

#[test]
fn a_tick_left_early_is_taken_up_by_the_next() {
    let mut scheduler = Scheduler::new();
    for n in 0..3 {
        scheduler.push(n);
    }
    scheduler.begin(Time::ZERO);
    assert_eq!(scheduler.next(), Some(0));
    scheduler.push(3);
    assert_eq!(scheduler.timeout(Time::ZERO), Some(Duration::ZERO));
    scheduler.begin(Time::ZERO);
    let rest: Vec<i32> = std::iter::from_fn(|| scheduler.next()).collect();
    assert_eq!(rest, [1, 2, 3]);
}

#[test]
fn a_cancelled_timer_holds_no_wait_up() {
    let mut scheduler = Scheduler::new();
    let soon = scheduler.push_at(Time::from_nanos(10), "soon");
    scheduler.push_at(Time::from_nanos(50), "later");
    assert_eq!(scheduler.cancel_timer(soon), Some("soon"));
    assert_eq!(scheduler.cancel_timer(soon), None);
    assert_eq!(
        scheduler.timeout(Time::from_nanos(5)),
        Some(Duration::from_nanos(45))
    );
}

#[test]
fn a_timer_that_is_ready_cannot_be_cancelled_any_more() {
    let mut scheduler = Scheduler::new();
    let id = scheduler.push_at(Time::ZERO, "ready");
    scheduler.begin(Time::ZERO);
    assert_eq!(scheduler.cancel_timer(id), None);
    assert_eq!(scheduler.next(), Some("ready"));
}
