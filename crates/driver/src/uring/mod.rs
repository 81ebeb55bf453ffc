//! The driver over io_uring(7): one system call a tick receives, sends and waits.
//!
//! It is built on the readiness driver over epoll, which owns every descriptor and does what
//! happens rarely: connecting, waiting for room, pipes, and watching descriptors that others own.
//! The ring does the frequent work:
//!
//! * Data of streams are received by the kernel into buffers of a pool, without a request for each
//!   ("multishot"). If the pool is too small, or a stream's traffic is large, data are received
//!   directly, and the ring only says when.
//! * Connections are accepted, likewise without a request for each, since Linux 6.15 (`accepting.rs`).
//!   Listeners from which others may accept, too, and datagram sockets are polled.
//! * Small sends that are not urgent (`Op::SendSoon`) are copied, and all of them are submitted
//!   with the call that waits.
//! * Regular files are read and written.
//! * The descriptors of the multiplexer and the waker are polled like any other.
//!
//! The ring and the multiplexer do not look at the same moment: it may be known that a stream has
//! room before it is known what has arrived on it. What there is to read is still reported first
//! (`sending.rs`), as in loops that ask one multiplexer for both.
//!
//! The ring does not poll descriptors that others own, because a request keeps its file open in the
//! kernel: a peer would not see the end of a socket that the program has closed. For the same
//! reason, requests on our own descriptors are cancelled before these are closed, at once.
//!
//! The kernel does deferred work (`DEFER_TASKRUN`) only inside our own calls, and after every call
//! all completions are taken. So nothing is received behind our back, and between two calls a
//! direct receive gets exactly what follows the data already taken: bytes stay in order whichever
//! way they arrive. And a poll needs no system call unless work is due.
//!
//! A ring belongs to one thread. A loop that is not running may move to another thread, and then
//! gets a new ring; so does a forked child. If no ring can be made any more, epoll does everything.

mod accepting;
mod arrived;
#[expect(unsafe_code, reason = "memory that the kernel writes to")]
mod buffers;
mod incoming;
mod owner;
#[expect(unsafe_code, reason = "an option that rustix does not know")]
mod peer;
#[expect(unsafe_code, reason = "memory of our own, for the kernel")]
mod region;
mod requests;
#[expect(unsafe_code, reason = "requests that point to memory")]
mod ring;
mod sending;
mod tag;
mod taking;
mod transfers;

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::task::Poll;
use std::time::Duration;

use oxlip_core::address::Address;
use oxlip_core::file::Transfer;
use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Op};
use oxlip_core::time::Time;

use self::buffers::BufferId;
use self::incoming::{End, Incoming, Kind, Requests, Table};
use self::owner::refusal;
use self::ring::{Answer, Ring, Room};
use self::sending::Sends;
use crate::readiness::{Epoll, misuse};
use crate::wake::Waker;
use crate::{Driver, RawSocket, Received, Role, Taken};

/// The driver over io_uring. See the module's head.
pub struct Uring {
    // It is dropped before the descriptors, which ends whatever the kernel still does for it.
    ring: Option<Ring>,
    room: Room,
    /// The kernel can be asked to accept.
    accepts: bool,
    /// The thread that the ring belongs to, once it is in use.
    owner: Option<u64>,
    fallback: Fallback,
    /// The number of calls in a row that the kernel has refused temporarily.
    refusals: u32,
    inner: Epoll,
    table: Table,
    requests: Requests,
    /// Resources whose requests may differ from what is wanted.
    touched: Vec<Id>,
    /// Resources with something to take.
    unread: Vec<Id>,
    sends: Sends,
    /// File transfers that have not been pushed to the ring yet.
    transfers: VecDeque<Box<Transfer>>,
    /// Completions from calls between two waits.
    early: Vec<Completion>,
    /// What the multiplexer has reported, while it is being passed on.
    found: Vec<Completion>,
    /// The multiplexer and the waker are being polled.
    polls_inner: bool,
    hears_bell: bool,
    inner_ready: bool,
    woken: bool,
    answers: Vec<Answer>,
    /// The buffer lent by the last take.
    lent: Option<BufferId>,
    /// The memory for a take that is not a single piece; empty until the first.
    large: Vec<u8>,
}

/// Whether epoll does everything in place of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fallback {
    /// The ring is in use, or will be when it is needed.
    No,
    /// The system had no descriptors or no memory for a ring: until another attempt is worthwhile.
    Until(Time),
    /// There can be no ring any more.
    ForEver,
}

