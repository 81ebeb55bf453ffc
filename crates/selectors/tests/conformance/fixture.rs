//! Descriptors to watch, and short ways to ask what is ready.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oxlip_selectors::backend::Backend;
use oxlip_selectors::event::{Event, Readiness};
use oxlip_selectors::interest::Interest;
use rustix::io::fcntl_dupfd_cloexec;

/// What is ready now, by token.
pub(crate) fn ready(backend: &mut impl Backend) -> Vec<(u64, Readiness)> {
    wait(backend, Some(Duration::ZERO))
}

/// What is ready within a time-out, by token.
pub(crate) fn wait(backend: &mut impl Backend, timeout: Option<Duration>) -> Vec<(u64, Readiness)> {
    let mut events = Vec::new();
    backend.wait(timeout, &mut events).unwrap();
    let mut ready: Vec<_> = events
        .iter()
        .map(|&Event { token, readiness }| (token, readiness))
        .collect();
    ready.sort_by_key(|&(token, _)| token);
    ready
}

/// As [`ready`], turned into what it answers of `asked`.
pub(crate) fn answers(backend: &mut impl Backend, asked: Interest) -> Vec<(u64, Interest)> {
    ready(backend)
        .into_iter()
        .map(|(token, readiness)| (token, readiness.answers(asked)))
        .collect()
}

/// Two connected Unix sockets that do not block.
pub(crate) fn pair() -> (UnixStream, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (a, b)
}

/// Two connected TCP sockets.
pub(crate) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (ours, listener.accept().unwrap().0)
}

/// Writes until no more fits.
pub(crate) fn fill(mut writer: impl Write) {
    loop {
        match writer.write(&[0; 65_536]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("cannot write: {error}"),
        }
    }
}

/// Reads until nothing is left.
pub(crate) fn drain(mut reader: impl Read) {
    loop {
        match reader.read(&mut [0; 65_536]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("cannot read: {error}"),
        }
    }
}

/// Holds the numbers from 900 to 1023 for one test. No test reaches them by opening descriptors,
/// so a number that is closed there stays free, though tests run beside each other.
pub(crate) struct Reserved(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Reserved {
    pub(crate) fn new() -> Self {
        static RESERVED: Mutex<()> = Mutex::new(());
        Self(RESERVED.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A duplicate whose number is the lowest free one from 900.
    pub(crate) fn duplicate(&self, fd: impl AsFd) -> OwnedFd {
        fcntl_dupfd_cloexec(fd, FIRST_RESERVED).unwrap()
    }
}

pub(crate) const FIRST_RESERVED: RawFd = 900;
