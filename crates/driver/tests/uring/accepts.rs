//! Connections that the ring accepts, before anybody asks for them.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Op};
use oxlip_driver::uring::Uring;
use oxlip_driver::{Driver, Role, is_shortage};
use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::sandbox::is_alone;
use crate::world::{self, PATIENCE, close, ends, poll, receive, wait};

/// `None` where the system forbids rings, or the kernel is too old to accept by itself.
fn driver() -> Option<Uring> {
    let driver = world::driver()?;
    if !driver.accepts_ahead() {
        eprintln!("skipped: the kernel is older than 6.15");
        return None;
    }
    Some(driver)
}

/// A listener that accepts, another handle to its socket, and its address.
fn listener(driver: &mut Uring, role: Role) -> (Id, TcpListener, SocketAddr) {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    socket.set_nonblocking(true).expect("non-blocking");
    let addr = socket.local_addr().expect("an address");
    let other = socket.try_clone().expect("a duplicate");
    let id = driver.adopt(socket.into(), role).expect("adopt");
    assert!(driver.submit(Op::AcceptStart(id)).is_pending());
    assert!(poll(driver).is_empty());
    (id, other, addr)
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

fn told(driver: &mut Uring, listener: Id) {
    assert!(matches!(wait(driver)[..], [Completion::Acceptable(id)] if id == listener));
}

fn accept(driver: &mut Uring, listener: Id) -> Option<(OwnedFd, SocketAddr)> {
    let (socket, peer) = driver.accept(listener).expect("accept")?;
    Some((socket, peer.expect("an address")))
}

/// It is the connection to that client.
fn belongs_to(driver: &mut Uring, listener: Id, socket: OwnedFd, client: &mut TcpStream) {
    let id = driver
        .adopt(socket, Role::Accepted(listener))
        .expect("adopt");
    assert!(driver.submit(Op::RecvStart(id)).is_pending());
    client.write_all(b"question").expect("write");
    assert_eq!(receive(driver, id, 8), b"question");
    close(driver, id);
    ends(client);
}

fn nobody_waits(other: &TcpListener) -> bool {
    other
        .accept()
        .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn all_that_have_come_are_accepted_before_they_are_asked_for() {
    let Some(mut driver) = driver() else { return };
    let (id, other, addr) = listener(&mut driver, Role::Listener);
    for count in [1, 2, 70] {
        let mut clients: Vec<_> = (0..count).map(|_| connect(addr)).collect();
        told(&mut driver, id);
        assert!(nobody_waits(&other), "the ring has them");
        // What is not taken is told again.
        told(&mut driver, id);
        for client in &mut clients {
            let (socket, peer) = accept(&mut driver, id).expect("one of them");
            assert_eq!(peer, client.local_addr().expect("an address"));
            belongs_to(&mut driver, id, socket, client);
        }
        assert!(accept(&mut driver, id).is_none());
        assert!(poll(&mut driver).is_empty());
    }
}

#[test]
fn what_is_not_asked_for_of_a_shared_listener_stays_for_others() {
    let Some(mut driver) = world::driver() else {
        return;
    };
    let (id, other, addr) = listener(&mut driver, Role::SharedListener);
    for _ in 0..3 {
        let mut clients = [connect(addr), connect(addr)];
        told(&mut driver, id);
        let (socket, _) = accept(&mut driver, id).expect("the first");
        belongs_to(&mut driver, id, socket, &mut clients[0]);
        let (_, peer) = other.accept().expect("the second");
        assert_eq!(peer, clients[1].local_addr().expect("an address"));
        assert!(accept(&mut driver, id).is_none());
        assert!(poll(&mut driver).is_empty());
    }
}

/// getpeername(2) does not tell then.
#[test]
fn a_connection_that_was_reset_in_between_has_its_address() {
    let Some(mut driver) = driver() else { return };
    let any = ["127.0.0.1:0", "[::1]:0"];
    for socket in any.map(TcpListener::bind) {
        // There need not be IPv6.
        let Ok(socket) = socket else { continue };
        socket.set_nonblocking(true).expect("non-blocking");
        let addr = socket.local_addr().expect("an address");
        let id = driver.adopt(socket.into(), Role::Listener).expect("adopt");
        assert!(driver.submit(Op::AcceptStart(id)).is_pending());
        // The reset itself may take a moment.
        let was_reset = (0..100).any(|_| {
            let client = connect(addr);
            told(&mut driver, id);
            let theirs = client.local_addr().expect("an address");
            set_socket_linger(&client, Some(Duration::ZERO)).expect("linger");
            drop(client);
            let (socket, peer) = accept(&mut driver, id).expect("it was there");
            assert_eq!(peer, theirs);
            rustix::net::getpeername(&socket).is_err()
        });
        assert!(was_reset);
        close(&mut driver, id);
    }
}

#[test]
fn what_was_accepted_before_a_stop_waits() {
    let Some(mut driver) = driver() else { return };
    let (id, other, addr) = listener(&mut driver, Role::Listener);
    let mut early = connect(addr);
    told(&mut driver, id);
    assert!(driver.submit(Op::AcceptStop(id)).is_pending());
    assert!(poll(&mut driver).is_empty());
    let late = connect(addr);
    assert!(poll(&mut driver).is_empty());
    let (_, peer) = other.accept().expect("it waits in the system");
    assert_eq!(peer, late.local_addr().expect("an address"));
    assert!(driver.submit(Op::AcceptStart(id)).is_pending());
    told(&mut driver, id);
    let (socket, _) = accept(&mut driver, id).expect("the first");
    belongs_to(&mut driver, id, socket, &mut early);
    let mut last = connect(addr);
    told(&mut driver, id);
    let (socket, _) = accept(&mut driver, id).expect("the last");
    belongs_to(&mut driver, id, socket, &mut last);
}

#[test]
fn nobody_is_left_when_the_listener_is_closed() {
    let Some(mut driver) = driver() else { return };
    let (id, other, addr) = listener(&mut driver, Role::Listener);
    let mut clients = [connect(addr), connect(addr)];
    told(&mut driver, id);
    let (socket, _) = accept(&mut driver, id).expect("the first");
    close(&mut driver, id);
    ends(&mut clients[1]);
    // Nothing in the kernel accepts any more.
    let late = connect(addr);
    assert!(poll(&mut driver).is_empty());
    let (_, peer) = other.accept().expect("it waits in the system");
    assert_eq!(peer, late.local_addr().expect("an address"));
    belongs_to(&mut driver, id, socket, &mut clients[0]);

    let (_, other, addr) = listener(&mut driver, Role::Listener);
    let mut client = connect(addr);
    wait(&mut driver);
    drop(driver);
    ends(&mut client);
    let _late = connect(addr);
    assert!(other.accept().is_ok());
}

#[test]
fn what_was_accepted_moves_to_another_thread() {
    let Some(mut driver) = driver() else { return };
    let (id, _other, addr) = listener(&mut driver, Role::Listener);
    let mut client = connect(addr);
    told(&mut driver, id);
    thread::spawn(move || {
        let mut late = connect(addr);
        for client in [&mut client, &mut late] {
            told(&mut driver, id);
            let (socket, _) = accept(&mut driver, id).expect("the next");
            belongs_to(&mut driver, id, socket, client);
        }
        assert!(poll(&mut driver).is_empty());
    })
    .join()
    .expect("the other thread");
}

#[test]
fn many_that_nobody_asks_for_are_left_to_the_system() {
    let Some(mut driver) = driver() else { return };
    let (id, other, addr) = listener(&mut driver, Role::Listener);
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.extend((0..100).map(|_| connect(addr)));
        told(&mut driver, id);
    }
    assert!(nobody_waits(&other), "the ring has them");
    told(&mut driver, id);
    let late = [connect(addr), connect(addr)];
    told(&mut driver, id);
    let (_, peer) = other.accept().expect("one waits in the system");
    assert_eq!(peer, late[0].local_addr().expect("an address"));
    for client in &mut clients {
        let (socket, _) = accept(&mut driver, id).expect("one of them");
        belongs_to(&mut driver, id, socket, client);
    }
    told(&mut driver, id);
    let (_, peer) = accept(&mut driver, id).expect("the last");
    assert_eq!(peer, late[1].local_addr().expect("an address"));
    let _more = connect(addr);
    told(&mut driver, id);
    assert!(nobody_waits(&other), "the ring accepts again");
}

#[test]
fn before_a_fork_the_ring_stops_accepting_ahead() {
    let Some(mut driver) = driver() else { return };
    let (id, other, addr) = listener(&mut driver, Role::Listener);
    let mut early = connect(addr);
    told(&mut driver, id);
    let (stream, mut peer) = world::stream(&mut driver);
    told(&mut driver, id);
    driver.before_fork();
    // To close this one the ring is called.
    let next = connect(addr);
    close(&mut driver, stream);
    ends(&mut peer);
    let (_, peer) = other.accept().expect("it waits in the system");
    assert_eq!(peer, next.local_addr().expect("an address"));
    told(&mut driver, id);
    let (socket, _) = accept(&mut driver, id).expect("the first");
    belongs_to(&mut driver, id, socket, &mut early);
    for _ in 0..2 {
        let mut clients = [connect(addr), connect(addr)];
        told(&mut driver, id);
        let (socket, _) = accept(&mut driver, id).expect("the next");
        belongs_to(&mut driver, id, socket, &mut clients[0]);
        let (_, peer) = other.accept().expect("it waits in the system");
        assert_eq!(peer, clients[1].local_addr().expect("an address"));
        assert!(accept(&mut driver, id).is_none());
    }
}

/// The ring ends the request when there is no room for its completions.
#[test]
fn more_come_at_once_than_there_is_room_for() {
    let Ok(mut driver) = Uring::with_room_for(8, 8) else {
        return;
    };
    let (id, _other, addr) = listener(&mut driver, Role::Listener);
    let clients: Vec<_> = (0..100).map(|_| connect(addr)).collect();
    let mut peers = Vec::new();
    let began = Instant::now();
    while peers.len() < clients.len() {
        assert!(began.elapsed() < PATIENCE, "{} of them", peers.len());
        told(&mut driver, id);
        while let Some((_, peer)) = accept(&mut driver, id) {
            peers.push(peer);
        }
    }
    let expected: Vec<_> = clients
        .iter()
        .map(|it| it.local_addr().expect("one"))
        .collect();
    assert_eq!(peers, expected);
    assert!(poll(&mut driver).is_empty());
}

#[test]
fn the_ring_accepts_again_after_a_shortage() {
    let here = "accepts::the_ring_accepts_again_after_a_shortage";
    if driver().is_none() || !is_alone(here) {
        return;
    }
    let mut driver = driver().expect("a ring");
    let (id, other, addr) = listener(&mut driver, Role::Listener);
    let before = getrlimit(Resource::Nofile);
    let limit =
        |current| setrlimit(Resource::Nofile, Rlimit { current, ..before }).expect("setrlimit");
    // A request keeps the limit under which it was made (io_accept_prep).
    assert!(driver.submit(Op::AcceptStop(id)).is_pending());
    assert!(poll(&mut driver).is_empty());
    let clients = [(); 2].map(|()| connect(addr));
    limit(Some(0));
    assert!(driver.submit(Op::AcceptStart(id)).is_pending());
    told(&mut driver, id);
    let error = driver.accept(id).expect_err("no descriptor is left");
    assert!(is_shortage(&error), "{error}");
    assert!(driver.submit(Op::AcceptStop(id)).is_pending());
    assert!(poll(&mut driver).is_empty());
    limit(before.current);
    for _ in &clients {
        assert!(other.accept().is_ok());
    }
    limit(Some(0));
    // It is no error that nobody comes.
    assert!(driver.submit(Op::AcceptStart(id)).is_pending());
    for _ in 0..3 {
        assert!(poll(&mut driver).is_empty());
    }
    limit(before.current);
    for asked in [true, false, false] {
        let mut client = connect(addr);
        told(&mut driver, id);
        assert!(asked || nobody_waits(&other), "the ring has it");
        let (socket, _) = accept(&mut driver, id).expect("the next");
        belongs_to(&mut driver, id, socket, &mut client);
    }
}

/// They are the parent's, and from then on the listener is everybody's.
#[test]
fn a_forked_child_leaves_what_was_accepted_to_its_parent() {
    let Some(mut driver) = driver() else { return };
    let (id, other, addr) = listener(&mut driver, Role::Listener);
    let mut client = connect(addr);
    told(&mut driver, id);
    // SAFETY: the child uses its copy of the driver and of the allocator, which can be used after a
    // fork, and ends without running anything else.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let started_over = driver.after_fork().is_ok();
        let mut completions = Vec::new();
        let waited = driver.wait(Some(Duration::ZERO), &mut completions);
        let nobody = completions.is_empty() && matches!(driver.accept(id), Ok(None));
        let late = TcpStream::connect(addr);
        let waited = waited.and_then(|()| driver.wait(Some(PATIENCE), &mut completions));
        let heard = matches!(completions[..], [Completion::Acceptable(_)]);
        let shared = other.accept().is_ok() && matches!(driver.accept(id), Ok(None));
        let well = started_over && waited.is_ok() && nobody && late.is_ok() && heard && shared;
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(i32::from(!well)) };
    }
    let mut status = 0;
    // SAFETY: waits for the child of just now.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    let (socket, _) = accept(&mut driver, id).expect("the first");
    belongs_to(&mut driver, id, socket, &mut client);
}
