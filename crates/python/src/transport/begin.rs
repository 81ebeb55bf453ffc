//! How a connection begins: the driver adopts the socket, `connection_made` is called, reading
//! starts.

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use oxlip_core::bulk::Bulk;
use oxlip_core::op::Op;
use oxlip_core::stream::Stream;
use oxlip_driver::{AnySocket, Driver as _, Role};
use pyo3::exceptions::PyOSError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};

use super::body::{Parts, Slots};
use super::extra::{Addresses, Sockets};
use super::link::{AnyTransport, Link};
use super::{Server, StreamTransport, end, usual};
use crate::errors::os_error;
use crate::loop_::{Connection, EventLoop, Receiver, Resource, Runnable, watch};
use crate::{context, ffi, names};

/// A `connection_made` that is due.
pub(crate) struct Beginning {
    pub(crate) transport: AnyTransport,
    waiter: Option<Py<PyAny>>,
    context: Py<PyAny>,
}

impl Beginning {
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.transport.traverse(visit)?;
        visit.call(&self.waiter)?;
        visit.call(&self.context)
    }
}

/// What a connection is made from.
pub(super) struct Origin<'py> {
    pub(super) socket: AnySocket,
    pub(super) role: Role,
    /// The number by which the program knows it.
    pub(super) fd: RawFd,
    pub(super) addresses: Option<Addresses>,
    pub(super) extra: Option<Bound<'py, PyDict>>,
    pub(super) sockets: Option<Sockets>,
    pub(super) server: Option<Bound<'py, Server>>,
    pub(super) waiter: Option<Bound<'py, PyAny>>,
    /// The one context of all callbacks, see `Body::one_context`.
    pub(super) context: Option<Py<PyAny>>,
}

/// `loop._connection(sock, protocol, …)`: a transport for a connected, non-blocking socket.
///
/// With `owned` the descriptor is taken out of `sock`. Otherwise the program keeps `sock`, may
/// even close it, and the transport works on a duplicate: a descriptor has one owner only.
///
/// # Errors
/// `OSError` if the socket is closed or cannot be duplicated or adopted.
pub(crate) fn wrap<'py>(
    event_loop: &Bound<'py, EventLoop>,
    sock: &Bound<'py, PyAny>,
    protocol: Bound<'py, PyAny>,
    owned: bool,
    waiter: Option<Bound<'py, PyAny>>,
    context: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, StreamTransport>> {
    let Claim {
        descriptor,
        fd,
        extra,
        sockets,
    } = claim(event_loop, sock, &protocol, SocketType::STREAM, owned)?;
    set_nodelay(sock, &descriptor)?;
    let origin = Origin {
        socket: AnySocket::Os(descriptor),
        role: Role::Stream,
        fd,
        addresses: None,
        extra: Some(extra),
        sockets: Some(sockets),
        server: None,
        waiter,
        context,
    };
    connect(event_loop, origin, protocol)
}

/// A socket object's descriptor, and what a connection needs to know about it.
pub(super) struct Claim<'py> {
    pub(super) descriptor: OwnedFd,
    /// The number by which the program knows it.
    pub(super) fd: RawFd,
    /// `sockname` and `peername`.
    pub(super) extra: Bound<'py, PyDict>,
    pub(super) sockets: Sockets,
}

