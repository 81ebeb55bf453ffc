//! What a multiplexer must provide, and the ones this platform has.
//!
//! A backend belongs to the one thread that waits on it. It keeps numbers, never descriptors: what
//! is watched is owned by somebody else, who takes it out ([`Backend::delete`]) before closing it.
//! For those who do not, each backend's head says what the system then reports.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use rustix::io::fcntl_getfd;

use crate::event::Event;
use crate::interest::Interest;

#[cfg(target_os = "linux")]
pub mod epoll;
#[cfg(unix)]
pub mod poll;
// Not where select(2) is only a wrapper over poll(2).
#[cfg(all(unix, not(any(target_os = "illumos", target_os = "solaris"))))]
pub mod select;

/// The names of the backends of this platform, the best first.
pub const NAMES: &[&str] = &[
    #[cfg(target_os = "linux")]
    epoll::Epoll::NAME,
    #[cfg(unix)]
    poll::Poll::NAME,
    #[cfg(all(unix, not(any(target_os = "illumos", target_os = "solaris"))))]
    select::Select::NAME,
];

/// One multiplexer of the operating system, level-triggered unless asked for edges.
///
/// Descriptors are plain numbers here: Python users hand over integers that they may have closed
/// already, and are promised the kernel's answer (`EBADF`), not undefined behaviour.
pub trait Backend: Sized + Send {
    /// `epoll`, `poll` or `select`.
    const NAME: &'static str;

    /// Whether [`Backend::add_edge`] is edge-triggered.
    const EDGES: bool = false;

    /// Whether [`Backend::add_once`] reports once.
    const ONCE: bool = false;

    /// A new, empty multiplexer.
    ///
    /// # Errors
    /// The system is out of descriptors or memory.
    fn new() -> io::Result<Self>;

    /// Whether a descriptor of this number can be watched at all, open or not. No system call.
    ///
    /// # Errors
    /// For select `InvalidInput` naming `FD_SETSIZE` for a descriptor that does not fit.
    fn check(fd: RawFd) -> io::Result<()> {
        let _ = fd;
        Ok(())
    }

    /// Starts watching. `interest` must not be empty.
    ///
    /// # Errors
    /// `AlreadyExists`, `EBADF`, `EPERM` (epoll: a regular file), and those of
    /// [`Backend::check`].
    fn add(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()>;

    /// Replaces token and interest of a watched descriptor. `interest` must not be empty.
    ///
    /// # Errors
    /// `NotFound` if it is not watched (any more), `EBADF` (epoll, where it has been closed).
    fn modify(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()>;

    /// As [`Backend::add`], edge-triggered where the system can (epoll): what is ready is reported
    /// once, and again when more has come. Beside what was asked for it says that the peer will send
    /// no more ([`Readiness::ENDED`]) and that urgent data has come ([`Readiness::URGENT`]): those
    /// who stop reading before the system has said that it would block need to know. Elsewhere it
    /// is `add`.
    ///
    /// # Errors
    /// As [`Backend::add`].
    ///
    /// [`Readiness::ENDED`]: crate::event::Readiness::ENDED
    /// [`Readiness::URGENT`]: crate::event::Readiness::URGENT
    fn add_edge(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.add(fd, token, interest)
    }

    /// As [`Backend::modify`], edge-triggered where the system can. What is ready is reported anew.
    ///
    /// # Errors
    /// As [`Backend::modify`].
    fn modify_edge(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.modify(fd, token, interest)
    }

    /// As [`Backend::add`], and after one report nothing more is reported, hang-ups and errors neither,
    /// until the interest is modified, where the system can do that (epoll). Elsewhere it is `add`.
    ///
    /// # Errors
    /// As [`Backend::add`].
    fn add_once(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.add(fd, token, interest)
    }

    /// As [`Backend::modify`], for one report where the system can. What is ready is reported anew.
    ///
    /// # Errors
    /// As [`Backend::modify`].
    fn modify_once(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.modify(fd, token, interest)
    }

    /// Stops watching.
    ///
    /// # Errors
    /// `NotFound` if it is not watched (any more), `EBADF` (epoll, where it has been closed).
    fn delete(&mut self, fd: RawFd) -> io::Result<()>;

    /// Appends what is ready within `timeout` (`None`: for ever; zero: polls), rounded up to what
    /// the system can wait for: one event for each ready descriptor, all of them, in no promised
    /// order. An interrupted wait appends nothing.
    ///
    /// # Errors
    /// Those of the system call, except `EINTR`.
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()>;
}

/// Whether somebody has a descriptor of this number at the moment.
#[must_use]
pub fn is_open(fd: RawFd) -> bool {
    if fd < 0 {
        return false;
    }
    // SAFETY: not -1, and used for this one call, which answers EBADF if the number is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    fcntl_getfd(fd).is_ok()
}
