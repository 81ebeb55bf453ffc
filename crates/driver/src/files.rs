//! Reading what the page cache has of a regular file, without waiting. What it does not have is for
//! `Op::File`, or for a thread.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::slice;

/// Reads from the page cache: what is at the beginning of `room` then, nothing at the end of the file,
/// less than there is room for also where the cache ends. `None` if it would have to wait.
///
/// # Errors
/// Those of preadv2(2); `EOPNOTSUPP` where the file system cannot tell.
#[cfg(target_os = "linux")]
pub fn read_now<'room>(
    file: BorrowedFd<'_>,
    room: &'room mut [MaybeUninit<u8>],
    offset: u64,
) -> io::Result<Option<&'room [u8]>> {
    let part = libc::iovec {
        iov_base: room.as_mut_ptr().cast(),
        iov_len: room.len(),
    };
    // Without the C library, whose function is younger than the system call. The kernel wants the
    // halves of the offset apart, and passes over the upper one where a word holds both.
    #[allow(clippy::cast_possible_truncation, reason = "halves")]
    let (low, high) = (offset as libc::c_ulong, (offset >> 32) as libc::c_ulong);
    // SAFETY: `part` is `room`, which is ours alone until this returns: the kernel writes no more
    // than fits, and reads nothing there.
    let count = unsafe {
        libc::syscall(
            libc::SYS_preadv2,
            file.as_raw_fd(),
            &raw const part,
            1 as libc::c_ulong,
            low,
            high,
            libc::RWF_NOWAIT,
        )
    };
    if let Ok(count) = usize::try_from(count) {
        // SAFETY: the kernel has written so many bytes there.
        let read = unsafe { slice::from_raw_parts(room.as_ptr().cast(), count) };
        return Ok(Some(read));
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
        _ => Err(error),
    }
}