/// Takes the descriptor out of `sock` (`owned`) or duplicates it. If this fails, the descriptor
/// keeps its owner.
pub(super) fn claim<'py>(
    event_loop: &Bound<'py, EventLoop>,
    sock: &Bound<'py, PyAny>,
    protocol: &Bound<'py, PyAny>,
    kind: SocketType,
    owned: bool,
) -> PyResult<Claim<'py>> {
    let py = event_loop.py();
    // This is checked before the descriptor changes its owner: on an error the caller still closes it.
    event_loop.get().check_open()?;
    check_protocol(protocol)?;
    let extra = PyDict::new(py);
    for (key, method) in [("sockname", "getsockname"), ("peername", "getpeername")] {
        match sock.call_method0(method) {
            Ok(address) => extra.set_item(key, address)?,
            Err(error) if error.is_instance_of::<PyOSError>(py) => {
                extra.set_item(key, py.None())?;
            }
            Err(error) => return Err(error),
        }
    }
    let fd: RawFd = sock.call_method0(intern!(py, "fileno"))?.extract()?;
    watch::check_no_transport(event_loop, fd, sock)?;
    let descriptor = duplicate(fd)?;
    let (descriptor, sockets) = if owned {
        // The number stays the same: the duplicate only proved that the socket is open.
        drop(descriptor);
        let family = sock.getattr("family")?.unbind();
        let proto = sock.getattr("proto")?.unbind();
        let detached: RawFd = sock.call_method0(intern!(py, "detach"))?.extract()?;
        if detached != fd {
            // It was closed meanwhile on another thread, and the number may belong to another descriptor by now.
            return Err(os_error(Errno::BADF.into()));
        }
        // SAFETY: `detach()` says that it has given the descriptor away, so this is its only owner.
        let descriptor = unsafe { OwnedFd::from_raw_fd(fd) };
        (
            descriptor,
            Sockets::Ours {
                family,
                kind,
                proto,
                made: None,
            },
        )
    } else {
        let shown = names::TRANSPORT_SOCKET.get(py)?.call1((sock,))?.unbind();
        (
            descriptor,
            Sockets::Theirs {
                sock: sock.clone().unbind(),
                shown,
            },
        )
    };
    Ok(Claim {
        descriptor,
        fd,
        extra,
        sockets,
    })
}

/// Turns Nagle's algorithm off. Unix sockets have none; on other sockets that are not TCP this
/// fails without harm.
pub(super) fn set_nodelay(sock: &Bound<'_, PyAny>, descriptor: &OwnedFd) -> PyResult<()> {
    let family: i32 = sock.getattr(intern!(sock.py(), "family"))?.extract()?;
    if family != i32::from(AddressFamily::UNIX.as_raw()) {
        let _ = rustix::net::sockopt::set_tcp_nodelay(descriptor, true);
    }
    Ok(())
}

/// Fails now, instead of when the connection is up, if the protocol lacks a method that every protocol must have.
pub(super) fn check_protocol(protocol: &Bound<'_, PyAny>) -> PyResult<()> {
    if usual::is_usual(protocol) {
        return Ok(());
    }
    protocol
        .getattr(intern!(protocol.py(), "connection_made"))
        .map(drop)
}

pub(super) fn duplicate(fd: RawFd) -> PyResult<OwnedFd> {
    if fd < 0 {
        return Err(os_error(Errno::BADF.into()));
    }
    // SAFETY: used for one system call only; a number that is not open is answered with EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::io::fcntl_dupfd_cloexec(borrowed, 0).map_err(|errno| os_error(errno.into()))
}

/// Adopts a socket, makes its transport and schedules `connection_made`.
pub(super) fn connect<'py>(
    event_loop: &Bound<'py, EventLoop>,
    origin: Origin<'py>,
    protocol: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, StreamTransport>> {
    let py = event_loop.py();
    let Origin {
        socket,
        role,
        fd,
        addresses,
        extra,
        sockets,
        server,
        waiter,
        context,
    } = origin;
    check_protocol(&protocol)?;
    let start_with = Start {
        socket,
        role,
        fd,
        slots: Slots {
            protocol: Some(protocol.unbind()),
            server: server.clone().map(Bound::unbind),
            extra: extra.map(Bound::unbind),
            sockets,
            ..Slots::default()
        },
        waiter,
        context,
    };
    let transport = start(event_loop, start_with, |parts, slots| {
        let transport = StreamTransport::create(py, parts, slots, addresses)?;
        let connection = Connection {
            transport: AnyTransport::Stream(transport.clone().unbind()),
            stream: Stream::new(),
            receiver: Receiver::Protocol, // Until `begin`.
            bulk: Bulk::default(),
        };
        Ok((transport, Resource::Connection(Box::new(connection))))
    })?;
    let id = transport.get().id;
    event_loop
        .get()
        .state
        .with(|state| state.connected_fds.insert(fd, id))?;
    if let Some(server) = &server {
        server.get().attach();
    }
    Ok(transport)
}

