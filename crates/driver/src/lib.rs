//! Everything the event loop asks of the operating system, behind one contract.
//!
//! A [`Driver`] owns descriptors, buffers and the wait. It is driven by one thread, the owner of
//! the loop; only its [`Waker`] may be used from others. Several drivers are compiled together and
//! chosen at run time ([`AnyDriver`]): readiness over epoll, poll or select, io_uring, and a
//! simulation.
//!
//! # The contract
//!
//! 1. [`Driver::submit`] never blocks; an op answered at once has no later completion.
//! 2. A pending op gets exactly one final completion; start-type ops (`RecvStart`, `AcceptStart`,
//!    `Watch`) any number until they are stopped.
//! 3. Completions of one resource and direction come in order. An answer at once may precede the one that
//!    a wait still owes to a `SendSoon`, whose bytes went first.
//! 4. After `Close(id)` the id is dead: a late kernel event is dropped by its generation. A
//!    descriptor belongs to exactly one owner and is closed once.
//! 5. `Readable`, `Receivable` and `Acceptable` are hints, the takes and [`Driver::accept`] are the
//!    truth. Data that arrived for a stopped read wait in the driver or the kernel.
//! 6. `wait(Some(ZERO))` polls; `wait(None)` sleeps until work or wake; a wait that a signal
//!    interrupts is empty. A wait never returns early because of its time-out's rounding.
//! 7. Time comes only from [`Driver::now`]: real or simulated.
//! 8. A dead id is harmless: an op on it answers `Failed(NotFound)` (`Close`: `Closed`), and there is
//!    nothing to take from it. An op that does not suit the resource answers
//!    `Failed(InvalidInput)`.

#![deny(unsafe_code)] // Eight files may: {files,kernel_tls}.rs, readiness/{batch,offload}.rs, uring/{buffers,peer,region,ring}.rs.

mod any;
pub mod clock;
#[expect(unsafe_code, reason = "preadv2(2) into memory without a value")]
pub mod files;
#[expect(unsafe_code, reason = "options and messages that rustix does not know")]
pub mod kernel_tls;
pub mod net;
pub mod readiness;
mod shortage;
pub mod sim;
pub mod uring;
mod wake;

pub use any::{AnyDriver, AnySocket, NAMES};
pub use shortage::is_shortage;
pub use sim::{Faults, Sim, SimSocket};
pub use wake::Waker;

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use oxlip_core::address::Address;
use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Op};
use oxlip_core::time::Time;

/// All OS effects of one event loop. See the crate's head for the rules.
pub trait Driver {
    /// What the driver adopts: an owned descriptor, or its simulated counterpart.
    type Socket;

    /// `epoll`, `io_uring`, `poll`, `select`, `sim`… Changes if another driver has to take over.
    fn name(&self) -> &'static str;

    /// The loop's clock.
    fn now(&self) -> Time;

    /// Takes ownership of a non-blocking socket and names it. No system call is made: it is armed
    /// by the first op that needs it. On error the socket is closed.
    ///
    /// # Errors
    /// The driver cannot wait for such a descriptor (select: its number is `FD_SETSIZE` or more).
    fn adopt(&mut self, socket: Self::Socket, role: Role) -> io::Result<Id>;

    /// Names a descriptor that somebody else owns and may close at any time, for `Op::Watch` only.
    ///
    /// A number has one holder: whoever borrows or adopts it next ends the claim of the one before
    /// (whose descriptor must have been closed for the number to come up again). The earlier id
    /// gets [`Completion::Failed`] and only waits for its `Close`.
    ///
    /// # Errors
    /// As [`Driver::adopt`], for a driver without descriptors (`Unsupported`), and for a number
    /// that this driver owns (`AlreadyExists`). Whether the number is open may come out here
    /// (`EBADF`) or with the first `Op::Watch`.
    fn borrow(&mut self, fd: RawSocket) -> io::Result<Id>;

    /// Forgets a resource as `Op::Close` does, but hands its socket back instead of closing it.
    /// `None` for a dead id and for a borrowed descriptor.
    ///
    /// What a driver has received and nobody has taken is lost, so this is for a socket on which
    /// receiving has not been started.
    fn release(&mut self, id: Id) -> Option<Self::Socket>;

    /// Asks for an operation.
    fn submit(&mut self, op: Op<'_>) -> Poll<Completion>;

    /// What has arrived on a stream: a lease on the driver's receive buffer, valid until the next
    /// call. Never blocks.
    ///
    /// # Errors
    /// Those of recv(2), except `WouldBlock` and `Interrupted` ([`Received::Nothing`]).
    fn take(&mut self, id: Id) -> io::Result<Received<'_>>;

    /// As [`Driver::take`], but the driver may fill `room` instead of lending its own memory. For a large
    /// piece that is going to stay where it is received.
    ///
    /// # Errors
    /// As [`Driver::take`].
    fn take_or_fill(&mut self, id: Id, room: &mut [MaybeUninit<u8>]) -> io::Result<Taken<'_>> {
        let _ = room;
        self.take(id).map(Taken::Lent)
    }

