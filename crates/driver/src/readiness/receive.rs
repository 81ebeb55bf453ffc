//! Receiving: one large buffer for all streams of a driver, lent for one read at a time.

use std::io;
use std::mem::MaybeUninit;

use rustix::io::{Errno, read};
use rustix::net::{RecvFlags, recv};

use super::resource::Channel;
use crate::Received;

/// Large enough to empty a fast peer's window in few calls. There is one for each driver, so that
/// an idle stream owns no buffer at all. It is never zeroed, so pages that are not used are not
/// touched.
pub(super) const RECEIVE_BUFFER: usize = 256 * 1024;

pub(super) struct ReceiveBuffer(Box<[MaybeUninit<u8>]>);

impl ReceiveBuffer {
    pub(super) fn new() -> Self {
        Self(Box::new_uninit_slice(RECEIVE_BUFFER))
    }

    /// As [`receive`].
    #[inline(always)]
    pub(super) fn receive(&mut self, channel: Channel<'_>) -> io::Result<Received<'_>> {
        receive(channel, &mut self.0)
    }
}

/// One `recv(2)` or `read(2)` into uninitialised memory.
#[inline(always)]
pub(super) fn receive<'a>(
    channel: Channel<'_>,
    room: &'a mut [MaybeUninit<u8>],
) -> io::Result<Received<'a>> {
    let received = match channel {
        Channel::Socket(fd) => recv(fd, room, RecvFlags::DONTWAIT).map(|((data, _), _)| data),
        Channel::Pipe(fd) => read(fd, room).map(|(data, _)| data),
    };
    match received {
        Ok([]) => Ok(Received::Eof),
        Ok(data) => Ok(Received::Data(data)),
        // INTR cannot occur: a call that does not wait is never interrupted (recvmsg(2), read(2)).
        Err(Errno::AGAIN) => Ok(Received::Nothing),
        Err(error) => Err(error.into()),
    }
}

/// One `recv(2)` or `read(2)` into the caller's memory.
#[inline(always)]
pub(super) fn receive_into(channel: Channel<'_>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let received = match channel {
        Channel::Socket(fd) => recv(fd, buffer, RecvFlags::DONTWAIT).map(|(count, _)| count),
        Channel::Pipe(fd) => read(fd, buffer),
    };
    match received {
        Ok(received) => Ok(Some(received)),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
