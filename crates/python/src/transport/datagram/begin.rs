//! Making a transport of a datagram socket.

use std::collections::VecDeque;

use oxlip_core::datagram;
use oxlip_driver::{AnySocket, Role};
use pyo3::prelude::*;
use rustix::net::SocketType;

use super::senders::Senders;
use super::{DatagramTransport, Endpoint, Peer, is_batched};
use crate::counts::Kind;
use crate::loop_::{EventLoop, Resource};
use crate::transport::address::Family;
use crate::transport::begin::{self, Claim, Start};
use crate::transport::body::{Body, Slots};

/// What each queued datagram counts in addition to its bytes, as in asyncio.
const HEADER: usize = if cfg!(Py_3_13) { 8 } else { 0 };

/// `loop._datagram(sock, protocol, …)`: a transport for a non-blocking datagram socket. `owned` as
/// for `loop._connection`; `address` is the only one that it may send to.
///
/// # Errors
/// `OSError` if the socket is closed or cannot be duplicated or adopted.
pub(crate) fn open<'py>(
    event_loop: &Bound<'py, EventLoop>,
    sock: &Bound<'py, PyAny>,
    protocol: Bound<'py, PyAny>,
    address: Option<Bound<'py, PyAny>>,
    owned: bool,
    waiter: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, DatagramTransport>> {
    let py = event_loop.py();
    let family = Family::of(sock)?;
    let remote = match address {
        Some(address) if address.is_truthy()? => Some(address.unbind()),
        _ => None,
    };
    let batched = is_batched(&protocol)?;
    let Claim {
        descriptor,
        fd,
        extra,
        sockets,
    } = begin::claim(event_loop, sock, &protocol, SocketType::DGRAM, owned)?;
    let peer = match extra.get_item("peername")? {
        Some(name) if name.is_truthy()? => Peer::Named,
        Some(name) if !name.is_none() => Peer::Unnamed,
        _ => Peer::None,
    };
    let start = Start {
        socket: AnySocket::Os(descriptor),
        // A socket that the program has may be shared with others.
        role: if owned {
            Role::Datagram
        } else {
            Role::SharedDatagram
        },
        fd,
        slots: Slots {
            protocol: Some(protocol.unbind()),
            extra: Some(extra.unbind()),
            sockets: Some(sockets),
            ..Slots::default()
        },
        waiter,
        context: None,
    };
    let transport = begin::start(event_loop, start, |parts, slots| {
        let transport = DatagramTransport {
            body: Body::new(parts, slots, Kind::DatagramTransport),
            family,
            remote,
            peer,
        };
        let transport = Bound::new(py, transport)?;
        let endpoint = Endpoint {
            transport: transport.clone().unbind(),
            machine: datagram::Endpoint::new(HEADER),
            received: VecDeque::new(),
            senders: Senders::default(),
            batched,
        };
        Ok((transport, Resource::Endpoint(Box::new(endpoint))))
    })?;
    let id = transport.get().id;
    event_loop
        .get()
        .state
        .with(|state| state.connected_fds.insert(fd, id))?;
    Ok(transport)
}
