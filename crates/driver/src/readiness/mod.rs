//! The driver over a multiplexer: it tries, arms what would block, and reports.
//!
//! Owned and used by one thread. A 1 KiB echo costs three system calls: the wait, one `recv` when
//! the embedder takes, one `send` when it answers; nothing lies between but array indexing.
//!
//! * Interest changes are collected and told to the backend just before the wait, so what is
//!   stopped and started again within a tick costs nothing. Arming a borrowed descriptor is the
//!   exception: it goes to the backend at once, because only the kernel knows whether the number
//!   still is what it was, and because the caller wants the error.
//! * A stream that wants nothing is not in the backend at all: its hang-up would be reported
//!   without end.
//! * A descriptor leaves the backend before it is closed. Epoll keeps what it watches alive under a
//!   duplicate, so a number closed behind our back may still be reported: such a report finds a
//!   dead or idle resource, and the backend is then built anew.
//! * TCP streams are watched edge-triggered where the backend can (epoll): a level-triggered socket is polled twice
//!   for each arrival, the second time only to find it empty. What has been reported and not taken is remembered here
//!   ([`Readiness::reported`]), and the kernel is asked to look again. Other streams stay level-triggered: on a Unix
//!   socket a read ends at passed descriptors, so that a short one does not say that nothing is left.
//! * `submit` and the two takes are inlined into the embedder, whatever the compiler thinks of
//!   their size. With a known op the choice of its kind disappears; and where the kernel's
//!   mitigations spoil the processor's return predictor in each system call, the first return after
//!   a receive costs as much as a fifth of an echo. An embedder that goes on calling instead of
//!   returning does not pay for that.

mod accepting;
mod apply;
#[expect(unsafe_code, reason = "recvmmsg(2) has no safe form")]
mod batch;
mod datagram;
mod inside;
mod joining;
#[expect(
    unsafe_code,
    reason = "options and control messages that rustix does not know"
)]
mod offload;
mod receive;
mod resource;
mod room;
mod transfer;
mod unpolled;
mod waiting;

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::task;
use std::time::Duration;

use oxlip_core::address::Address;
use oxlip_core::id::{Arena, Id};
use oxlip_core::op::{Completion, Interest, Op};
use oxlip_core::time::Time;
use oxlip_selectors::backend::{self, Backend, epoll, poll, select};
use oxlip_selectors::event::Event;

use self::accepting::Round;
use self::apply::Watching;
use self::batch::Batch;
use self::joining::Joining;
use self::receive::{RECEIVE_BUFFER, ReceiveBuffer};
use self::resource::{Holders, Kind, Resource, Source};
use self::room::Rooms;
use crate::wake::{WakeDescriptor, Waker};
use crate::{Driver, RawSocket, Received, Role, Taken};

/// The driver over epoll(7).
pub type Epoll = Readiness<epoll::Epoll>;
/// The driver over poll(2): for systems or sandboxes without epoll.
pub type Poll = Readiness<poll::Poll>;
/// The driver over select(2): descriptors below `FD_SETSIZE` only.
pub type Select = Readiness<select::Select>;

/// A [`Driver`] over any multiplexer of `oxlip-selectors`.
pub struct Readiness<B> {
    watching: Watching<B>,
    bell: WakeDescriptor,
    resources: Arena<Resource>,
    holders: Holders,
    /// Resources whose wanted interest may differ from the armed one.
    changed: Vec<Id>,
    /// Final completions for resources whose number has gone to another.
    ousted: Vec<Id>,
    /// Edge-triggered streams that the last wait has reported as readable.
    reported: Vec<Id>,
    events: Vec<Event>,
    round: Round,
    buffer: ReceiveBuffer,
    /// The same for datagrams, once one is to be received.
    batch: Option<Batch>,
    /// Memory for small buffers that are sent together.
    joined: Vec<u8>,
    /// Resources that the backend does not watch because they are always ready.
    unpolled: Vec<Id>,
    /// Datagrams that wait for room at their peer.
    rooms: Rooms,
    /// Whether the backend watches the waker.
    hears_bell: bool,
    /// The process that made it, to recognise a forked child.
    maker: u32,
}

/// The waker's token. No id has this word: indices stay below 2^32 − 1.
const BELL: u64 = u64::MAX;

impl<B: Backend> Readiness<B> {
    /// A driver with nothing in it but its waker.
    ///
    /// # Errors
    /// The system is out of descriptors or memory.
    pub fn new() -> io::Result<Self> {
        let mut driver = Self::deaf()?;
        driver.hear_bell()?;
        Ok(driver)
    }

