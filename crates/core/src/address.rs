//! Where a datagram comes from or goes to, as plain data.
//!
//! Internet addresses are those of the standard library; like its own conversions, drivers keep the
//! flow label of an IPv6 address as it lies in memory, in network byte order.

use std::net::SocketAddr;

/// The address of a datagram socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// Of the internet, with flow label and scope where it is IPv6.
    Ip(SocketAddr),
    /// Of a Unix socket: a path, a name that begins with a zero byte ("abstract"), or nothing for a
    /// socket without a name.
    Unix(Box<[u8]>),
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self::Ip(addr)
    }
}

/// A datagram on its way out, borrowed for the time of one [`crate::op::Op::SendDatagrams`].
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// All of it; none is a datagram, too.
    pub bytes: &'a [u8],
    /// `None`: to the peer that the socket is connected to.
    pub to: Option<&'a Address>,
}
