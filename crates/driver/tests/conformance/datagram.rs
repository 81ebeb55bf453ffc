//! Datagrams keep their borders, their order and their addresses, and an error is about one of them.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use oxlip_core::address::{Address, Outgoing};
use oxlip_core::id::Id;
use oxlip_core::op::{MAX_DATAGRAMS, Op};
use oxlip_driver::{Driver, Role, Sim};

use crate::world::{Play, Seen, World, on_os_drivers};

on_os_drivers!(
    datagrams_come_with_their_senders_address,
    no_more_are_taken_than_asked_for,
    a_batch_is_sent_in_order,
    empty_datagrams_are_datagrams,
    a_large_datagram_arrives_whole,
    ipv6_addresses_go_both_ways,
    unix_sockets_have_three_kinds_of_names,
    a_full_socket_is_sendable_exactly_once,
    a_socket_with_room_is_sendable_when_asked,
    a_full_peer_is_waited_for_without_turning_round,
    a_full_peer_that_ends_is_waited_for_no_longer,
    a_name_that_becomes_anothers_is_tried_again,
    asking_for_room_at_a_full_peer_gives_one_answer,
    nobody_listening_is_told_once_and_ends_nothing,
    an_error_inside_a_batch_is_that_of_the_first_of_the_next,
    what_is_stopped_waits,
    ops_of_streams_do_not_suit,
);

type Datagrams = Vec<(Vec<u8>, Option<Address>)>;

fn adopt<W>(world: &mut W, socket: impl Into<OwnedFd>) -> Id
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let id = world.driver().adopt(socket.into(), Role::Datagram);
    id.expect("adopt")
}

fn bound() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    socket.set_nonblocking(true).expect("non-blocking");
    socket
}

fn unix_pair() -> (UnixDatagram, UnixDatagram) {
    let (one, other) = UnixDatagram::pair().expect("a pair");
    one.set_nonblocking(true).expect("non-blocking");
    other.set_nonblocking(true).expect("non-blocking");
    (one, other)
}

fn address(socket: &UdpSocket) -> Address {
    Address::Ip(socket.local_addr().expect("an address"))
}

fn take(world: &mut impl World, id: Id, limit: usize) -> io::Result<Datagrams> {
    let mut taken = Vec::new();
    let count = world
        .driver()
        .take_datagrams(id, limit, |bytes, from| taken.push((bytes.to_vec(), from)))?;
    assert_eq!(count, taken.len());
    Ok(taken)
}

/// Waits for datagrams until there are so many.
fn collect(world: &mut impl World, id: Id, count: usize) -> Datagrams {
    let mut taken = Vec::new();
    while taken.len() < count {
        world.until(Seen::Receivable(id));
        taken.extend(take(world, id, MAX_DATAGRAMS).expect("datagrams"));
    }
    taken
}

fn send(world: &mut impl World, id: Id, bytes: &[u8], to: Option<&Address>) -> Option<Seen> {
    let datagrams = &[Outgoing { bytes, to }];
    world.ask(Op::SendDatagrams { id, datagrams })
}

fn datagrams_come_with_their_senders_address<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let (mut world, socket, peer) = (W::new(), bound(), bound());
    let (near, far) = (address(&socket), address(&peer));
    let id = adopt(&mut world, socket);
    world.start(Op::RecvStart(id));
    world.quiet();
    assert_eq!(take(&mut world, id, 1).expect("nothing is no error"), []);
    let Address::Ip(to) = near else { panic!() };
    peer.send_to(b"one", to).expect("send");
    peer.send_to(b"two", to).expect("send");
    let expected = [
        (b"one".to_vec(), Some(far.clone())),
        (b"two".to_vec(), Some(far.clone())),
    ];
    assert_eq!(collect(&mut world, id, 2), expected);
    world.quiet();
    assert_eq!(
        send(&mut world, id, b"answer", Some(&far)),
        Some(Seen::Sent(id, Ok(1)))
    );
    let mut buffer = [0; 16];
    assert_eq!(peer.recv_from(&mut buffer).expect("receive"), (6, to));
}

fn no_more_are_taken_than_asked_for<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let (mut world, (socket, peer)) = (W::new(), unix_pair());
    let id = adopt(&mut world, socket);
    world.start(Op::RecvStart(id));
    for byte in 0..4 {
        peer.send(&[byte]).expect("send");
    }
    world.until(Seen::Receivable(id));
    assert_eq!(take(&mut world, id, 1).expect("one").len(), 1);
    world.until(Seen::Receivable(id));
    assert_eq!(take(&mut world, id, 2).expect("two").len(), 2);
    let last = take(&mut world, id, 1000).expect("the last");
    assert_eq!(last, [(vec![3], None)], "an unbound sender has no address");
    world.quiet();
}

