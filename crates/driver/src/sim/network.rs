//! The simulated network: endpoints, and what is under way between them.
//!
//! TCP as a program sees it, without packets: connections are asked for and answered, bytes arrive
//! in order within a window, an end or a reset comes after them. Nothing here iterates over an
//! unordered map or reads a clock, so the same calls with the same seed give the same network.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::faults::{Dice, Faults};
use crate::shortage::out_of_descriptors;
use oxlip_core::id::{Arena, Id};
use oxlip_core::op::MAX_BUFFERS;
use oxlip_core::time::Time;

pub(super) struct Network {
    pub(super) now: Time,
    pub(super) faults: Faults,
    pub(super) dice: Dice,
    /// Open sockets that the process may have; accepting or making one more gives `EMFILE`.
    pub(super) descriptor_limit: usize,
    descriptors: usize,
    endpoints: Arena<Endpoint>,
    listeners: BTreeMap<SocketAddr, Id>,
    /// Addresses that swallow whoever calls them.
    silent: BTreeSet<SocketAddr>,
    under_way: BTreeMap<(Time, u64), (Id, Cargo)>,
    sent: u64,
    next_port: u16,
}

enum Endpoint {
    Listener(Listener),
    Stream(Box<Stream>),
}

struct Listener {
    addr: SocketAddr,
    backlog: usize,
    waiting: VecDeque<Id>,
}

struct Stream {
    local: SocketAddr,
    remote: Option<SocketAddr>,
    connection: Connection,
    arrived: VecDeque<u8>,
    /// What follows the bytes that have arrived.
    end: Option<End>,
    /// How many bytes more the connection takes.
    room: usize,
    /// Our end has been sent.
    shut: bool,
    /// When the last thing that was sent arrives: nothing overtakes it.
    last_arrival: Time,
}

#[derive(Clone, Copy)]
enum Connection {
    Unconnected,
    Asked,
    /// With whom. The other endpoint may be gone.
    With(Id),
    Failed(ErrorKind),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Eof,
    Reset,
}

enum Cargo {
    Bytes {
        from: Id,
        bytes: Vec<u8>,
    },
    End(End),
    /// A connection is asked for; the cargo's addressee is the one who asks.
    Knock(SocketAddr),
    Answer(Connection),
    /// Bytes that the other side has taken.
    Room(usize),
}

