//! The way into a loop from other threads: a lock-free queue and one wake per batch.
//!
//! Any thread may [`Inbox::push`]; only the loop's own thread may [`Inbox::drain`]. The flag
//! `awake` says that the owner has been told, or is about to be, and has not looked since:
//!
//! * a pusher puts its item into the queue **first** and raises the flag **second**; whoever finds
//!   it down has to wake the owner;
//! * the owner takes the flag down **first** and looks into the queue **second**.
//!
//! So an item whose pusher found the flag up was in the queue before the owner took the flag down,
//! and the owner sees it; every other item has a wake of its own. Both sides change the flag in one
//! read-modify-write each: that is what orders the queue's contents between them. The wake itself
//! must order memory too, as every system call and every lock does.

#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(not(loom))]
use crossbeam_queue::SegQueue;

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering};

#[cfg(loom)]
mod loom_queue;
#[cfg(loom)]
use loom_queue::SegQueue;

/// Items on their way to the owner of a loop, in the order of arrival.
#[derive(Debug)]
pub struct Inbox<T> {
    queue: SegQueue<T>,
    awake: AtomicBool,
}

impl<T: Send> Default for Inbox<T> {
    fn default() -> Self {
        Self {
            queue: SegQueue::new(),
            awake: AtomicBool::new(false),
        }
    }
}

impl<T: Send> Inbox<T> {
    /// An empty inbox.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an item, from any thread. `true`: the owner does not know yet, wake it.
    #[inline]
    #[must_use = "the owner sleeps on unless it is woken when this is true"]
    pub fn push(&self, item: T) -> bool {
        self.queue.push(item);
        !self.awake.swap(true, Ordering::AcqRel)
    }

    /// Takes out what is there, at most as many items as there were when it began, so that a busy
    /// pusher cannot hold the owner; the rest has its own wake. For the owner's thread only.
    ///
    /// Returns how many there were.
    #[inline]
    pub fn drain(&self, mut take: impl FnMut(T)) -> usize {
        // The common case costs one plain load: with the flag down, whatever is in the queue has
        // a pusher that will still raise it.
        if !self.awake.load(Ordering::Relaxed) {
            return 0;
        }
        self.awake.swap(false, Ordering::AcqRel);
        let there = self.queue.len();
        let mut taken = 0;
        while taken < there
            && let Some(item) = self.queue.pop()
        {
            taken += 1;
            take(item);
        }
        taken
    }

    /// Whether nothing waits. On the owner's thread `true` may be out of date at once, but then
    /// a wake is on its way. No substitute for a [`Inbox::drain`] after a wake: that also takes the
    /// flag down, which may be up although the queue is empty (its item was taken by a drain that
    /// came between the push and the raised flag), and with the flag up nobody wakes the owner.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