    /// As [`Readiness::new`], without its waker: somebody else watches it.
    pub(crate) fn deaf() -> io::Result<Self> {
        let mut driver = Self {
            watching: Watching::new()?,
            bell: WakeDescriptor::new()?,
            resources: Arena::new(),
            holders: Holders::default(),
            changed: Vec::new(),
            ousted: Vec::new(),
            reported: Vec::new(),
            events: Vec::new(),
            round: Round::default(),
            buffer: ReceiveBuffer::new(),
            batch: None,
            joined: Vec::new(),
            unpolled: Vec::new(),
            rooms: Rooms::default(),
            hears_bell: false,
            maker: std::process::id(),
        };
        driver.events.reserve(64);
        Ok(driver)
    }

    /// From here on a wake-up ends this driver's waits.
    pub(crate) fn hear_bell(&mut self) -> io::Result<()> {
        self.watching.hear(&self.bell)?;
        self.hears_bell = true;
        Ok(())
    }

    /// The opposite: somebody else watches it again.
    pub(crate) fn ignore_bell(&mut self) {
        // An error means that it was not watched.
        let _ = self.watching.backend.delete(self.bell.number());
        self.hears_bell = false;
    }

    /// The descriptor of an adopted socket, to ask for addresses or set options. It must not be
    /// closed or made blocking.
    #[must_use]
    pub fn descriptor(&self, id: Id) -> Option<BorrowedFd<'_>> {
        self.resources.get(id)?.owned().ok()
    }

    /// Gives the number to a new holder, and takes it from the previous one, whose descriptor must
    /// have been closed behind our back.
    fn hold(&mut self, number: RawFd, resource: Resource) -> Id {
        let id = self.resources.insert(resource);
        let previous = self.holders.put(number, id);
        if let Some((previous, resource)) =
            previous.and_then(|id| Some((id, self.resources.get_mut(id)?)))
        {
            apply::forget(&mut self.watching, resource);
            resource.lose();
            self.ousted.push(previous);
        }
        id
    }

    /// Removes the resource from everything; the descriptor stays open.
    fn forget(&mut self, id: Id) -> Option<Source> {
        let mut resource = self.resources.remove(id)?;
        datagram::let_go(&resource, self.maker);
        self.rooms.end(id);
        apply::forget(&mut self.watching, &mut resource);
        if let Some(number) = resource.number() {
            self.holders.clear(number, id);
        }
        if !self.ousted.is_empty() {
            self.ousted.retain(|ousted| *ousted != id);
        }
        Some(resource.into_source())
    }

    /// Whether it is a TCP socket, or a listener for such. An accepted socket is of its listener's kind, so the
    /// system need not be asked again.
    fn is_tcp(&self, socket: &OwnedFd, role: Role) -> bool {
        match role {
            Role::Accepted(listener) => self
                .resources
                .get(listener)
                .map_or_else(|| transfer::is_tcp(socket), Resource::gives_tcp),
            Role::Stream | Role::Listener | Role::SharedListener => transfer::is_tcp(socket),
            Role::Pipe | Role::Datagram | Role::SharedDatagram => false,
        }
    }

    /// Starts or stops reading on a resource of the right kind.
    #[inline]
    fn want_read(
        &mut self,
        id: Id,
        suits: impl FnOnce(Kind) -> bool,
        wanted: bool,
    ) -> task::Poll<Completion> {
        match self.resources.get_mut(id) {
            None => dead(id),
            Some(resource) if !suits(resource.kind()) => misuse(id),
            Some(resource) => {
                if resource.want(Interest::READ, wanted) {
                    self.changed.push(id);
                }
                task::Poll::Pending
            }
        }
    }

    fn watch(&mut self, id: Id, interest: Interest, once: bool) -> task::Poll<Completion> {
        match self.resources.get_mut(id) {
            None => dead(id),
            Some(resource) if resource.kind() != Kind::Watch => misuse(id),
            Some(resource) => {
                if resource.want_exactly(interest) {
                    self.changed.push(id);
                }
                if interest.is_none() {
                    return task::Poll::Pending;
                }
                resource.set_once(once);
                match apply::arm(&mut self.watching, id, resource, interest) {
                    Ok(()) => task::Poll::Pending,
                    Err(error) => {
                        resource.want_exactly(Interest::NONE);
                        task::Poll::Ready(Completion::Failed(id, error))
                    }
                }
            }
        }
    }
}

