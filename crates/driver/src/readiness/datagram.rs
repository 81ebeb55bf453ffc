//! Datagram sockets of the readiness driver: their operations and system calls.
//!
//! One datagram is sent with `sendto(2)`, several with `sendmmsg(2)`; they are received with
//! `recvmmsg(2)` (`batch.rs`). Where the kernel supports it, UDP datagrams of one length to one
//! peer leave as one message, and in a flood they also arrive as one (`offload.rs`). The embedder
//! notices neither.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::task::Poll;

use oxlip_core::address::{Address, Outgoing};
use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Interest, MAX_DATAGRAMS};
use oxlip_selectors::backend::Backend;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::addr::SocketAddrArg as _;
use rustix::net::{
    MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketAddrUnix, send, sendmmsg, sendto,
};

use super::batch::Batch;
use super::resource::{Kind, Resource};
use super::{Readiness, dead, misuse, offload};
use crate::is_shortage;

/// The resource is released: makes the kernel stop joining, for others who have the descriptor. Not
/// in a forked child, because the parent may still read what has been joined.
pub(super) fn let_go(resource: &Resource, maker: u32) {
    if resource.joining.is_on()
        && std::process::id() == maker
        && let Ok(fd) = resource.owned()
    {
        offload::leave_apart(fd);
    }
}

impl<B: Backend> Readiness<B> {
    pub(super) fn send_datagrams(
        &mut self,
        id: Id,
        datagrams: &[Outgoing<'_>],
    ) -> Poll<Completion> {
        let Some(socket) = self.resources.get_mut(id) else {
            return dead(id);
        };
        if socket.kind() != Kind::Datagram {
            return misuse(id);
        }
        if !socket.is_full() {
            let sent = match datagrams {
                [only] => socket
                    .owned()
                    .and_then(|fd| send_one(fd, *only))
                    .map(|()| 1),
                several => send_several(socket, several),
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.set_full(true);
                    if let Some(Address::Unix(name)) = datagrams.first().and_then(|it| it.to) {
                        return self.await_peer(id, name);
                    }
                }
                outcome => return Poll::Ready(Completion::Sent(id, outcome)),
            }
        } else if self.rooms.has(id) {
            return Poll::Pending;
        }
        self.await_room(id)
    }

    pub(super) fn await_room(&mut self, id: Id) -> Poll<Completion> {
        match self.resources.get_mut(id) {
            None => dead(id),
            Some(socket) if socket.kind() != Kind::Datagram => misuse(id),
            Some(socket) => {
                if socket.want(Interest::WRITE, true) {
                    self.changed.push(id);
                }
                Poll::Pending
            }
        }
    }

