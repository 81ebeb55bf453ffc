//! What the kernel joins on the way in comes apart, and what leaves joined arrives apart.
//!
//! Loopback carries a joined message whole to a socket that asks for it, so both can be seen here.

use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use nix::sys::socket::sockopt::{UdpGroSegment, UdpGsoSegment};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, getsockopt, recvmsg, sendmsg,
    setsockopt,
};
use oxlip_core::address::{Address, Outgoing};
use oxlip_core::id::Id;
use oxlip_core::op::{MAX_DATAGRAMS, Op};
use oxlip_driver::{Driver, Role};

use crate::world::{OsWorld, Play, Seen, World, on_os_drivers};

on_os_drivers!(
    what_is_joined_comes_apart,
    connected_sockets_get_it_apart,
    what_is_not_joined_comes_as_it_is,
    a_full_batch_of_joined_messages_comes_apart,
    control_messages_of_the_program_do_no_harm,
    one_datagram_at_a_time_asks_for_nothing,
    what_is_never_joined_is_left_alone_after_a_while,
    what_waits_joined_when_it_is_given_up_comes_apart,
    whoever_has_the_descriptor_afterwards_gets_nothing_joined,
    what_the_program_has_asked_for_stays,
    a_socket_that_others_receive_from_stays_as_it_is,
    a_unix_socket_is_left_alone,
    what_is_alike_leaves_joined,
    what_is_not_alike_keeps_its_borders,
    a_connected_socket_sends_joined,
    a_socket_that_may_not_cut_sends_apart,
    a_socket_that_cuts_by_itself_is_left_alone,
    a_refusal_is_told_for_what_leaves_joined,
    an_error_is_that_of_one_datagram,
);

type Datagrams = Vec<(Vec<u8>, Option<Address>)>;

/// No checksums: then the kernel refuses to cut.
#[derive(Clone, Copy)]
struct NoChecksum;

nix::setsockopt_impl!(
    NoChecksum,
    libc::SOL_SOCKET,
    libc::SO_NO_CHECK,
    bool,
    nix::sys::socket::sockopt::SetBool
);

fn adopt<W: OsWorld>(world: &mut W, socket: impl Into<OwnedFd>) -> Id {
    let id = world.driver().adopt(socket.into(), Role::Datagram);
    id.expect("adopt")
}

fn bound_to(ip: impl Into<IpAddr>) -> UdpSocket {
    let socket = UdpSocket::bind((ip.into(), 0)).expect("bind");
    socket.set_nonblocking(true).expect("non-blocking");
    socket
}

fn bound() -> UdpSocket {
    bound_to(Ipv4Addr::LOCALHOST)
}

fn addr(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("an address")
}

fn address(socket: &UdpSocket) -> Address {
    Address::Ip(addr(socket))
}

/// Different bytes, so that a mistake in the order is seen.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// Sends the bytes as one message which the kernel is to cut.
fn send_cut(socket: &UdpSocket, to: SocketAddr, bytes: &[u8], part: u16) {
    let to = SockaddrStorage::from(to);
    let control = [ControlMessage::UdpGsoSegments(&part)];
    let sent = sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        &control,
        MsgFlags::empty(),
        Some(&to),
    );
    assert_eq!(sent.expect("send"), bytes.len());
}

/// The next message, and how long the parts are of which it was joined.
fn receive_joined(socket: &UdpSocket) -> Option<(Vec<u8>, Option<i32>)> {
    let mut buffer = vec![0; 70_000];
    let mut space = nix::cmsg_space!(i32);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)
            .ok()?;
    let part = message.cmsgs().expect("whole").find_map(|it| match it {
        ControlMessageOwned::UdpGroSegments(size) => Some(size),
        _ => None,
    });
    let length = message.bytes;
    Some((buffer[..length].to_vec(), part))
}

fn is_joined(socket: &impl AsFd) -> bool {
    getsockopt(socket, UdpGroSegment).expect("a kernel with UDP_GRO")
}

fn take(world: &mut impl World, id: Id, limit: usize) -> Datagrams {
    let mut taken = Vec::new();
    let count = world
        .driver()
        .take_datagrams(id, limit, |bytes, from| taken.push((bytes.to_vec(), from)))
        .expect("datagrams");
    assert_eq!(count, taken.len());
    taken
}

