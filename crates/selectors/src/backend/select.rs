//! select(2).
//!
//! The sets are ours and hold numbers below [`FD_SETSIZE`]. A descriptor that is closed while
//! watched makes the whole call fail with `EBADF`. Here it is reported as [`Readiness::ERROR`], as
//! poll(2) does, beside what else is ready, in every wait until it is deleted. Whoever gets the
//! number next is watched in its place. Hence: delete before closing.
//!
//! select cannot tell a hang-up or an error from readiness: both are readable, an error is writable
//! too. The third set, exceptional conditions, is not used: on Unix it is out-of-band data only.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use rustix::event::{
    FdSetElement, FdSetIter, Timespec, fd_set_bound, fd_set_insert, fd_set_remove, select,
};
use rustix::io::Errno;

use crate::backend::{Backend, is_open};
use crate::event::{Event, Readiness};
use crate::interest::Interest;
use crate::timeout;

/// The limit of select(2): descriptors with this number or a higher one cannot be watched, whatever
/// the limit on open ones. It is a part of the C library's interface.
pub const FD_SETSIZE: RawFd = 1024;

/// The sets of select(2). A wait costs time in proportion to the highest number in them.
pub struct Select {
    wanted: Sets,
    /// By number; `None` where it is not watched.
    tokens: Vec<Option<u64>>,
}

impl Backend for Select {
    const NAME: &'static str = "select";

    fn new() -> io::Result<Self> {
        Ok(Self {
            wanted: Sets::default(),
            tokens: vec![None; FD_SETSIZE as usize],
        })
    }

    fn check(fd: RawFd) -> io::Result<()> {
        if fd < FD_SETSIZE {
            return Ok(());
        }
        let reason = format!(
            "file descriptor {fd} is too high for select: it takes those below \
             FD_SETSIZE = {FD_SETSIZE}; use another backend"
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
    }

    fn add(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        Self::check(fd)?;
        if self.is_watched(fd) {
            return Err(Errno::EXIST.into());
        }
        // select(2) would say so at the next wait, and not which one it is.
        if !is_open(fd) {
            return Err(Errno::BADF.into());
        }
        self.set(fd, token, interest);
        Ok(())
    }

    fn modify(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        if !self.is_watched(fd) {
            return Err(Errno::NOENT.into());
        }
        self.wanted.remove(fd);
        self.set(fd, token, interest);
        Ok(())
    }

    fn delete(&mut self, fd: RawFd) -> io::Result<()> {
        if !self.is_watched(fd) {
            return Err(Errno::NOENT.into());
        }
        self.wanted.remove(fd);
        self.tokens[fd.cast_unsigned() as usize] = None;
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let mut sets = self.wanted;
        match sets.wait(timeout::timespec(timeout).as_ref()) {
            Ok(()) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(Errno::BADF) => {
                sets = self.wanted;
                self.report_closed(&mut sets, events);
                match sets.wait(Some(&POLL)) {
                    Ok(()) => {}
                    // Closed by another thread just now: the next wait reports it.
                    Err(Errno::INTR | Errno::BADF) => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
        sets.for_each(|fd, readiness| {
            if let Some(token) = self.tokens[fd.cast_unsigned() as usize] {
                events.push(Event { token, readiness });
            }
        });
        Ok(())
    }
}

impl Select {
    fn is_watched(&self, fd: RawFd) -> bool {
        usize::try_from(fd).is_ok_and(|index| matches!(self.tokens.get(index), Some(Some(_))))
    }

    fn set(&mut self, fd: RawFd, token: u64, interest: Interest) {
        debug_assert!(
            !interest.is_empty(),
            "a descriptor is watched for something"
        );
        self.wanted.insert(fd, interest);
        self.tokens[fd.cast_unsigned() as usize] = Some(token);
    }

    /// Reports the descriptors that are not open any more, and takes them out of `sets`.
    fn report_closed(&self, sets: &mut Sets, events: &mut Vec<Event>) {
        for (fd, token) in (0..).zip(&self.tokens) {
            if let Some(token) = *token
                && !is_open(fd)
            {
                sets.remove(fd);
                events.push(Event {
                    token,
                    readiness: Readiness::ERROR,
                });
            }
        }
    }
}

/// What to wait for, or what has come: one bit each number.
#[derive(Clone, Copy, Default)]
struct Sets {
    reads: [FdSetElement; ELEMENTS],
    writes: [FdSetElement; ELEMENTS],
}

impl Sets {
    fn insert(&mut self, fd: RawFd, interest: Interest) {
        if interest.reads() {
            fd_set_insert(&mut self.reads, fd);
        }
        if interest.writes() {
            fd_set_insert(&mut self.writes, fd);
        }
    }

    fn remove(&mut self, fd: RawFd) {
        fd_set_remove(&mut self.reads, fd);
        fd_set_remove(&mut self.writes, fd);
    }

    /// Leaves what is ready, unless it fails: then the contents mean nothing.
    fn wait(&mut self, timeout: Option<&Timespec>) -> Result<(), Errno> {
        let bound = fd_set_bound(&self.reads).max(fd_set_bound(&self.writes));
        // SAFETY: both sets have room for `bound` bits. A number in them that is not open fails the
        // call with EBADF: select(2) reads and writes nothing through what it watches.
        unsafe {
            select(
                bound,
                Some(&mut self.reads),
                Some(&mut self.writes),
                None,
                timeout,
            )?
        };
        Ok(())
    }

    /// Every number in one set or both, in ascending order.
    fn for_each(&self, mut f: impl FnMut(RawFd, Readiness)) {
        let mut reads = FdSetIter::new(&self.reads).peekable();
        let mut writes = FdSetIter::new(&self.writes).peekable();
        loop {
            let fd = match (reads.peek(), writes.peek()) {
                (Some(&read), Some(&write)) => read.min(write),
                (Some(&fd), None) | (None, Some(&fd)) => fd,
                (None, None) => return,
            };
            let mut readiness = Readiness::NONE;
            if reads.next_if_eq(&fd).is_some() {
                readiness |= Readiness::READABLE;
            }
            if writes.next_if_eq(&fd).is_some() {
                readiness |= Readiness::WRITABLE;
            }
            f(fd, readiness);
        }
    }
}

const ELEMENTS: usize = FD_SETSIZE as usize / (8 * size_of::<FdSetElement>());
const POLL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};
