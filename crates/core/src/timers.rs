//! What is to run at a point in time: a heap of small entries over an arena of handles.
//!
//! Cancelling is lazy, as in asyncio: the handle is given back at once and its heap entry stays
//! behind as a tombstone, which costs O(1) where taking it out of the heap would cost O(log n) and
//! cache misses. Most timers are time-outs and are cancelled. A tombstone is dropped when it reaches
//! the top, or when tombstones are the greater part of the heap and all of them are swept out.
//!
//! Belongs to a [`crate::tick::Scheduler`], on the thread of the loop.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::id::{Arena, Id};
use crate::time::Time;

/// The name of a timer, from [`Timers::push`] until it is due or cancelled; dead afterwards, also
/// when the storage behind it is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId(Id);

/// Handles by the time they are due; equal times keep the order of insertion.
#[derive(Debug)]
pub struct Timers<H> {
    heap: BinaryHeap<Entry>,
    handles: Arena<H>,
    sequence: u64,
}

impl<H> Default for Timers<H> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            handles: Arena::new(),
            sequence: 0,
        }
    }
}

impl<H> Timers<H> {
    /// No timers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a timer: O(log n), O(1) if most timers are due before it.
    ///
    /// # Panics
    /// With more than `u32::MAX` timers alive.
    #[inline]
    pub fn push(&mut self, when: Time, handle: H) -> TimerId {
        let id = self.handles.insert(handle);
        self.heap.push(Entry {
            when,
            sequence: self.sequence,
            id,
        });
        self.sequence += 1;
        TimerId(id)
    }

    /// Takes a timer's handle out before it is due: O(1) amortised. `None` if the timer has been
    /// due or cancelled already.
    #[inline]
    pub fn cancel(&mut self, id: TimerId) -> Option<H> {
        let handle = self.handles.remove(id.0)?;
        let tombstones = self.heap.len() - self.handles.len();
        if self.heap.len() > SWEEP_MIN_ENTRIES && tombstones > self.heap.len() / 2 {
            self.sweep();
        }
        Some(handle)
    }

    /// When the first timer is due. Drops the tombstones before it.
    #[inline]
    pub fn next_when(&mut self) -> Option<Time> {
        while let Some(entry) = self.heap.peek() {
            if self.handles.get(entry.id).is_some() {
                return Some(entry.when);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes out the first timer if it is due at `now` (`when <= now`).
    #[inline]
    pub fn pop_due(&mut self, now: Time) -> Option<H> {
        while self.heap.peek()?.when <= now {
            let entry = self.heap.pop().expect("the heap has just been peeked at");
            if let Some(handle) = self.handles.remove(entry.id) {
                return Some(handle);
            }
        }
        None
    }

    /// How many timers there are; cancelled ones do not count.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.handles.len()
    }

    /// Whether there is none.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }

    /// Shows every handle, in no promised order.
    pub fn for_each(&self, mut show: impl FnMut(&H)) {
        for (_, handle) in self.handles.iter() {
            show(handle);
        }
    }

    /// Takes every handle out, in no promised order.
    pub fn clear(&mut self) -> Vec<H> {
        self.heap.clear();
        self.handles.take_all()
    }

    /// Removes all tombstones: O(n), after at least n/2 cancellations.
    #[cold]
    fn sweep(&mut self) {
        let handles = &self.handles;
        self.heap.retain(|entry| handles.get(entry.id).is_some());
        // The memory of a peak is given back; what a steady state needs to grow into is kept.
        self.heap
            .shrink_to(usize::max(2 * self.heap.len(), 4 * SWEEP_MIN_ENTRIES));
    }
}

/// One place in the heap. Whether it is a tombstone is for the arena to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    when: Time,
    sequence: u64,
    id: Id,
}

/// Reversed, since [`BinaryHeap`] keeps the greatest on top: the earliest entry is the greatest.
impl Ord for Entry {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        (other.when, other.sequence).cmp(&(self.when, self.sequence))
    }
}

impl PartialOrd for Entry {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Up to here tombstones are not worth a sweep: asyncio's limit.
const SWEEP_MIN_ENTRIES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tombstones_are_never_more_than_half_of_a_large_heap() {
        let mut timers = Timers::new();
        timers.push(Time::ZERO, 0);
        for n in 1..10_000 {
            let id = timers.push(Time::from_nanos(n), n);
            assert_eq!(timers.cancel(id), Some(n));
            assert!(timers.heap.len() <= SWEEP_MIN_ENTRIES + 1);
        }
        assert_eq!(timers.len(), 1);
    }

    #[test]
    fn the_memory_of_a_peak_is_given_back() {
        let mut timers = Timers::new();
        let ids: Vec<_> = (0..5_000)
            .map(|n| timers.push(Time::from_nanos(n), n))
            .collect();
        for id in ids {
            timers.cancel(id);
        }
        assert!(timers.heap.capacity() <= 8 * SWEEP_MIN_ENTRIES);
    }
}
