//! `get_extra_info`, and the Python socket object that stands for the connection.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;

use oxlip_driver::AnySocket;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use pyo3::{IntoPyObjectExt as _, intern};
use rustix::net::SocketAddrUnix;

use super::StreamTransport;
use crate::names;

/// Both ends of an accepted connection, asked for when it was accepted: after the end nobody can
/// answer any more.
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
    /// The driver has the only descriptor; an object is made when somebody asks.
    Ours {
        family: Py<PyAny>,
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

/// Closes the Python object of a connection that is over: the program's own for good, a socket of
/// ours gives up a number that the driver has closed.
pub(super) fn close(py: Python<'_>, sockets: &Sockets) -> PyResult<()> {
    if let Sockets::Theirs { sock, .. }
    | Sockets::File(sock)
    | Sockets::Ours {
        made: Some((sock, _)),
        ..
    } = sockets
    {
        sock.bind(py).call_method0(intern!(py, "close"))?;
    }
    Ok(())
}

pub(super) fn get<'py>(
    transport: &Bound<'py, StreamTransport>,
    name: &Bound<'py, PyAny>,
    default: Option<Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = transport.py();
    if name.eq(intern!(py, "socket"))? {
        return Ok(socket(transport)?.or(default));
    }
    let extra = StreamTransport::with_slots(transport, |slots| {
        slots.extra.as_ref().map(|extra| extra.bind(py).clone())
    });
    let extra = match extra {
        Some(extra) => extra,
        None => remember(transport, addresses(transport)?),
    };
    Ok(extra.get_item(name)?.or(default))
}

/// Keeps what was found out, unless another call was faster.
fn remember<'py>(
    transport: &Bound<'py, StreamTransport>,
    found: Bound<'py, PyDict>,
) -> Bound<'py, PyDict> {
    let py = transport.py();
    StreamTransport::with_slots(transport, |slots| {
        slots
            .extra
            .get_or_insert_with(|| found.unbind())
            .bind(py)
            .clone()
    })
}

/// `sockname` and `peername` as `socket.getsockname()` and `getpeername()` show them.
fn addresses<'py>(transport: &Bound<'py, StreamTransport>) -> PyResult<Bound<'py, PyDict>> {
    let py = transport.py();
    let extra = PyDict::new(py);
    let known = transport.get().addresses;
    let ends = [
        ("sockname", "getsockname", known.map(|known| known.local)),
        ("peername", "getpeername", known.map(|known| known.peer)),
    ];
    for (key, method, address) in ends {
        let address = match address.and_then(|address| tuple(py, address).transpose()) {
            Some(address) => address?,
            // A Unix socket, or an address whose text only the C library knows.
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

/// Both ends of an accepted Unix connection; `None` for any other. Asked for at once, as for
/// [`Addresses`], but there is room in every transport for those only.
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

/// A path as `str`, an abstract name as `bytes` with its null byte, `""` for none.
fn unix_name<'py>(py: Python<'py>, address: &SocketAddrUnix) -> PyResult<Bound<'py, PyAny>> {
    // rustix takes an unnamed peer for an abstract name without a letter.
    if let Some(name) = address.abstract_name().filter(|name| !name.is_empty()) {
        let bytes = [b"\0", name].concat();
        return Ok(PyBytes::new(py, &bytes).into_any());
    }
    let path = address.path_bytes().unwrap_or_default();
    OsStr::from_bytes(path).into_bound_py_any(py)
}