impl<B> Drop for Readiness<B> {
    fn drop(&mut self) {
        for (_, resource) in self.resources.iter() {
            datagram::let_go(resource, self.maker);
        }
    }
}

impl<B: Backend> Driver for Readiness<B> {
    type Socket = OwnedFd;

    fn name(&self) -> &'static str {
        B::NAME
    }

    #[inline]
    fn now(&self) -> Time {
        crate::clock::monotonic()
    }

    fn only_wakes(&mut self, id: Id) {
        if let Some(resource) = self.resources.get_mut(id) {
            self.watching.leave_out(resource);
        }
    }

    fn adopt(&mut self, socket: OwnedFd, role: Role) -> io::Result<Id> {
        B::check(socket.as_raw_fd())?;
        let kind = match role {
            Role::Stream | Role::Accepted(_) => Kind::Stream,
            Role::Pipe => Kind::Pipe,
            Role::Datagram | Role::SharedDatagram => Kind::Datagram,
            Role::Listener | Role::SharedListener => Kind::Listener,
        };
        let edges = B::EDGES && self.is_tcp(&socket, role);
        let number = socket.as_raw_fd();
        let mut resource = Resource::new(Source::Owned(socket), kind);
        if edges && kind == Kind::Stream {
            resource = resource.with_edges();
        }
        if role == Role::SharedDatagram {
            resource.joining = Joining::never();
        }
        if kind == Kind::Listener {
            resource.set_gives_tcp(edges);
        }
        Ok(self.hold(number, resource))
    }

    fn borrow(&mut self, fd: RawSocket) -> io::Result<Id> {
        if fd < 0 {
            return Err(resource::lost());
        }
        B::check(fd)?;
        // Only the limit on open descriptors keeps the array of holders small.
        if !self.holders.reaches(fd) && !backend::is_open(fd) {
            return Err(resource::lost());
        }
        let holder = self.holders.get(fd).and_then(|id| self.resources.get(id));
        if holder.is_some_and(|resource| resource.owned().is_ok()) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(self.hold(fd, Resource::new(Source::Borrowed(fd), Kind::Watch)))
    }

    fn release(&mut self, id: Id) -> Option<OwnedFd> {
        self.resources.get(id)?.owned().ok()?;
        match self.forget(id)? {
            Source::Owned(socket) => Some(socket),
            Source::Borrowed(_) | Source::Lost => None,
        }
    }

    #[inline(always)]
    fn submit(&mut self, op: Op<'_>) -> task::Poll<Completion> {
        match op {
            Op::Send { id, bufs } | Op::SendSoon { id, bufs } => self.send(id, bufs),
            Op::RecvStart(id) => self.want_read(id, Kind::receives, true),
            Op::RecvStop(id) => self.want_read(id, Kind::receives, false),
            Op::AcceptStart(id) => self.want_read(id, Kind::accepts, true),
            Op::AcceptStop(id) => self.want_read(id, Kind::accepts, false),
            Op::SendDatagrams { id, datagrams } => self.send_datagrams(id, datagrams),
            Op::AwaitRoom(id) => self.await_room(id),
            Op::Watch { id, interest } => self.watch(id, interest, false),
            Op::WatchOnce { id, interest } => self.watch(id, interest, true),
            Op::Connect { id, addr } => self.connect(id, addr),
            Op::Shutdown(id) => self.shutdown(id),
            // A regular file is always ready, but blocks nevertheless.
            Op::File(transfer) => task::Poll::Ready(transfer.refuse().into()),
            Op::Close(id) => {
                drop(self.forget(id));
                task::Poll::Ready(Completion::Closed(id))
            }
        }
    }

    #[inline(always)]
    fn take(&mut self, id: Id) -> io::Result<Received<'_>> {
        let Some(stream) = self.resources.get_mut(id) else {
            return Ok(Received::Nothing);
        };
        let outcome = self.buffer.receive(stream.channel()?);
        if stream.has_taken(&outcome, RECEIVE_BUFFER) {
            self.changed.push(id);
        }
        match outcome {
            Ok(Received::Eof) => stream.clean_end().map(|()| Received::Eof),
            outcome => outcome,
        }
    }

    #[inline]
    fn take_or_fill(&mut self, id: Id, room: &mut [MaybeUninit<u8>]) -> io::Result<Taken<'_>> {
        let Some(stream) = self.resources.get_mut(id) else {
            return Ok(Taken::Lent(Received::Nothing));
        };
        let asked = room.len();
        let outcome = receive::receive(stream.channel()?, room);
        if stream.has_taken(&outcome, asked) {
            self.changed.push(id);
        }
        Ok(match outcome? {
            Received::Data(data) => Taken::Filled(data.len()),
            Received::Eof => {
                stream.clean_end()?;
                Taken::Lent(Received::Eof)
            }
            Received::Nothing => Taken::Lent(Received::Nothing),
        })
    }

    #[inline(always)]
    fn take_into(&mut self, id: Id, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(stream) = self.resources.get_mut(id) else {
            return Ok(None);
        };
        let outcome = receive::receive_into(stream.channel()?, buffer);
        if let Ok(received) = outcome {
            stream.has_read(received, buffer.len());
        }
        let over = match &outcome {
            Ok(received) => *received == Some(0) && !buffer.is_empty(),
            Err(_) => true,
        };
        if over {
            if stream.end_receiving() {
                self.changed.push(id);
            }
            if outcome.is_ok() {
                stream.clean_end()?;
            }
        }
        outcome
    }

    fn take_datagrams(
        &mut self,
        id: Id,
        limit: usize,
        each: impl FnMut(&[u8], Option<Address>),
    ) -> io::Result<usize> {
        self.receive_datagrams(id, limit, each)
    }

    fn accept(&mut self, id: Id) -> io::Result<Option<(OwnedFd, Option<SocketAddr>)>> {
        self.accept_next(id)
    }

    fn wait(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        let before = completions.len();
        self.prepare(completions);
        let timeout = if completions.len() > before {
            Some(Duration::ZERO)
        } else {
            timeout
        };
        // The multiplexer is not asked if it can have nothing to report.
        if timeout == Some(Duration::ZERO) && self.watching.is_idle() && !self.bell.is_rung() {
            return Ok(());
        }
        self.collect(timeout, completions)
    }

    fn waker(&self) -> Waker {
        self.bell.waker()
    }

    fn after_fork(&mut self) -> io::Result<()> {
        self.bell = WakeDescriptor::new()?;
        self.rebuild()
    }
}

