//! What of a regular file the system has in memory, without a wait. What it has not is for
//! `Op::File`, or for a thread.

use std::io::{self, IoSliceMut};
use std::os::fd::BorrowedFd;

/// Reads from the page cache: how many bytes, 0 at the end of the file, fewer than there is room for also
/// where the cache ends. `None` if it would have to wait.
///
/// # Errors
/// Those of preadv2(2); `EOPNOTSUPP` where the file system cannot tell.
#[cfg(target_os = "linux")]
pub fn read_now(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};

    let buffers = &mut [IoSliceMut::new(buffer)];
    match preadv2(file, buffers, offset, ReadWriteFlags::NOWAIT) {
        Ok(count) => Ok(Some(count)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
