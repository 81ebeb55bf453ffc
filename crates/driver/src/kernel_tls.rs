//! TLS in the kernel: from [`start`] on, the kernel turns what is sent over a TCP socket into TLS
//! records (<https://docs.kernel.org/networking/tls.html>). What is received is left as it is.
//!
//! Plain calls on a borrowed descriptor, from any thread. The driver's own sends need not know
//! about it. Linux only: elsewhere every call is `Unsupported`.

use std::io;
use std::os::fd::BorrowedFd;

#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;

/// The first bytes of the keys, which say what they are of (`struct tls_crypto_info` in linux/tls.h).
pub const HEAD: usize = 4;

/// How many bytes the keys have that begin so: one of the structures `tls12_crypto_info_*` of linux/tls.h. `None`: a
/// cipher that is not known here.
#[must_use]
pub fn keys_length(head: [u8; HEAD]) -> Option<usize> {
    let [_, _, low, high] = head;
    // Their numbers and sizes are a part of the kernel's interface.
    match u16::from_ne_bytes([low, high]) {
        51 | 53 => Some(40), // AES-GCM and AES-CCM with 128 bits
        52 | 54 => Some(56), // AES-GCM with 256 bits, ChaCha20-Poly1305
        _ => None,
    }
}

/// Everything that is sent from now on is encrypted with `keys`, in records of application data. Once more: with new
/// keys, where the kernel can (since 6.14).
///
/// # Errors
/// Those of setsockopt(2). `NotFound`: the kernel has no TLS. `Unsupported`: it does not know the cipher, or this is no
/// TCP socket. `ResourceBusy`: it cannot change the keys.
#[cfg(target_os = "linux")]
pub fn start(fd: BorrowedFd<'_>, keys: &[u8]) -> io::Result<()> {
    match set(fd, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls") {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
        _ => {}
    }
    set(fd, libc::SOL_TLS, libc::TLS_TX, keys)
}

/// Sends one record of another type than application data (RFC 8446, 5.1): whole, or not at all.
///
/// # Errors
/// Those of sendmsg(2). `WouldBlock`: there is no room now. `WriteZero`: a part of it was sent, and no more can be.
#[cfg(target_os = "linux")]
pub fn send_record(fd: BorrowedFd<'_>, kind: u8, content: &[u8]) -> io::Result<()> {
    /// Room for one control message of one byte, aligned as the kernel wants it.
    #[repr(align(8))]
    struct Control([u8; SPACE]);
    // SAFETY: CMSG_SPACE is arithmetic.
    const SPACE: usize = unsafe { libc::CMSG_SPACE(size_of::<u8>() as u32) } as usize;

    let mut control = Control([0; SPACE]);
    let mut part = libc::iovec {
        iov_base: content.as_ptr().cast_mut().cast(),
        iov_len: content.len(),
    };
    // SAFETY: plain numbers and pointers, for all of which zero is a value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = SPACE as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the control message lies in `control`, which has room for it and is aligned; the header, the part and what they
    // point to outlive the call, which only reads them.
    let sent = unsafe {
        let message = libc::CMSG_FIRSTHDR(&raw const header);
        (*message).cmsg_level = libc::SOL_TLS;
        (*message).cmsg_type = libc::TLS_SET_RECORD_TYPE;
        (*message).cmsg_len = libc::CMSG_LEN(size_of::<u8>() as u32) as _;
        libc::CMSG_DATA(message).write(kind);
        libc::sendmsg(fd.as_raw_fd(), &raw const header, flags)
    };
    match usize::try_from(sent) {
        Ok(sent) if sent == content.len() => Ok(()),
        // Of a record that the kernel has cut the rest would be another record.
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

#[cfg(target_os = "linux")]
fn set(fd: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: &[u8]) -> io::Result<()> {
    // SAFETY: the value is as long as is said, and outlives the call.
    let answer = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Not on this system.
///
/// # Errors
/// Always `Unsupported`.
#[cfg(not(target_os = "linux"))]
pub fn start(_fd: BorrowedFd<'_>, _keys: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Not on this system.
///
/// # Errors
/// Always `Unsupported`.
#[cfg(not(target_os = "linux"))]
pub fn send_record(_fd: BorrowedFd<'_>, _kind: u8, _content: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Sends what there is room for.
///
/// # Errors
/// Those of send(2); `WouldBlock`: there is no room now.
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    use rustix::net::{SendFlags, send};
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(rustix::io::retry_on_intr(|| send(fd, bytes, flags))?)
}
