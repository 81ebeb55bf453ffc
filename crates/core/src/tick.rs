//! One pass of the loop: what is ready, what becomes due, and in which order it runs.
//!
//! The scheduler never calls. Its embedder, on the thread of the loop, does this over and over:
//!
//! 1. asks [`Scheduler::timeout`] how long to wait, and waits;
//! 2. [pushes](Scheduler::push) the handles of the I/O that completed;
//! 3. says [`Scheduler::begin`]: timers that are due join the ready handles, and the batch freezes;
//! 4. takes handles with [`Scheduler::next`] and runs them until there is none.
//!
//! No borrow is held while a handle runs, so it may push and cancel as it likes. What it pushes
//! belongs to the next tick: I/O is looked at between any two generations of callbacks, as asyncio's
//! `BaseEventLoop._run_once` promises.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;
use crate::timers::Timers;

pub use crate::timers::TimerId;

/// The ready queue and the timers of one loop. `H` is whatever the embedder can run.
#[derive(Debug)]
pub struct Scheduler<H> {
    ready: VecDeque<H>,
    /// How many of the first handles in `ready` belong to the tick that runs.
    batch: usize,
    timers: Timers<H>,
}

impl<H> Default for Scheduler<H> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            batch: 0,
            timers: Timers::new(),
        }
    }
}

impl<H> Scheduler<H> {
    /// A scheduler with nothing to do.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handle to run in the next tick, after all that are ready (`call_soon`).
    #[inline]
    pub fn push(&mut self, handle: H) {
        self.ready.push_back(handle);
    }

    /// Adds a handle to run in the first tick that begins at `when` or later (`call_at`).
    ///
    /// # Panics
    /// With more than `u32::MAX` timers alive.
    #[inline]
    pub fn push_at(&mut self, when: Time, handle: H) -> TimerId {
        self.timers.push(when, handle)
    }

    /// Gives a timer's handle back before it has become ready: O(1) amortised. `None` if it is
    /// ready, has run, or has been cancelled already.
    #[inline]
    pub fn cancel_timer(&mut self, id: TimerId) -> Option<H> {
        self.timers.cancel(id)
    }

    /// How long the next tick may wait for I/O: zero if a handle is ready, else until the first
    /// timer is due, to the nanosecond; `None`, for ever, if there is neither.
    ///
    /// Changes nothing that can be seen: it takes `&mut self` to drop cancelled timers.
    #[inline]
    pub fn timeout(&mut self, now: Time) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        self.timers.next_when().map(|when| when.since(now))
    }

    /// Begins a tick: timers that are due (`when <= now`) join the ready handles, ordered by time,
    /// then by insertion. The batch is now what [`Scheduler::next`] gives.
    ///
    /// If the tick before was left early, what it had not run comes first.
    #[inline]
    pub fn begin(&mut self, now: Time) {
        while let Some(handle) = self.timers.pop_due(now) {
            self.ready.push_back(handle);
        }
        self.batch = self.ready.len();
    }

    /// The next handle of this tick.
    #[inline]
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would suggest that the borrow may be kept while a handle runs"
    )]
    pub fn next(&mut self) -> Option<H> {
        self.batch = self.batch.checked_sub(1)?;
        self.ready.pop_front()
    }

    /// How many handles of this tick are still to come.
    #[must_use]
    #[inline]
    pub fn batch_left(&self) -> usize {
        self.batch
    }

    /// Whether a handle is ready, in this tick or for the next.
    #[must_use]
    #[inline]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many handles are ready, in this tick or for the next.
    #[must_use]
    #[inline]
    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// How many timers wait; cancelled ones do not count.
    #[must_use]
    #[inline]
    pub fn timers_len(&self) -> usize {
        self.timers.len()
    }

    /// The queue of ready handles, for an embedder whose users look into it or rearrange it. What is
    /// taken out or put in moves the end of the running tick, which is a number of handles.
    pub fn ready_mut(&mut self) -> &mut VecDeque<H> {
        &mut self.ready
    }

    /// Shows every timer's handle, in no promised order.
    pub fn for_each_timer(&self, show: impl FnMut(&H)) {
        self.timers.for_each(show);
    }

    /// Shows every handle held, for a cycle collector.
    pub fn for_each(&self, mut show: impl FnMut(&H)) {
        self.ready.iter().for_each(&mut show);
        self.timers.for_each(show);
    }

    /// Takes every handle out: the ready ones in order, then the timers in no promised order.
    pub fn clear(&mut self) -> Vec<H> {
        self.batch = 0;
        let mut handles = Vec::from(std::mem::take(&mut self.ready));
        handles.extend(self.timers.clear());
        handles
    }
}