fn a_batch_is_sent_in_order<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let (mut world, socket, peer) = (W::new(), bound(), bound());
    let (near, far) = (address(&socket), address(&peer));
    let id = adopt(&mut world, socket);
    let other = adopt(&mut world, peer);
    let bytes: Vec<_> = (0..40).map(|i| vec![i; usize::from(i)]).collect();
    let datagrams: Vec<_> = bytes
        .iter()
        .map(|bytes| Outgoing {
            bytes,
            to: Some(&far),
        })
        .collect();
    let sent = world.ask(Op::SendDatagrams {
        id,
        datagrams: &datagrams,
    });
    assert_eq!(sent, Some(Seen::Sent(id, Ok(MAX_DATAGRAMS))));
    world.start(Op::RecvStart(other));
    let taken = collect(&mut world, other, MAX_DATAGRAMS);
    let expected: Datagrams = bytes[..MAX_DATAGRAMS]
        .iter()
        .map(|bytes| (bytes.clone(), Some(near.clone())))
        .collect();
    assert_eq!(taken, expected);
    world.quiet();
}

fn empty_datagrams_are_datagrams<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let (mut world, (one, other)) = (W::new(), unix_pair());
    let (one, other) = (adopt(&mut world, one), adopt(&mut world, other));
    world.start(Op::RecvStart(other));
    assert_eq!(
        send(&mut world, one, b"", None),
        Some(Seen::Sent(one, Ok(1)))
    );
    assert_eq!(collect(&mut world, other, 1), [(vec![], None)]);
    world.quiet();
}

fn a_large_datagram_arrives_whole<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let (mut world, (one, other)) = (W::new(), unix_pair());
    let (one, other) = (adopt(&mut world, one), adopt(&mut world, other));
    world.start(Op::RecvStart(other));
    let large: Vec<_> = (0..150_000_usize).map(|i| (i % 251) as u8).collect();
    assert_eq!(
        send(&mut world, one, &large, None),
        Some(Seen::Sent(one, Ok(1)))
    );
    assert!(collect(&mut world, other, 1) == [(large, None)]);
}

fn ipv6_addresses_go_both_ways<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let Ok(socket) = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) else {
        return; // no IPv6 here
    };
    let (mut world, peer) = (
        W::new(),
        UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).expect("bind"),
    );
    let SocketAddr::V6(near) = socket.local_addr().expect("an address") else {
        panic!()
    };
    let id = adopt(&mut world, socket);
    world.start(Op::RecvStart(id));
    peer.send_to(b"hello", near).expect("send");
    assert_eq!(
        collect(&mut world, id, 1),
        [(b"hello".to_vec(), Some(address(&peer)))]
    );
    let far = address(&peer);
    let sent = send(&mut world, id, b"back", Some(&far));
    assert_eq!(sent, Some(Seen::Sent(id, Ok(1))));
    let (_, from) = peer.recv_from(&mut [0; 8]).expect("receive");
    assert_eq!(from, near.into());
}

fn unix_sockets_have_three_kinds_of_names<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, socket};
    let unique = format!(
        "oxlip-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    );
    let path = std::env::temp_dir().join(format!("{unique}.socket"));
    let mut world = W::new();
    let abstract_socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None).expect("socket");
    let name = SocketAddrUnix::new_abstract_name(unique.as_bytes()).expect("a name");
    bind(&abstract_socket, &name).expect("bind");
    let at_path = UnixDatagram::bind(&path).expect("bind");
    at_path.set_nonblocking(true).expect("non-blocking");
    let (named, at_path) = (
        adopt(&mut world, abstract_socket),
        adopt(&mut world, at_path),
    );
    let name = Address::Unix([b"\0", unique.as_bytes()].concat().into());
    let path_name = Address::Unix(path.as_os_str().as_encoded_bytes().into());
    for id in [named, at_path] {
        world.start(Op::RecvStart(id));
    }
    assert_eq!(
        send(&mut world, named, b"to path", Some(&path_name)),
        Some(Seen::Sent(named, Ok(1)))
    );
    let taken = collect(&mut world, at_path, 1);
    assert_eq!(taken, [(b"to path".to_vec(), Some(name.clone()))]);
    assert_eq!(
        send(&mut world, at_path, b"to name", Some(&name)),
        Some(Seen::Sent(at_path, Ok(1)))
    );
    let taken = collect(&mut world, named, 1);
    assert_eq!(taken, [(b"to name".to_vec(), Some(path_name))]);
    std::fs::remove_file(path).expect("remove");
    let too_long = Address::Unix(vec![b'x'; 200].into());
    assert!(matches!(
        send(&mut world, named, b"", Some(&too_long)),
        Some(Seen::Sent(id, Err(_))) if id == named
    ));
}

