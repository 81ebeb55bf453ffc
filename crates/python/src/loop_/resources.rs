//! What each of the driver's ids stands for.

use std::os::fd::RawFd;

use oxlip_core::bulk::Bulk;
use oxlip_core::id::Id;
use oxlip_core::stream::Stream;
use oxlip_core::write_queue::Flow;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::Watched;
use crate::buffer::Chunk;
use crate::tls::TlsProtocol;
use crate::transport::{self, Accepting, AnyTransport, Endpoint};
use crate::{ffi, names, streams};

/// A connected stream.
pub(crate) struct Connection {
    pub(crate) transport: AnyTransport,
    pub(crate) stream: Stream<Chunk>,
    pub(crate) receiver: Receiver,
    pub(crate) bulk: Bulk,
}

/// Who gets what arrives on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiver {
    /// `data_received()` of the protocol.
    Protocol,
    /// The buffer of a `BufferedProtocol`.
    Buffer,
    /// The reader behind asyncio's `StreamReaderProtocol`.
    Reader,
    /// A TLS connection of ours, which can be lent what arrives.
    Tls,
}

impl Receiver {
    /// That of a protocol.
    ///
    /// # Errors
    /// Those of `isinstance()`.
    pub(crate) fn of(protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        if transport::is_usual(protocol) {
            return Ok(Self::Protocol);
        }
        let buffered = names::BUFFERED_PROTOCOL.get(protocol.py())?;
        if let Ok(tls) = protocol.cast_exact::<TlsProtocol>() {
            return Ok(if tls.get().can_be_lent_to() {
                Self::Tls
            } else {
                Self::Protocol
            });
        }
        Ok(if protocol.is_instance(buffered)? {
            Self::Buffer
        } else if streams::feeds_a_reader(protocol) {
            Self::Reader
        } else {
            transport::learn(protocol)?;
            Self::Protocol
        })
    }

    /// Gives it data, which is never asked of [`Receiver::Buffer`].
    ///
    /// # Errors
    /// What the protocol or the reader raises.
    #[inline]
    pub(crate) fn give(
        self,
        protocol: &Bound<'_, PyAny>,
        data: &Bound<'_, PyBytes>,
    ) -> PyResult<()> {
        if self == Self::Reader {
            return streams::deliver(protocol, data);
        }
        let name = intern!(protocol.py(), "data_received");
        ffi::call_method(name, [protocol, data.as_any()]).map(drop)
    }
}

/// One resource of the driver's, and what the loop knows about it.
pub(crate) enum Resource {
    Connection(Box<Connection>),
    Endpoint(Box<Endpoint>),
    Listener(Box<Accepting>),
    Watched(Box<Watched>),
}

impl Resource {
    /// The transport that it belongs to.
    pub(crate) fn transport(&self, py: Python<'_>) -> Option<AnyTransport> {
        match self {
            Self::Connection(connection) => Some(connection.transport.clone_ref(py)),
            Self::Endpoint(endpoint) => {
                Some(AnyTransport::Datagram(endpoint.transport.clone_ref(py)))
            }
            Self::Listener(_) | Self::Watched(_) => None,
        }
    }

    /// Whether the transport has been closed or aborted.
    pub(crate) fn is_closing(&self) -> bool {
        match self {
            Self::Connection(connection) => connection.stream.is_closing(),
            Self::Endpoint(endpoint) => endpoint.machine.is_closing(),
            Self::Listener(_) | Self::Watched(_) => false,
        }
    }

    /// `connection_made` has been called; what arrives on a stream is this receiver's.
    pub(crate) fn start(&mut self, receiver: Receiver) {
        match self {
            Self::Connection(connection) => {
                connection.receiver = receiver;
                connection.stream.start();
            }
            Self::Endpoint(endpoint) => endpoint.machine.start(),
            Self::Listener(_) | Self::Watched(_) => {}
        }
    }

    /// Whether a transport is to be given what comes in.
    pub(crate) fn wants_read(&self) -> bool {
        match self {
            Self::Connection(connection) => connection.stream.wants_read(),
            Self::Endpoint(endpoint) => endpoint.machine.wants_read(),
            Self::Listener(_) | Self::Watched(_) => false,
        }
    }

