//! Who is at the other end of a connection that the ring has accepted. A request that accepts many has
//! [one place for all their addresses](https://man7.org/linux/man-pages/man3/io_uring_prep_multishot_accept.3.html),
//! so each connection is asked.

use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::addr::SocketAddrStorage;
use rustix::net::{SocketAddrAny, getpeername};

/// The peer's address; `None` if it has none of the internet's.
pub(super) fn address(connection: BorrowedFd<'_>) -> Option<SocketAddr> {
    let peer = match getpeername(connection) {
        Err(Errno::NOTCONN) => of_reset(connection),
        peer => peer.ok().flatten(),
    };
    peer.and_then(|peer| SocketAddr::try_from(peer).ok())
}

/// The same after a reset, when getpeername(2) does not tell any more but accept(2) would. `SO_PEERNAME` does, for
/// [exactly as many bytes](https://github.com/torvalds/linux/blob/v6.1/net/core/sock.c#L1733) as the address has.
fn of_reset(connection: BorrowedFd<'_>) -> Option<SocketAddrAny> {
    [
        size_of::<libc::sockaddr_in6>(),
        size_of::<libc::sockaddr_in>(),
    ]
    .into_iter()
    .find_map(|length| {
        let mut name = MaybeUninit::<SocketAddrStorage>::uninit();
        let mut length = libc::socklen_t::try_from(length).expect("short");
        // SAFETY: there is room for any address, so also for the shorter ones that are asked for.
        let answer = unsafe {
            libc::getsockopt(
                connection.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERNAME,
                name.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        // SAFETY: the kernel has written an address of that length.
        (answer == 0).then(|| unsafe { SocketAddrAny::new(name, length) })
    })
}
