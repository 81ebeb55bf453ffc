//! Which thread the ring belongs to: how a ring is created, replaced for another thread, and given
//! up.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oxlip_core::op::Completion;

use super::incoming::{End, Request, Work};
use super::ring::Ring;
use super::{Fallback, Uring};
use crate::Driver;
use crate::shortage::is_shortage;

/// How long to wait after a shortage.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Uring {
    /// Whether there is a ring that may be used: it belongs to this thread of this process.
    pub(super) fn is_ours(&self) -> bool {
        self.owner == Some(thread_token())
            && self.ring.as_ref().is_some_and(Ring::is_of_this_process)
    }

    /// Makes sure that there is a ring that belongs to this thread. Returns false if there is none.
    #[inline]
    pub(super) fn claim(&mut self) -> bool {
        self.is_ours() || self.claim_anew()
    }

    #[cold]
    fn claim_anew(&mut self) -> bool {
        match self.fallback {
            Fallback::ForEver => return false,
            Fallback::Until(time) if self.now() < time => return false,
            Fallback::Until(_) | Fallback::No => {}
        }
        if self.owner.is_some() {
            self.lose_ring();
        }
        let unused = self.ring.take().filter(Ring::is_of_this_process);
        let ring = unused.map_or_else(|| Ring::new(self.room), Ok);
        let enabled = ring.and_then(|ring| {
            ring.enable()?;
            Ok(ring)
        });
        match enabled {
            Ok(ring) => {
                self.ring = Some(ring);
                self.owner = Some(thread_token());
                self.come_back();
                true
            }
            Err(error) => {
                self.fall_back(if is_shortage(&error) {
                    Fallback::Until(self.now().after(TRY_AGAIN_AFTER))
                } else {
                    Fallback::ForEver
                });
                false
            }
        }
    }

    /// Gives up the ring that was used so far. What it has received is kept, and what it has not sent
    /// is sent directly.
    pub(super) fn lose_ring(&mut self) {
        self.lent = None;
        let ours = self.ring.as_ref().is_some_and(Ring::is_of_this_process);
        if ours {
            self.take_answers_in_reach();
        }
        if self.is_ours() {
            self.await_transfers();
            // The kernel may still keep answers, connections among them.
            while self.ring.as_mut().is_some_and(Ring::has_kept) && self.take_answers_in_reach() > 0
            {
            }
        }
        if let Some(mut ring) = self.ring.take() {
            let lost = ring.transfers.lose(ours);
            self.early.extend(lost.map(Completion::from));
            // Then bytes that were received may be missing too, which must not go unnoticed.
            let unknown = ours && (ring.has_overflown() || ring.has_lost_answers());
            for (id, incoming) in self.table.iter_mut() {
                incoming.keep(&mut ring.pool);
                if unknown && incoming.request.work() == Some(Work::Receive) {
                    incoming.ends(End::Error(libc::ENOBUFS));
                    if !std::mem::replace(&mut incoming.listed, true) {
                        self.unread.push(id);
                    }
                }
            }
            self.sends.take_back(
                &mut ring,
                unknown,
                &mut self.table,
                &mut self.inner,
                &mut self.early,
            );
        }
        self.owner = None;
        self.requests.clear();
        self.polls_inner = false;
        self.hears_bell = false;
        for (id, incoming) in self.table.iter_mut() {
            incoming.request = Request::None;
            if incoming.touch() {
                self.touched.push(id);
            }
        }
    }

    /// From here on epoll does everything.
    #[cold]
    pub(super) fn give_up(&mut self) {
        self.fall_back(Fallback::ForEver);
    }

    fn fall_back(&mut self, fallback: Fallback) {
        self.lose_ring();
        if std::mem::replace(&mut self.fallback, fallback) != Fallback::No {
            return;
        }
        // Without the waker the loop could not be woken; in that case the next wait returns the error.
        let _ = self.inner.hear_bell();
        for (id, incoming) in self.table.iter_mut() {
            if incoming.wanted {
                let _ = self.inner.submit(incoming.start(id));
            }
        }
    }

    /// Goes back to the ring, if there is one after all.
    fn come_back(&mut self) {
        if std::mem::replace(&mut self.fallback, Fallback::No) == Fallback::No {
            return;
        }
        self.inner.ignore_bell();
        for (id, incoming) in self.table.iter_mut() {
            if incoming.wanted {
                let _ = self.inner.submit(incoming.stop(id));
            }
            if incoming.touch() {
                self.touched.push(id);
            }
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // In a forked child the requests are the parent's.
        if !self.is_ours() {
            return;
        }
        // For the loop they have begun.
        self.push_transfers();
        self.await_transfers();
        let most = self.requests.most();
        if let Some(ring) = &mut self.ring {
            // This is done so that no file outlives its descriptor; closing the ring has the same effect, but later.
            if !ring.has_room() {
                let _ = ring.enter(false, None);
            }
            if ring.has_room() {
                ring.cancel_all();
                let _ = ring.enter(false, None);
            }
            // One call does only some of the work.
            for _ in 0..most {
                // Connections among them are closed.
                ring.answers(&mut Vec::new());
                if ring.has_kept() {
                    continue;
                }
                if !ring.has_work() || ring.enter(false, None).is_err() {
                    break;
                }
            }
            ring.answers(&mut Vec::new());
        }
    }
}

/// Turns the error into one that explains why there can be no ring. A shortage of descriptors or memory stays as it
/// is.
pub(super) fn refusal(error: io::Error) -> io::Error {
    if is_shortage(&error) {
        return error;
    }
    let (kind, why) = match error.kind() {
        io::ErrorKind::PermissionDenied => (
            io::ErrorKind::PermissionDenied,
            "kernel.io_uring_disabled or a sandbox forbids it".to_owned(),
        ),
        _ if error.raw_os_error() == Some(libc::ENOSYS) => (
            io::ErrorKind::Unsupported,
            "the kernel has none, or a sandbox hides it".to_owned(),
        ),
        _ => (
            io::ErrorKind::Unsupported,
            format!("the kernel must be 6.1 or newer ({error})"),
        ),
    };
    io::Error::new(kind, format!("io_uring cannot be used here: {why}"))
}

/// A number for this thread that no other thread ever has.
fn thread_token() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static TOKEN: Cell<u64> = const { Cell::new(0) };
    }
    TOKEN.with(|token| {
        if token.get() == 0 {
            token.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        token.get()
    })
}
