//! epoll(7), level-triggered, and edge-triggered for those who ask for it.
//!
//! The kernel keeps the set, and it keeps *open files*, not numbers. A descriptor that is closed
//! leaves the set by itself, unless the file lives on through a duplicate (dup, fork). Then the
//! kernel goes on reporting it with its old token, and since no number names it any more, nothing
//! can take it out. Hence: delete before closing.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;

use crate::backend::Backend;
use crate::event::{Event, Readiness};
use crate::interest::Interest;
use crate::timeout;

/// An epoll instance. See the module's head about descriptors that are closed while watched.
pub struct Epoll {
    descriptor: OwnedFd,
    /// What the kernel fills. Its capacity is the most that one call reports.
    ready: Vec<epoll::Event>,
    /// How many descriptors there are. Those that live on under a duplicate may be missing: what they
    /// crowd out, the next wait finds.
    watched: usize,
    /// Whether the kernel can wait for less than a millisecond. False after the first refusal.
    precise: bool,
}

// SAFETY: the one thing in it that is not `Send` is the data of the events, for it may be a pointer.
// It never is one: what is added here are numbers.
unsafe impl Send for Epoll {}

impl Backend for Epoll {
    const NAME: &'static str = "epoll";
    const EDGES: bool = true;
    const ONCE: bool = true;

    fn new() -> io::Result<Self> {
        Ok(Self {
            descriptor: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            ready: Vec::with_capacity(INITIAL_CAPACITY),
            watched: 0,
            precise: true,
        })
    }

    fn add(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.add_flags(fd, token, flags(interest))
    }

    fn modify(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.modify_flags(fd, token, flags(interest))
    }

    fn add_edge(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.add_flags(fd, token, flags(interest) | EDGE)
    }

    fn modify_edge(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.modify_flags(fd, token, flags(interest) | EDGE)
    }

    fn add_once(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.add_flags(fd, token, flags(interest) | epoll::EventFlags::ONESHOT)
    }

    fn modify_once(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.modify_flags(fd, token, flags(interest) | epoll::EventFlags::ONESHOT)
    }

    fn delete(&mut self, fd: RawFd) -> io::Result<()> {
        let outcome = epoll::delete(&self.descriptor, named(fd)?);
        self.watched = self.watched.saturating_sub(1);
        Ok(outcome?)
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.ready.clear();
        // Asking twice would not do: an edge is not reported again, and a level is.
        if self.ready.capacity() < self.watched {
            self.ready.reserve(self.watched.next_power_of_two());
        }
        match self.fill(timeout) {
            Ok(()) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        // Taken by value: on x86-64 the kernel's events are packed.
        events.extend(
            self.ready
                .iter()
                .map(|&epoll::Event { data, flags, .. }| Event {
                    token: data.u64(),
                    readiness: Readiness::from_poll_bits(flags.bits()),
                }),
        );
        Ok(())
    }
}

impl Epoll {
    fn add_flags(&mut self, fd: RawFd, token: u64, flags: epoll::EventFlags) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.descriptor, named(fd)?, data, flags)?;
        self.watched += 1;
        Ok(())
    }

    fn modify_flags(&mut self, fd: RawFd, token: u64, flags: epoll::EventFlags) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        let outcome = epoll::modify(&self.descriptor, named(fd)?, data, flags);
        if outcome == Err(Errno::NOENT) {
            // It has been closed.
            self.watched = self.watched.saturating_sub(1);
        }
        Ok(outcome?)
    }

    /// One system call, into the empty `ready`.
    fn fill(&mut self, timeout: Option<Duration>) -> Result<(), Errno> {
        // No time has no fractions, and the older call copies less.
        if self.precise && timeout != Some(Duration::ZERO) {
            let exact = timeout::timespec(timeout);
            match epoll::wait(
                &self.descriptor,
                spare_capacity(&mut self.ready),
                exact.as_ref(),
            ) {
                Ok(_) => return Ok(()),
                // The kernel is older than 5.11, or a sandbox is older than the call.
                Err(Errno::NOSYS | Errno::PERM) => self.precise = false,
                Err(error) => return Err(error),
            }
        }
        self.fill_coarsely(millis(timeout))
    }

    /// As [`Epoll::fill`], for the kernels that count in milliseconds.
    fn fill_coarsely(&mut self, millis: c_int) -> Result<(), Errno> {
        let room = c_int::try_from(self.ready.capacity()).unwrap_or(c_int::MAX);
        // SAFETY: `ready` has room for that many events, and `epoll::Event` is laid out as the
        // system's `epoll_event`. The descriptor is open: it is ours.
        let count = unsafe {
            epoll_wait(
                self.descriptor.as_raw_fd(),
                self.ready.as_mut_ptr(),
                room,
                millis,
            )
        };
        let count = usize::try_from(count).map_err(|_| {
            let error = io::Error::last_os_error();
            Errno::from_io_error(&error).expect("a failed system call leaves its errno")
        })?;
        // SAFETY: the kernel has written the first `count` events, and `count <= room`.
        unsafe { self.ready.set_len(count) };
        Ok(())
    }
}

