//! Receiving: one large buffer for all streams of a driver, lent out for one read at a time.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::Received;

/// Large enough that a fast peer's window is emptied in few calls; one for each driver, so that an
/// idle stream owns no buffer at all. Never zeroed: pages that are not used are not touched.
pub(super) const RECEIVE_BUFFER: usize = 256 * 1024;

pub(super) struct ReceiveBuffer(Box<[MaybeUninit<u8>]>);

impl ReceiveBuffer {
    pub(super) fn new() -> Self {
        Self(Box::new_uninit_slice(RECEIVE_BUFFER))
    }

    /// One `recv(2)`.
    #[inline(always)]
    pub(super) fn receive(&mut self, fd: BorrowedFd<'_>) -> io::Result<Received<'_>> {
        match recv(fd, &mut *self.0, RecvFlags::DONTWAIT) {
            Ok((([], _), _)) => Ok(Received::Eof),
            Ok(((data, _), _)) => Ok(Received::Data(data)),
            // No INTR: a receive that does not wait is never interrupted (tcp_recvmsg, recvmsg(2)).
            Err(Errno::AGAIN) => Ok(Received::Nothing),
            Err(error) => Err(error.into()),
        }
    }
}

/// One `recv(2)` into the caller's memory.
#[inline(always)]
pub(super) fn receive_into(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match recv(fd, buffer, RecvFlags::DONTWAIT) {
        Ok((received, _)) => Ok(Some(received)),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
