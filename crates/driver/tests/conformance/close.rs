//! A closed id is dead, and nobody inherits what was meant for it.

use std::io::{ErrorKind, IoSlice};

use oxlip_core::op::{Interest, Op};
use oxlip_driver::{Driver, Role};

use crate::world::{Play, Seen, Taken, World, on_every_driver};

on_every_driver!(
    a_closed_id_is_dead,
    closing_drops_what_was_to_be_reported,
    closing_ends_the_stream_for_the_peer,
    closing_while_connecting_is_silent,
    closing_with_a_pending_send_is_silent,
    a_reused_place_gets_nothing_of_the_old,
    a_released_socket_goes_on_under_a_new_id,
    a_dropped_socket_is_closed,
);

fn a_closed_id_is_dead<W: World>() {
    let mut world = W::new();
    let (id, peer) = world.pair();
    world.close(id);
    let addr = ([127, 0, 0, 1], 1).into();
    let bufs = [IoSlice::new(b"x")];
    for op in [
        Op::RecvStart(id),
        Op::RecvStop(id),
        Op::AcceptStart(id),
        Op::AcceptStop(id),
        Op::Shutdown(id),
        Op::Connect { id, addr },
        Op::Send { id, bufs: &bufs },
        Op::Watch {
            id,
            interest: Interest::READ,
        },
    ] {
        assert_eq!(world.ask(op), Some(Seen::Failed(id, ErrorKind::NotFound)));
    }
    assert_eq!(world.take(id).expect("take"), Taken::Nothing);
    assert_eq!(world.driver().take_into(id, &mut [0]).expect("take"), None);
    assert!(world.driver().accept(id).expect("accept").is_none());
    assert!(world.driver().release(id).is_none());
    world.close(id);
    world.close(peer);
    world.quiet();
}

fn closing_drops_what_was_to_be_reported<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(b));
    world.send_all(a, b"unread");
    world.until(Seen::Readable(b));
    world.close(b);
    world.quiet();
}

fn closing_ends_the_stream_for_the_peer<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(b));
    world.send_all(a, b"bye");
    world.close(a);
    assert_eq!(world.receive(b, 3), b"bye");
    world.until(Seen::Readable(b));
    assert_eq!(world.take(b).expect("take"), Taken::Eof);
}

fn closing_while_connecting_is_silent<W: World>() {
    let mut world = W::new();
    let (_listener, addr) = world.listener();
    let client = world.stream(addr);
    world.ask(Op::Connect { id: client, addr });
    world.close(client);
    world.quiet();
}

fn closing_with_a_pending_send_is_silent<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.fill(a);
    world.close(a);
    world.close(b);
    world.quiet();
}

fn a_reused_place_gets_nothing_of_the_old<W: World>() {
    let mut world = W::new();
    let mut before = Vec::new();
    for round in 0..50_u8 {
        let (a, b) = world.pair();
        assert!(
            !before.contains(&a) && !before.contains(&b),
            "ids are never used again"
        );
        world.start(Op::RecvStart(a));
        world.start(Op::RecvStart(b));
        assert_eq!(world.take(a).expect("take"), Taken::Nothing);
        assert_eq!(world.take(b).expect("take"), Taken::Nothing);
        assert_eq!(world.poll(), []);
        world.send_all(a, &[round]);
        world.until(Seen::Readable(b));
        if round % 2 == 0 {
            assert_eq!(world.receive(b, 1), [round]);
        }
        // In odd rounds the byte is left unread, and a report of it may be under way.
        world.send_all(b, &[round; 100]);
        world.close(b);
        world.close(a);
        before.extend([a, b]);
    }
    world.quiet();
}

fn a_released_socket_goes_on_under_a_new_id<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.send_all(a, b"moved");
    let socket = world.driver().release(b).expect("an adopted socket");
    world.quiet();
    let moved = world.driver().adopt(socket, Role::Stream).expect("adopt");
    assert_ne!(moved, b);
    assert_eq!(world.take(b).expect("take"), Taken::Nothing);
    world.start(Op::RecvStart(moved));
    world.until(Seen::Readable(moved));
    assert_eq!(world.receive(moved, 5), b"moved");
    world.send_all(moved, b"back");
    world.start(Op::RecvStart(a));
    assert_eq!(world.receive(a, 4), b"back");
}

fn a_dropped_socket_is_closed<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(a));
    drop(world.driver().release(b));
    world.until(Seen::Readable(a));
    assert_eq!(world.take(a).expect("take"), Taken::Eof);
}
