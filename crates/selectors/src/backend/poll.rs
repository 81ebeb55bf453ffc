//! poll(2).
//!
//! The set is ours: a dense array for the kernel, and beside it an index from numbers to places in
//! it. It holds numbers, so a descriptor that is closed while watched is reported as
//! [`Readiness::ERROR`] in every wait until it is deleted, and whoever gets the number next is
//! watched in its place. Hence: delete before closing.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, fcntl_getfd};

use crate::backend::Backend;
use crate::event::{Event, Readiness};
use crate::interest::Interest;
use crate::timeout;

/// A set for poll(2). A wait costs time in proportion to the size of the set.
pub struct Poll {
    /// What the kernel is given, without gaps.
    watched: Vec<PollFd<'static>>,
    /// The number and the token of each of `watched`.
    names: Vec<(RawFd, u64)>,
    /// By number: where it stands in `watched`, or `ABSENT`.
    places: Vec<u32>,
}

impl Backend for Poll {
    const NAME: &'static str = "poll";

    fn new() -> io::Result<Self> {
        Ok(Self {
            watched: Vec::new(),
            names: Vec::new(),
            places: Vec::new(),
        })
    }

    fn add(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        if self.place(fd).is_some() {
            return Err(Errno::EXIST.into());
        }
        let watched = entry(fd, interest)?;
        // poll(2) would take any number. epoll does not, and the limit on open descriptors keeps
        // `places` small.
        fcntl_getfd(&watched)?;
        let index = fd.cast_unsigned() as usize;
        if self.places.len() <= index {
            self.places.resize(index + 1, ABSENT);
        }
        self.places[index] = u32::try_from(self.watched.len()).expect("at most one each number");
        self.watched.push(watched);
        self.names.push((fd, token));
        Ok(())
    }

    fn modify(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        let place = self.place(fd).ok_or(Errno::NOENT)?;
        self.watched[place] = entry(fd, interest)?;
        self.names[place].1 = token;
        Ok(())
    }

    fn delete(&mut self, fd: RawFd) -> io::Result<()> {
        let place = self.place(fd).ok_or(Errno::NOENT)?;
        self.places[fd.cast_unsigned() as usize] = ABSENT;
        self.watched.swap_remove(place);
        self.names.swap_remove(place);
        if let Some(&(moved, _)) = self.names.get(place) {
            self.places[moved.cast_unsigned() as usize] =
                u32::try_from(place).expect("at most one each number");
        }
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let ready = match poll(&mut self.watched, timeout::timespec(timeout).as_ref()) {
            Ok(ready) => ready,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let reported = self
            .watched
            .iter()
            .zip(&self.names)
            .filter_map(|(watched, &(_, token))| {
                let flags = watched.revents();
                (!flags.is_empty()).then(|| Event {
                    token,
                    readiness: readiness(flags),
                })
            });
        events.extend(reported.take(ready));
        Ok(())
    }
}

impl Poll {
    fn place(&self, fd: RawFd) -> Option<usize> {
        let place = *self.places.get(usize::try_from(fd).ok()?)?;
        (place != ABSENT).then_some(place as usize)
    }
}

fn readiness(flags: PollFlags) -> Readiness {
    // Signed on some systems: the bits with a name are far below the sign.
    let readiness = Readiness::from_poll_bits(flags.bits() as u32);
    if flags.contains(PollFlags::NVAL) {
        readiness | Readiness::ERROR
    } else {
        readiness
    }
}

fn entry(fd: RawFd, interest: Interest) -> io::Result<PollFd<'static>> {
    debug_assert!(
        !interest.is_empty(),
        "a descriptor is watched for something"
    );
    if fd < 0 {
        return Err(Errno::BADF.into());
    }
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, interest.reads());
    flags.set(PollFlags::OUT, interest.writes());
    // SAFETY: not -1. The entry stays in our set, where only fcntl(F_GETFD) and poll(2) see it:
    // they read and write nothing through it, and say EBADF or POLLNVAL if it is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    Ok(PollFd::from_borrowed_fd(fd, flags))
}

const ABSENT: u32 = u32::MAX;
