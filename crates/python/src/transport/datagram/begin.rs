//! A datagram socket becomes a transport.

use std::collections::VecDeque;

use oxlip_core::datagram;
use oxlip_core::op::Op;
use oxlip_driver::{AnySocket, Driver as _, Role};
use pyo3::prelude::*;
use rustix::net::SocketType;

use super::{DatagramTransport, Endpoint, Peer, is_batched};
use crate::context;
use crate::counts::Kind;
use crate::errors::os_error;
use crate::loop_::{EventLoop, Resource};
use crate::transport::address::Family;
use crate::transport::begin::{Claim, claim, schedule};
use crate::transport::ties::{Parts, Slots, Ties};

/// What each queued datagram counts beside its bytes, as in asyncio.
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
    let this = event_loop.get();
    let family = Family::of(sock)?;
    let remote = match address {
        Some(address) if address.is_truthy()? => Some(address.unbind()),
        _ => None,
    };
    let batched = is_batched(&protocol)?;
    let context = context::copy_current(py)?;
    let Claim {
        descriptor,
        fd,
        extra,
        sockets,
    } = claim(event_loop, sock, &protocol, None, SocketType::DGRAM, owned)?;
    let peer = match extra.get_item("peername")? {
        Some(name) if name.is_truthy()? => Peer::Named,
        Some(name) if !name.is_none() => Peer::Unnamed,
        _ => Peer::None,
    };
    let id = this
        .state
        .with(|state| {
            state
                .driver()
                .adopt(AnySocket::Os(descriptor), Role::Datagram)
        })?
        .map_err(os_error)?;
    let parts = Parts {
        event_loop: event_loop.clone().unbind(),
        id,
        context,
        fd,
        addresses: None,
    };
    let slots = Slots {
        protocol: Some(protocol.unbind()),
        server: None,
        extra: Some(extra.unbind()),
        sockets: Some(sockets),
        last_limits: None,
    };
    let transport = DatagramTransport {
        ties: Ties::new(parts, slots, Kind::DatagramTransport),
        family,
        remote,
        peer,
    };
    let transport = match Bound::new(py, transport) {
        Ok(transport) => transport,
        Err(error) => {
            this.state
                .with(|state| state.driver().submit(Op::Close(id)))?
                .is_ready();
            return Err(error);
        }
    };
    let endpoint = Endpoint {
        transport: transport.clone().unbind(),
        machine: datagram::Endpoint::new(HEADER),
        received: VecDeque::new(),
        sender: None,
        batched,
    };
    this.state.with(|state| {
        state
            .resources
            .insert(id, Resource::Endpoint(Box::new(endpoint)));
        state.connected_fds.insert(fd, id);
    })?;
    schedule(&transport, waiter)?;
    Ok(transport)
}
