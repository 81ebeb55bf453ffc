//! A driver without an operating system: a virtual clock and a network in memory.
//!
//! The same program with the same seed does the same things in the same order, as often as one
//! likes. Time passes only in [`Driver::wait`], which jumps to whatever comes next: a message that
//! arrives, or the end of the time-out. With nothing to wait for at all it sleeps, really, until its
//! waker is used. A wake from another thread is the one thing that a seed does not decide.
//!
//! There are no descriptors and no datagrams: [`Driver::borrow`] and [`Role::Datagram`] are
//! `Unsupported`.

mod faults;
mod network;

use std::fmt;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use oxlip_core::address::Address;
use oxlip_core::id::{Arena, Id};
use oxlip_core::op::{Completion, Interest, Op};
use oxlip_core::time::Time;

pub use self::faults::Faults;
use self::network::Network;
use crate::wake::{Parking, Waker};
use crate::{Driver, RawSocket, Received, Role};

/// A simulated network and the clock it runs on. All its sockets talk to each other.
pub struct Sim {
    network: Network,
    resources: Arena<Resource>,
    /// Endpoints whose [`SimSocket`] was dropped before anybody adopted it.
    dropped: Arc<Mutex<Vec<Id>>>,
    parking: Parking,
    buffer: Vec<u8>,
}

struct Resource {
    endpoint: Id,
    role: Role,
    wanted: Interest,
    connecting: bool,
    full: bool,
    received_all: bool,
}

/// A socket of a [`Sim`]: adopted by the one that made it, closed when dropped.
pub struct SimSocket {
    endpoint: Id,
    /// `None` once adopted.
    dropped: Option<Arc<Mutex<Vec<Id>>>>,
}

/// At most this much is taken at once, as from the readiness drivers.
const RECEIVE_LIMIT: usize = 256 * 1024;