    /// As [`Driver::take`], into the caller's buffer: how many bytes, `Some(0)` at the end of the
    /// stream, `None` if nothing is there.
    ///
    /// # Errors
    /// Those of recv(2).
    fn take_into(&mut self, id: Id, buffer: &mut [u8]) -> io::Result<Option<usize>>;

    /// Calls `each` with the next datagrams of a datagram socket and, where the system tells it, their
    /// sender's address. Returns how many there were; none is no error. The system is asked for at most
    /// `limit`, up to [`MAX_DATAGRAMS`]. Datagrams that it has joined on the way are taken apart and all
    /// delivered, so there may be more than that.
    ///
    /// # Errors
    /// Those of recvfrom(2), `ConnectionRefused` among them, except `WouldBlock` and `Interrupted`.
    /// An error is told once, and later datagrams still arrive.
    ///
    /// [`MAX_DATAGRAMS`]: oxlip_core::op::MAX_DATAGRAMS
    fn take_datagrams(
        &mut self,
        id: Id,
        limit: usize,
        each: impl FnMut(&[u8], Option<Address>),
    ) -> io::Result<usize>;

    /// The next waiting connection: a non-blocking, close-on-exec socket that is not yet adopted,
    /// and the peer's address (`None` where it has none, as with Unix sockets).
    ///
    /// # Errors
    /// Those of accept(2), except `WouldBlock`, `Interrupted` and `ConnectionAborted` (`None`).
    fn accept(&mut self, id: Id) -> io::Result<Option<(Self::Socket, Option<SocketAddr>)>>;

    /// Waits until something completes, the time-out passes or the waker is used, and appends what
    /// completed.
    ///
    /// # Errors
    /// The multiplexer itself failed: nothing that a caller could repair.
    fn wait(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()>;

    /// A handle that ends a wait from any thread.
    fn waker(&self) -> Waker;

    /// Whether [`Op::SendSoon`] is better than [`Op::Send`] wherever it can be used, because it leaves with the
    /// wait.
    fn gathers_sends(&self) -> bool {
        false
    }

    /// Says that a borrowed descriptor is watched only to end a sleep: a wait that does not sleep need not look at
    /// it.
    fn only_wakes(&mut self, id: Id) {
        let _ = id;
    }

    /// To be called before a fork: what the driver uses alone will be the child's, too.
    fn before_fork(&mut self) {}

    /// To be called in a forked child before anything else: starts over with kernel objects of the
    /// child's own, and leaves those that it shares with the parent alone. What was adopted, borrowed and
    /// asked for stays so; earlier wakers wake nobody here.
    ///
    /// # Errors
    /// The system is out of descriptors or memory; `Unsupported` for a driver that cannot do it.
    /// Then it can only be dropped.
    fn after_fork(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The bare number of a descriptor that somebody else owns.
pub type RawSocket = std::os::fd::RawFd;

/// What an adopted socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A socket with bytes both ways: connected, or to be connected by `Op::Connect`.
    Stream,
    /// A socket that [`Driver::accept`] has returned for this listener: a stream of which everything is known.
    Accepted(Id),
    /// One end of a pipe, a FIFO, a character device, or a socket that is used as a pipe. Its bytes
    /// move by read(2) and write(2), it cannot be connected or shut down. A reader's leaving is
    /// `Readable` on the writing end: `Op::RecvStart` watches for it, there is nothing to take.
    Pipe,
    /// Datagrams both ways: bound, connected, both or neither. Nobody else may receive from the socket
    /// while it is adopted: the driver may set options that another receiver would have to know of.
    Datagram,
    /// The same, where somebody else may: the socket stays as it is.
    SharedDatagram,
    /// A bound, listening socket from which nobody else accepts: the driver may accept connections before they are
    /// asked for. Those that nobody has taken are closed with it.
    Listener,
    /// The same, where somebody else may, such as another process that has inherited the socket: what is not
    /// asked for stays for others.
    SharedListener,
}

/// The answer of [`Driver::take_or_fill`].
#[derive(Debug)]
pub enum Taken<'a> {
    /// As from [`Driver::take`].
    Lent(Received<'a>),
    /// So many bytes at the beginning of the caller's memory, at least one, are filled and initialized.
    Filled(usize),
}

/// The answer of [`Driver::take`].
#[derive(Debug)]
pub enum Received<'a> {
    /// Bytes, at least one.
    Data(&'a [u8]),
    /// The peer has sent its end of the stream.
    Eof,
    /// Nothing yet: the hint was stale.
    Nothing,
}
