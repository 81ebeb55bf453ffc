//! What a multiplexer must provide, and the ones this platform has.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::event::Event;
use crate::interest::Interest;

/// One multiplexer of the operating system, level-triggered.
///
/// Descriptors are plain numbers here: Python users hand over integers that they may have closed
/// already, and are promised the kernel's answer (`EBADF`), not undefined behaviour.
pub trait Backend: Sized + Send {
    /// `epoll`, `poll` or `select`.
    const NAME: &'static str;

    /// Descriptors must be below this number: `FD_SETSIZE` for select.
    const DESCRIPTOR_LIMIT: RawFd = RawFd::MAX;

    /// A new, empty multiplexer.
    ///
    /// # Errors
    /// The system is out of descriptors or memory.
    fn new() -> io::Result<Self>;

    /// Starts watching. `interest` must not be empty.
    ///
    /// # Errors
    /// `AlreadyExists`, `EBADF`, `EPERM` (epoll: a regular file), and for select `InvalidInput`
    /// naming `FD_SETSIZE` for a descriptor that does not fit.
    fn add(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()>;

    /// Replaces token and interest of a watched descriptor.
    ///
    /// # Errors
    /// `NotFound` if it is not watched (any more), `EBADF`.
    fn modify(&mut self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()>;

    /// Stops watching.
    ///
    /// # Errors
    /// `NotFound` if it is not watched (any more), `EBADF`.
    fn delete(&mut self, fd: RawFd) -> io::Result<()>;

    /// Appends what is ready within `timeout` (`None`: for ever; zero: polls), rounded up to what
    /// the system can wait for. An interrupted wait appends nothing.
    ///
    /// # Errors
    /// Those of the system call, except `EINTR`.
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()>;
}
