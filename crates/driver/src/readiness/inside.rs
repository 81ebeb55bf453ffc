//! The interface for the io_uring driver, which is built on this one.
//!
//! The ring receives and sends for streams. Waiting for room to send, connecting, pipes and
//! descriptors of others stay with the multiplexer, and so does the ownership of every descriptor.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use oxlip_core::id::Id;
use oxlip_core::op::Interest;

use super::resource::{Kind, Resource};
use super::{Epoll, Readiness};
use crate::wake::WakeDescriptor;

impl<B> Readiness<B> {
    pub(crate) fn bell(&self) -> &WakeDescriptor {
        &self.bell
    }

    /// The resource that holds a descriptor number.
    pub(crate) fn holder(&self, number: RawFd) -> Option<Id> {
        self.holders.get(number)
    }

    /// The number of a descriptor that we own.
    pub(crate) fn number(&self, id: Id) -> Option<RawFd> {
        Some(self.resources.get(id)?.owned().ok()?.as_raw_fd())
    }

    /// The number of a connected stream, or of another descriptor that we own. Receiving does not
    /// fail there because a connection is still being made.
    pub(crate) fn receiver(&self, id: Id) -> Option<RawFd> {
        let resource = self.resources.get(id)?;
        if resource.is_connecting() {
            return None;
        }
        Some(resource.owned().ok()?.as_raw_fd())
    }

    /// The number of a stream on which a send may be tried.
    pub(crate) fn sender(&self, id: Id) -> Option<RawFd> {
        let stream = self.resources.get(id)?;
        if stream.kind() != Kind::Stream || stream.is_full() || stream.is_connecting() {
            return None;
        }
        Some(stream.owned().ok()?.as_raw_fd())
    }

    /// Whether it is a stream of TCP.
    pub(crate) fn is_tcp_stream(&self, id: Id) -> bool {
        self.resources.get(id).is_some_and(Resource::has_edges)
    }

    /// A send was short: the next one will wait for room.
    pub(crate) fn set_full(&mut self, id: Id) {
        if let Some(stream) = self.resources.get_mut(id) {
            stream.set_full(true);
        }
    }

    /// The end of a stream, or an error, has been taken elsewhere: nothing more is to be reported.
    pub(crate) fn end_receiving(&mut self, id: Id) {
        if let Some(stream) = self.resources.get_mut(id)
            && stream.end_receiving()
        {
            self.changed.push(id);
        }
    }

    /// A send found no room: `Sendable` follows.
    pub(crate) fn await_sendable(&mut self, id: Id) {
        if let Some(stream) = self.resources.get_mut(id) {
            stream.set_full(true);
            if stream.want(Interest::WRITE, true) {
                self.changed.push(id);
            }
        }
    }
}

impl Epoll {
    /// The multiplexer's own number: readable when it has something to report.
    pub(crate) fn multiplexer(&self) -> RawFd {
        self.watching.backend.as_fd().as_raw_fd()
    }
}
