//! Which writes wait for others, and for how long.
//!
//! A send wakes the peer, on another processor as a rule. Sends that leave together after the last
//! handle of a tick cost far less than the same sends between handles, so a write waits while the
//! tick has more handles to run, and for the next tick if that answers what this one has received
//! (docs/adr/0006). It must not wait long: not for slow handles, and
//! not at all in a program that blocks the loop after it has written.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use oxlip_core::id::Id;
use oxlip_core::time::Time;

/// Between two handles, writes that have waited this long leave.
const HOLD_AT_MOST: Duration = Duration::from_micros(1000);

/// A handle that has held writes up for this long has blocked the loop.
const BLOCKED: Duration = Duration::from_millis(10);

/// After that nothing waits for this long: what has blocked once does it again.
const WARY_FOR: Duration = Duration::from_secs(1);

/// The connections whose writes wait.
#[derive(Default)]
pub(crate) struct Holding {
    connections: VecDeque<Id>,
    /// Those of them that have been looked at, and leave with the wait.
    for_wait: Vec<Id>,
    /// Since when the first of them waits.
    since: Time,
    /// Until when nothing waits.
    wary_until: Option<Time>,
    /// What waits for the end of the tick leaves with the driver's wait (docs/adr/0010).
    with_wait: bool,
    /// Something was received in this tick.
    received: bool,
}

impl Holding {
    /// `with_wait`: the driver can send with its wait.
    pub(super) fn new(with_wait: bool) -> Self {
        Self {
            with_wait,
            ..Self::default()
        }
    }

    /// Whether a write should wait for the handles that are still to run.
    #[inline]
    pub(crate) fn should_hold(&self, handles_left: usize) -> bool {
        handles_left > 0 && self.wary_until.is_none()
    }

    /// Whether sends may leave with the driver's wait, and be answered by it.
    #[inline]
    pub(crate) fn is_with_wait(&self) -> bool {
        self.with_wait
    }

    /// In this tick a stream has received something, which the next tick may answer.
    #[inline]
    pub(super) fn received(&mut self) {
        self.received = true;
    }

    /// Between two ticks without a sleep: whether what waits goes on waiting, so that it leaves
    /// together with the answers to what this tick has received.
    #[inline]
    pub(super) fn goes_on(&mut self, now: impl FnOnce() -> Time) -> bool {
        self.received && !self.connections.is_empty() && !self.is_due(now)
    }

    /// Something is queued on a connection and waits.
    #[inline]
    pub(crate) fn hold(&mut self, id: Id, now: impl FnOnce() -> Time) {
        if self.connections.is_empty() {
            self.since = now();
        }
        self.connections.push_back(id);
    }

    /// Between two handles: whether what waits must leave now.
    #[inline]
    pub(super) fn is_due(&mut self, now: impl FnOnce() -> Time) -> bool {
        if self.connections.is_empty() {
            return false;
        }
        if self.wary_until.is_some() {
            return true;
        }
        let now = now();
        let held = now.since(self.since);
        if held >= BLOCKED {
            self.wary_until = Some(now.after(WARY_FOR));
        }
        held >= HOLD_AT_MOST
    }

    /// A tick begins: an old wariness may be over.
    #[inline]
    pub(super) fn begin(&mut self, now: impl FnOnce() -> Time) {
        self.received = false;
        if let Some(until) = self.wary_until
            && now() >= until
        {
            self.wary_until = None;
        }
    }

    /// The next connection to flush: in the order of their first writes.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Id> {
        // Left to a wait that has not come: an exception was in between.
        self.connections.pop_front().or_else(|| self.for_wait.pop())
    }

    /// As [`Holding::pop`], without those left to the wait.
    #[inline]
    pub(crate) fn pop_new(&mut self) -> Option<Id> {
        self.connections.pop_front()
    }

    /// A connection that was popped leaves with the wait.
    #[inline]
    pub(crate) fn leave_to_wait(&mut self, id: Id) {
        self.for_wait.push(id);
    }

    /// Those left to the wait, which must follow.
    #[inline]
    pub(crate) fn take_for_wait(&mut self) -> Vec<Id> {
        mem::take(&mut self.for_wait)
    }

    /// The list of [`Holding::take_for_wait`], to be used again.
    #[inline]
    pub(crate) fn put_back(&mut self, mut list: Vec<Id>) {
        list.clear();
        self.for_wait = list;
    }

    pub(super) fn clear(&mut self) {
        self.connections.clear();
        self.for_wait.clear();
    }
}
