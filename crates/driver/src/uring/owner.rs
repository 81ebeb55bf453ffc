//! Whose the ring is: how it comes, moves to another thread, and goes.

use std::cell::Cell;
use std::io;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Uring;
use super::ring::Ring;
use crate::Driver;
use crate::shortage::is_shortage;

impl Uring {
    /// Makes sure that the ring belongs to this thread. False: there is none.
    pub(super) fn claim(&mut self) -> bool {
        let me = thread_token();
        if let Some((thread, _)) = self.owner
            && thread == me
        {
            return self.ring.is_some();
        }
        if self.forbidden {
            return false;
        }
        if self.owner.is_some() {
            self.lose_ring();
        }
        let ring = match self.ring.take() {
            Some(unused) => Ok(unused),
            None => Ring::new(),
        };
        let enabled = ring.and_then(|ring| {
            ring.enable()?;
            Ok(ring)
        });
        match enabled {
            Ok(ring) => {
                self.ring = Some(ring);
                self.owner = Some((me, process::id()));
                true
            }
            Err(_) => {
                self.give_up();
                false
            }
        }
    }

    /// Without the ring that was used so far. What it has received is kept.
    pub(super) fn lose_ring(&mut self) {
        self.lent = None;
        if let Some(mut ring) = self.ring.take() {
            for (_, incoming) in self.table.iter_mut() {
                incoming.keep(&mut ring.pool);
            }
            for (_, incoming) in &mut self.left {
                incoming.keep(&mut ring.pool);
            }
        }
        self.owner = None;
        self.requests.clear();
        self.polls_inner = false;
        self.hears_bell = false;
        for (id, incoming) in self.table.iter_mut() {
            incoming.request = None;
            incoming.ending = false;
            if incoming.touch() {
                self.touched.push(id);
            }
        }
        self.sends.take_back(&mut self.table, &mut self.early);
    }

    /// From here on epoll does everything.
    #[cold]
    pub(super) fn give_up(&mut self) {
        self.lose_ring();
        self.forbidden = true;
        // Without its waker the loop could not be woken: it is told by the next wait's error then.
        let _ = self.inner.hear_bell();
        for (id, incoming) in self.table.iter_mut() {
            if incoming.wanted {
                let _ = self.inner.submit(incoming.start(id));
            }
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // In a forked child the requests are the parent's.
        let ours = self
            .owner
            .is_some_and(|owner| owner == (thread_token(), process::id()));
        if ours && let Some(ring) = &mut self.ring {
            // So that no file outlives its descriptor; closing the ring does the same, but later.
            if !ring.has_room() {
                let _ = ring.enter(false, None);
            }
            if ring.has_room() {
                ring.cancel_all();
                let _ = ring.enter(false, None);
            }
        }
    }
}

/// Why there can be no ring, for people; a shortage of descriptors or memory stays what it is.
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

/// A number of this thread that no other ever has.
pub(super) fn thread_token() -> u64 {
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
