//! A datagram socket becomes a transport.

use std::collections::VecDeque;

use oxlip_core::datagram;
use oxlip_driver::{AnySocket, Role};
use pyo3::prelude::*;
use rustix::net::SocketType;

use super::{DatagramTransport, Endpoint, Peer, is_batched};
use crate::counts::Kind;
use crate::loop_::{EventLoop, Resource};
use crate::transport::address::Family;
use crate::transport::begin::{Claim, claim, establish, schedule};
use crate::transport::ties::{Slots, Ties};

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
    } = claim(event_loop, sock, &protocol, None, SocketType::DGRAM, owned)?;
    let peer = match extra.get_item("peername")? {
        Some(name) if name.is_truthy()? => Peer::Named,
        Some(name) if !name.is_none() => Peer::Unnamed,
        _ => Peer::None,
    };
    let slots = Slots {
        protocol: Some(protocol.unbind()),
        server: None,
        extra: Some(extra.unbind()),
        sockets: Some(sockets),
        last_limits: None,
    };
    let transport = establish(
        event_loop,
        (AnySocket::Os(descriptor), Role::Datagram),
        (fd, None),
        |parts| {
            let ties = Ties::new(parts, slots, Kind::DatagramTransport);
            Bound::new(
                event_loop.py(),
                DatagramTransport {
                    ties,
                    family,
                    remote,
                    peer,
                },
            )
        },
        |transport| {
            Resource::Endpoint(Box::new(Endpoint {
                transport,
                machine: datagram::Endpoint::new(HEADER),
                received: VecDeque::new(),
                sender: None,
                batched,
            }))
        },
    )?;
    schedule(&transport, waiter)?;
    Ok(transport)
}
