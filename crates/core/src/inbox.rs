//! The way into a loop from other threads: a list behind a lock, and one wake per batch.
//!
//! Any thread may [`Inbox::push`]; only the loop's own thread may [`Inbox::drain`]. The owner takes
//! the whole list at once, so whoever finds it empty has to wake the owner, and everybody else finds
//! the owner woken.
//!
//! The lock is held for a few instructions, in which nothing is called and nothing waits. A
//! lock-free queue in its place cost more: it needs two locked instructions to put an item in and two
//! to take it out, where this needs two to put it in.
//!
//! Beside the list is a flag, so that an owner with nothing to take need not lock. It may be seen late
//! by an owner that happens to look; the pusher has not sent its wake then, and the wake itself orders
//! memory, as every system call and every lock does.

#[cfg(not(loom))]
use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

#[cfg(loom)]
use loom::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use std::sync::PoisonError;

/// Items on their way to the owner of a loop, in the order of arrival.
#[derive(Debug)]
pub struct Inbox<T> {
    items: Mutex<Vec<T>>,
    /// Changed only with the lock held.
    filled: AtomicBool,
}

/// The memory of a longer list is given back once it is empty: a burst must not hold it for ever.
const KEPT_ITEMS: usize = 1024;

impl<T: Send> Default for Inbox<T> {
    fn default() -> Self {
        Self {
            items: Mutex::new(Vec::new()),
            filled: AtomicBool::new(false),
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
        self.locked(|items| {
            items.push(item);
            self.filled.store(true, Ordering::Relaxed);
            items.len() == 1
        })
    }

    /// Takes out what is there now; what comes meanwhile has its own wake. For the owner's thread
    /// only. Nothing is locked while `take` runs.
    ///
    /// Returns how many there were.
    #[inline]
    pub fn drain(&self, mut take: impl FnMut(T)) -> usize {
        if self.is_empty() {
            return 0;
        }
        let mut taken = self.locked(|items| {
            self.filled.store(false, Ordering::Relaxed);
            std::mem::take(items)
        });
        let count = taken.len();
        taken.drain(..).for_each(&mut take);
        if taken.capacity() <= KEPT_ITEMS {
            self.locked(|items| {
                if items.capacity() == 0 {
                    *items = taken;
                }
            });
        }
        count
    }

    /// Whether nothing waits. On the owner's thread `true` may be out of date at once, but then
    /// a wake is on its way.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.filled.load(Ordering::Relaxed)
    }

    /// Shows every item that waits, for a cycle collector; nothing while another thread is about to
    /// add one. `show` must not push.
    pub fn for_each(&self, show: impl FnMut(&T)) {
        if let Ok(items) = self.items.try_lock() {
            items.iter().for_each(show);
        }
    }

    #[inline]
    fn locked<R>(&self, act: impl FnOnce(&mut Vec<T>) -> R) -> R {
        act(&mut self.items.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