/// Waits for datagrams until there are so many.
fn collect(world: &mut impl World, id: Id, count: usize) -> Datagrams {
    let mut taken = Vec::new();
    while taken.len() < count {
        world.until(Seen::Receivable(id));
        taken.extend(take(world, id, MAX_DATAGRAMS));
    }
    taken
}

/// Adopts a socket and shows it a flood, so that what follows is joined.
fn flooded<W: OsWorld>(world: &mut W, socket: UdpSocket) -> Id {
    let id = adopt(world, socket);
    world.start(Op::RecvStart(id));
    assert_eq!(take(world, id, 2), []);
    id
}

fn what_is_joined_comes_apart<W: OsWorld>() {
    for ip in [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ] {
        if UdpSocket::bind((ip, 0)).is_err() {
            continue; // no IPv6 here
        }
        let (mut world, socket, peer) = (W::new(), bound_to(ip), bound_to(ip));
        let near = addr(&socket);
        let id = flooded(&mut world, socket);
        for (length, part) in [
            (1000, 100),
            (1030, 100),
            (101, 100),
            (64, 1),
            (64_000, 1400),
            (60_000, 30_000),
        ] {
            let sent = bytes(length);
            send_cut(&peer, near, &sent, part);
            world.until(Seen::Receivable(id));
            let expected: Datagrams = sent
                .chunks(part.into())
                .map(|bytes| (bytes.to_vec(), Some(address(&peer))))
                .collect();
            // One was asked for: it came joined.
            assert!(
                take(&mut world, id, 1) == expected,
                "{length} in parts of {part}"
            );
        }
        world.quiet();
    }
}

fn connected_sockets_get_it_apart<W: OsWorld>() {
    let (mut world, socket, peer) = (W::new(), bound(), bound());
    socket.connect(addr(&peer)).expect("connect");
    let near = addr(&socket);
    let id = flooded(&mut world, socket);
    send_cut(&peer, near, &bytes(250), 100);
    let lengths: Vec<_> = collect(&mut world, id, 3)
        .iter()
        .map(|it| it.0.len())
        .collect();
    assert_eq!(lengths, [100, 100, 50]);
}

fn what_is_not_joined_comes_as_it_is<W: OsWorld>() {
    let (mut world, socket, peer, other) = (W::new(), bound(), bound(), bound());
    let near = addr(&socket);
    let id = flooded(&mut world, socket);
    let mut expected = Vec::new();
    for length in [0, 1, 65_507, 100, 0] {
        peer.send_to(&bytes(length), near).expect("send");
        expected.push((bytes(length), Some(address(&peer))));
        send_cut(&other, near, &bytes(30), 10);
        expected.extend(
            bytes(30)
                .chunks(10)
                .map(|it| (it.to_vec(), Some(address(&other)))),
        );
        // A message that needs no cut.
        send_cut(&other, near, &bytes(30), 30);
        expected.push((bytes(30), Some(address(&other))));
    }
    assert!(collect(&mut world, id, expected.len()) == expected);
    world.quiet();
}

fn a_full_batch_of_joined_messages_comes_apart<W: OsWorld>() {
    let (mut world, socket, peer) = (W::new(), bound(), bound());
    let near = addr(&socket);
    let id = flooded(&mut world, socket);
    let mut expected = Vec::new();
    for first in 0..40_u8 {
        let sent: Vec<_> = (0..320)
            .map(|at| first.wrapping_add((at / 10) as u8))
            .collect();
        send_cut(&peer, near, &sent, 10);
        expected.extend(sent.chunks(10).map(<[u8]>::to_vec));
    }
    world.until(Seen::Receivable(id));
    let mut taken = take(&mut world, id, MAX_DATAGRAMS);
    assert_eq!(taken.len(), 32 * MAX_DATAGRAMS);
    taken.extend(collect(&mut world, id, 8 * 32));
    let taken: Vec<_> = taken.into_iter().map(|it| it.0).collect();
    assert!(taken == expected);
}

/// They come before the kernel's word of what is joined, which must still have room.
fn control_messages_of_the_program_do_no_harm<W: OsWorld>() {
    use nix::sys::socket::sockopt::{Ipv4PacketInfo, ReceiveTimestampns, RxqOvfl};
    let (mut world, socket, peer) = (W::new(), bound(), bound());
    setsockopt(&socket, ReceiveTimestampns, &true).expect("time stamps");
    setsockopt(&socket, Ipv4PacketInfo, &true).expect("packet info");
    setsockopt(&socket, RxqOvfl, &1).expect("drops");
    let near = addr(&socket);
    let id = flooded(&mut world, socket);
    for _ in 0..3 {
        send_cut(&peer, near, &bytes(1000), 100);
    }
    assert_eq!(collect(&mut world, id, 30).len(), 30);
}

