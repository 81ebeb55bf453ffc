//! Making sockets, for embedders. Every socket is non-blocking and close-on-exec from birth.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

/// A listening TCP socket. `SO_REUSEADDR` is set, as asyncio does on POSIX, and an IPv6 socket takes
/// IPv6 only, so that `0.0.0.0` and `::` can have the same port.
///
/// # Errors
/// Those of socket(2), bind(2) and listen(2).
pub fn tcp_listen(addr: SocketAddr, backlog: i32, reuse_port: bool) -> io::Result<OwnedFd> {
    let socket = tcp_socket(addr)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if reuse_port {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    if addr.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &addr)?;
    rustix::net::listen(&socket, backlog)?;
    Ok(socket)
}

/// A TCP socket of the address's family, to be connected to it by `Op::Connect`. Nagle's algorithm
/// is off, as in asyncio.
///
/// # Errors
/// Those of socket(2).
pub fn tcp_stream(addr: SocketAddr) -> io::Result<OwnedFd> {
    let socket = tcp_socket(addr)?;
    set_nodelay(&socket)?;
    Ok(socket)
}

/// Turns Nagle's algorithm off: what is written leaves at once.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_nodelay(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_tcp_nodelay(socket, true)?)
}

/// The address that the socket is bound to; `None` if it has none of the internet's.
///
/// # Errors
/// Those of getsockname(2).
pub fn local_addr(socket: impl AsFd) -> io::Result<Option<SocketAddr>> {
    Ok(SocketAddr::try_from(rustix::net::getsockname(socket)?).ok())
}

/// The address of the peer; `None` if it has none of the internet's.
///
/// # Errors
/// Those of getpeername(2), `NotConnected` among them.
pub fn peer_addr(socket: impl AsFd) -> io::Result<Option<SocketAddr>> {
    let peer = rustix::net::getpeername(socket)?;
    Ok(peer.and_then(|peer| SocketAddr::try_from(peer).ok()))
}

fn tcp_socket(addr: SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        family,
        SocketType::STREAM,
        flags,
        Some(ipproto::TCP),
    )?)
}
