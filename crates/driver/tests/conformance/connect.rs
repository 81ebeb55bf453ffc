//! Connecting and accepting.

use std::io::{ErrorKind, IoSlice};
use std::net::SocketAddr;

use oxlip_core::id::Id;
use oxlip_core::op::{Interest, Op};
use oxlip_driver::{Driver, Role};

use crate::world::{Play, Seen, World, on_every_driver};

on_every_driver!(
    a_client_is_accepted_and_talks,
    a_refusal_comes_once,
    what_was_asked_before_the_connection_begins_with_it,
    the_hint_is_repeated_until_all_are_accepted,
    all_that_wait_are_accepted_at_one_hint,
    a_stopped_listener_keeps_its_callers,
    ops_that_do_not_suit_are_refused,
);

/// Connects, and gives what came besides the answer.
fn connect<W: World>(
    world: &mut W,
    id: Id,
    addr: SocketAddr,
) -> (Result<(), ErrorKind>, Vec<Seen>) {
    let mut others = Vec::new();
    if let Some(answer) = world.ask(Op::Connect { id, addr }) {
        match answer {
            Seen::Connected(_, outcome) => return (outcome, others),
            other => panic!("{other:?}"),
        }
    }
    loop {
        let mut answer = None;
        for seen in world.until_any() {
            match seen {
                Seen::Connected(who, outcome) if who == id => answer = Some(outcome),
                other => others.push(other),
            }
        }
        if let Some(outcome) = answer {
            return (outcome, others);
        }
    }
}

fn accept<W: World>(world: &mut W, listener: Id) -> (Id, SocketAddr) {
    loop {
        if let Some((socket, peer)) = world.driver().accept(listener).expect("accept") {
            let role = Role::Accepted(listener);
            let id = world.driver().adopt(socket, role).expect("adopt");
            return (id, peer.expect("an address"));
        }
        drop(world.until_any());
    }
}

fn a_client_is_accepted_and_talks<W: World>() {
    let mut world = W::new();
    let (listener, addr) = world.listener();
    world.start(Op::AcceptStart(listener));
    let client = world.stream(addr);
    let (outcome, _) = connect(&mut world, client, addr);
    assert_eq!(outcome, Ok(()));
    let (server, peer) = accept(&mut world, listener);
    assert_eq!(peer, world.local_addr(client));
    assert_eq!(addr, world.local_addr(server));
    world.quiet();
    assert!(world.driver().accept(listener).expect("accept").is_none());

    world.start(Op::RecvStart(server));
    world.start(Op::RecvStart(client));
    world.send_all(client, b"question");
    assert_eq!(world.receive(server, 8), b"question");
    world.send_all(server, b"answer");
    assert_eq!(world.receive(client, 6), b"answer");
}

fn a_refusal_comes_once<W: World>() {
    let mut world = W::new();
    let addr = world.nobody();
    let client = world.stream(addr);
    world.start(Op::RecvStart(client));
    let (outcome, others) = connect(&mut world, client, addr);
    assert_eq!(outcome, Err(ErrorKind::ConnectionRefused));
    assert_eq!(others, []);
    world.close(client);
    world.quiet();
}

fn what_was_asked_before_the_connection_begins_with_it<W: World>() {
    let mut world = W::new();
    let (listener, addr) = world.listener();
    world.start(Op::AcceptStart(listener));
    let client = world.stream(addr);
    world.start(Op::RecvStart(client));
    let bufs = [IoSlice::new(b"eager")];
    let connecting = world.ask(Op::Connect { id: client, addr });
    let sending = world.ask(Op::Send {
        id: client,
        bufs: &bufs,
    });
    let mut seen = Vec::from_iter(connecting);
    while !seen.contains(&Seen::Connected(client, Ok(()))) {
        seen.extend(world.until_any());
    }
    while sending.is_none() && !seen.contains(&Seen::Sendable(client)) {
        seen.extend(world.until_any());
    }
    if sending.is_none() {
        let connected = seen
            .iter()
            .position(|s| *s == Seen::Connected(client, Ok(())));
        let sendable = seen.iter().position(|s| *s == Seen::Sendable(client));
        assert!(connected < sendable, "{seen:?}");
        world.send_all(client, b"eager");
    }
    let (server, _) = accept(&mut world, listener);
    world.start(Op::RecvStart(server));
    assert_eq!(world.receive(server, 5), b"eager");
    world.send_all(server, b"hello");
    world.until(Seen::Readable(client));
    assert_eq!(world.receive(client, 5), b"hello");
}