fn one_datagram_at_a_time_asks_for_nothing<W: OsWorld>() {
    let (mut world, socket, peer) = (W::new(), bound(), bound());
    let (near, twin) = (addr(&socket), socket.try_clone().expect("a duplicate"));
    let id = adopt(&mut world, socket);
    world.start(Op::RecvStart(id));
    send_cut(&peer, near, &bytes(20), 10);
    world.until(Seen::Receivable(id));
    assert_eq!(take(&mut world, id, 1).len(), 1);
    assert!(!is_joined(&twin));
    assert_eq!(take(&mut world, id, 2).len(), 1);
    assert!(is_joined(&twin));
}

fn what_is_never_joined_is_left_alone_after_a_while<W: OsWorld>() {
    let (mut world, socket, peer) = (W::new(), bound(), bound());
    let (near, twin) = (addr(&socket), socket.try_clone().expect("a duplicate"));
    let id = flooded(&mut world, socket);
    assert!(is_joined(&twin));
    let mut states = Vec::new();
    for _ in 0..40 {
        peer.send_to(b"x", near).expect("send");
        assert_eq!(collect(&mut world, id, 1).len(), 1);
        states.push(is_joined(&twin));
    }
    let changes = states.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!((4..10).contains(&changes), "{states:?}");
    // Whatever the state, and whatever waits when it changes: all come apart.
    for round in 0..100 {
        let count = 1 + round % 7;
        for at in 0..count {
            if at % 3 == 2 {
                send_cut(&peer, near, &bytes(30), 10);
            } else {
                peer.send_to(&bytes(10), near).expect("send");
            }
        }
        world.until(Seen::Receivable(id));
        let mut left = count + 2 * (count / 3);
        while left > 0 {
            let taken = take(&mut world, id, 2);
            assert!(
                taken.iter().all(|(bytes, _)| bytes.len() == 10),
                "{taken:?}"
            );
            left -= taken.len();
        }
    }
    for _ in 0..300 {
        send_cut(&peer, near, &bytes(30), 10);
        assert_eq!(collect(&mut world, id, 3).len(), 3);
    }
    assert!(is_joined(&twin));
    world.quiet();
}

/// The kernel says how to divide a message only as long as it is to join.
fn what_waits_joined_when_it_is_given_up_comes_apart<W: OsWorld>() {
    let (mut world, socket, peer) = (W::new(), bound(), bound());
    let near = addr(&socket);
    let id = flooded(&mut world, socket);
    for singles in 1..20 {
        for _ in 0..singles {
            peer.send_to(b"x", near).expect("send");
        }
        send_cut(&peer, near, &bytes(30), 10);
        for _ in 0..singles {
            assert_eq!(take(&mut world, id, 1).len(), 1);
        }
        let lengths: Vec<_> = collect(&mut world, id, 3)
            .iter()
            .map(|it| it.0.len())
            .collect();
        assert_eq!(lengths, [10, 10, 10]);
    }
}

fn whoever_has_the_descriptor_afterwards_gets_nothing_joined<W: OsWorld>() {
    type End<W> = fn(W, Id);
    let ends: [End<W>; 3] = [
        |mut world, id| world.close(id),
        |mut world, id| drop(world.driver().release(id).expect("a socket")),
        |world, _| drop(world),
    ];
    for end in ends {
        let (mut world, socket, peer) = (W::new(), bound(), bound());
        let (near, twin) = (addr(&socket), socket.try_clone().expect("a duplicate"));
        let id = flooded(&mut world, socket);
        assert!(is_joined(&twin));
        end(world, id);
        assert!(!is_joined(&twin));
        send_cut(&peer, near, &bytes(20), 10);
        assert_eq!(twin.recv(&mut [0; 100]).expect("receive"), 10);
    }
}