/// What a send came to.
pub(super) struct SendOutcome {
    pub(super) bytes: usize,
    pub(super) short: bool,
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Time::ZERO,
            faults: Faults::default(),
            dice: Dice::new(seed),
            descriptor_limit: usize::MAX,
            descriptors: 0,
            endpoints: Arena::new(),
            listeners: BTreeMap::new(),
            silent: BTreeSet::new(),
            under_way: BTreeMap::new(),
            sent: 0,
            next_port: 49152,
        }
    }

    // Making and closing endpoints.

    pub(super) fn listen(&mut self, mut addr: SocketAddr, backlog: usize) -> io::Result<Id> {
        if addr.port() == 0 {
            addr.set_port(self.free_port());
        }
        if self.listeners.contains_key(&addr) {
            return Err(ErrorKind::AddrInUse.into());
        }
        self.open_descriptor()?;
        let listener = Listener {
            addr,
            backlog: backlog.max(1),
            waiting: VecDeque::new(),
        };
        let id = self.endpoints.insert(Endpoint::Listener(listener));
        self.listeners.insert(addr, id);
        Ok(id)
    }

    pub(super) fn stream(&mut self, like: SocketAddr) -> io::Result<Id> {
        self.open_descriptor()?;
        let local = SocketAddr::new(loopback(like), self.free_port());
        Ok(self.insert_stream(local, None, Connection::Unconnected))
    }

    /// Two connected streams.
    pub(super) fn pair(&mut self) -> io::Result<(Id, Id)> {
        let like = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let one = self.stream(like)?;
        let other = self.stream(like).inspect_err(|_| self.close(one))?;
        self.join(one, other);
        Ok((one, other))
    }

    fn insert_stream(
        &mut self,
        local: SocketAddr,
        remote: Option<SocketAddr>,
        connection: Connection,
    ) -> Id {
        self.endpoints.insert(Endpoint::Stream(Box::new(Stream {
            local,
            remote,
            connection,
            arrived: VecDeque::new(),
            end: None,
            room: self.faults.window,
            shut: false,
            last_arrival: self.now,
        })))
    }

    fn join(&mut self, one: Id, other: Id) {
        for (this, that) in [(one, other), (other, one)] {
            let remote = self.local_addr(that);
            if let Some(stream) = self.stream_mut(this) {
                stream.connection = Connection::With(that);
                stream.remote = remote;
            }
        }
    }

    /// Closes as a kernel does: the peer gets the end of the stream, or a reset if bytes are left
    /// that nobody took.
    pub(super) fn close(&mut self, id: Id) {
        let Some(endpoint) = self.endpoints.remove(id) else {
            return;
        };
        self.descriptors -= 1;
        match endpoint {
            Endpoint::Listener(listener) => {
                self.listeners.remove(&listener.addr);
                for waiting in listener.waiting {
                    // Never accepted, so never counted: this only balances the call below.
                    self.descriptors += 1;
                    self.break_connection(waiting);
                    self.close(waiting);
                }
            }
            Endpoint::Stream(stream) => {
                let Connection::With(peer) = stream.connection else {
                    return;
                };
                let unread = !stream.arrived.is_empty();
                // After a reset there is no connection left to end.
                if stream.end != Some(End::Reset) && (unread || !stream.shut) {
                    let end = if unread { End::Reset } else { End::Eof };
                    self.dispatch_after(stream.last_arrival, peer, Cargo::End(end));
                }
            }
        }
    }

    /// The network cuts the connection: both sides see a reset, in due time.
    pub(super) fn break_connection(&mut self, id: Id) {
        let Some(&mut Stream {
            connection: Connection::With(peer),
            ..
        }) = self.stream_mut(id)
        else {
            return;
        };
        for side in [id, peer] {
            self.dispatch_after(Time::ZERO, side, Cargo::End(End::Reset));
        }
    }

    pub(super) fn silence(&mut self, addr: SocketAddr) {
        self.silent.insert(addr);
    }

    fn open_descriptor(&mut self) -> io::Result<()> {
        if self.descriptors >= self.descriptor_limit {
            return Err(out_of_descriptors());
        }
        self.descriptors += 1;
        Ok(())
    }

    fn free_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(49152);
        port
    }

    // Connections.

    pub(super) fn connect(&mut self, id: Id, addr: SocketAddr) -> io::Result<()> {
        let Some(stream) = self.stream_mut(id) else {
            return Err(ErrorKind::NotFound.into());
        };
        match stream.connection {
            Connection::Unconnected | Connection::Failed(_) => {}
            Connection::Asked | Connection::With(_) => {
                return Err(ErrorKind::InvalidInput.into());
            }
        }
        stream.connection = Connection::Asked;
        stream.remote = Some(addr);
        if !self.silent.contains(&addr) {
            self.dispatch_after(Time::ZERO, id, Cargo::Knock(addr));
        }
        Ok(())
    }

    /// How the connect ended, once it has.
    pub(super) fn connect_outcome(&self, id: Id) -> Option<io::Result<()>> {
        match self.stream_ref(id)?.connection {
            Connection::Unconnected | Connection::Asked => None,
            Connection::With(_) => Some(Ok(())),
            Connection::Failed(kind) => Some(Err(kind.into())),
        }
    }

    pub(super) fn accept(&mut self, id: Id) -> io::Result<Option<(Id, SocketAddr)>> {
        let has_one = match self.endpoints.get(id) {
            Some(Endpoint::Listener(listener)) => !listener.waiting.is_empty(),
            Some(Endpoint::Stream(_)) => return Err(ErrorKind::InvalidInput.into()),
            None => return Err(ErrorKind::NotFound.into()),
        };
        if !has_one {
            return Ok(None);
        }
        self.open_descriptor()?;
        let Some(Endpoint::Listener(listener)) = self.endpoints.get_mut(id) else {
            return Ok(None);
        };
        let accepted = listener.waiting.pop_front();
        Ok(accepted.and_then(|stream| Some((stream, self.stream_ref(stream)?.remote?))))
    }

    fn knock(&mut self, caller: Id, addr: SocketAddr) {
        let Some(caller_addr) = self.local_addr(caller) else {
            return;
        };
        let wildcard = SocketAddr::new(unspecified(addr), addr.port());
        let listener = self
            .listeners
            .get(&addr)
            .or_else(|| self.listeners.get(&wildcard))
            .copied();
        let open = listener.filter(|id| match self.endpoints.get(*id) {
            Some(Endpoint::Listener(listener)) => listener.waiting.len() < listener.backlog,
            _ => false,
        });
        let answer = match open {
            None => Connection::Failed(ErrorKind::ConnectionRefused),
            Some(listener) => {
                let accepted =
                    self.insert_stream(addr, Some(caller_addr), Connection::With(caller));
                if let Some(Endpoint::Listener(listener)) = self.endpoints.get_mut(listener) {
                    listener.waiting.push_back(accepted);
                }
                Connection::With(accepted)
            }
        };
        self.dispatch_after(Time::ZERO, caller, Cargo::Answer(answer));
    }

    // Bytes.

    pub(super) fn send(&mut self, id: Id, bufs: &[IoSlice<'_>]) -> io::Result<Option<SendOutcome>> {
        let Some(stream) = self.stream_ref(id) else {
            return Err(ErrorKind::NotFound.into());
        };
        let Connection::With(peer) = stream.connection else {
            return if matches!(stream.connection, Connection::Asked) {
                Ok(None)
            } else {
                Err(ErrorKind::BrokenPipe.into())
            };
        };
        if stream.shut || stream.end == Some(End::Reset) {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = stream.room;
        let bufs = &bufs[..bufs.len().min(MAX_BUFFERS)];
        let given: usize = bufs.iter().map(|buf| buf.len()).sum();
        if given > 0 && room == 0 {
            return Ok(None);
        }
        if self.dice.happens(self.faults.resets) {
            self.break_connection(id);
        }
        let mut taken = given.min(room);
        if self.dice.happens(self.faults.short_writes) {
            taken = self.dice.part(taken);
        }
        let bytes: Vec<u8> = bufs
            .iter()
            .flat_map(|buf| buf.iter().copied())
            .take(taken)
            .collect();
        if taken > 0 {
            self.dispatch(id, peer, Cargo::Bytes { from: id, bytes });
            if let Some(stream) = self.stream_mut(id) {
                stream.room -= taken;
            }
        }
        Ok(Some(SendOutcome {
            bytes: taken,
            short: taken < given,
        }))
    }

    pub(super) fn shutdown(&mut self, id: Id) {
        let Some(stream) = self.stream_mut(id) else {
            return;
        };
        let Connection::With(peer) = stream.connection else {
            return;
        };
        if !std::mem::replace(&mut stream.shut, true) {
            self.dispatch(id, peer, Cargo::End(End::Eof));
        }
    }

    /// Moves what has arrived, at most `limit` bytes, into `into`: how many, 0 at the end of the
    /// stream, `None` if nothing is there.
    pub(super) fn receive(
        &mut self,
        id: Id,
        limit: usize,
        into: &mut Vec<u8>,
    ) -> io::Result<Option<usize>> {
        let Some(stream) = self.stream_ref(id) else {
            return Err(ErrorKind::NotFound.into());
        };
        let Connection::With(peer) = stream.connection else {
            return if matches!(stream.connection, Connection::Asked) {
                Ok(None)
            } else {
                Err(ErrorKind::NotConnected.into())
            };
        };
        let mut count = stream.arrived.len().min(limit);
        if count == 0 && limit > 0 {
            return match stream.end {
                None => Ok(None),
                Some(End::Eof) => Ok(Some(0)),
                Some(End::Reset) => Err(ErrorKind::ConnectionReset.into()),
            };
        }
        if self.dice.happens(self.faults.short_reads) {
            count = self.dice.part(count);
        }
        if let Some(stream) = self.stream_mut(id) {
            into.extend(stream.arrived.drain(..count));
        }
        self.dispatch_after(Time::ZERO, peer, Cargo::Room(count));
        Ok(Some(count))
    }

    // What an endpoint is ready for.

    pub(super) fn readable(&self, id: Id) -> bool {
        match self.endpoints.get(id) {
            Some(Endpoint::Stream(stream)) => !stream.arrived.is_empty() || stream.end.is_some(),
            Some(Endpoint::Listener(listener)) => !listener.waiting.is_empty(),
            None => false,
        }
    }

    pub(super) fn writable(&self, id: Id) -> bool {
        self.stream_ref(id)
            .is_some_and(|stream| match stream.connection {
                Connection::Asked => false,
                Connection::With(_) => {
                    stream.room > 0 || stream.shut || stream.end == Some(End::Reset)
                }
                Connection::Unconnected | Connection::Failed(_) => true,
            })
    }

    pub(super) fn local_addr(&self, id: Id) -> Option<SocketAddr> {
        match self.endpoints.get(id)? {
            Endpoint::Stream(stream) => Some(stream.local),
            Endpoint::Listener(listener) => Some(listener.addr),
        }
    }

    pub(super) fn peer_addr(&self, id: Id) -> Option<SocketAddr> {
        let stream = self.stream_ref(id)?;
        stream
            .remote
            .filter(|_| matches!(stream.connection, Connection::With(_)))
    }

    // What is under way.

    pub(super) fn next_arrival(&self) -> Option<Time> {
        self.under_way.keys().next().map(|(time, _)| *time)
    }

    /// Lets everything arrive that is due.
    pub(super) fn deliver(&mut self) {
        while let Some(next) = self.under_way.first_entry() {
            if next.key().0 > self.now {
                return;
            }
            let (to, cargo) = next.remove();
            self.arrive(to, cargo);
        }
    }

    fn arrive(&mut self, to: Id, cargo: Cargo) {
        if let Cargo::Knock(addr) = cargo {
            return self.knock(to, addr);
        }
        let Some(stream) = self.stream_mut(to) else {
            return self.bounce(&cargo);
        };
        match cargo {
            Cargo::Bytes { bytes, .. } if stream.end != Some(End::Reset) => {
                stream.arrived.extend(bytes);
            }
            Cargo::End(end) if stream.end != Some(End::Reset) => stream.end = Some(end),
            Cargo::Room(bytes) => stream.room += bytes,
            Cargo::Answer(connection) => stream.connection = connection,
            Cargo::Bytes { .. } | Cargo::End(_) | Cargo::Knock(_) => {}
        }
    }

    /// Nobody is there any more: bytes and answers come back as a reset.
    fn bounce(&mut self, cargo: &Cargo) {
        match cargo {
            &(Cargo::Bytes { from: peer, .. } | Cargo::Answer(Connection::With(peer))) => {
                self.dispatch_after(Time::ZERO, peer, Cargo::End(End::Reset));
            }
            Cargo::Answer(_) | Cargo::End(_) | Cargo::Knock(_) | Cargo::Room(_) => {}
        }
    }

    /// Sends on a stream: it arrives after what was sent on it before.
    fn dispatch(&mut self, from: Id, to: Id, cargo: Cargo) {
        let earliest = self
            .stream_ref(from)
            .map_or(Time::ZERO, |stream| stream.last_arrival);
        let arrival = self.dispatch_after(earliest, to, cargo);
        if let Some(stream) = self.stream_mut(from) {
            stream.last_arrival = arrival;
        }
    }

    fn dispatch_after(&mut self, earliest: Time, to: Id, cargo: Cargo) -> Time {
        let nanos =
            |delay: &std::time::Duration| u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        let (low, high) = (
            nanos(self.faults.latency.start()),
            nanos(self.faults.latency.end()),
        );
        let latency = if low < high {
            self.dice.between(low, high)
        } else {
            low
        };
        let arrival = self
            .now
            .after(std::time::Duration::from_nanos(latency))
            .max(earliest);
        self.under_way.insert((arrival, self.sent), (to, cargo));
        self.sent += 1;
        arrival
    }

    fn stream_ref(&self, id: Id) -> Option<&Stream> {
        match self.endpoints.get(id)? {
            Endpoint::Stream(stream) => Some(stream),
            Endpoint::Listener(_) => None,
        }
    }

    fn stream_mut(&mut self, id: Id) -> Option<&mut Stream> {
        match self.endpoints.get_mut(id)? {
            Endpoint::Stream(stream) => Some(stream),
            Endpoint::Listener(_) => None,
        }
    }
}

fn loopback(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

fn unspecified(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