fn the_hint_is_repeated_until_all_are_accepted<W: World>() {
    let mut world = W::new();
    let (listener, addr) = world.listener();
    for _ in 0..2 {
        let client = world.stream(addr);
        assert_eq!(connect(&mut world, client, addr), (Ok(()), vec![]));
    }
    world.start(Op::AcceptStart(listener));
    world.until(Seen::Acceptable(listener));
    accept(&mut world, listener);
    world.until(Seen::Acceptable(listener));
    world.until(Seen::Acceptable(listener));
    accept(&mut world, listener);
    world.quiet();
}

fn all_that_wait_are_accepted_at_one_hint<W: World>() {
    for count in [1, 2, 7, 8, 9, 12] {
        let mut world = W::new();
        let (listener, addr) = world.listener();
        let mut clients = Vec::new();
        for _ in 0..count {
            let client = world.stream(addr);
            assert_eq!(connect(&mut world, client, addr), (Ok(()), vec![]));
            clients.push(world.local_addr(client));
        }
        world.start(Op::AcceptStart(listener));
        world.until(Seen::Acceptable(listener));
        let mut peers = Vec::new();
        while let Some((socket, peer)) = world.driver().accept(listener).expect("accept") {
            peers.push(peer.expect("an address"));
            let role = Role::Accepted(listener);
            world.driver().adopt(socket, role).expect("adopt");
        }
        assert_eq!(peers, clients);
        // A listener that is gone cannot be asked any more.
        world.quiet();
        let client = world.stream(addr);
        let (outcome, others) = connect(&mut world, client, addr);
        assert_eq!(outcome, Ok(()));
        if others.is_empty() {
            world.until(Seen::Acceptable(listener));
        }
        let accepted = world.driver().accept(listener).expect("accept");
        let (socket, _) = accepted.expect("one more");
        world.close(listener);
        let role = Role::Accepted(listener);
        let server = world.driver().adopt(socket, role).expect("adopt");
        world.start(Op::RecvStart(server));
        world.send_all(client, b"late");
        assert_eq!(world.receive(server, 4), b"late");
    }
}

fn a_stopped_listener_keeps_its_callers<W: World>() {
    let mut world = W::new();
    let (listener, addr) = world.listener();
    world.start(Op::AcceptStart(listener));
    world.start(Op::AcceptStop(listener));
    let client = world.stream(addr);
    assert_eq!(connect(&mut world, client, addr), (Ok(()), vec![]));
    world.quiet();
    world.start(Op::AcceptStart(listener));
    world.until(Seen::Acceptable(listener));
}

fn ops_that_do_not_suit_are_refused<W: World>() {
    let mut world = W::new();
    let (listener, addr) = world.listener();
    let (stream, _peer) = world.pair();
    let bufs = [IoSlice::new(b"x")];
    for id in [listener, stream] {
        let interest = Interest::READ;
        assert_eq!(
            world.ask(Op::Watch { id, interest }),
            Some(Seen::Failed(id, ErrorKind::InvalidInput))
        );
    }
    for op in [
        Op::RecvStart(listener),
        Op::RecvStop(listener),
        Op::Shutdown(listener),
        Op::Connect { id: listener, addr },
        Op::Send {
            id: listener,
            bufs: &bufs,
        },
    ] {
        assert_eq!(
            world.ask(op),
            Some(Seen::Failed(listener, ErrorKind::InvalidInput))
        );
    }
    for op in [Op::AcceptStart(stream), Op::AcceptStop(stream)] {
        assert_eq!(
            world.ask(op),
            Some(Seen::Failed(stream, ErrorKind::InvalidInput))
        );
    }
    let invalid = |error: std::io::Error| error.kind() == ErrorKind::InvalidInput;
    assert!(world.driver().take(listener).is_err_and(invalid));
    assert!(
        world
            .driver()
            .take_into(listener, &mut [0])
            .is_err_and(invalid)
    );
    assert!(world.driver().accept(stream).is_err_and(invalid));
    world.quiet();
}
