//! How a connection begins: adopted by the driver, `connection_made`, then reading.

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use oxlip_core::op::Op;
use oxlip_core::stream::Stream;
use oxlip_driver::{AnySocket, Driver as _, Role};
use pyo3::exceptions::PyOSError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use rustix::net::SocketType;

use super::extra::{Addresses, Sockets};
use super::ties::{Parts, Slots, Transport};
use super::{StreamTransport, end};
use crate::errors::os_error;
use crate::loop_::{Connection, EventLoop, Resource, watch};
use crate::{context, ffi, names};

/// A `connection_made` that is due.
pub(crate) struct Beginning<T> {
    pub(crate) transport: Py<T>,
    waiter: Option<Py<PyAny>>,
    context: Py<PyAny>,
}

impl<T> Beginning<T> {
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.transport)?;
        visit.call(&self.waiter)?;
        visit.call(&self.context)
    }
}

/// What a connection is made from.
pub(super) struct Origin<'py> {
    pub(super) socket: AnySocket,
    /// The number under which the program knows it.
    pub(super) fd: RawFd,
    pub(super) addresses: Option<Addresses>,
    pub(super) extra: Option<Bound<'py, PyDict>>,
    pub(super) sockets: Option<Sockets>,
    pub(super) server: Option<Bound<'py, PyAny>>,
    pub(super) waiter: Option<Bound<'py, PyAny>>,
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
    extra: Option<Bound<'py, PyDict>>,
    server: Option<Bound<'py, PyAny>>,
    owned: bool,
    waiter: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, StreamTransport>> {
    let Claim {
        descriptor,
        fd,
        extra,
        sockets,
    } = claim(
        event_loop,
        sock,
        &protocol,
        extra,
        SocketType::STREAM,
        owned,
    )?;
    // Fails on sockets that are not TCP, which have no such option and no such delay.
    let _ = rustix::net::sockopt::set_tcp_nodelay(&descriptor, true);
    let origin = Origin {
        socket: AnySocket::Os(descriptor),
        fd,
        addresses: None,
        extra: Some(extra),
        sockets: Some(sockets),
        server,
        waiter,
    };
    connect(event_loop, origin, protocol)
}

/// A socket object's descriptor, and what is to be known about it.
pub(super) struct Claim<'py> {
    pub(super) descriptor: OwnedFd,
    /// The number under which the program knows it.
    pub(super) fd: RawFd,
    /// What was given, with `sockname` and `peername`.
    pub(super) extra: Bound<'py, PyDict>,
    pub(super) sockets: Sockets,
}

