//! Accepting connections from a listening socket.
//!
//! From a listener that is ours alone the kernel accepts (since Linux 6.15), until many wait, and puts the
//! connections into a queue of the resource. A listener that others may accept from is polled, and
//! connections are accepted one by one. The kernel would wake only one of several rings that accept from
//! one socket, without regard to whether its thread is busy, and what it has accepted for one process
//! would be lost to the others if that one stops.
//!
//! When the kernel cannot accept, the listener is polled until a connection has been accepted otherwise.
//! That also helps if the program raises its limit of descriptors: a request keeps the one under which it
//! was made (`io_accept_prep` in io_uring/net.c).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use oxlip_core::id::Id;

use super::incoming::{Kind, Request, Work};
use super::{Uring, peer};
use crate::Driver as _;

impl Uring {
    pub(super) fn accept_next(
        &mut self,
        id: Id,
    ) -> io::Result<Option<(OwnedFd, Option<SocketAddr>)>> {
        let Some(incoming) = self.table.get_mut(id) else {
            return self.inner.accept(id);
        };
        if let Some(connection) = incoming.callers.pop_front() {
            if incoming.callers.is_empty() {
                Self::follow_hint(&mut self.touched, id, incoming);
            }
            let peer = peer::address(connection.as_fd());
            return Ok(Some((connection, peer)));
        }
        if matches!(
            incoming.request,
            Request::UnderWay {
                work: Work::Accept,
                ..
            }
        ) {
            return Ok(None);
        }
        Self::follow_hint(&mut self.touched, id, incoming);
        let accepted = self.inner.accept(id)?;
        if accepted.is_some()
            && let Kind::Listener { ahead } = incoming.kind
        {
            // Whatever kept the ring from it is over.
            incoming.polled = !ahead;
        }
        Ok(accepted)
    }
}