    /// The size of a transport's write buffer.
    pub(crate) fn buffered(&self) -> usize {
        match self {
            Self::Connection(connection) => connection.stream.buffered(),
            Self::Endpoint(endpoint) => endpoint.machine.buffered(),
            Self::Listener(_) | Self::Watched(_) => 0,
        }
    }

    /// Sets the low and the high mark of a transport's write buffer: what the protocol is to be told then.
    pub(crate) fn set_limits(&mut self, high: usize, low: usize) -> Option<Flow> {
        match self {
            Self::Connection(connection) => connection.stream.set_limits(high, low),
            Self::Endpoint(endpoint) => endpoint.machine.set_limits(high, low),
            Self::Listener(_) | Self::Watched(_) => None,
        }
    }
}

/// All of them, found by id: the driver numbers its resources densely.
#[derive(Default)]
pub(crate) struct Resources {
    slots: Vec<Option<(Id, Resource)>>,
}

impl Resources {
    pub(crate) fn insert(&mut self, id: Id, resource: Resource) {
        if self.slots.len() <= id.index() {
            self.slots.resize_with(id.index() + 1, || None);
        }
        self.slots[id.index()] = Some((id, resource));
    }

    pub(crate) fn remove(&mut self, id: Id) -> Option<Resource> {
        let slot = self.slots.get_mut(id.index())?;
        if slot.as_ref().is_none_or(|(known, _)| *known != id) {
            return None;
        }
        slot.take().map(|(_, resource)| resource)
    }

    pub(crate) fn get(&self, id: Id) -> Option<&Resource> {
        match self.slots.get(id.index()) {
            Some(Some((known, resource))) if *known == id => Some(resource),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: Id) -> Option<&mut Resource> {
        match self.slots.get_mut(id.index()) {
            Some(Some((known, resource))) if *known == id => Some(resource),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn connection(&mut self, id: Id) -> Option<&mut Connection> {
        match self.get_mut(id) {
            Some(Resource::Connection(connection)) => Some(connection),
            _ => None,
        }
    }

    pub(crate) fn endpoint(&mut self, id: Id) -> Option<&mut Endpoint> {
        match self.get_mut(id) {
            Some(Resource::Endpoint(endpoint)) => Some(endpoint),
            _ => None,
        }
    }

    pub(crate) fn listener(&mut self, id: Id) -> Option<&mut Accepting> {
        match self.get_mut(id) {
            Some(Resource::Listener(accepting)) => Some(accepting),
            _ => None,
        }
    }

    pub(crate) fn watched(&mut self, id: Id) -> Option<&mut Watched> {
        match self.get_mut(id) {
            Some(Resource::Watched(watched)) => Some(watched),
            _ => None,
        }
    }

    pub(crate) fn for_each(&self, mut f: impl FnMut(Id, &Resource)) {
        for (id, resource) in self.slots.iter().flatten() {
            f(*id, resource);
        }
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for (_, resource) in self.slots.iter().flatten() {
            match resource {
                // Chunks hold only bytes objects, which are in no cycle.
                Resource::Connection(connection) => connection.transport.traverse(visit)?,
                Resource::Endpoint(endpoint) => endpoint.traverse(visit)?,
                Resource::Listener(accepting) => accepting.traverse(visit)?,
                Resource::Watched(watched) => watched.traverse(visit)?,
            }
        }
        Ok(())
    }
}

/// Ids by descriptor number. The system gives out the lowest free number, so this stays dense.
#[derive(Default)]
pub(crate) struct Descriptors {
    ids: Vec<Option<Id>>,
}

impl Descriptors {
    pub(crate) fn get(&self, fd: RawFd) -> Option<Id> {
        self.ids.get(usize::try_from(fd).ok()?).copied().flatten()
    }

    /// Nothing happens for what has no number (a simulated socket).
    pub(crate) fn insert(&mut self, fd: RawFd, id: Id) {
        let Ok(index) = usize::try_from(fd) else {
            return;
        };
        if self.ids.len() <= index {
            self.ids.resize(index + 1, None);
        }
        self.ids[index] = Some(id);
    }

    /// Forgets the number, unless somebody else has it by now.
    pub(crate) fn remove(&mut self, fd: RawFd, id: Id) {
        if let Some(slot) = usize::try_from(fd)
            .ok()
            .and_then(|index| self.ids.get_mut(index))
            && *slot == Some(id)
        {
            *slot = None;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.ids.clear();
    }
}
