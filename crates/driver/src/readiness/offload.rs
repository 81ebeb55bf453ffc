//! What the kernel can do with UDP datagrams: join those that arrive (`UDP_GRO`), and split what is
//! sent as one (`UDP_SEGMENT`). rustix has neither.
//!
//! Both are used only when they can help (`joining.rs`, [`run`]), and only for UDP: other protocols
//! do not have these options at their level. Joined datagrams reach whoever reads the socket, so
//! joining is switched off when the driver lets go of a descriptor: the program may have a
//! duplicate.
//!
//! Only `datagram.rs` uses it, on the driver's thread.

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use oxlip_core::address::Outgoing;
use oxlip_core::op::MAX_DATAGRAMS;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::SocketAddrAny;

/// The limit for all parts of one message together: less than a packet can carry with any headers.
const LONGEST: usize = 65_000;

/// `UDP_MAX_SEGMENTS` of the kernels that allow the fewest.
const MOST_PARTS: usize = 64;

const _: () = assert!(MAX_DATAGRAMS <= MOST_PARTS);

/// One control message with one number of 16 bits, as the kernel expects it: aligned, and padded with zeros.
#[repr(align(8))]
struct Control([u8; CONTROL]);

// SAFETY: CMSG_SPACE is arithmetic.
const CONTROL: usize = unsafe { libc::CMSG_SPACE(size_of::<u16>() as u32) } as usize;

/// From here on the kernel may join what arrives. Returns true if it did not before, so that
/// [`leave_apart`] must be called at the end.
pub(super) fn join_received(fd: BorrowedFd<'_>) -> bool {
    option(fd, libc::UDP_GRO) == Some(0) && set(fd, libc::UDP_GRO, 1)
}

/// Switches joining off for good. What has arrived joined, and was not read, stays joined.
pub(super) fn leave_apart(fd: BorrowedFd<'_>) {
    set(fd, libc::UDP_GRO, 0);
}

/// Switches joining off, if nothing waits to be read: the kernel tells how to divide what it has
/// joined before only while the option is on.
pub(super) fn rest(fd: BorrowedFd<'_>) -> bool {
    set(fd, libc::UDP_GRO, 0);
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let is_empty = matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0));
    if !is_empty {
        set(fd, libc::UDP_GRO, 1);
    }
    is_empty
}

/// Whether [`send`] may be used: older kernels would send a joined message whole. If a segment size
/// is set on the socket, the program handles this itself.
pub(super) fn can_cut(fd: BorrowedFd<'_>) -> bool {
    option(fd, libc::UDP_SEGMENT) == Some(0)
}

/// The option's value; `None` if the socket has no such option, because it is not UDP or the kernel is too old.
fn option(fd: BorrowedFd<'_>, name: libc::c_int) -> Option<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the value is as long as `length` says, and both outlive the call.
    let answer = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_UDP,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    (answer == 0).then_some(value)
}

fn set(fd: BorrowedFd<'_>, name: libc::c_int, value: libc::c_int) -> bool {
    // SAFETY: the value is as long as is said, and outlives the call.
    let answer = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_UDP,
            name,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    answer == 0
}

