//! How many used objects to keep for reuse: as many as the bursts of the last moments would have
//! needed.
//!
//! A thread that schedules as fast as it can makes calls by the ten thousand until the interpreter
//! switches, and the next such burst could reuse what this one has left behind. A burst that was
//! the only one must not hold its memory for ever, so the number kept is halved again and again
//! while no burst of that size follows.

use std::time::Duration;

use crate::time::Time;

/// This many are always kept.
pub const ALWAYS: usize = 1024;

/// Never more than this are kept: about what a thread schedules between two switches of the interpreter.
pub const NEVER_MORE: usize = 1 << 16;

/// How long a moment lasts: after it the limit may come down.
pub const MOMENT: Duration = Duration::from_millis(100);

/// How many used objects the recent bursts need.
#[derive(Debug)]
pub struct Bursts {
    limit: usize,
    /// The largest burst of this moment.
    largest: usize,
    /// When this moment began; `None` if nobody has asked since the limit was raised.
    since: Option<Time>,
}

impl Default for Bursts {
    fn default() -> Self {
        Self {
            limit: ALWAYS,
            largest: 0,
            since: None,
        }
    }
}

impl Bursts {
    /// How many to keep at most.
    #[must_use]
    #[inline]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Notes a burst: so many came at once.
    #[inline]
    pub fn arrived(&mut self, count: usize) {
        if count > self.largest {
            self.largest = count.min(NEVER_MORE);
            self.limit = self.limit.max(self.largest);
        }
    }

    /// Whether the limit is raised and has to come down: then [`Bursts::pass`] must be called now and then.
    #[must_use]
    #[inline]
    pub fn is_raised(&self) -> bool {
        self.limit > ALWAYS
    }

    /// Forgets all bursts: there will be no more, or nobody would notice them.
    pub fn end(&mut self) {
        *self = Self::default();
    }

    /// Notes the time. `true`: the limit has come down.
    pub fn pass(&mut self, now: Time) -> bool {
        let since = *self.since.get_or_insert(now);
        if !self.is_raised() || now.since(since) < MOMENT {
            return false;
        }
        let before = self.limit;
        self.limit = (before / 2).max(self.largest).max(ALWAYS);
        self.largest = 0;
        self.since = self.is_raised().then_some(now);
        self.limit < before
    }
}
