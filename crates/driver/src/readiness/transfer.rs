//! The system calls of sending, connecting and accepting, and what their errors mean.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::Poll;

use oxlip_core::op::MAX_BUFFERS;
use rustix::io::{Errno, retry_on_intr, write, writev};
use rustix::net::{
    SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, acceptfrom_with, ipproto,
    send as socket_send, sendmsg, sockopt,
};

use super::resource::Channel;

/// The result of a send.
pub(super) struct SendOutcome {
    pub(super) bytes: usize,
    /// Less than was given: the kernel's buffer is full.
    pub(super) short: bool,
}

/// Several buffers with at most so many bytes are copied into one: `sendmsg(2)` costs 0.15 µs more than `send(2)`, and
/// copying 4 KiB less than half of that. With 8 KiB there is nothing left to gain.
const COPY_AT_MOST: usize = 4096;

/// One `send(2)`, or `sendmsg(2)` for several buffers with much in them. `SIGPIPE` is never raised by a socket; into
/// a pipe it is one `write(2)` or `writev(2)`, which raises it if the program does not ignore it. `joined` is memory
/// to copy buffers to.
#[inline(always)]
pub(super) fn send(
    channel: Channel<'_>,
    bufs: &[IoSlice<'_>],
    joined: &mut Vec<u8>,
) -> io::Result<SendOutcome> {
    match bufs {
        [only] => send_one(channel, only),
        several => send_several(channel, &several[..several.len().min(MAX_BUFFERS)], joined),
    }
}

fn send_several(
    channel: Channel<'_>,
    bufs: &[IoSlice<'_>],
    joined: &mut Vec<u8>,
) -> io::Result<SendOutcome> {
    let given = bufs.iter().map(|buf| buf.len()).sum();
    if given == 0 {
        return Ok(SendOutcome {
            bytes: 0,
            short: false,
        });
    }
    if given <= COPY_AT_MOST {
        joined.clear();
        for buf in bufs {
            joined.extend_from_slice(buf);
        }
        return send_one(channel, joined);
    }
    let bytes = match channel {
        Channel::Socket(fd) => {
            let mut control = SendAncillaryBuffer::default();
            retry_on_intr(|| sendmsg(fd, bufs, &mut control, FLAGS))?
        }
        Channel::Pipe(fd) => retry_on_intr(|| writev(fd, bufs))?,
    };
    Ok(SendOutcome {
        bytes,
        short: bytes < given,
    })
}

const FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

#[inline(always)]
fn send_one(channel: Channel<'_>, buf: &[u8]) -> io::Result<SendOutcome> {
    let bytes = match channel {
        Channel::Socket(fd) => retry_on_intr(|| socket_send(fd, buf, FLAGS))?,
        Channel::Pipe(fd) => retry_on_intr(|| write(fd, buf))?,
    };
    Ok(SendOutcome {
        bytes,
        short: bytes < buf.len(),
    })
}

/// Whether it is a TCP socket.
pub(super) fn is_tcp(socket: &OwnedFd) -> bool {
    matches!(sockopt::socket_protocol(socket), Ok(Some(ipproto::TCP)))
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
