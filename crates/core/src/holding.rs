//! Which streams' writes are held back so that they leave together, and for how long.
//!
//! A send wakes the peer, usually on another processor. Sends that leave together after the last
//! handle of a tick cost far less than the same sends between handles. So a write is held while the
//! tick has more handles to run, and until the end of the next tick if it answers what this one has
//! received (docs/adr/0006). It must not be held for long: where handles are slow, not at all. A
//! thread that had to wait for a processor does not count as slow.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use crate::id::Id;
use crate::time::Time;

/// Between two handles or ticks, writes that have waited this long leave.
const HOLD_AT_MOST: Duration = Duration::from_millis(1);

/// The writes of at most so many streams wait. More would gain nothing from waking their peers together, and the
/// system's data about the first of them would no longer be in the cache from when they were read.
const STREAMS_AT_MOST: usize = 64;

/// If they leave later than this, a single handle has taken half a millisecond or more. Beside that, waking a
/// peer costs nothing, and whatever waits behind such handles is late.
const SLOW: Duration = Duration::from_micros(1500);

/// Then nothing waits for this many times as long, up to this limit: what was slow once will be slow again.
const WARY_FACTOR: u32 = 100;
const WARY_AT_MOST: Duration = Duration::from_secs(1);

/// The same, as long as the reason may be that the thread had no processor.
const UNSURE_AT_MOST: Duration = Duration::from_millis(200);

/// After either, how long it is observed which of the two it was.
const LOOKING_FOR: Duration = Duration::from_secs(1);

/// The streams whose writes wait.
#[derive(Debug, Default)]
pub struct Holding {
    streams: VecDeque<Id>,
    /// Those of them that have been popped, and leave with the wait.
    for_wait: Vec<Id>,
    /// Since when the first of them has been waiting.
    since: Time,
    /// How long the thread had waited for a processor by then; `None` if nobody has looked.
    delay_before: Option<Duration>,
    /// Until when nothing waits.
    wary_until: Option<Time>,
    /// Until when `delay_before` is looked at.
    looking_until: Option<Time>,
    /// What waits for the end of the tick leaves with the driver's wait (docs/adr/0010).
    with_wait: bool,
    /// How many streams have received something in this tick.
    received: u32,
}

/// Facts that the operating system is asked for only when they matter.
pub trait Clocks {
    /// The time of the loop.
    fn now(&self) -> Time;

    /// How long this thread has been ready to run without a processor, in total; `None` where
    /// the system does not say.
    fn run_delay(&self) -> Option<Duration>;
}

impl Holding {
    /// `with_wait`: the driver can send with its wait.
    #[must_use]
    pub fn new(with_wait: bool) -> Self {
        Self {
            with_wait,
            ..Self::default()
        }
    }

    /// Whether a write should wait for the handles that are still to run.
    #[inline]
    pub fn should_hold(&self, handles_left: usize) -> bool {
        handles_left > 0 && self.wary_until.is_none()
    }

    /// Whether sends may leave with the driver's wait, and be answered by it.
    #[inline]
    pub fn is_with_wait(&self) -> bool {
        self.with_wait
    }

    /// Notes that a stream has received something in this tick, which the next one may answer.
    #[inline]
    pub fn received(&mut self) {
        self.received += 1;
    }

    /// Between two ticks without a sleep: whether what waits goes on waiting, so that it leaves
    /// together with the answers to what this tick has received. A single stream has nothing to
    /// wait for.
    #[inline]
    pub fn goes_on(&mut self, clocks: &impl Clocks) -> bool {
        self.received > 1 && !self.streams.is_empty() && !self.is_due(clocks)
    }

    /// Notes that something is queued on a stream, and waits.
    #[inline]
    pub fn hold(&mut self, id: Id, clocks: &impl Clocks) {
        if self.streams.back() == Some(&id) {
            return; // one more of several writes
        }
        if self.streams.is_empty() {
            self.since = clocks.now();
            if self.looking_until.is_some() {
                self.delay_before = clocks.run_delay();
            }
        }
        self.streams.push_back(id);
    }

    /// Between two handles: whether what waits must leave now.
    #[inline]
    pub fn is_due(&mut self, clocks: &impl Clocks) -> bool {
        if self.streams.is_empty() {
            return false;
        }
        if self.wary_until.is_some() || self.streams.len() >= STREAMS_AT_MOST {
            return true;
        }
        let now = clocks.now();
        let held = now.since(self.since);
        if held >= SLOW {
            self.suspect(held, now, clocks);
        }
        held >= HOLD_AT_MOST
    }

    /// Something has taken long: decides for how long nothing is to wait.
    #[cold]
    fn suspect(&mut self, held: Duration, now: Time, clocks: &impl Clocks) {
        let at_most = match (self.delay_before, clocks.run_delay()) {
            (Some(before), Some(after)) => {
                let delayed = after.saturating_sub(before);
                if held.saturating_sub(delayed) < SLOW {
                    self.looking_until = Some(now.after(LOOKING_FOR));
                    return;
                }
                WARY_AT_MOST
            }
            (None, Some(_)) => UNSURE_AT_MOST,
            (_, None) => WARY_AT_MOST,
        };
        let wary_for = held.saturating_mul(WARY_FACTOR).min(at_most);
        self.looking_until = Some(now.after(wary_for + LOOKING_FOR));
        self.wary_until = Some(now.after(wary_for));
    }

    /// A tick begins: the time in which nothing waits may be over.
    #[inline]
    pub fn begin(&mut self, clocks: &impl Clocks) {
        self.received = 0;
        if self.looking_until.is_some() {
            self.forget(clocks.now());
        }
    }

    #[cold]
    fn forget(&mut self, now: Time) {
        self.wary_until.take_if(|until| now >= *until);
        if self.looking_until.take_if(|until| now >= *until).is_some() {
            self.delay_before = None;
        }
    }

    /// The next stream to flush: in the order of their first writes.
    #[inline]
    pub fn pop(&mut self) -> Option<Id> {
        // They were left to a wait that an exception has prevented.
        self.streams.pop_front().or_else(|| self.for_wait.pop())
    }

    /// As [`Holding::pop`], without those left to the wait.
    #[inline]
    pub fn pop_new(&mut self) -> Option<Id> {
        self.streams.pop_front()
    }

    /// A stream that was popped leaves with the wait.
    #[inline]
    pub fn leave_to_wait(&mut self, id: Id) {
        self.for_wait.push(id);
    }

    /// The streams that are left to the wait, which must follow.
    #[inline]
    pub fn take_for_wait(&mut self) -> Vec<Id> {
        mem::take(&mut self.for_wait)
    }

    /// The list of [`Holding::take_for_wait`], to be used again.
    #[inline]
    pub fn put_back(&mut self, mut list: Vec<Id>) {
        list.clear();
        self.for_wait = list;
    }

    /// Forgets all of them: the loop closes.
    pub fn clear(&mut self) {
        self.streams.clear();
        self.for_wait.clear();
    }
}
