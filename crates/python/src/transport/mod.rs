//! Transports: the loop's connections as Python programs see them.
//!
//! What a connection may do next is decided by `oxlip_core::stream` and `oxlip_core::datagram`;
//! bytes are moved by the driver; these files carry one to the other and call the protocol. All of it runs on the loop's
//! thread.

mod accept;
mod address;
mod base;
mod begin;
mod datagram;
mod end;
mod extra;
mod flow;
mod read;
mod stream;
mod ties;
mod write;

pub(crate) use accept::{Accepting, accept, accept_again, listen, unlisten};
pub(crate) use begin::{Beginning, begin, wrap};
pub(crate) use datagram::{DatagramTransport, Endpoint, open, receive};
pub(crate) use end::{Ending, end, failed};
pub(crate) use read::read;
pub(crate) use stream::StreamTransport;
pub(crate) use ties::{Transport, abandon, has_number};
pub(crate) use write::{flush, sendable};
