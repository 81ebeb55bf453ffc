//! Receiving many datagrams in one system call: recvmmsg(2), which rustix does not offer.
//!
//! One [`Batch`] serves all datagram sockets of a driver, on its thread. It is made when the first
//! of them receives. Datagrams that the kernel has joined (`offload.rs`) are divided again here:
//! each place is longer than any joined packet.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::{ptr, slice};

use oxlip_core::address::Address;
use oxlip_core::op::MAX_DATAGRAMS;

/// Longer datagrams are truncated. It is the size that asyncio's transports ask for. Pages that no
/// datagram reaches are never touched.
const LONGEST: usize = 256 * 1024;

/// The distance from one datagram's place to the next. It is not a power of two, because then the
/// beginnings of short datagrams would all share one set of the processor's cache.
const STRIDE: usize = LONGEST + 64;

/// Room for control messages, in words: for the size of a joined packet's parts, and for everything
/// before it that the program may have enabled on the socket (time stamps, drops, marks).
const CONTROL: usize = 32;

/// `sizeof(struct sockaddr_storage)`: no address is longer.
const LONGEST_NAME: usize = size_of::<libc::sockaddr_storage>();

pub(super) struct Batch {
    memory: Box<[MaybeUninit<u8>]>,
    names: Box<[[u8; LONGEST_NAME]]>,
    controls: Box<[[u64; CONTROL]]>,
}

/// How much one call received.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// At most as many as were asked for.
    pub(super) messages: usize,
    /// More than messages, if some were joined.
    pub(super) datagrams: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            memory: Box::new_uninit_slice(MAX_DATAGRAMS * STRIDE),
            names: vec![[0; LONGEST_NAME]; MAX_DATAGRAMS].into_boxed_slice(),
            controls: vec![[0; CONTROL]; MAX_DATAGRAMS].into_boxed_slice(),
        }
    }

    /// Passes on each datagram of one `recvmmsg(2)` and its sender (`None` if the system does not
    /// tell, as with an unbound Unix socket). It is no error if there is none.
    pub(super) fn receive(
        &mut self,
        fd: BorrowedFd<'_>,
        limit: usize,
        mut each: impl FnMut(&[u8], Option<Address>),
    ) -> io::Result<Received> {
        let limit = limit.clamp(1, MAX_DATAGRAMS);
        let mut slices = [libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        }; MAX_DATAGRAMS];
        // SAFETY: integers and pointers, for which zero is a value.
        let mut headers: [libc::mmsghdr; MAX_DATAGRAMS] = unsafe { mem::zeroed() };
        let places = self.memory.chunks_exact_mut(STRIDE);
        let places = places.zip(&mut *self.names).zip(&mut *self.controls);
        for ((header, slice), ((memory, name), control)) in
            headers.iter_mut().zip(&mut slices).zip(places).take(limit)
        {
            slice.iov_base = memory.as_mut_ptr().cast();
            slice.iov_len = LONGEST;
            header.msg_hdr.msg_iov = slice;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = name.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = NAME_SPACE;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = size_of_val(control) as _;
        }
        let count = u32::try_from(limit).expect("at most MAX_DATAGRAMS");
        // SAFETY: the first `limit` headers point to one slice, one name and one control each, which
        // are as long as they say, belong to nobody else and outlive the call; the others are not
        // looked at.
        let answer = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let Ok(messages) = usize::try_from(answer) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Received::default()),
                _ => Err(error),
            };
        };
        let places = self.memory.chunks_exact(STRIDE).zip(&*self.names);
        let mut datagrams = 0;
        for (header, (memory, name)) in headers[..messages].iter().zip(places) {
            let length = (header.msg_len as usize).min(LONGEST);
            // SAFETY: the place is longer than that, and the system has written `msg_len` bytes from
            // its beginning on.
            let bytes = unsafe { slice::from_raw_parts(memory.as_ptr().cast::<u8>(), length) };
            let length = (header.msg_hdr.msg_namelen as usize).min(LONGEST_NAME);
            let from = parse(&name[..length]);
            let part = part_size(&header.msg_hdr).unwrap_or(0);
            // An empty message is a datagram too.
            if part == 0 || part >= bytes.len() {
                each(bytes, from);
                datagrams += 1;
                continue;
            }
            for datagram in bytes.chunks(part) {
                each(datagram, from.clone());
                datagrams += 1;
            }
        }
        Ok(Received {
            messages,
            datagrams,
        })
    }
}

/// The length of the datagrams that were joined into one message; the last may be shorter. `None`
/// if it is a single one.
fn part_size(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel has filled in the control messages of this header, and its length; the
    // memory belongs to the batch that made the header and still lends it.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: not null, so it points to a whole control message within the header's memory, which
        // begins at a word.
        let found = unsafe { &*message };
        if (found.cmsg_level, found.cmsg_type) == (libc::IPPROTO_UDP, libc::UDP_GRO) {
            // SAFETY: CMSG_LEN is arithmetic.
            let whole = unsafe { libc::CMSG_LEN(size_of::<libc::c_int>() as u32) };
            if (found.cmsg_len as usize) < whole as usize {
                // It was truncated: there was no room for all of it.
                return None;
            }
            // SAFETY: the kernel gives this message an int, and it is there; it need not be aligned.
            let size = unsafe {
                libc::CMSG_DATA(message)
                    .cast::<libc::c_int>()
                    .read_unaligned()
            };
            return usize::try_from(size).ok();
        }
        // SAFETY: a message of this header.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}

const NAME_SPACE: libc::socklen_t = {
    assert!(LONGEST_NAME <= 1024);
    LONGEST_NAME as libc::socklen_t
};

/// The address in a `sockaddr`; `None` for families that the core does not know.
fn parse(name: &[u8]) -> Option<Address> {
    let (family, rest) = name.split_first_chunk::<2>()?;
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let (port, rest) = rest.split_first_chunk::<2>()?;
            let ip = Ipv4Addr::from(*rest.first_chunk::<4>()?);
            let addr = SocketAddrV4::new(ip, u16::from_be_bytes(*port));
            Some(Address::Ip(addr.into()))
        }
        libc::AF_INET6 => {
            let (port, rest) = rest.split_first_chunk::<2>()?;
            let (flowinfo, rest) = rest.split_first_chunk::<4>()?;
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            let scope_id = u32::from_ne_bytes(*rest.first_chunk()?);
            let addr = SocketAddrV6::new(
                Ipv6Addr::from(*ip),
                u16::from_be_bytes(*port),
                u32::from_ne_bytes(*flowinfo),
                scope_id,
            );
            Some(Address::Ip(addr.into()))
        }
        // A path ends at its zero byte, an abstract name where the length says.
        libc::AF_UNIX if rest.first().is_some_and(|first| *first != 0) => {
            let path = rest.split(|byte| *byte == 0).next().unwrap_or_default();
            Some(Address::Unix(path.into()))
        }
        libc::AF_UNIX => Some(Address::Unix(rest.into())),
        _ => None,
    }
}
