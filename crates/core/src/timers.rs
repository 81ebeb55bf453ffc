//! What is to run at a point in time: heaps of small entries over an arena of handles.
//!
//! There are two heaps, for what is due soon and for what is not. Nearly all timers are time-outs
//! of seconds and more. A timer that does fire must not sift through a million of those, missing
//! the cache at each level.
//!
//! Cancelling is lazy, as in asyncio: the handle is given back at once, and its heap entry stays
//! behind as a tombstone. That costs O(1), where taking the entry out of the heap would cost O(log
//! n) and cache misses, and most timers are time-outs that are cancelled. A tombstone is dropped
//! when it reaches the top, or when tombstones make up more than half of the heap and all of them
//! are swept out.
//!
//! Belongs to a [`crate::tick::Scheduler`], on the thread of the loop.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::id::{Arena, Id};
use crate::time::Time;

/// The name of a timer, from [`Timers::push`] until it is due or cancelled; dead afterwards, also
/// when the storage behind it is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId(Id);

/// Handles by the time they are due; equal times keep the order of insertion.
#[derive(Debug)]
pub struct Timers<H> {
    /// Those due at `horizon` or before.
    near: BinaryHeap<Entry>,
    /// Those due later.
    far: BinaryHeap<Entry>,
    /// Between [`SOON`] and half of that after the last [`Timers::pop_due`].
    horizon: Time,
    handles: Arena<H>,
    sequence: u64,
}

impl<H> Default for Timers<H> {
    fn default() -> Self {
        Self {
            near: BinaryHeap::new(),
            far: BinaryHeap::new(),
            horizon: Time::ZERO,
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
        let heap = if when <= self.horizon {
            &mut self.near
        } else {
            &mut self.far
        };
        heap.push(Entry {
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
        let entries = self.entries();
        let tombstones = entries - self.handles.len();
        if entries > SWEEP_MIN_ENTRIES && tombstones > entries / 2 {
            self.sweep();
        }
        Some(handle)
    }

    /// When the first timer is due. Drops the tombstones before it.
    #[inline]
    pub fn next_when(&mut self) -> Option<Time> {
        let Self {
            near, far, handles, ..
        } = self;
        first(near, handles).or_else(|| first(far, handles))
    }

    /// Takes out the first timer if it is due at `now` (`when <= now`).
    #[inline]
    pub fn pop_due(&mut self, now: Time) -> Option<H> {
        if now.after(SOON / 2) > self.horizon {
            self.advance(now);
        }
        while self.near.peek()?.when <= now {
            let entry = self.near.pop().expect("the heap has just been peeked at");
            if let Some(handle) = self.handles.remove(entry.id) {
                return Some(handle);
            }
        }
        None
    }

    /// What has come nearer changes the heap: each entry does once, if it lives that long.
    #[cold]
    fn advance(&mut self, now: Time) {
        self.horizon = now.after(SOON);
        while let Some(entry) = self.far.peek()
            && entry.when <= self.horizon
        {
            let entry = self.far.pop().expect("the heap has just been peeked at");
            if self.handles.get(entry.id).is_some() {
                self.near.push(entry);
            }
        }
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
        self.near.clear();
        self.far.clear();
        self.handles.take_all()
    }

    /// Timers and tombstones.
    #[inline]
    fn entries(&self) -> usize {
        self.near.len() + self.far.len()
    }

    /// Removes all tombstones: O(n), after at least n/2 cancellations.
    #[cold]
    fn sweep(&mut self) {
        let handles = &self.handles;
        for heap in [&mut self.near, &mut self.far] {
            heap.retain(|entry| handles.get(entry.id).is_some());
            // The memory of a peak is given back; what a steady state needs to grow into is kept.
            heap.shrink_to(usize::max(2 * heap.len(), 4 * SWEEP_MIN_ENTRIES));
        }
    }
}

/// When the first timer of a heap is due. Drops the tombstones before it.
#[inline]
fn first<H>(heap: &mut BinaryHeap<Entry>, handles: &Arena<H>) -> Option<Time> {
    while let Some(entry) = heap.peek() {
        if handles.get(entry.id).is_some() {
            return Some(entry.when);
        }
        heap.pop();
    }
    None
}

/// One place in a heap. Whether it is a tombstone is for the arena to say.
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

/// How far the heap of what is due soon reaches: longer than the pauses of a program that does something
/// now and then, shorter than time-outs.
const SOON: Duration = Duration::from_secs(1);

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
            assert!(timers.entries() <= SWEEP_MIN_ENTRIES + 1);
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
        assert!(timers.far.capacity() <= 8 * SWEEP_MIN_ENTRIES);
    }
    #[test]
    fn what_is_due_soon_is_not_behind_what_is_not() {
        let mut timers = Timers::new();
        for n in 0..1_000 {
            timers.push(Time::from_secs_f64(60.0 + f64::from(n)), n);
        }
        let now = Time::from_secs_f64(7.0);
        assert_eq!(timers.pop_due(now), None);
        timers.push(now, 5_000);
        assert_eq!((timers.near.len(), timers.far.len()), (1, 1_000));
        assert_eq!(timers.pop_due(now), Some(5_000));

        let later = Time::from_secs_f64(160.0);
        let due: Vec<_> = std::iter::from_fn(|| timers.pop_due(later)).collect();
        assert_eq!(due, (0..=100).collect::<Vec<_>>());
        assert_eq!((timers.near.len(), timers.far.len()), (1, 898));
    }
}
