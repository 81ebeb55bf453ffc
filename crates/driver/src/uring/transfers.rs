//! Reads and writes of regular files that the ring does.
//!
//! The kernel tries each when it is submitted, and hands those that would block to threads of its
//! own. Such a thread cannot be interrupted, and uses the bytes whatever becomes of the ring. So a
//! transfer belongs to the ring until it is answered; if the answer can no longer come, its bytes
//! are never freed.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::task::Poll;
use std::time::{Duration, Instant};

use oxlip_core::file::{Transfer, Transferred};
use oxlip_core::op::Completion;

use super::{Fallback, Uring};

/// How long a ring that is given up waits for the transfers in flight.
const PATIENCE: Duration = Duration::from_secs(1);

/// The transfers in flight, by their numbers.
#[derive(Default)]
pub(super) struct Transfers {
    under_way: Vec<Option<Box<Transfer>>>,
    free: Vec<u32>,
}

impl Transfers {
    pub(super) fn begin(&mut self, transfer: Box<Transfer>) -> u64 {
        if let Some(number) = self.free.pop() {
            self.under_way[number as usize] = Some(transfer);
            return number.into();
        }
        self.under_way.push(Some(transfer));
        self.under_way.len() as u64 - 1
    }

    /// The kernel has completed it, with a negative number for an error, and no longer uses the bytes.
    pub(super) fn end(&mut self, number: u64, result: i32) -> Option<Transferred> {
        let index = usize::try_from(number).ok()?;
        let transfer = self.under_way.get_mut(index)?.take()?;
        self.free.push(u32::try_from(number).ok()?);
        let outcome = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        Some(transfer.end(outcome))
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.under_way.len()
    }

    /// The ring is given up, and the results of the remaining transfers will not be known. Their bytes are leaked if
    /// the kernel may still use them (`in_use`), which is not so in a forked child, which has a copy.
    pub(super) fn lose(&mut self, in_use: bool) -> impl Iterator<Item = Transferred> + use<> {
        self.free.clear();
        let lost = mem::take(&mut self.under_way);
        lost.into_iter().flatten().map(move |mut transfer| {
            let bytes = mem::take(&mut transfer.bytes);
            if in_use {
                mem::forget(bytes);
            }
            transfer.end(Err(io::Error::from_raw_os_error(libc::ECANCELED)))
        })
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        // Those of a ring that no longer exists, whoever has dropped it.
        self.lose(true).for_each(drop);
    }
}

impl Uring {
    pub(super) fn transfer(&mut self, transfer: Box<Transfer>) -> Poll<Completion> {
        if self.fallback != Fallback::No {
            return Poll::Ready(transfer.refuse().into());
        }
        self.transfers.push_back(transfer);
        Poll::Pending
    }

    /// Pushes the transfers that the driver was asked for to the ring, as far as it has room.
    pub(super) fn push_transfers(&mut self) {
        while !self.transfers.is_empty() && self.make_room() {
            let (Some(ring), Some(transfer)) = (&mut self.ring, self.transfers.pop_front()) else {
                return;
            };
            ring.transfer(transfer);
        }
    }

    /// Refuses the transfers, because there is no ring for them.
    pub(super) fn refuse_transfers(&mut self) {
        let refused = mem::take(&mut self.transfers);
        let refused = VecDeque::into_iter(refused).map(|transfer| transfer.refuse());
        self.early.extend(refused.map(Completion::from));
    }

    /// Waits for the transfers in flight, in the ring's own thread: disks do answer, if slowly.
    pub(super) fn await_transfers(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match &mut self.ring {
                Some(ring) if !ring.transfers.is_empty() => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() || ring.enter(true, Some(left)).is_err() {
                        return;
                    }
                }
                _ => return,
            }
            self.take_answers_in_reach();
        }
    }
}