/// Takes the descriptor out of `sock` (`owned`) or duplicates it. If this fails it still is whose
/// it was.
pub(super) fn claim<'py>(
    event_loop: &Bound<'py, EventLoop>,
    sock: &Bound<'py, PyAny>,
    protocol: &Bound<'py, PyAny>,
    extra: Option<Bound<'py, PyDict>>,
    kind: SocketType,
    owned: bool,
) -> PyResult<Claim<'py>> {
    let py = event_loop.py();
    // Before the descriptor changes hands: who gave it closes it.
    event_loop.get().check_open()?;
    check_protocol(protocol)?;
    let extra = match extra {
        Some(extra) => extra.copy()?,
        None => PyDict::new(py),
    };
    for (key, method) in [("sockname", "getsockname"), ("peername", "getpeername")] {
        if extra.contains(key)? {
            continue;
        }
        match sock.call_method0(method) {
            Ok(address) => extra.set_item(key, address)?,
            Err(error) if error.is_instance_of::<PyOSError>(py) => {
                extra.set_item(key, py.None())?;
            }
            Err(error) => return Err(error),
        }
    }
    let fd: RawFd = sock.call_method0(intern!(py, "fileno"))?.extract()?;
    watch::check_no_transport(event_loop, fd)?;
    let descriptor = duplicate(fd)?;
    let (descriptor, sockets) = if owned {
        // Same number as before: the duplicate only proved that the socket is open.
        drop(descriptor);
        let family = sock.getattr("family")?.unbind();
        let proto = sock.getattr("proto")?.unbind();
        sock.call_method0(intern!(py, "detach"))?;
        // SAFETY: `detach()` has given the open descriptor away, so this is its only owner.
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

/// What no protocol can be without is missed now, not when the connection is up.
pub(super) fn check_protocol(protocol: &Bound<'_, PyAny>) -> PyResult<()> {
    protocol
        .getattr(intern!(protocol.py(), "connection_made"))
        .map(drop)
}

pub(super) fn duplicate(fd: RawFd) -> PyResult<OwnedFd> {
    if fd < 0 {
        return Err(os_error(std::io::Error::from_raw_os_error(
            rustix::io::Errno::BADF.raw_os_error(),
        )));
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
        fd,
        addresses,
        extra,
        sockets,
        server,
        waiter,
    } = origin;
    check_protocol(&protocol)?;
    let buffered = protocol.is_instance(names::BUFFERED_PROTOCOL.get(py)?)?;
    let slots = Slots {
        protocol: Some(protocol.unbind()),
        server: server.clone().map(Bound::unbind),
        extra: extra.map(Bound::unbind),
        sockets,
        last_limits: None,
    };
    let transport = establish(
        event_loop,
        (socket, Role::Stream),
        (fd, addresses),
        |parts| StreamTransport::create(py, parts, slots),
        |transport| {
            Resource::Connection(Box::new(Connection {
                transport,
                stream: Stream::new(),
                buffered,
            }))
        },
    )?;
    schedule(&transport, waiter)?;
    if let Some(server) = &server {
        server.call_method1(intern!(py, "_attach"), (&transport,))?;
    }
    Ok(transport)
}

/// Adopts a socket, makes its transport, and enters both where the loop finds them.
pub(super) fn establish<'py, T: Transport>(
    event_loop: &Bound<'py, EventLoop>,
    (socket, role): (AnySocket, Role),
    (fd, addresses): (RawFd, Option<Addresses>),
    make: impl FnOnce(Parts) -> PyResult<Bound<'py, T>>,
    resource: impl FnOnce(Py<T>) -> Resource,
) -> PyResult<Bound<'py, T>> {
    let this = event_loop.get();
    let context = context::copy_current(event_loop.py())?;
    let id = this
        .state
        .with(|state| state.driver().adopt(socket, role))?
        .map_err(os_error)?;
    let made = make(Parts {
        event_loop: event_loop.clone().unbind(),
        id,
        context,
        fd,
        addresses,
    });
    let transport = match made {
        Ok(transport) => transport,
        Err(error) => {
            this.state
                .with(|state| state.driver().submit(Op::Close(id)))?
                .is_ready();
            return Err(error);
        }
    };
    let resource = resource(transport.clone().unbind());
    this.state.with(|state| {
        state.resources.insert(id, resource);
        state.connected_fds.insert(fd, id);
    })?;
    Ok(transport)
}

/// Schedules [`begin`].
pub(super) fn schedule<T: Transport>(
    transport: &Bound<'_, T>,
    waiter: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = transport.py();
    let beginning = Beginning {
        transport: transport.clone().unbind(),
        waiter: waiter.map(Bound::unbind),
        context: context::copy_current(py)?,
    };
    let event_loop = T::ties(transport).event_loop.bind(py);
    event_loop.get().push(T::beginning(beginning));
    Ok(())
}

/// Calls `connection_made`, starts reading, and wakes who waits for the connection. asyncio
/// schedules these as three handles, one right behind the other: nothing can come between them.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` of the protocol.
pub(crate) fn begin<T: Transport>(
    event_loop: &Bound<'_, EventLoop>,
    beginning: Beginning<T>,
) -> PyResult<()> {
    let py = event_loop.py();
    let Beginning {
        transport,
        waiter,
        context,
    } = beginning;
    let transport = transport.bind(py);
    let mut result = Ok(());
    if let Some(protocol) = T::protocol(transport) {
        let made = context::run(py, &context, || {
            ffi::call_method(
                intern!(py, "connection_made"),
                [&protocol, transport.as_any()],
            )
        });
        if let Err(error) = made {
            let args = PyTuple::new(py, [transport])?;
            result = end::report_callback(event_loop, &protocol, "connection_made", args, error);
        }
    }
    T::start(transport)?;
    if let Some(waiter) = waiter {
        let waiter = waiter.bind(py);
        if !waiter.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
            waiter.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
    }
    // A KeyboardInterrupt leaves last: the connection has begun.
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