    pub(super) fn receive_datagrams(
        &mut self,
        id: Id,
        limit: usize,
        each: impl FnMut(&[u8], Option<Address>),
    ) -> io::Result<usize> {
        let Some(socket) = self.resources.get_mut(id) else {
            return Ok(0);
        };
        if socket.kind() != Kind::Datagram {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if socket.joining.begins(limit) {
            let joins = offload::join_received(socket.owned()?);
            socket.joining.switched_on(joins);
        }
        let batch = self.batch.get_or_insert_with(Batch::new);
        let received = batch.receive(socket.owned()?, limit, each)?;
        let joined = received.datagrams > received.messages;
        // If more than was asked for may be waiting, it is not the moment.
        let is_moment = received.messages < limit || limit <= 1;
        if received.messages > 0
            && socket.joining.ends(joined)
            && is_moment
            && offload::rest(socket.owned()?)
        {
            socket.joining.switched_off();
        }
        Ok(received.datagrams)
    }
}

const FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

fn send_one(fd: BorrowedFd<'_>, datagram: Outgoing<'_>) -> io::Result<()> {
    let bytes = datagram.bytes;
    retry_on_intr(|| match datagram.to {
        None => send(fd, bytes, FLAGS),
        Some(Address::Ip(SocketAddr::V4(addr))) => sendto(fd, bytes, FLAGS, addr),
        Some(Address::Ip(SocketAddr::V6(addr))) => sendto(fd, bytes, FLAGS, addr),
        Some(Address::Unix(name)) => sendto(fd, bytes, FLAGS, &unix(name)?),
    })?;
    Ok(())
}

/// Returns how many the system took, and an error only if it concerns the first.
fn send_several(socket: &mut Resource, datagrams: &[Outgoing<'_>]) -> io::Result<usize> {
    let mut addresses = Vec::with_capacity(datagrams.len().min(MAX_DATAGRAMS));
    for datagram in datagrams.iter().take(MAX_DATAGRAMS) {
        match datagram.to.map(any_address).transpose() {
            Ok(address) => addresses.push(address),
            Err(error) if addresses.is_empty() => return Err(error.into()),
            // It is the first one of the next call, which then reports the error.
            Err(_) => break,
        }
    }
    let datagrams = &datagrams[..addresses.len()];
    if joins_any(datagrams) && may_join(socket)? {
        match offload::send(socket.owned()?, datagrams, &addresses) {
            Err(error) if offload::run(datagrams) > 1 && refuses_joined(&error) => {
                // The route takes only shorter ones, or its device cannot split. From now on this
                // socket's datagrams are sent one by one, and an error concerns one of them.
                if !is_shortage(&error) {
                    socket.set_cutting(false);
                }
            }
            outcome => return outcome,
        }
    }
    send_apart(socket.owned()?, datagrams, &addresses)
}

fn joins_any(datagrams: &[Outgoing<'_>]) -> bool {
    (0..datagrams.len()).any(|at| offload::run(&datagrams[at..]) > 1)
}

fn may_join(socket: &mut Resource) -> io::Result<bool> {
    if let Some(cuts) = socket.cutting() {
        return Ok(cuts);
    }
    let cuts = offload::can_cut(socket.owned()?);
    socket.set_cutting(cuts);
    Ok(cuts)
}

/// Whether the datagrams of a joined message might be sent one by one.
fn refuses_joined(error: &io::Error) -> bool {
    let refusals = [Errno::INVAL, Errno::MSGSIZE, Errno::IO, Errno::OPNOTSUPP];
    is_shortage(error) || Errno::from_io_error(error).is_some_and(|it| refusals.contains(&it))
}

/// One `sendmmsg(2)`, a message for each.
fn send_apart(
    fd: BorrowedFd<'_>,
    datagrams: &[Outgoing<'_>],
    addresses: &[Option<SocketAddrAny>],
) -> io::Result<usize> {
    let slices: Vec<_> = datagrams
        .iter()
        .map(|it| [IoSlice::new(it.bytes)])
        .collect();
    let mut controls: Vec<_> = addresses
        .iter()
        .map(|_| SendAncillaryBuffer::default())
        .collect();
    let mut headers: Vec<_> = addresses
        .iter()
        .zip(&slices)
        .zip(&mut controls)
        .map(|((address, slice), control)| match address {
            Some(address) => MMsgHdr::new_with_addr(address, slice, control),
            None => MMsgHdr::new(slice, control),
        })
        .collect();
    Ok(retry_on_intr(|| sendmmsg(fd, &mut headers, FLAGS))?)
}

fn any_address(address: &Address) -> Result<SocketAddrAny, Errno> {
    Ok(match address {
        Address::Ip(addr) => addr.as_any(),
        Address::Unix(name) => unix(name)?.as_any(),
    })
}

pub(super) fn unix(name: &[u8]) -> Result<SocketAddrUnix, Errno> {
    match name {
        [] => Ok(SocketAddrUnix::new_unnamed()),
        [0, name @ ..] => SocketAddrUnix::new_abstract_name(name),
        path => SocketAddrUnix::new(path),
    }
}