fn what_the_program_has_asked_for_stays<W: OsWorld>() {
    let (mut world, socket, peer) = (W::new(), bound(), bound());
    setsockopt(&socket, UdpGroSegment, &true).expect("joined");
    let (near, twin) = (addr(&socket), socket.try_clone().expect("a duplicate"));
    let id = flooded(&mut world, socket);
    send_cut(&peer, near, &bytes(20), 10);
    assert_eq!(collect(&mut world, id, 2).len(), 2);
    world.close(id);
    assert!(is_joined(&twin));
}

fn a_socket_that_others_receive_from_stays_as_it_is<W: OsWorld>() {
    let (mut world, peer) = (W::new(), bound());
    for asked in [false, true] {
        let socket = bound();
        setsockopt(&socket, UdpGroSegment, &asked).expect("an option");
        let (near, twin) = (addr(&socket), socket.try_clone().expect("a duplicate"));
        let id = world.driver().adopt(socket.into(), Role::SharedDatagram);
        let id = id.expect("adopt");
        world.start(Op::RecvStart(id));
        assert_eq!(take(&mut world, id, MAX_DATAGRAMS), []);
        send_cut(&peer, near, &bytes(30), 10);
        assert_eq!(collect(&mut world, id, 3).len(), 3);
        assert_eq!(is_joined(&twin), asked);
        world.close(id);
        assert_eq!(is_joined(&twin), asked);
    }
}

fn a_unix_socket_is_left_alone<W: OsWorld>() {
    let mut world = W::new();
    let (one, other) = UnixDatagram::pair().expect("a pair");
    one.set_nonblocking(true).expect("non-blocking");
    let id = adopt(&mut world, one);
    world.start(Op::RecvStart(id));
    let sent = [b"x"; 5].map(|bytes| Outgoing { bytes, to: None });
    let sent = world.ask(Op::SendDatagrams {
        id,
        datagrams: &sent,
    });
    assert_eq!(sent, Some(Seen::Sent(id, Ok(5))));
    for _ in 0..5 {
        assert_eq!(other.recv(&mut [0; 8]).expect("receive"), 1);
        other.send(b"back").expect("send");
    }
    assert_eq!(
        collect(&mut world, id, 5),
        vec![(b"back".to_vec(), None); 5]
    );
}