impl Uring {
    /// A driver with nothing in it but its waker.
    ///
    /// # Errors
    /// The kernel is older than 6.1, has no io_uring, or a sandbox or an administrator forbids it;
    /// or descriptors or memory have run out.
    pub fn new() -> io::Result<Self> {
        Self::with_room(Room::USUAL)
    }

    /// As [`Uring::new`], with a ring of the given size, for tests of what happens when there is no room left.
    ///
    /// # Errors
    /// As [`Uring::new`].
    #[doc(hidden)]
    pub fn with_room_for(requests: u32, answers: u32) -> io::Result<Self> {
        Self::with_room(Room { requests, answers })
    }

    /// Whether the kernel accepts by itself from a [`Role::Listener`], for tests: it has to be Linux 6.15 or newer.
    #[doc(hidden)]
    #[must_use]
    pub fn accepts_ahead(&self) -> bool {
        self.accepts
    }

    fn with_room(room: Room) -> io::Result<Self> {
        let ring = Ring::new(room).map_err(refusal)?;
        Ok(Self {
            accepts: ring.accepts(),
            ring: Some(ring),
            room,
            owner: None,
            fallback: Fallback::No,
            refusals: 0,
            inner: Epoll::deaf()?,
            table: Table::default(),
            requests: Requests::default(),
            touched: Vec::new(),
            unread: Vec::new(),
            sends: Sends::default(),
            transfers: VecDeque::new(),
            early: Vec::new(),
            found: Vec::new(),
            polls_inner: false,
            hears_bell: false,
            inner_ready: false,
            woken: false,
            answers: Vec::new(),
            lent: None,
            large: Vec::new(),
        })
    }

    /// The descriptor of an adopted socket, to ask for addresses or set options. It must not be
    /// closed or made blocking.
    #[must_use]
    pub fn descriptor(&self, id: Id) -> Option<BorrowedFd<'_>> {
        self.inner.descriptor(id)
    }

    /// Reports the resources that still have something to take, and removes the others from the list.
    fn report(&mut self, completions: &mut Vec<Completion>) {
        let table = &mut self.table;
        self.unread.retain(|id| {
            let Some(incoming) = table.get_mut(*id) else {
                return false;
            };
            incoming.listed = incoming.wanted && incoming.has_unread();
            if incoming.listed {
                completions.push(incoming.report(*id));
            }
            incoming.listed
        });
    }

    /// Whether a report is due regardless of the kernel.
    fn has_unread(&self) -> bool {
        self.unread.iter().any(|id| {
            let incoming = self.table.get(*id);
            incoming.is_some_and(|incoming| incoming.wanted && incoming.has_unread())
        })
    }

    /// Starts or stops reading on a resource of the right kind.
    fn want(
        &mut self,
        op: Op<'_>,
        id: Id,
        suits: impl FnOnce(Kind) -> bool,
        wanted: bool,
    ) -> Poll<Completion> {
        let Some(incoming) = self.table.get_mut(id) else {
            return self.inner.submit(op);
        };
        if !suits(incoming.kind) {
            return misuse(id);
        }
        incoming.wanted = wanted;
        if !wanted {
            // A new request will tell whether that still holds.
            incoming.hint &= incoming.ask_behind;
        }
        if wanted && incoming.has_unread() && !incoming.listed {
            incoming.listed = true;
            self.unread.push(id);
        }
        if incoming.touch() {
            self.touched.push(id);
        }
        if self.fallback == Fallback::No {
            return Poll::Pending;
        }
        self.inner.submit(op)
    }

    /// The resource is about to be closed: removes everything of it from the ring.
    fn close(&mut self, id: Id) {
        self.give_back();
        let Some(incoming) = self.table.get(id) else {
            return;
        };
        if incoming.sending {
            self.submit_all();
        }
        self.end_request(id);
        self.early
            .retain(|completion| about(completion) != Some(id));
        if let Some(mut incoming) = self.table.remove(id) {
            incoming.forget(self.ring.as_mut().map(|ring| &mut ring.pool));
        }
    }

    /// A number has a new holder, so the previous one has lost its descriptor. What was to be sent there must not
    /// reach the new one.
    fn oust(&mut self, previous: Option<Id>) {
        let Some(previous) = previous else { return };
        self.sends.forget(previous);
        let Some(incoming) = self.table.get_mut(previous) else {
            return;
        };
        incoming.sending = false;
        if self.ring.as_mut().is_some_and(|ring| !ring.is_submitted()) {
            // Nor must what the kernel has refused so far: nothing of a ring that is dropped is submitted.
            self.table.remove(previous);
            self.lose_ring();
        } else {
            self.close(previous);
        }
    }
}