fn a_full_socket_is_sendable_exactly_once<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let (mut world, (socket, peer)) = (W::new(), unix_pair());
    let id = adopt(&mut world, socket);
    let mut sent = 0;
    while send(&mut world, id, b"x", None).is_some() {
        sent += 1;
    }
    assert!(sent > 0);
    assert_eq!(send(&mut world, id, b"x", None), None);
    world.quiet();
    for _ in 0..sent {
        peer.recv(&mut [0; 8]).expect("receive");
    }
    assert!(
        peer.recv(&mut [0; 8]).is_err(),
        "a pending send takes nothing"
    );
    world.until(Seen::Sendable(id));
    world.quiet();
    assert_eq!(
        send(&mut world, id, b"x", None),
        Some(Seen::Sent(id, Ok(1)))
    );
}

fn a_socket_with_room_is_sendable_when_asked<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let (mut world, socket) = (W::new(), bound());
    let id = adopt(&mut world, socket);
    world.quiet();
    world.start(Op::AwaitRoom(id));
    world.until(Seen::Sendable(id));
    world.quiet();
}

/// A Unix socket that is connected to nobody, the name of another, and that other: its queue is full.
fn full_peer<W>(world: &mut W) -> (Id, std::path::PathBuf, UnixDatagram, usize)
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let thread = std::thread::current();
    let unique = format!("oxlip-full-{}-{:?}.socket", std::process::id(), thread.id());
    let path = std::env::temp_dir().join(unique);
    let peer = UnixDatagram::bind(&path).expect("bind");
    peer.set_nonblocking(true).expect("non-blocking");
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.set_nonblocking(true).expect("non-blocking");
    let id = adopt(world, socket);
    let mut sent = 0;
    while send_to(world, id, &path).is_some() {
        sent += 1;
    }
    (id, path, peer, sent)
}

fn send_to(world: &mut impl World, id: Id, path: &std::path::Path) -> Option<Seen> {
    let name = Address::Unix(path.as_os_str().as_encoded_bytes().into());
    send(world, id, b"x", Some(&name))
}

/// Tries again whenever there may be room, until there is: how often that was.
fn send_at_last(world: &mut impl World, id: Id, path: &std::path::Path) -> (usize, Option<Seen>) {
    for attempts in 1.. {
        world.until(Seen::Sendable(id));
        if let Some(answer) = send_to(world, id, path) {
            return (attempts, Some(answer));
        }
    }
    unreachable!()
}

fn a_full_peer_is_waited_for_without_turning_round<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let mut world = W::new();
    let (id, path, peer, sent) = full_peer(&mut world);
    assert!(sent > 0);
    world.quiet();
    assert_eq!(send_to(&mut world, id, &path), None);
    world.quiet();
    for _ in 0..3 {
        peer.recv(&mut [0; 8]).expect("receive");
        // More than one if it has taken long to come here.
        let (_, answer) = send_at_last(&mut world, id, &path);
        assert_eq!(answer, Some(Seen::Sent(id, Ok(1))));
        world.quiet();
        assert_eq!(send_to(&mut world, id, &path), None);
        world.quiet();
    }
    world.close(id);
    peer.recv(&mut [0; 8]).expect("receive");
    world.quiet();
    std::fs::remove_file(path).expect("remove");
}

fn a_full_peer_that_ends_is_waited_for_no_longer<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let mut world = W::new();
    let (id, path, peer, _) = full_peer(&mut world);
    drop(peer);
    let (_, answer) = send_at_last(&mut world, id, &path);
    let refused = Seen::Sent(id, Err(ErrorKind::ConnectionRefused));
    assert_eq!(answer, Some(refused));
    world.quiet();
    std::fs::remove_file(path).expect("remove");
}

fn a_name_that_becomes_anothers_is_tried_again<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let mut world = W::new();
    let (id, path, _peer, _) = full_peer(&mut world);
    std::fs::remove_file(&path).expect("remove");
    let other = UnixDatagram::bind(&path).expect("bind");
    let (attempts, answer) = send_at_last(&mut world, id, &path);
    assert_eq!(answer, Some(Seen::Sent(id, Ok(1))));
    assert_eq!(attempts, 1);
    assert_eq!(other.recv(&mut [0; 8]).expect("receive"), 1);
    world.quiet();
    std::fs::remove_file(path).expect("remove");
}

