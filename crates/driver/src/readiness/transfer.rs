//! The system calls of sending, connecting and accepting, and what their errors mean.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::Poll;

use oxlip_core::op::MAX_BUFFERS;
use rustix::io::{Errno, retry_on_intr, write as write_one, writev};
use rustix::net::{
    SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, acceptfrom_with, ipproto,
    send as send_one, sendmsg, sockopt,
};

use super::resource::Channel;

/// The result of a send.
pub(super) struct SendOutcome {
    pub(super) bytes: usize,
    /// Less than was given: the kernel's buffer is full.
    pub(super) short: bool,
}

/// One `send(2)`, or `sendmsg(2)` for several buffers. `SIGPIPE` is never raised by a socket; into
/// a pipe it is one `write(2)` or `writev(2)`, which raises it if the program does not ignore it.
#[inline(always)]
pub(super) fn send(channel: Channel<'_>, bufs: &[IoSlice<'_>]) -> io::Result<SendOutcome> {
    let bufs = &bufs[..bufs.len().min(MAX_BUFFERS)];
    let fd = match channel {
        Channel::Socket(fd) => fd,
        Channel::Pipe(fd) => return write(fd, bufs),
    };
    let (bytes, given) = match bufs {
        [] => (0, 0),
        [only] => (
            retry_on_intr(|| send_one(fd, only, SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT)))?,
            only.len(),
        ),
        several => {
            let mut control = SendAncillaryBuffer::default();
            let bytes = retry_on_intr(|| {
                sendmsg(
                    fd,
                    several,
                    &mut control,
                    SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT),
                )
            })?;
            (bytes, several.iter().map(|buf| buf.len()).sum())
        }
    };
    Ok(SendOutcome {
        bytes,
        short: bytes < given,
    })
}

/// Whether it is a TCP socket.
pub(super) fn is_tcp(socket: &OwnedFd) -> bool {
    matches!(sockopt::socket_protocol(socket), Ok(Some(ipproto::TCP)))
}

fn write(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> io::Result<SendOutcome> {
    let (bytes, given) = match bufs {
        [] => (0, 0),
        [only] => (retry_on_intr(|| write_one(fd, only))?, only.len()),
        several => (
            retry_on_intr(|| writev(fd, several))?,
            several.iter().map(|buf| buf.len()).sum(),
        ),
    };
    Ok(SendOutcome {
        bytes,
        short: bytes < given,
    })
}

/// `shutdown(2)` of the sending half. It is no error if the peer is already gone: there is nobody
/// left to tell.
pub(super) fn shutdown(fd: BorrowedFd<'_>) -> io::Result<()> {
    match rustix::net::shutdown(fd, Shutdown::Write) {
        Ok(()) | Err(Errno::NOTCONN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// `connect(2)`. It is pending until the socket becomes writable, also if a signal interrupts it.
pub(super) fn connect(fd: BorrowedFd<'_>, addr: SocketAddr) -> io::Result<Poll<()>> {
    match rustix::net::connect(fd, &addr) {
        Ok(()) => Ok(Poll::Ready(())),
        Err(Errno::INPROGRESS | Errno::INTR) => Ok(Poll::Pending),
        Err(error) => Err(error.into()),
    }
}

/// How a pending connect ended.
pub(super) fn connected(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(sockopt::socket_error(fd)??)
}

/// One `accept4(2)`. A peer that has left the queue again counts as no connection.
pub(super) fn accept(fd: BorrowedFd<'_>) -> io::Result<Option<(OwnedFd, Option<SocketAddr>)>> {
    match acceptfrom_with(fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok((socket, peer)) => Ok(Some((
            socket,
            peer.and_then(|peer| SocketAddr::try_from(peer).ok()),
        ))),
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
