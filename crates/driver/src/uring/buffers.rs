//! The buffers that the kernel chooses from when bytes arrive ("provided buffers").
//!
//! One pool serves all streams of a ring. The kernel takes buffers in the order in which they were
//! handed out, so handing out few keeps them in the processor's cache; when it runs out
//! (`ENOBUFS`), the pool hands out more from then on.

use std::io;
use std::mem::size_of;
use std::ops::Range;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::region::Region;

/// Larger than most messages. Data that fill more than a few of them are better received into one
/// large buffer (`incoming.rs`).
pub(super) const BUFFER: usize = 4096;

/// The distance from one buffer to the next. It is not a power of two, because then the beginnings
/// of short messages would all share one set of the processor's cache.
const STRIDE: usize = BUFFER + 64;

/// The largest number of buffers: a power of two.
const ENTRIES: u16 = 1024;

const FIRST: u16 = 16;

/// A buffer that the kernel has filled and that has not been given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BufferId(u16);

pub(super) struct Pool {
    /// The list from which the kernel takes them: entries of address, length and number.
    list: Region,
    memory: Region,
    tail: u16,
    /// How many buffers the kernel may have at a time.
    wanted: u16,
    /// How many it has.
    listed: u16,
    resting: Vec<u16>,
}

impl Pool {
    pub(super) fn new() -> io::Result<Self> {
        let mut pool = Self {
            list: Region::new(usize::from(ENTRIES) * size_of::<BufRingEntry>())?,
            memory: Region::new(usize::from(ENTRIES) * STRIDE)?,
            tail: 0,
            wanted: FIRST,
            listed: 0,
            resting: (0..ENTRIES).rev().collect(),
        };
        pool.hand_out();
        Ok(pool)
    }

    /// The address of the list and its number of entries, to be registered.
    pub(super) fn list(&self) -> (u64, u16) {
        (self.list.base() as u64, ENTRIES)
    }

    /// The kernel has taken this buffer from the list.
    pub(super) fn taken(&mut self, number: u16) -> BufferId {
        self.listed = self.listed.saturating_sub(1);
        BufferId(number)
    }

    /// A part of a buffer that the kernel has filled.
    pub(super) fn bytes(&self, BufferId(number): BufferId, part: Range<u32>) -> &[u8] {
        let begin = usize::from(number % ENTRIES) * STRIDE;
        debug_assert!(begin + BUFFER <= self.memory.size());
        // SAFETY: within the mapping, which is zeroed to begin with. The buffer has been taken from
        // the kernel's list and is put back through `&mut self` only, so nobody writes to it while
        // this borrow lasts.
        let buffer = unsafe { slice::from_raw_parts(self.memory.base().add(begin), BUFFER) };
        &buffer[part.start as usize..part.end as usize]
    }

    pub(super) fn give_back(&mut self, BufferId(number): BufferId) {
        self.resting.push(number);
        self.hand_out();
    }

    /// The kernel has run out of buffers: hands out more.
    pub(super) fn grow(&mut self) {
        self.wanted = self.wanted.saturating_mul(2).min(ENTRIES);
        self.hand_out();
    }

    fn hand_out(&mut self) {
        let before = self.tail;
        while self.listed < self.wanted {
            let Some(number) = self.resting.pop() else {
                break;
            };
            let place = usize::from(self.tail % ENTRIES);
            let address = self.memory.base() as u64 + (usize::from(number) * STRIDE) as u64;
            // SAFETY: the list has ENTRIES places, zeroed to begin with, for which zero is a value.
            // This one is ours: the kernel has taken what was in it, because no more than ENTRIES
            // buffers exist.
            let entry = unsafe { &mut *self.list.base().cast::<BufRingEntry>().add(place) };
            entry.set_addr(address);
            entry.set_len(BUFFER as u32);
            entry.set_bid(number);
            self.tail = self.tail.wrapping_add(1);
            self.listed += 1;
        }
        if self.tail != before {
            // SAFETY: the kernel reads its list's tail there, in a field of the first entry that
            // nothing else uses, aligned as a u16 must be; it lives as long as the list.
            let tail = unsafe {
                let tail = BufRingEntry::tail(self.list.base().cast());
                AtomicU16::from_ptr(tail.cast_mut())
            };
            tail.store(self.tail, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "miri maps no memory")]
    fn a_pool_hands_out_few_and_more_when_asked() {
        let mut pool = Pool::new().expect("memory");
        assert_eq!((pool.listed, pool.tail), (FIRST, FIRST));
        let first = pool.taken(0);
        assert_eq!(pool.bytes(first, 1..4), [0, 0, 0]);
        pool.give_back(first);
        assert_eq!((pool.listed, pool.tail), (FIRST, FIRST + 1));
        pool.grow();
        assert_eq!(pool.listed, 2 * FIRST);
        for _ in 0..20 {
            pool.grow();
        }
        assert_eq!(pool.listed, ENTRIES);
        assert!(pool.resting.is_empty());
    }
}
