//! The way into a loop from other threads: a list behind a lock, and one wake per batch.
//!
//! Any thread may [`Inbox::push`]; only the loop's own thread may [`Inbox::drain`]. The owner takes
//! the whole list at once. So whoever finds it empty has to wake the owner, and everybody else
//! finds the owner already woken.
//!
//! The lock is held for a few instructions, in which nothing is called and nothing waits. A
//! lock-free queue in its place cost more: it needs two locked instructions to put an item in and
//! two to take it out, where this needs two to put it in.
//!
//! The same lock guards what the owner *lends* to those who push, so that making an item from it
//! needs no second lock.
//!
//! Beside the list is a flag, so that an owner with nothing to take need not lock. An owner that
//! happens to look may see it late; then the pusher has not sent its wake yet, and the wake itself
//! orders memory, as every system call and every lock does.

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

/// Items on their way to the owner of a loop, in the order of arrival, and what is lent to those who make them.
#[derive(Debug)]
pub struct Inbox<T, L = ()> {
    shared: Mutex<Shared<T, L>>,
    /// Changed only with the lock held.
    filled: AtomicBool,
}

#[derive(Debug)]
struct Shared<T, L> {
    items: Vec<T>,
    /// The memory for more items than this is given back once there are none.
    room: usize,
    lent: L,
}

/// The memory of a longer list is given back once it is empty, unless the owner expects more such
/// bursts: one must not hold it for ever.
const KEPT_ITEMS: usize = 1024;

impl<T: Send, L: Default + Send> Default for Inbox<T, L> {
    fn default() -> Self {
        Self {
            shared: Mutex::new(Shared {
                items: Vec::new(),
                room: KEPT_ITEMS,
                lent: L::default(),
            }),
            filled: AtomicBool::new(false),
        }
    }
}

impl<T: Send, L: Default + Send> Inbox<T, L> {
    /// An empty inbox.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an item, from any thread. `true`: the owner does not know yet, so wake it.
    #[inline]
    #[must_use = "the owner sleeps on unless it is woken when this is true"]
    pub fn push(&self, item: T) -> bool {
        self.locked(|shared| self.add(shared, item))
    }

    /// As [`Inbox::push`], for an item that `make` makes of what is lent; if it makes none, nothing is added. `make`
    /// is called with the lock held: it must be short, and must not call the inbox.
    #[inline]
    #[must_use = "the owner sleeps on unless it is woken when this is true"]
    pub fn push_made(&self, make: impl FnOnce(&mut L) -> Option<T>) -> bool {
        self.locked(|shared| match make(&mut shared.lent) {
            Some(item) => self.add(shared, item),
            None => false,
        })
    }

    #[inline]
    fn add(&self, shared: &mut Shared<T, L>, item: T) -> bool {
        shared.items.push(item);
        self.filled.store(true, Ordering::Relaxed);
        shared.items.len() == 1
    }

    /// Puts in or takes out what is lent, on any thread, under the conditions of [`Inbox::push_made`].
    #[inline]
    pub fn lend<R>(&self, act: impl FnOnce(&mut L) -> R) -> R {
        self.locked(|shared| act(&mut shared.lent))
    }

    /// Takes out what is there now; what arrives meanwhile causes a wake of its own. For the owner's thread only.
    /// Nothing is locked while `take` runs.
    ///
    /// Returns how many there were.
    #[inline]
    pub fn drain(&self, mut take: impl FnMut(T)) -> usize {
        if self.is_empty() {
            return 0;
        }
        let (mut taken, room) = self.locked(|shared| {
            self.filled.store(false, Ordering::Relaxed);
            (std::mem::take(&mut shared.items), shared.room)
        });
        let count = taken.len();
        taken.drain(..).for_each(&mut take);
        if taken.capacity() <= room {
            self.locked(|shared| {
                if shared.items.capacity() == 0 {
                    shared.items = taken;
                }
            });
        }
        count
    }

    /// Says how many items the owner expects at once: memory for about as many is kept while there are none.
    pub fn expect(&self, items: usize) {
        self.locked(|shared| {
            shared.room = items.next_power_of_two().max(KEPT_ITEMS);
            shared.items.shrink_to(shared.room);
        });
    }

    /// Whether nothing waits. On the owner's thread `true` may be out of date at once, but then
    /// a wake is on its way.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.filled.load(Ordering::Relaxed)
    }

    /// Shows every item that waits, and what is lent, for a cycle collector; nothing while another thread
    /// is about to add one. `show` and `show_lent` must not call the inbox.
    pub fn for_each(&self, show: impl FnMut(&T), show_lent: impl FnOnce(&L)) {
        if let Ok(shared) = self.shared.try_lock() {
            shared.items.iter().for_each(show);
            show_lent(&shared.lent);
        }
    }

    #[inline]
    fn locked<R>(&self, act: impl FnOnce(&mut Shared<T, L>) -> R) -> R {
        act(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