impl AsFd for Epoll {
    /// The epoll descriptor: readable when a wait would not be empty.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Edge-triggered, with what [`Backend::add_edge`] says beside it.
const EDGE: epoll::EventFlags = epoll::EventFlags::ET
    .union(epoll::EventFlags::RDHUP)
    .union(epoll::EventFlags::PRI);

fn flags(interest: Interest) -> epoll::EventFlags {
    debug_assert!(
        !interest.is_empty(),
        "a descriptor is watched for something"
    );
    let mut flags = epoll::EventFlags::empty();
    flags.set(epoll::EventFlags::IN, interest.reads());
    flags.set(epoll::EventFlags::OUT, interest.writes());
    flags
}

/// The time-out for `epoll_wait`(2): whole milliseconds, -1 for ever. Longer than the call can say
/// (24 days) is as long as it can.
fn millis(timeout: Option<Duration>) -> c_int {
    timeout.map_or(-1, |timeout| {
        c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX)
    })
}

/// A number for the length of one `epoll_ctl`(2).
fn named<'call>(fd: RawFd) -> io::Result<BorrowedFd<'call>> {
    if fd < 0 {
        return Err(Errno::BADF.into());
    }
    // SAFETY: not -1. Whether it is open is for the kernel to say: epoll_ctl(2) looks the number
    // up, reads and writes nothing through it, and answers EBADF if there is no such descriptor.
    // The borrow goes no further than that call.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

// rustix has no way to this call once it is told of epoll_pwait2(2).
// SAFETY: it is declared as epoll_wait(2) says; `epoll::Event` is the system's `epoll_event`.
unsafe extern "C" {
    fn epoll_wait(
        epfd: c_int,
        events: *mut epoll::Event,
        maxevents: c_int,
        timeout: c_int,
    ) -> c_int;
}

/// 3 KiB: more than are ready at once in most programs.
const INITIAL_CAPACITY: usize = 256;

#[cfg(test)]
mod tests {
    use std::ffi::c_int;
    use std::os::fd::AsRawFd;
    use std::time::{Duration, Instant};

    use rustix::io::dup;

    use super::{Epoll, millis};
    use crate::backend::Backend;
    use crate::event::{Event, Readiness};
    use crate::interest::Interest;

    fn without_nanoseconds() -> Epoll {
        let mut epoll = Epoll::new().expect("epoll");
        epoll.precise = false;
        epoll
    }

    #[test]
    fn milliseconds_are_rounded_up() {
        for (nanos, expected) in [
            (0, 0),
            (1, 1),
            (999_999, 1),
            (1_000_000, 1),
            (1_000_001, 2),
            (2_500_000, 3),
        ] {
            assert_eq!(millis(Some(Duration::from_nanos(nanos))), expected);
        }
        assert_eq!(millis(None), -1);
        assert_eq!(
            millis(Some(Duration::from_millis(2_147_483_647))),
            c_int::MAX
        );
        assert_eq!(millis(Some(Duration::MAX)), c_int::MAX);
    }

    #[test]
    fn milliseconds_are_never_early() {
        let mut epoll = without_nanoseconds();
        let mut events = Vec::new();
        for timeout in [Duration::from_nanos(1), Duration::from_micros(1_001)] {
            let start = Instant::now();
            epoll.wait(Some(timeout), &mut events).expect("wait");
            assert!(start.elapsed() >= timeout);
            assert!(events.is_empty());
        }
    }

    #[test]
    fn milliseconds_report_the_same_events() {
        let mut epoll = without_nanoseconds();
        let mut events = Vec::new();
        let (reader, writer) = rustix::pipe::pipe().expect("pipe");
        epoll
            .add(writer.as_raw_fd(), 7, Interest::WRITE)
            .expect("add");
        epoll
            .add(reader.as_raw_fd(), 8, Interest::READ)
            .expect("add");
        for timeout in [None, Some(Duration::ZERO), Some(Duration::MAX)] {
            events.clear();
            epoll.wait(timeout, &mut events).expect("wait");
            assert_eq!(
                events,
                [Event {
                    token: 7,
                    readiness: Readiness::WRITABLE
                }]
            );
        }
    }

    #[test]
    fn an_edge_is_reported_once_and_again_when_more_comes_or_it_is_modified() {
        let mut epoll = Epoll::new().expect("epoll");
        let (reader, writer) = rustix::pipe::pipe().expect("pipe");
        let fd = reader.as_raw_fd();
        epoll.add_edge(fd, 8, Interest::READ).expect("add");
        let reported = |epoll: &mut Epoll| {
            let mut events = Vec::new();
            epoll.wait(Some(Duration::ZERO), &mut events).expect("wait");
            events.len()
        };
        assert_eq!(reported(&mut epoll), 0);
        for _ in 0..2 {
            rustix::io::write(&writer, b"x").expect("write");
            assert_eq!(reported(&mut epoll), 1);
            assert_eq!(reported(&mut epoll), 0);
        }
        epoll.modify_edge(fd, 8, Interest::READ).expect("modify");
        assert_eq!(reported(&mut epoll), 1);
        assert_eq!(reported(&mut epoll), 0);
        drop(writer);
        assert_eq!(reported(&mut epoll), 1);
    }

    #[test]
    fn an_edge_says_that_the_peer_has_ended() {
        use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
        let mut epoll = Epoll::new().expect("epoll");
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::empty(),
            None,
        )
        .expect("socketpair");
        epoll
            .add_edge(ours.as_raw_fd(), 8, Interest::READ)
            .expect("add");
        rustix::io::write(&theirs, b"x").expect("write");
        shutdown(&theirs, Shutdown::Write).expect("shutdown");
        let mut events = Vec::new();
        epoll.wait(None, &mut events).expect("wait");
        assert!(events[0].readiness.readable() && events[0].readiness.ended());
        assert!(!events[0].readiness.hang_up());
        assert_eq!(events[0].readiness.answers(Interest::BOTH), Interest::READ);
    }

    #[test]
    fn milliseconds_report_the_error_of_the_call() {
        let mut epoll = without_nanoseconds();
        let (reader, _writer) = rustix::pipe::pipe().expect("pipe");
        epoll.descriptor = reader;
        let error = epoll
            .wait(Some(Duration::ZERO), &mut Vec::new())
            .expect_err("not an epoll");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }

    #[test]
    fn the_buffer_grows_to_what_is_ready_and_stays() {
        let mut epoll = Epoll::new().expect("epoll");
        let (_reader, writer) = rustix::pipe::pipe().expect("pipe");
        let duplicates: Vec<_> = (0..600).map(|_| dup(&writer).expect("dup")).collect();
        for (token, fd) in (0..).zip(&duplicates) {
            epoll
                .add(fd.as_raw_fd(), token, Interest::WRITE)
                .expect("add");
        }
        let mut events = Vec::new();
        epoll.wait(None, &mut events).expect("wait");
        assert_eq!(events.len(), 600);
        let capacity = epoll.ready.capacity();
        events.clear();
        epoll.wait(None, &mut events).expect("wait");
        assert_eq!(events.len(), 600);
        assert_eq!(epoll.ready.capacity(), capacity);
    }

    /// What the module's head warns of. Should a kernel ever forget such a file, the warning and
    /// what is built on it can go.
    #[test]
    fn a_closed_file_that_lives_on_is_reported_and_cannot_be_taken_out() {
        let mut epoll = Epoll::new().expect("epoll");
        let (_reader, writer) = rustix::pipe::pipe().expect("pipe");
        let duplicate = dup(&writer).expect("dup");
        let fd = writer.as_raw_fd();
        epoll.add(fd, 1, Interest::WRITE).expect("add");
        drop(writer);
        let mut events = Vec::new();
        epoll.wait(Some(Duration::ZERO), &mut events).expect("wait");
        assert_eq!(
            events,
            [Event {
                token: 1,
                readiness: Readiness::WRITABLE
            }]
        );
        for fd in [fd, duplicate.as_raw_fd()] {
            epoll.delete(fd).expect_err("no number names it");
        }
    }
}