/// The tuple that Python's sockets use; `None` where its text takes more than Rust knows.
fn tuple(py: Python<'_>, address: SocketAddr) -> PyResult<Option<Bound<'_, PyAny>>> {
    let port = address.port();
    match address {
        SocketAddr::V4(v4) => (v4.ip().to_string(), port).into_bound_py_any(py).map(Some),
        SocketAddr::V6(v6) if v6.scope_id() == 0 && !is_compatible(*v6.ip()) => {
            let host = IpAddr::V6(*v6.ip()).to_string();
            (host, port, v6.flowinfo(), v6.scope_id())
                .into_bound_py_any(py)
                .map(Some)
        }
        SocketAddr::V6(_) => Ok(None),
    }
}

/// `::a.b.c.d`, deprecated by RFC 4291, which inet_ntop(3) shows with dots and Rust does not.
fn is_compatible(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    segments[..6].iter().all(|&segment| segment == 0) && segments[6] != 0
}

/// The connection's `TransportSocket`; `None` once a socket of ours is closed unseen.
fn socket<'py>(transport: &Bound<'py, StreamTransport>) -> PyResult<Option<Bound<'py, PyAny>>> {
    enum Found {
        Shown(Py<PyAny>),
        ToMake(Py<PyAny>, Py<PyAny>),
    }
    let py = transport.py();
    let found = StreamTransport::with_slots(transport, |slots| {
        Some(match slots.sockets.as_ref()? {
            Sockets::Theirs { shown, .. }
            | Sockets::Ours {
                made: Some((_, shown)),
                ..
            } => Found::Shown(shown.clone_ref(py)),
            Sockets::Ours {
                family,
                proto,
                made: None,
            } => Found::ToMake(family.clone_ref(py), proto.clone_ref(py)),
            Sockets::File(_) => return None,
        })
    });
    let (family, proto) = match found {
        None => return Ok(None),
        Some(Found::Shown(shown)) => return Ok(Some(shown.into_bound(py))),
        Some(Found::ToMake(family, proto)) => (family, proto),
    };
    let fd = transport.get().fd;
    if fd < 0 {
        return Ok(None);
    }
    let options = PyDict::new(py);
    options.set_item("fileno", fd)?;
    // SOCK_NONBLOCK makes the object know that its descriptor does not block, without a call.
    let kind = rustix::net::SocketType::STREAM.as_raw() | rustix::net::SocketFlags::NONBLOCK.bits();
    let sock = names::BORROWED_SOCKET
        .get(py)?
        .call((family, kind, proto), Some(&options))?
        .unbind();
    let shown = names::TRANSPORT_SOCKET.get(py)?.call1((&sock,))?.unbind();
    let used = StreamTransport::with_slots(transport, |slots| match &mut slots.sockets {
        // Another thread was faster.
        Some(Sockets::Ours {
            made: Some((_, shown)),
            ..
        }) => Some(shown.clone_ref(py)),
        Some(Sockets::Ours { made, .. }) => {
            *made = Some((sock.clone_ref(py), shown.clone_ref(py)));
            Some(shown)
        }
        _ => None,
    });
    Ok(used.map(|shown| shown.into_bound(py)))
}

/// What asyncio shows of a transport.
pub(super) fn repr<'py>(transport: &Bound<'py, StreamTransport>) -> PyResult<Bound<'py, PyString>> {
    let py = transport.py();
    let this = transport.get();
    let mut text = format!("<{}", transport.get_type().name()?);
    let shown = this.with_state(|state| {
        let stream = &state.resources.connection(this.id)?.stream;
        let read = if stream.wants_read() {
            "polling"
        } else {
            "idle"
        };
        let write = if stream.buffered() > 0 {
            "polling"
        } else {
            "idle"
        };
        let closing = if stream.is_closing() { " closing" } else { "" };
        let mut shown = String::new();
        let _ = write!(
            shown,
            "{closing} fd={} read={read} write=<{write}, bufsize={}>",
            this.fd,
            stream.buffered(),
        );
        Some(shown)
    });
    match shown {
        Ok(shown) => {
            text.push_str(
                &shown
                    .flatten()
                    .unwrap_or_else(|| format!(" closed fd={}", this.fd)),
            );
        }
        // Another thread looks at a running loop's transport.
        Err(_) => {
            let _ = write!(text, " fd={}", this.fd);
        }
    }
    text.push('>');
    Ok(PyString::new(py, &text))
}
