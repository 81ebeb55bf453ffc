//! `get_extra_info`, and the Python socket object that stands for the connection.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

use oxlip_driver::AnySocket;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use rustix::net::{SocketAddrUnix, SocketType};

use super::address;
use super::link::Link;
use crate::names;

/// The addresses of both ends of an accepted connection, read when it was accepted: after the end
/// they can no longer be read.
#[derive(Clone, Copy)]
pub(super) struct Addresses {
    local: SocketAddr,
    peer: SocketAddr,
}

impl Addresses {
    /// `None` for sockets without Internet addresses.
    pub(super) fn of(socket: &AnySocket, peer: Option<SocketAddr>) -> Option<Self> {
        match socket {
            AnySocket::Os(descriptor) => {
                let local = rustix::net::getsockname(descriptor).ok()?;
                Some(Self {
                    local: local.try_into().ok()?,
                    peer: peer?,
                })
            }
            #[allow(unreachable_patterns, reason = "a simulated socket has none")]
            _ => None,
        }
    }
}

/// The Python sockets of a connection.
pub(super) enum Sockets {
    /// The program's own, which it gave us: closed with the transport.
    Theirs {
        sock: Py<PyAny>,
        /// Its `TransportSocket`.
        shown: Py<PyAny>,
    },
    /// The file object of a pipe, closed with the transport.
    File(Py<PyAny>),
    /// The driver has the only descriptor; an object is made when it is asked for.
    Ours {
        family: Py<PyAny>,
        kind: SocketType,
        proto: Py<PyAny>,
        /// The socket, which leaves its descriptor open, and its `TransportSocket`.
        made: Option<(Py<PyAny>, Py<PyAny>)>,
    },
}

impl Sockets {
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Theirs { sock, shown }
            | Self::Ours {
                made: Some((sock, shown)),
                ..
            } => {
                visit.call(sock)?;
                visit.call(shown)
            }
            Self::File(pipe) => visit.call(pipe),
            Self::Ours { made: None, .. } => Ok(()),
        }
    }
}

/// Closes the Python object of a connection that is over (`dead`): the program's own socket is really closed, a
/// socket object of ours gives up a number that the driver has closed. Code that asks for it later still gets it.
pub(super) fn close(transport: Link<'_, '_>) -> PyResult<()> {
    let py = transport.py();
    let sock = transport.with_slots(|slots| match slots.sockets.as_ref()? {
        Sockets::Theirs { sock, .. }
        | Sockets::File(sock)
        | Sockets::Ours {
            made: Some((sock, _)),
            ..
        } => Some(sock.clone_ref(py)),
        Sockets::Ours { made: None, .. } => None,
    });
    match sock {
        Some(sock) => close_one(sock.bind(py)),
        None => Ok(()),
    }
}

fn close_one(sock: &Bound<'_, PyAny>) -> PyResult<()> {
    sock.call_method0(intern!(sock.py(), "close")).map(drop)
}

pub(super) fn get<'py>(
    transport: Link<'_, 'py>,
    name: &Bound<'py, PyAny>,
    default: Option<Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = transport.py();
    if name.eq(intern!(py, "socket"))? {
        return Ok(socket(transport)?.or(default));
    }
    let extra =
        transport.with_slots(|slots| slots.extra.as_ref().map(|extra| extra.bind(py).clone()));
    let extra = match extra {
        Some(extra) => extra,
        None => remember(transport, addresses(transport)?),
    };
    Ok(extra.get_item(name)?.or(default))
}

/// Keeps what was found, unless another call was faster.
fn remember<'py>(transport: Link<'_, 'py>, found: Bound<'py, PyDict>) -> Bound<'py, PyDict> {
    let py = transport.py();
    transport.with_slots(|slots| {
        slots
            .extra
            .get_or_insert_with(|| found.unbind())
            .bind(py)
            .clone()
    })
}

/// `sockname` and `peername` as `socket.getsockname()` and `getpeername()` show them.
fn addresses<'py>(transport: Link<'_, 'py>) -> PyResult<Bound<'py, PyDict>> {
    let py = transport.py();
    let extra = PyDict::new(py);
    let known = match transport {
        Link::Stream(transport) => transport.get().addresses,
        _ => None,
    };
    let ends = [
        ("sockname", "getsockname", known.map(|known| known.local)),
        ("peername", "getpeername", known.map(|known| known.peer)),
    ];
    for (key, method, address) in ends {
        let address = match address {
            Some(address) => address::ip_to_python(py, address)?,
            // Another family, or a socket that was not accepted.
            None => match socket(transport)? {
                Some(sock) => sock
                    .call_method0(method)
                    .unwrap_or_else(|_| py.None().into_bound(py)),
                None => py.None().into_bound(py),
            },
        };
        extra.set_item(key, address)?;
    }
    Ok(extra)
}

/// Both ends of an accepted Unix connection; `None` for any other. They are read at once, as for
/// [`Addresses`], but not kept in the same place: every transport has room for `Addresses` only.
pub(super) fn unix_addresses<'py>(
    py: Python<'py>,
    socket: &AnySocket,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let AnySocket::Os(descriptor) = socket else {
        return Ok(None);
    };
    let Ok(Ok(local)) = rustix::net::getsockname(descriptor).map(SocketAddrUnix::try_from) else {
        return Ok(None);
    };
    let peer = rustix::net::getpeername(descriptor).ok().flatten();
    let peer = peer.and_then(|peer| SocketAddrUnix::try_from(peer).ok());
    let extra = PyDict::new(py);
    extra.set_item("sockname", unix_name(py, &local)?)?;
    match peer {
        Some(peer) => extra.set_item("peername", unix_name(py, &peer)?)?,
        None => extra.set_item("peername", "")?,
    }
    Ok(Some(extra))
}