/// Sends them in one op, as many as it takes.
fn send_all(world: &mut impl World, id: Id, datagrams: &[Outgoing<'_>]) {
    let mut rest = datagrams;
    while !rest.is_empty() {
        match world.ask(Op::SendDatagrams {
            id,
            datagrams: rest,
        }) {
            Some(Seen::Sent(_, Ok(count))) => rest = &rest[count..],
            other => panic!("{other:?}"),
        }
    }
}

fn joining_receiver() -> UdpSocket {
    let socket = bound();
    setsockopt(&socket, UdpGroSegment, &true).expect("joined");
    socket
}

fn what_is_alike_leaves_joined<W: OsWorld>() {
    let (mut world, socket, joining, apart) = (W::new(), bound(), joining_receiver(), bound());
    let id = adopt(&mut world, socket);
    let sent = bytes(1030);
    for peer in [&joining, &apart] {
        let to = address(peer);
        let datagrams: Vec<_> = sent
            .chunks(100)
            .map(|bytes| Outgoing {
                bytes,
                to: Some(&to),
            })
            .collect();
        let sent = world.ask(Op::SendDatagrams {
            id,
            datagrams: &datagrams,
        });
        assert_eq!(sent, Some(Seen::Sent(id, Ok(11))));
    }
    assert!(receive_joined(&joining) == Some((sent.clone(), Some(100))));
    for expected in sent.chunks(100) {
        assert!(receive_joined(&apart) == Some((expected.to_vec(), None)));
    }
}

fn what_is_not_alike_keeps_its_borders<W: OsWorld>() {
    let mut world = W::new();
    let (socket, one, other) = (bound(), bound(), bound());
    let id = adopt(&mut world, socket);
    let names = [address(&one), address(&other)];
    let data = bytes(30_000);
    let lengths = [
        7, 7, 0, 7, 3, 3, 0, 0, 9, 9, 9, 30_000, 30_000, 30_000, 2, 2, 8, 8, 8, 5, 1,
    ];
    let datagrams: Vec<_> = lengths
        .iter()
        .enumerate()
        .map(|(at, length)| Outgoing {
            bytes: &data[..*length],
            to: Some(&names[usize::from(at % 5 == 4)]),
        })
        .collect();
    send_all(&mut world, id, &datagrams);
    for (peer, name) in [(one, &names[0]), (other, &names[1])] {
        for expected in datagrams.iter().filter(|it| it.to == Some(name)) {
            assert!(receive_joined(&peer) == Some((expected.bytes.to_vec(), None)));
        }
        assert!(receive_joined(&peer).is_none());
    }
}

fn a_connected_socket_sends_joined<W: OsWorld>() {
    let (mut world, socket, peer) = (W::new(), bound(), joining_receiver());
    socket.connect(addr(&peer)).expect("connect");
    let id = adopt(&mut world, socket);
    let datagrams = [b"1234", b"5678"].map(|bytes| Outgoing { bytes, to: None });
    send_all(&mut world, id, &datagrams);
    assert_eq!(receive_joined(&peer), Some((b"12345678".to_vec(), Some(4))));
}

fn a_socket_that_may_not_cut_sends_apart<W: OsWorld>() {
    let (mut world, socket, peer) = (W::new(), bound(), joining_receiver());
    let twin = socket.try_clone().expect("a duplicate");
    setsockopt(&twin, NoChecksum, &true).expect("no checksums");
    let to = address(&peer);
    let id = adopt(&mut world, socket);
    let datagrams = [b"1234", b"5678", b"9012"].map(|bytes| Outgoing {
        bytes,
        to: Some(&to),
    });
    for _ in 0..2 {
        send_all(&mut world, id, &datagrams);
        for expected in datagrams {
            assert_eq!(receive_joined(&peer), Some((expected.bytes.to_vec(), None)));
        }
        // It is not tried again.
        setsockopt(&twin, NoChecksum, &false).expect("checksums");
    }
}

fn a_socket_that_cuts_by_itself_is_left_alone<W: OsWorld>() {
    let (mut world, socket, peer) = (W::new(), bound(), bound());
    setsockopt(&socket, UdpGsoSegment, &2).expect("cut in two");
    let to = address(&peer);
    let id = adopt(&mut world, socket);
    let datagrams = [b"1234", b"5678"].map(|bytes| Outgoing {
        bytes,
        to: Some(&to),
    });
    send_all(&mut world, id, &datagrams);
    for expected in [b"12", b"34", b"56", b"78"] {
        assert_eq!(receive_joined(&peer), Some((expected.to_vec(), None)));
    }
}

fn a_refusal_is_told_for_what_leaves_joined<W: OsWorld>() {
    let (mut world, socket) = (W::new(), bound());
    let gone = addr(&bound());
    socket.connect(gone).expect("connect");
    let id = flooded(&mut world, socket);
    let datagrams = [b"1234"; 3].map(|bytes| Outgoing { bytes, to: None });
    send_all(&mut world, id, &datagrams);
    world.until(Seen::Receivable(id));
    let refused = world.driver().take_datagrams(id, 8, |_, _| ());
    assert_eq!(
        refused.expect_err("refused").kind(),
        ErrorKind::ConnectionRefused
    );
    world.quiet();
    // Told by the next send, too; it is about the first, and the next may leave.
    send_all(&mut world, id, &datagrams);
    let refused = Seen::Sent(id, Err(ErrorKind::ConnectionRefused));
    let next = world.ask(Op::SendDatagrams {
        id,
        datagrams: &datagrams,
    });
    assert_eq!(next, Some(refused));
    send_all(&mut world, id, &datagrams[1..]);
}

fn an_error_is_that_of_one_datagram<W: OsWorld>() {
    let (mut world, socket, peer) = (W::new(), bound(), bound());
    let to = address(&peer);
    let data = bytes(65_508);
    let outgoing = |length: usize| Outgoing {
        bytes: &data[..length],
        to: Some(&to),
    };
    let id = adopt(&mut world, socket);
    let [good, bad] = [outgoing(10), outgoing(65_508)];
    let mut ask = |datagrams: &[Outgoing<'_>]| world.ask(Op::SendDatagrams { id, datagrams });
    assert_eq!(ask(&[good, good, bad, good]), Some(Seen::Sent(id, Ok(2))));
    assert!(matches!(
        ask(&[bad, bad, good]),
        Some(Seen::Sent(_, Err(_)))
    ));
    assert_eq!(ask(&[good, good]), Some(Seen::Sent(id, Ok(2))));
    for _ in 0..4 {
        assert_eq!(receive_joined(&peer), Some((bytes(10), None)));
    }
    assert_eq!(receive_joined(&peer), None);
}