impl Driver for Uring {
    type Socket = OwnedFd;

    fn name(&self) -> &'static str {
        match self.fallback {
            Fallback::No | Fallback::Until(_) => "io_uring",
            Fallback::ForEver => self.inner.name(),
        }
    }

    #[inline]
    fn now(&self) -> Time {
        crate::clock::monotonic()
    }

    fn gathers_sends(&self) -> bool {
        self.fallback != Fallback::ForEver
    }

    fn adopt(&mut self, socket: OwnedFd, role: Role) -> io::Result<Id> {
        let kind = match role {
            Role::Stream | Role::Accepted(_) => Some(Kind::Stream),
            Role::Datagram | Role::SharedDatagram => Some(Kind::Datagram),
            Role::Listener => Some(Kind::Listener {
                ahead: self.accepts,
            }),
            Role::SharedListener => Some(Kind::Listener { ahead: false }),
            Role::Pipe => None,
        };
        self.oust(self.inner.holder(socket.as_raw_fd()));
        let id = self.inner.adopt(socket, role)?;
        if let Some(kind) = kind {
            self.table.insert(id, Incoming::new(kind));
        }
        Ok(id)
    }

    fn borrow(&mut self, fd: RawSocket) -> io::Result<Id> {
        let previous = self.inner.holder(fd);
        let id = self.inner.borrow(fd)?;
        self.oust(previous);
        Ok(id)
    }

    fn release(&mut self, id: Id) -> Option<OwnedFd> {
        self.inner.number(id)?;
        self.close(id);
        self.inner.release(id)
    }

    #[inline]
    fn submit(&mut self, op: Op<'_>) -> Poll<Completion> {
        match op {
            Op::Send { id, bufs } => self.send(id, bufs, false),
            Op::SendSoon { id, bufs } => self.send(id, bufs, true),
            Op::RecvStart(id) => self.want(op, id, |kind| !kind.accepts(), true),
            Op::RecvStop(id) => self.want(op, id, |kind| !kind.accepts(), false),
            Op::AcceptStart(id) => self.want(op, id, Kind::accepts, true),
            Op::AcceptStop(id) => self.want(op, id, Kind::accepts, false),
            Op::Close(id) => {
                self.close(id);
                self.inner.submit(op)
            }
            Op::Shutdown(id) => {
                if self.table.get(id).is_some_and(|stream| stream.sending) {
                    self.submit_all();
                }
                self.inner.submit(op)
            }
            Op::Connect { id, .. } => {
                if let Some(stream) = self.table.get_mut(id) {
                    // Whatever a receive has reported before.
                    stream.end = End::Open;
                    stream.failure = None;
                    if stream.touch() {
                        self.touched.push(id);
                    }
                }
                self.inner.submit(op)
            }
            Op::File(transfer) => self.transfer(transfer),
            Op::SendDatagrams { .. }
            | Op::AwaitRoom(_)
            | Op::Watch { .. }
            | Op::WatchOnce { .. } => self.inner.submit(op),
        }
    }

    #[inline]
    fn take(&mut self, id: Id) -> io::Result<Received<'_>> {
        self.receive(id)
    }

    #[inline]
    fn take_or_fill(&mut self, id: Id, room: &mut [MaybeUninit<u8>]) -> io::Result<Taken<'_>> {
        self.receive_or_fill(id, room)
    }

    #[inline]
    fn take_into(&mut self, id: Id, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.receive_into(id, buffer)
    }

    fn take_datagrams(
        &mut self,
        id: Id,
        limit: usize,
        each: impl FnMut(&[u8], Option<Address>),
    ) -> io::Result<usize> {
        self.look_again(id);
        self.inner.take_datagrams(id, limit, each)
    }

    fn accept(&mut self, id: Id) -> io::Result<Option<(OwnedFd, Option<SocketAddr>)>> {
        self.accept_next(id)
    }

    fn wait(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        self.give_back();
        let deadline = timeout
            .filter(|timeout| !timeout.is_zero())
            .map(|timeout| self.now().after(timeout));
        let mut left = timeout;
        loop {
            if !self.claim() {
                return self.wait_without_ring(left, completions);
            }
            if self.pass(left, completions)? {
                return Ok(());
            }
            if let Some(deadline) = deadline {
                left = Some(deadline.since(self.now()));
            }
        }
    }

    fn waker(&self) -> Waker {
        self.inner.waker()
    }

    fn before_fork(&mut self) {
        for (id, incoming) in self.table.iter_mut() {
            if incoming.share() {
                self.touched.push(id);
            }
        }
        // Otherwise a call before the next wait could accept: it does what is pushed first.
        if self.is_ours() {
            self.apply_touched();
        }
    }

    fn after_fork(&mut self) -> io::Result<()> {
        self.before_fork();
        // What had arrived is the parent's, which goes on with it.
        for (_, incoming) in self.table.iter_mut() {
            incoming.arrived.clear();
            incoming.callers.clear();
            incoming.hint = false;
        }
        self.lose_ring();
        self.inner_ready = false;
        self.woken = false;
        self.inner.after_fork()
    }
}

