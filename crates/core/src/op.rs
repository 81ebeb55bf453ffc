//! The vocabulary between the machines and a driver: requests ([`Op`]) and answers
//! ([`Completion`]).
//!
//! The seam is the operation, not readiness: a readiness driver tries, arms and reports; a
//! completion driver submits. A driver may answer at once. The rules that both sides keep are those
//! of the driver crate's `Driver` trait.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::{BitOr, BitOrAssign};

use crate::address::Outgoing;
use crate::file::{Transfer, Transferred};
use crate::id::Id;

/// A request to the driver about one resource it has adopted.
#[derive(Debug)]
pub enum Op<'a> {
    /// Report [`Completion::Readable`] whenever bytes or the end of the stream wait to be taken, and nothing once
    /// the end was taken. Of a datagram socket: [`Completion::Receivable`] whenever datagrams or an error wait.
    RecvStart(Id),
    /// Stop reporting. What arrives meanwhile waits in the driver or the kernel.
    RecvStop(Id),
    /// Send these buffers, in order. Answered at once with [`Completion::Sent`] (of less than was
    /// given, perhaps), or pending: then nothing was taken and one [`Completion::Sendable`] follows.
    Send {
        /// The stream to send on.
        id: Id,
        /// At most [`MAX_BUFFERS`] are looked at.
        bufs: &'a [IoSlice<'a>],
    },
    /// As [`Op::Send`], as a promise that the driver is asked for nothing but more of these before the next
    /// wait. If it is pending, either something may have been taken, and the wait says how much by one
    /// [`Completion::Sent`]; or nothing was, and one [`Completion::Sendable`] follows.
    ///
    /// If something else is asked of the stream before that wait, this one is sent first, and is still answered
    /// by the wait. An [`Op::Send`] is then tried as if the answer had come. If both found no room, one
    /// [`Completion::Sendable`] ends both.
    SendSoon {
        /// The stream to send on.
        id: Id,
        /// At most [`MAX_BUFFERS`] are looked at.
        bufs: &'a [IoSlice<'a>],
    },
    /// Send these datagrams, in order. Answered at once with [`Completion::Sent`] and how many were
    /// taken (at least one), or with the error of the first, or pending: then none was taken and one
    /// [`Completion::Sendable`] follows.
    SendDatagrams {
        /// The datagram socket to send from.
        id: Id,
        /// At most [`MAX_DATAGRAMS`] are looked at.
        datagrams: &'a [Outgoing<'a>],
    },
    /// Report one [`Completion::Sendable`] as soon as a datagram socket has room; always pending. For datagrams that
    /// wait behind an error, and for those that the embedder sends by other means.
    AwaitRoom(Id),
    /// Send the end of the stream; receiving goes on. Always answered at once with
    /// [`Completion::Sent`] of 0 bytes or the error.
    Shutdown(Id),
    /// Report [`Completion::Acceptable`] whenever a connection waits to be accepted.
    AcceptStart(Id),
    /// Stop reporting connections.
    AcceptStop(Id),
    /// Connect an adopted, unconnected stream. Answered by one [`Completion::Connected`], now or later.
    Connect {
        /// The stream to connect.
        id: Id,
        /// The peer.
        addr: SocketAddr,
    },
    /// Report [`Completion::Watched`] in every wait in which the descriptor is ready for one of
    /// `interest` (level-triggered). Replaces the interest watched before; empty means no more.
    Watch {
        /// A resource adopted as a watch.
        id: Id,
        /// What to watch for.
        interest: Interest,
    },
    /// Report [`Completion::Watched`] once, in the first wait in which the descriptor is ready for one of
    /// `interest`, and then nothing until asked again; what has become ready meanwhile is reported then. Asking
    /// again is cheaper than closing the watch and making another.
    WatchOnce {
        /// A resource adopted as a watch.
        id: Id,
        /// What to watch for.
        interest: Interest,
    },
    /// Read from or write to a regular file, which need not be adopted. Answered by one [`Completion::File`], now
    /// or later; at once, and with `Unsupported`, by a driver that does no files.
    File(Box<Transfer>),
    /// Forget the resource and close its descriptor if the driver owns it. Always answered at once
    /// with [`Completion::Closed`]; completions of this id that are still queued are dropped.
    Close(Id),
}

/// The driver's answer to an [`Op`].
#[derive(Debug)]
pub enum Completion {
    /// A hint that `take` may have something. Any number of times after [`Op::RecvStart`].
    Readable(Id),
    /// A hint that `take_datagrams` may have something. Any number of times after
    /// [`Op::RecvStart`] on a datagram socket.
    Receivable(Id),
    /// A pending [`Op::Send`], [`Op::SendSoon`], [`Op::SendDatagrams`] or [`Op::AwaitRoom`] is over: there is room
    /// again, send what is left. If a wait also finds something to read on the stream, it reports that first: a
    /// peer that goes away may have said why.
    Sendable(Id),
    /// How many bytes a send took, or why the stream cannot be written any more; of a datagram
    /// socket how many datagrams, or why the first was refused.
    Sent(Id, io::Result<usize>),
    /// A hint that `accept` may have something. Any number of times after [`Op::AcceptStart`].
    Acceptable(Id),
    /// The outcome of [`Op::Connect`].
    Connected(Id, io::Result<()>),
    /// What a watched descriptor is ready for: errors and hang-ups count as both.
    Watched(Id, Interest),
    /// The end of an [`Op::File`].
    File(Box<Transferred>),
    /// The resource is gone and its id dead.
    Closed(Id),
    /// The operation is not one for this resource, or the operating system refused to arm it.
    Failed(Id, io::Error),
}

impl From<Transferred> for Completion {
    fn from(ended: Transferred) -> Self {
        Self::File(Box::new(ended))
    }
}

/// The most buffers that one [`Op::Send`] looks at. POSIX guarantees 16, Linux and the BSDs take 1024; more than
/// 64 gain nothing.
pub const MAX_BUFFERS: usize = 64;

/// The most datagrams that one [`Op::SendDatagrams`] looks at, or that are received at once: enough that a flood
/// costs one system call for many, few enough that others get their turn.
pub const MAX_DATAGRAMS: usize = 32;

/// Readable, writable, both or neither: what is watched for, and what a watched descriptor is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interest(u8);

impl Interest {
    /// Neither.
    pub const NONE: Self = Self(0);
    /// Reading would not block.
    pub const READ: Self = Self(1);
    /// Writing would not block.
    pub const WRITE: Self = Self(2);
    /// Both.
    pub const BOTH: Self = Self(3);

    /// Whether reading is included.
    #[must_use]
    pub const fn reads(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether writing is included.
    #[must_use]
    pub const fn writes(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether neither is included.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// What is in `self` and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Interest {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Interest {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