/// How many of the datagrams, from the first on, may be sent as one message: all to one peer and of
/// one length, except that the last may be shorter.
pub(super) fn run(datagrams: &[Outgoing<'_>]) -> usize {
    let Some((first, rest)) = datagrams.split_first() else {
        return 0;
    };
    let part = first.bytes.len();
    let (mut count, mut total, mut last) = (1, part, part);
    for next in rest {
        let length = next.bytes.len();
        total += length;
        let joins = last == part && (1..=part).contains(&length) && total <= LONGEST;
        if !joins || next.to != first.to {
            break;
        }
        last = length;
        count += 1;
    }
    count
}

/// One `sendmmsg(2)`, a message for each run. Returns how many datagrams the system took, and an
/// error only if it concerns the first run. `addresses` has one address for each datagram.
pub(super) fn send(
    fd: BorrowedFd<'_>,
    datagrams: &[Outgoing<'_>],
    addresses: &[Option<SocketAddrAny>],
) -> io::Result<usize> {
    assert_eq!(datagrams.len(), addresses.len());
    let mut runs = Vec::with_capacity(datagrams.len());
    let mut at = 0;
    while let count @ 1.. = run(&datagrams[at..]) {
        runs.push((at, count));
        at += count;
    }
    let slices: Vec<_> = datagrams.iter().map(|it| IoSlice::new(it.bytes)).collect();
    let mut controls: Vec<_> = runs
        .iter()
        .map(|(at, count)| (*count > 1).then(|| Control::cut(datagrams[*at].bytes.len())))
        .collect();
    let mut headers = Vec::with_capacity(runs.len());
    for ((at, count), control) in runs.iter().zip(&mut controls) {
        // SAFETY: integers and pointers, for which zero is a value.
        let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
        let message = &mut header.msg_hdr;
        if let Some(address) = &addresses[*at] {
            message.msg_name = address.as_ptr().cast_mut().cast();
            message.msg_namelen = address.addr_len();
        }
        // An IoSlice is an iovec: the standard library promises it.
        message.msg_iov = slices[*at..].as_ptr().cast_mut().cast();
        message.msg_iovlen = *count as _;
        if let Some(control) = control {
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = CONTROL as _;
        }
        headers.push(header);
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let sent = retry_on_intr(|| {
        // SAFETY: each header points to an address or none, to `msg_iovlen` slices of `slices`, which
        // has that many from there on, and to one control or none; all of them outlive the call, and
        // the kernel only reads them. It writes the headers, which are ours.
        let answer = unsafe {
            libc::sendmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as libc::c_uint,
                flags as _,
            )
        };
        usize::try_from(answer)
            .map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
    })?;
    Ok(runs[..sent].iter().map(|(_, count)| count).sum())
}

impl Control {
    /// Makes the control message that tells the kernel to split a message into datagrams of this length.
    fn cut(part: usize) -> Self {
        let part = u16::try_from(part).expect("two are no longer than a packet");
        let mut control = Self([0; CONTROL]);
        let mut header: libc::msghdr;
        // SAFETY: integers and pointers, for which zero is a value. The header then points to the
        // control's memory, which is aligned for a control message and has room for one with a number
        // of 16 bits: the first one is there, and so are its data.
        unsafe {
            header = mem::zeroed();
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL as _;
            let message = libc::CMSG_FIRSTHDR(&raw const header);
            (*message).cmsg_level = libc::IPPROTO_UDP;
            (*message).cmsg_type = libc::UDP_SEGMENT;
            (*message).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
            ptr::write_unaligned(libc::CMSG_DATA(message).cast(), part);
        }
        control
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use oxlip_core::address::Address;

    use super::*;

    fn lengths(datagrams: &[Outgoing<'_>]) -> Vec<usize> {
        let (mut at, mut lengths) = (0, Vec::new());
        while at < datagrams.len() {
            lengths.push(run(&datagrams[at..]));
            at += lengths[lengths.len() - 1];
        }
        lengths
    }

    fn runs(sizes: &[usize]) -> Vec<usize> {
        let bytes = vec![0; 70_000];
        let datagrams: Vec<_> = sizes
            .iter()
            .map(|size| Outgoing {
                bytes: &bytes[..*size],
                to: None,
            })
            .collect();
        lengths(&datagrams)
    }

    #[test]
    fn a_run_is_of_one_length_and_its_last_may_be_shorter() {
        assert_eq!(runs(&[]), []);
        assert_eq!(runs(&[5, 5, 5]), [3]);
        assert_eq!(runs(&[5, 5, 4, 4]), [3, 1]);
        assert_eq!(runs(&[4, 5, 5]), [1, 2]);
        assert_eq!(runs(&[5, 0, 5]), [1, 1, 1]);
        assert_eq!(runs(&[0, 0]), [1, 1]);
        assert_eq!(runs(&[5, 3, 5, 3]), [2, 2]);
    }

    #[test]
    fn a_run_is_no_longer_than_a_packet() {
        assert_eq!(runs(&[20_000; 7]), [3, 3, 1]);
        assert_eq!(runs(&[65_000, 1]), [1, 1]);
        assert_eq!(runs(&[66_000, 66_000]), [1, 1]);
    }

    #[test]
    fn a_run_goes_to_one_peer() {
        let peers = [1, 2].map(|port| Address::Ip((Ipv4Addr::LOCALHOST, port).into()));
        let to = |peer| Outgoing {
            bytes: b"x",
            to: peer,
        };
        let [one, two] = [to(Some(&peers[0])), to(Some(&peers[1]))];
        assert_eq!(
            lengths(&[one, one, two, one, to(None), to(None)]),
            [2, 1, 1, 2]
        );
    }
}