impl Uring {
    /// Notes that a hint is being followed by other means than a take.
    fn look_again(&mut self, id: Id) {
        if let Some(incoming) = self.table.get_mut(id) {
            Self::follow_hint(&mut self.touched, id, incoming);
        }
    }

    /// Looks at everything once, and may sleep for up to the given time. Returns false if nothing
    /// ends the wait yet.
    fn pass(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<bool> {
        let before = completions.len();
        self.apply_touched();
        self.watch_own();
        self.push_transfers();
        if !self.push_sends() {
            self.submit_now();
        }
        // Each of these may have called the ring and taken completions. From here on nothing may
        // happen between knowing what there is and the sleep.
        self.inner.prepare(completions);
        completions.append(&mut self.early);
        let sleeps =
            timeout != Some(Duration::ZERO) && completions.len() == before && !self.is_due();
        let calls = sleeps || self.ring.as_mut().is_some_and(Ring::is_due);
        let answered = calls && self.enter(sleeps, timeout.filter(|_| sleeps));
        completions.append(&mut self.early);
        self.report(completions);
        self.retry_failed(completions);
        if std::mem::take(&mut self.inner_ready) {
            self.collect_inner(completions)?;
        }
        if std::mem::take(&mut self.woken) || completions.len() > before {
            return Ok(true);
        }
        // Nothing yet if the completions concern nobody, or if the ring was lost on the way.
        Ok(self.ring.is_some() && !(sleeps && answered))
    }

    /// Whether a wait must not sleep, because something is to be reported, or the ring has not been
    /// asked for everything that could end the wait.
    fn is_due(&self) -> bool {
        let asks = self.touched.is_empty()
            && self.transfers.is_empty()
            && self.polls_inner
            && self.hears_bell;
        !asks || self.woken || self.inner_ready || self.sends.have_failed() || self.has_unread()
    }

    fn collect_inner(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        let mut found = std::mem::take(&mut self.found);
        let outcome = self.inner.collect(Some(Duration::ZERO), &mut found);
        for completion in found.drain(..) {
            match completion {
                Completion::Sendable(id) => self.tell_room(id, completions),
                Completion::Connected(id, _) => {
                    if let Some(stream) = self.table.get_mut(id)
                        && stream.touch()
                    {
                        self.touched.push(id);
                    }
                    completions.push(completion);
                }
                other => completions.push(other),
            }
        }
        self.found = found;
        outcome
    }

    /// As `wait`, when epoll does everything.
    #[cold]
    fn wait_without_ring(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        self.refuse_transfers();
        completions.append(&mut self.early);
        self.touched.clear();
        for (_, incoming) in self.table.iter_mut() {
            incoming.touched = false;
        }
        let before = completions.len();
        self.report(completions);
        self.retry_failed(completions);
        let timeout = if completions.len() > before {
            Some(Duration::ZERO)
        } else {
            timeout
        };
        self.inner.wait(timeout, completions)
    }
}

/// The resource that a completion is about.
fn about(completion: &Completion) -> Option<Id> {
    Some(match *completion {
        Completion::Readable(id)
        | Completion::Receivable(id)
        | Completion::Sendable(id)
        | Completion::Sent(id, _)
        | Completion::Acceptable(id)
        | Completion::Connected(id, _)
        | Completion::Watched(id, _)
        | Completion::Closed(id)
        | Completion::Failed(id, _) => id,
        Completion::File(_) => return None,
    })
}