impl Sim {
    /// A network without faults. The seed decides about those that [`Sim::set_faults`] allows.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            network: Network::new(seed),
            resources: Arena::new(),
            dropped: Arc::default(),
            parking: Parking::default(),
            buffer: Vec::new(),
        }
    }

    /// What the network does from now on. The window is that of connections made from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.network.faults = faults;
    }

    /// From now on at most `limit` sockets are open at a time: one more is `EMFILE`.
    pub fn set_descriptor_limit(&mut self, limit: usize) {
        self.network.descriptor_limit = limit;
    }

    /// Connecting to this address is never answered.
    pub fn silence(&mut self, addr: SocketAddr) {
        self.network.silence(addr);
    }

    /// Cuts a connection: both sides see a reset once the news has arrived.
    pub fn cut(&mut self, id: Id) {
        if let Some(resource) = self.resources.get(id) {
            self.network.break_connection(resource.endpoint);
        }
    }

    /// A listening socket; port 0 takes a free one.
    ///
    /// # Errors
    /// `EADDRINUSE`, `EMFILE`.
    pub fn listen(&mut self, addr: SocketAddr, backlog: usize) -> io::Result<SimSocket> {
        self.bury();
        let endpoint = self.network.listen(addr, backlog)?;
        Ok(self.socket(endpoint))
    }

    /// An unconnected stream of the address's family.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn stream(&mut self, like: SocketAddr) -> io::Result<SimSocket> {
        self.bury();
        let endpoint = self.network.stream(like)?;
        Ok(self.socket(endpoint))
    }

    /// Two connected streams.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn pair(&mut self) -> io::Result<(SimSocket, SimSocket)> {
        self.bury();
        let (one, other) = self.network.pair()?;
        Ok((self.socket(one), self.socket(other)))
    }

    /// The address that a resource is bound to.
    #[must_use]
    pub fn local_addr(&self, id: Id) -> Option<SocketAddr> {
        self.network.local_addr(self.resources.get(id)?.endpoint)
    }

    /// The address of a connected stream's peer.
    #[must_use]
    pub fn peer_addr(&self, id: Id) -> Option<SocketAddr> {
        self.network.peer_addr(self.resources.get(id)?.endpoint)
    }

    fn socket(&self, endpoint: Id) -> SimSocket {
        SimSocket {
            endpoint,
            dropped: Some(self.dropped.clone()),
        }
    }

    /// Closes what was dropped unadopted.
    fn bury(&mut self) {
        let dropped = mem::take(&mut *self.dropped.lock().unwrap_or_else(PoisonError::into_inner));
        for endpoint in dropped {
            self.network.close(endpoint);
        }
    }

    /// Appends what the resources are ready for; nothing is ready twice in one wait.
    fn collect(&mut self, completions: &mut Vec<Completion>) {
        let mut ids: Vec<Id> = self.resources.iter().map(|(id, _)| id).collect();
        if self.network.faults.reorder {
            self.network.dice.shuffle(&mut ids);
        }
        for id in ids {
            let Some(resource) = self.resources.get_mut(id) else {
                continue;
            };
            if resource.connecting {
                let Some(outcome) = self.network.connect_outcome(resource.endpoint) else {
                    continue;
                };
                resource.connecting = false;
                completions.push(Completion::Connected(id, outcome));
            }
            if resource.wanted.reads() && !resource.received_all {
                let stale = self.network.faults.stale_hints;
                if self.network.readable(resource.endpoint) || self.network.dice.happens(stale) {
                    completions.push(match resource.role {
                        Role::Stream | Role::Accepted(_) | Role::Pipe => Completion::Readable(id),
                        Role::Datagram | Role::SharedDatagram => Completion::Receivable(id),
                        Role::Listener | Role::SharedListener => Completion::Acceptable(id),
                    });
                }
            }
            if resource.wanted.writes() && self.network.writable(resource.endpoint) {
                resource.wanted = resource.wanted.without(Interest::WRITE);
                resource.full = false;
                completions.push(Completion::Sendable(id));
            }
        }
    }

    fn resource(&mut self, id: Id, role: Role) -> Result<&mut Resource, Poll<Completion>> {
        let refused = |kind: io::ErrorKind| Poll::Ready(Completion::Failed(id, kind.into()));
        match self.resources.get_mut(id) {
            None => Err(refused(io::ErrorKind::NotFound)),
            Some(resource) if resource.role != role => Err(refused(io::ErrorKind::InvalidInput)),
            Some(resource) => Ok(resource),
        }
    }

    fn want_read(&mut self, id: Id, role: Role, wanted: bool) -> Poll<Completion> {
        match self.resource(id, role) {
            Err(refused) => refused,
            Ok(resource) => {
                let others = resource.wanted.without(Interest::READ);
                resource.wanted = if wanted {
                    others | Interest::READ
                } else {
                    others
                };
                Poll::Pending
            }
        }
    }

    fn send(&mut self, id: Id, bufs: &[io::IoSlice<'_>]) -> Poll<Completion> {
        let (endpoint, full) = match self.resource(id, Role::Stream) {
            Err(refused) => return refused,
            Ok(stream) => (stream.endpoint, stream.full),
        };
        let outcome = if full {
            Ok(None)
        } else {
            self.network.send(endpoint, bufs)
        };
        let Some(stream) = self.resources.get_mut(id) else {
            return Poll::Pending;
        };
        match outcome {
            Ok(Some(sent)) => {
                stream.full = sent.short;
                Poll::Ready(Completion::Sent(id, Ok(sent.bytes)))
            }
            Ok(None) => {
                stream.full = true;
                stream.wanted |= Interest::WRITE;
                Poll::Pending
            }
            Err(error) => Poll::Ready(Completion::Sent(id, Err(error))),
        }
    }

    fn connect(&mut self, id: Id, addr: SocketAddr) -> Poll<Completion> {
        let endpoint = match self.resource(id, Role::Stream) {
            Err(refused) => return refused,
            Ok(stream) if stream.connecting => {
                return Poll::Ready(Completion::Failed(id, io::ErrorKind::InvalidInput.into()));
            }
            Ok(stream) => stream.endpoint,
        };
        match self.network.connect(endpoint, addr) {
            Err(error) => Poll::Ready(Completion::Connected(id, Err(error))),
            Ok(()) => {
                if let Some(stream) = self.resources.get_mut(id) {
                    stream.connecting = true;
                }
                Poll::Pending
            }
        }
    }

    fn shutdown(&mut self, id: Id) -> Poll<Completion> {
        match self
            .resource(id, Role::Stream)
            .map(|stream| stream.endpoint)
        {
            Err(refused) => refused,
            Ok(endpoint) => {
                self.network.shutdown(endpoint);
                Poll::Ready(Completion::Sent(id, Ok(0)))
            }
        }
    }

    /// Fills the buffer: how many bytes, 0 at the end of the stream.
    fn receive(&mut self, id: Id, limit: usize) -> io::Result<Option<usize>> {
        self.buffer.clear();
        let Some(stream) = self.resources.get_mut(id) else {
            return Ok(None);
        };
        if stream.role != Role::Stream {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let outcome = self
            .network
            .receive(stream.endpoint, limit, &mut self.buffer);
        stream.received_all |= match outcome {
            Ok(received) => received == Some(0) && limit > 0,
            Err(_) => true,
        };
        outcome
    }
}

impl Driver for Sim {
    type Socket = SimSocket;

    fn name(&self) -> &'static str {
        "sim"
    }

    fn now(&self) -> Time {
        self.network.now
    }

    fn adopt(&mut self, mut socket: SimSocket, role: Role) -> io::Result<Id> {
        let role = match role {
            Role::Stream | Role::Accepted(_) => Role::Stream,
            Role::Listener | Role::SharedListener => Role::Listener,
            Role::Pipe => return Err(io::ErrorKind::Unsupported.into()),
            Role::Datagram | Role::SharedDatagram => {
                let message = "the simulated network carries no datagrams";
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
        };
        if !socket
            .dropped
            .as_ref()
            .is_some_and(|dropped| Arc::ptr_eq(dropped, &self.dropped))
        {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        socket.dropped = None;
        Ok(self.resources.insert(Resource {
            endpoint: socket.endpoint,
            role,
            wanted: Interest::NONE,
            connecting: false,
            full: false,
            received_all: false,
        }))
    }

    fn borrow(&mut self, _fd: RawSocket) -> io::Result<Id> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn release(&mut self, id: Id) -> Option<SimSocket> {
        let resource = self.resources.remove(id)?;
        Some(self.socket(resource.endpoint))
    }

    fn submit(&mut self, op: Op<'_>) -> Poll<Completion> {
        match op {
            Op::Send { id, bufs } | Op::SendSoon { id, bufs } => self.send(id, bufs),
            Op::RecvStart(id) => self.want_read(id, Role::Stream, true),
            Op::RecvStop(id) => self.want_read(id, Role::Stream, false),
            Op::AcceptStart(id) => self.want_read(id, Role::Listener, true),
            Op::AcceptStop(id) => self.want_read(id, Role::Listener, false),
            Op::Connect { id, addr } => self.connect(id, addr),
            Op::Shutdown(id) => self.shutdown(id),
            Op::Watch { id, .. }
            | Op::WatchOnce { id, .. }
            | Op::SendDatagrams { id, .. }
            | Op::AwaitRoom(id) => {
                let kind = match self.resources.get(id) {
                    Some(_) => io::ErrorKind::InvalidInput,
                    None => io::ErrorKind::NotFound,
                };
                Poll::Ready(Completion::Failed(id, kind.into()))
            }
            // There are no files in this world: the embedder has its own way to the system's.
            Op::File(transfer) => Poll::Ready(transfer.refuse().into()),
            Op::Close(id) => {
                if let Some(resource) = self.resources.remove(id) {
                    self.network.close(resource.endpoint);
                }
                Poll::Ready(Completion::Closed(id))
            }
        }
    }

    fn take(&mut self, id: Id) -> io::Result<Received<'_>> {
        Ok(match self.receive(id, RECEIVE_LIMIT)? {
            None => Received::Nothing,
            Some(0) => Received::Eof,
            Some(_) => Received::Data(&self.buffer),
        })
    }

    fn take_into(&mut self, id: Id, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let received = self.receive(id, buffer.len())?;
        buffer[..self.buffer.len()].copy_from_slice(&self.buffer);
        Ok(received)
    }

    fn take_datagrams(
        &mut self,
        id: Id,
        _limit: usize,
        _each: impl FnMut(&[u8], Option<Address>),
    ) -> io::Result<usize> {
        match self.resources.get(id) {
            None => Ok(0),
            Some(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn accept(&mut self, id: Id) -> io::Result<Option<(SimSocket, Option<SocketAddr>)>> {
        self.bury();
        let Some(listener) = self.resources.get(id) else {
            return Ok(None);
        };
        if listener.role != Role::Listener {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let accepted = self.network.accept(listener.endpoint)?;
        Ok(accepted.map(|(endpoint, peer)| (self.socket(endpoint), Some(peer))))
    }

    fn wait(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        let before = completions.len();
        let deadline = timeout.map(|timeout| self.network.now.after(timeout));
        let mut woken = self.parking.was_woken();
        loop {
            self.bury();
            self.network.deliver();
            self.collect(completions);
            if woken
                || completions.len() > before
                || deadline.is_some_and(|deadline| deadline <= self.network.now)
            {
                return Ok(());
            }
            match (self.network.next_arrival(), deadline) {
                (Some(arrival), Some(deadline)) => self.network.now = arrival.min(deadline),
                (Some(time), None) | (None, Some(time)) => self.network.now = time,
                (None, None) => {
                    self.parking.sleep();
                    woken = true;
                }
            }
        }
    }

    fn waker(&self) -> Waker {
        self.parking.waker()
    }

    fn after_fork(&mut self) -> io::Result<()> {
        Ok(()) // All of it is memory.
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim")
            .field("now", &self.network.now)
            .field("resources", &self.resources.len())
            .finish()
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        if let Some(dropped) = self.dropped.take() {
            dropped
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(self.endpoint);
        }
    }
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimSocket").field(&self.endpoint).finish()
    }
}