/// What any transport is made from.
pub(super) struct Start<'py> {
    pub(super) socket: AnySocket,
    pub(super) role: Role,
    /// The number by which the program knows it.
    pub(super) fd: RawFd,
    pub(super) slots: Slots,
    pub(super) waiter: Option<Bound<'py, PyAny>>,
    /// The one context of all callbacks, see `Body::one_context`.
    pub(super) context: Option<Py<PyAny>>,
}

/// Adopts a descriptor, has its transport and the loop's entry for it made, and schedules
/// `connection_made`.
pub(super) fn start<T>(
    event_loop: &Bound<'_, EventLoop>,
    start: Start<'_>,
    make: impl FnOnce(Parts, Slots) -> PyResult<(T, Resource)>,
) -> PyResult<T> {
    let py = event_loop.py();
    let this = event_loop.get();
    let Start {
        socket,
        role,
        fd,
        slots,
        waiter,
        context,
    } = start;
    let one_context = context.is_some();
    let context = match context {
        Some(context) => context,
        None => context::copy_current(py)?,
    };
    let first = if one_context {
        context.clone_ref(py)
    } else {
        context::copy_current(py)?
    };
    let id = this
        .state
        .with(|state| state.driver().adopt(socket, role))?
        .map_err(os_error)?;
    let parts = Parts {
        event_loop: event_loop.clone().unbind(),
        id,
        context,
        one_context,
        fd,
    };
    let (made, resource) = match make(parts, slots) {
        Ok(made) => made,
        Err(error) => {
            this.state
                .with(|state| state.driver().submit(Op::Close(id)))?
                .is_ready();
            return Err(error);
        }
    };
    let transport = resource.transport(py);
    this.state
        .with(|state| state.resources.insert(id, resource))?;
    if let Some(transport) = transport {
        let beginning = Beginning {
            transport,
            waiter: waiter.map(Bound::unbind),
            context: first,
        };
        this.push(Runnable::Begin(Box::new(beginning)));
    }
    Ok(made)
}

/// Calls `connection_made`, starts reading, and wakes the one who waits for the connection. asyncio
/// schedules these as three handles, one right after the other, so nothing can come between them.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` of the protocol.
pub(crate) fn begin(event_loop: &Bound<'_, EventLoop>, beginning: Beginning) -> PyResult<()> {
    let py = event_loop.py();
    let Beginning {
        transport,
        waiter,
        context,
    } = beginning;
    let transport = transport.bind(py);
    let mut result = Ok(());
    if let Some(protocol) = transport.protocol() {
        let made = context::run(py, &context, || {
            ffi::call_method(
                intern!(py, "connection_made"),
                [&protocol, transport.as_any()],
            )
        });
        if let Err(error) = made {
            let args = PyTuple::new(py, [transport.as_any()])?;
            result = end::report_callback(event_loop, &protocol, "connection_made", args, error);
        }
    }
    let this = transport.get();
    // Not earlier, because connection_made() may have changed the protocol.
    let receiver = match (transport, transport.protocol()) {
        (Link::Stream(_), Some(protocol)) => Receiver::of(&protocol)?,
        _ => Receiver::Protocol,
    };
    this.with_state(|state| {
        let (driver, resources) = state.parts();
        let Some(resource) = resources.get_mut(this.id) else {
            return;
        };
        resource.start(receiver);
        if resource.wants_read() {
            let _ = driver.submit(Op::RecvStart(this.id));
        }
    })?;
    if let Some(waiter) = waiter {
        let waiter = waiter.bind(py);
        if !waiter.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
            waiter.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
    }
    // A KeyboardInterrupt is raised last: the connection has begun.
    result
}

/// The number of an adopted socket, before it is adopted.
pub(super) fn number(socket: &AnySocket) -> RawFd {
    match socket {
        AnySocket::Os(descriptor) => descriptor.as_raw_fd(),
        #[allow(unreachable_patterns, reason = "a simulated socket has no number")]
        _ => -1,
    }
}