/// As [`address::unix_to_python`].
fn unix_name<'py>(py: Python<'py>, address: &SocketAddrUnix) -> PyResult<Bound<'py, PyAny>> {
    // rustix takes an unnamed peer for an empty abstract name.
    match address.abstract_name().filter(|name| !name.is_empty()) {
        Some(name) => address::unix_to_python(py, &[b"\0", name].concat()),
        None => address::unix_to_python(py, address.path_bytes().unwrap_or_default()),
    }
}

type SocketPair<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

/// The connection's `TransportSocket`; after the end, that of a closed socket.
fn socket<'py>(transport: Link<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(sockets(transport)?.map(|(_, shown)| shown))
}

/// The socket object itself while it is open, for operations that only Python supports.
pub(super) fn python_socket<'py>(transport: Link<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if transport.get().dead.load(Ordering::Relaxed) {
        return Ok(None);
    }
    Ok(sockets(transport)?.map(|(sock, _)| sock))
}

/// The connection's socket object and its `TransportSocket`, which are made at the first request.
fn sockets<'py>(transport: Link<'_, 'py>) -> PyResult<Option<SocketPair<'py>>> {
    enum Found {
        Made(Py<PyAny>, Py<PyAny>),
        ToMake(Py<PyAny>, SocketType, Py<PyAny>),
    }
    let py = transport.py();
    let found = transport.with_slots(|slots| {
        Some(match slots.sockets.as_ref()? {
            Sockets::Theirs { sock, shown }
            | Sockets::Ours {
                made: Some((sock, shown)),
                ..
            } => Found::Made(sock.clone_ref(py), shown.clone_ref(py)),
            Sockets::Ours {
                family,
                kind,
                proto,
                made: None,
            } => Found::ToMake(family.clone_ref(py), *kind, proto.clone_ref(py)),
            Sockets::File(_) => return None,
        })
    });
    let (family, kind, proto) = match found {
        None => return Ok(None),
        Some(Found::Made(sock, shown)) => {
            return Ok(Some((sock.into_bound(py), shown.into_bound(py))));
        }
        Some(Found::ToMake(family, kind, proto)) => (family, kind, proto),
    };
    let fd = transport.get().fd;
    if fd < 0 {
        return Ok(None);
    }
    let sock = if transport.get().dead.load(Ordering::Relaxed) {
        let sock = names::SOCKET
            .get(py)?
            .call1((&family, kind.as_raw(), &proto));
        let Ok(sock) = sock else {
            return Ok(None); // Out of descriptors.
        };
        sock.unbind()
    } else {
        borrow(family.bind(py), kind, proto.bind(py), fd)?.unbind()
    };
    let shown = names::TRANSPORT_SOCKET.get(py)?.call1((&sock,))?.unbind();
    let pair = (sock, shown);
    // It is only lent, because dropping a socket may run Python code.
    let used = transport.with_slots(|slots| match &mut slots.sockets {
        Some(Sockets::Ours { made, .. }) => {
            // Another thread may have been faster.
            let (sock, shown) = made.get_or_insert_with(|| {
                let (sock, shown) = &pair;
                (sock.clone_ref(py), shown.clone_ref(py))
            });
            Some((sock.clone_ref(py), shown.clone_ref(py)))
        }
        _ => None,
    });
    drop(pair);
    let Some((sock, shown)) = used else {
        return Ok(None);
    };
    let sock = sock.into_bound(py);
    // The end of the connection misses an object that is made after it or meanwhile.
    if transport.get().dead.load(Ordering::Relaxed) {
        close_one(&sock)?;
    }
    Ok(Some((sock, shown.into_bound(py))))
}

/// A Python socket for the descriptor of a socket of ours, which it leaves open.
pub(super) fn borrow<'py>(
    family: &Bound<'py, PyAny>,
    kind: SocketType,
    proto: &Bound<'py, PyAny>,
    fd: RawFd,
) -> PyResult<Bound<'py, PyAny>> {
    let py = family.py();
    let options = PyDict::new(py);
    options.set_item("fileno", fd)?;
    // SOCK_NONBLOCK tells the object that its descriptor is non-blocking, without a system call.
    let kind = kind.as_raw() | rustix::net::SocketFlags::NONBLOCK.bits();
    names::BORROWED_SOCKET
        .get(py)?
        .call((family, kind, proto), Some(&options))
}

/// The transport's `repr()`, as in asyncio.
pub(super) fn repr<'py>(transport: Link<'_, 'py>) -> PyResult<Bound<'py, PyString>> {
    let py = transport.py();
    let this = transport.get();
    let mut text = format!("<{}", transport.as_any().get_type().name()?);
    let shown = this.with_state(|state| {
        let resource = state.resources.get(this.id)?;
        let polls = |active| if active { "polling" } else { "idle" };
        let buffered = resource.buffered();
        Some(format!(
            "{} fd={} read={} write=<{}, bufsize={buffered}>",
            if resource.is_closing() {
                " closing"
            } else {
                ""
            },
            this.fd,
            polls(resource.wants_read()),
            polls(buffered > 0),
        ))
    });
    match shown {
        Ok(shown) => {
            text.push_str(
                &shown
                    .flatten()
                    .unwrap_or_else(|| format!(" closed fd={}", this.fd)),
            );
        }
        // Another thread looks at a transport of a running loop.
        Err(_) => {
            let closing = if this.is_closing() { " closing" } else { "" };
            let _ = write!(text, "{closing} fd={}", this.fd);
        }
    }
    text.push('>');
    Ok(PyString::new(py, &text))
}