fn asking_for_room_at_a_full_peer_gives_one_answer<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let mut world = W::new();
    let (id, path, peer, _) = full_peer(&mut world);
    world.start(Op::AwaitRoom(id));
    world.until(Seen::Sendable(id));
    peer.recv(&mut [0; 8]).expect("receive");
    world.quiet();
    assert_eq!(send_to(&mut world, id, &path), Some(Seen::Sent(id, Ok(1))));
    std::fs::remove_file(path).expect("remove");
}

fn nobody_listening_is_told_once_and_ends_nothing<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let (mut world, socket) = (W::new(), bound());
    let gone = {
        let peer = bound();
        socket
            .connect(peer.local_addr().expect("an address"))
            .expect("connect");
        peer.local_addr().expect("an address")
    };
    let near = socket.local_addr().expect("an address");
    let id = adopt(&mut world, socket);
    world.start(Op::RecvStart(id));
    assert_eq!(
        send(&mut world, id, b"x", None),
        Some(Seen::Sent(id, Ok(1)))
    );
    world.until(Seen::Receivable(id));
    let error = take(&mut world, id, 8).expect_err("an error");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    world.quiet();
    let peer = UdpSocket::bind(gone).expect("bind");
    peer.send_to(b"here now", near).expect("send");
    let taken = collect(&mut world, id, 1);
    assert_eq!(taken, [(b"here now".to_vec(), Some(Address::Ip(gone)))]);
}

fn an_error_inside_a_batch_is_that_of_the_first_of_the_next<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let (mut world, socket, peer) = (W::new(), bound(), bound());
    let far = address(&peer);
    let id = adopt(&mut world, socket);
    let too_large = vec![0; 70_000];
    let too_long = Address::Unix(vec![b'x'; 200].into());
    let good = Outgoing {
        bytes: b"good",
        to: Some(&far),
    };
    let large = Outgoing {
        bytes: &too_large,
        to: Some(&far),
    };
    let misnamed = Outgoing {
        bytes: b"",
        to: Some(&too_long),
    };
    for bad in [large, misnamed] {
        let mut ask = |datagrams: &[Outgoing<'_>]| world.ask(Op::SendDatagrams { id, datagrams });
        assert_eq!(ask(&[good, good, bad, good]), Some(Seen::Sent(id, Ok(2))));
        assert!(matches!(ask(&[bad, good]), Some(Seen::Sent(_, Err(_)))));
        assert_eq!(ask(&[good]), Some(Seen::Sent(id, Ok(1))));
    }
    for _ in 0..6 {
        assert_eq!(peer.recv(&mut [0; 8]).expect("receive"), 4);
    }
}

fn what_is_stopped_waits<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let (mut world, (socket, peer)) = (W::new(), unix_pair());
    let id = adopt(&mut world, socket);
    world.start(Op::RecvStart(id));
    world.quiet();
    world.start(Op::RecvStop(id));
    peer.send(b"x").expect("send");
    world.quiet();
    world.start(Op::RecvStart(id));
    assert_eq!(collect(&mut world, id, 1), [(b"x".to_vec(), None)]);
    world.close(id);
    assert_eq!(take(&mut world, id, 1).expect("a dead id is harmless"), []);
    assert_eq!(
        send(&mut world, id, b"x", None),
        Some(Seen::Failed(id, ErrorKind::NotFound))
    );
}

fn ops_of_streams_do_not_suit<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let mut world = W::new();
    let id = adopt(&mut world, bound());
    let (stream, _) = world.pair();
    let refused = |id| Some(Seen::Failed(id, ErrorKind::InvalidInput));
    assert_eq!(world.ask(Op::Send { id, bufs: &[] }), refused(id));
    assert_eq!(world.ask(Op::Shutdown(id)), refused(id));
    assert_eq!(world.ask(Op::AcceptStart(id)), refused(id));
    assert!(world.take(id).is_err());
    assert_eq!(world.ask(Op::AwaitRoom(stream)), refused(stream));
    assert_eq!(send(&mut world, stream, b"x", None), refused(stream));
    assert!(take(&mut world, stream, 1).is_err());
}

#[test]
fn the_simulation_has_no_datagrams() {
    let mut sim = Sim::new(0);
    let socket = sim
        .stream((Ipv4Addr::LOCALHOST, 0).into())
        .expect("a socket");
    let refused = sim.adopt(socket, Role::Datagram).expect_err("an error");
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
}