impl<B: Backend> Readiness<B> {
    #[inline(always)]
    fn send(&mut self, id: Id, bufs: &[io::IoSlice<'_>]) -> task::Poll<Completion> {
        let Some(stream) = self.resources.get_mut(id) else {
            return dead(id);
        };
        if !stream.kind().carries_bytes() {
            return misuse(id);
        }
        if !stream.is_full() {
            match stream
                .channel()
                .and_then(|channel| transfer::send(channel, bufs, &mut self.joined))
            {
                Ok(sent) => {
                    stream.set_full(sent.short);
                    return task::Poll::Ready(Completion::Sent(id, Ok(sent.bytes)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.set_full(true),
                Err(error) => {
                    stream.has_failed(&error);
                    return task::Poll::Ready(Completion::Sent(id, Err(error)));
                }
            }
        }
        if stream.want(Interest::WRITE, true) {
            self.changed.push(id);
        }
        task::Poll::Pending
    }

    fn shutdown(&mut self, id: Id) -> task::Poll<Completion> {
        let Some(stream) = self.resources.get(id) else {
            return dead(id);
        };
        if stream.kind() != Kind::Stream {
            return misuse(id);
        }
        match stream.owned() {
            Err(_) => misuse(id),
            Ok(fd) => task::Poll::Ready(Completion::Sent(id, transfer::shutdown(fd).map(|()| 0))),
        }
    }

    fn connect(&mut self, id: Id, addr: SocketAddr) -> task::Poll<Completion> {
        let Some(stream) = self.resources.get_mut(id) else {
            return dead(id);
        };
        if stream.kind() != Kind::Stream || stream.is_connecting() {
            return misuse(id);
        }
        match stream.owned().and_then(|fd| transfer::connect(fd, addr)) {
            Ok(task::Poll::Ready(())) => task::Poll::Ready(Completion::Connected(id, Ok(()))),
            Ok(task::Poll::Pending) => {
                if stream.begin_connecting() {
                    self.changed.push(id);
                }
                task::Poll::Pending
            }
            Err(error) => task::Poll::Ready(Completion::Connected(id, Err(error))),
        }
    }
}

#[cold]
pub(crate) fn dead(id: Id) -> task::Poll<Completion> {
    task::Poll::Ready(Completion::Failed(id, io::ErrorKind::NotFound.into()))
}

#[cold]
pub(crate) fn misuse(id: Id) -> task::Poll<Completion> {
    task::Poll::Ready(Completion::Failed(id, io::ErrorKind::InvalidInput.into()))
}
