//! Transports: the loop's connections and pipes as Python programs see them.
//!
//! What a connection may do next is decided by `oxlip_core::stream` and `oxlip_core::datagram`;
//! bytes are moved by the driver; these files carry one to the other and call the protocol. All of
//! it runs on the loop's thread, to which `close()` and `abort()` of other threads are passed on.

mod accept;
mod address;
mod base;
mod begin;
mod body;
mod calls;
mod datagram;
mod direct;
mod end;
mod extra;
mod flow;
mod flush;
mod link;
mod outcome;
mod pipe;
mod read;
mod read_pipe;
mod reserve;
mod send;
mod server;
mod stream;
mod usual;
mod write;
mod write_pipe;

pub(crate) use accept::{Accepting, accept, accept_again, listen, unlisten};
pub(crate) use base::TransportBase;
pub(crate) use begin::{Beginning, begin, wrap};
pub(crate) use calls::install;
pub(crate) use datagram::{DatagramTransport, Endpoint, open, receive};
pub(crate) use end::{Ending, end, failed};
pub(crate) use flow::Mark;
pub(crate) use flush::{
    flush, flush_before_wait, note_sent, sendable, settle_sent, stage_for_wait,
};
pub(crate) use link::{AnyTransport, Link};
pub(crate) use pipe::{Direction, wrap as wrap_pipe};
pub(crate) use read::read;
pub(crate) use read_pipe::ReadPipeTransport;
pub(crate) use reserve::{duplicate, duplicate_if_idle, reserve, unreserve};
pub(crate) use server::Server;
pub(crate) use stream::StreamTransport;
pub(crate) use usual::{is_usual, learn};
pub(crate) use write::{write, write_borrowed};
pub(crate) use write_pipe::WritePipeTransport;
