//! A send takes what fits now, and is told once when there is room again.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use oxlip_core::id::Id;
use oxlip_core::op::{MAX_BUFFERS, Op};

use crate::world::{Play, Seen, Taken, World, on_every_driver};

on_every_driver!(
    a_full_stream_is_sendable_exactly_once,
    a_full_stream_is_not_tried_again_before_it_is_sendable,
    a_short_send_is_remembered,
    several_buffers_arrive_in_order,
    more_buffers_than_looked_at_are_sent_in_part,
    nothing_is_sent_at_once,
    nothing_goes_after_the_end,
    a_peer_that_is_gone_is_an_error_of_send,
    a_reset_ends_a_pending_send,
    the_last_words_come_before_the_room_that_a_reset_makes,
    a_reset_comes_before_the_room_that_it_makes,
    what_is_sent_soon_is_answered_by_the_wait_at_the_latest,
    what_is_sent_soon_to_a_full_stream_waits_for_room,
    what_is_sent_soon_leaves_before_the_end_and_the_close,
);

fn a_full_stream_is_sendable_exactly_once<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    let sent = world.fill(a);
    assert_eq!(world.send(a, b"more"), None, "asked twice, answered once");
    world.quiet();

    world.start(Op::RecvStart(b));
    let (mut received, mut sendable) = (0, 0);
    while received < sent {
        for seen in world.until_any() {
            match seen {
                Seen::Sendable(id) if id == a => sendable += 1,
                Seen::Readable(id) if id == b => match world.take(b).expect("take") {
                    Taken::Data(data) => received += data.len(),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
    }
    if sendable == 0 {
        world.until(Seen::Sendable(a));
        sendable = 1;
    }
    assert_eq!((received, sendable), (sent, 1));
    world.quiet();
    world.send_all(a, b"more");
    assert_eq!(world.receive(b, 4), b"more");
}

fn a_full_stream_is_not_tried_again_before_it_is_sendable<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    let sent = world.fill(a);
    world.start(Op::RecvStart(b));
    drain(&mut world, b, sent);
    // There is room now, but nobody has been told.
    assert_eq!(world.send(a, b"early"), None);
    assert_eq!(
        world.take(b).expect("take"),
        Taken::Nothing,
        "nothing of it was taken"
    );
    world.until(Seen::Sendable(a));
    world.send_all(a, b"in time");
    assert_eq!(world.receive(b, 7), b"in time");
}

fn a_short_send_is_remembered<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(b));
    let sent = world
        .send(a, &vec![b'x'; 64 << 20])
        .expect("some of it goes");
    assert!(sent < 64 << 20);
    drain(&mut world, b, sent);
    assert_eq!(world.send(a, b"early"), None);
    world.until(Seen::Sendable(a));
    world.send_all(a, b"in time");
    assert_eq!(world.receive(b, 7), b"in time");
}

/// Takes what was sent, without a wait in which the sender might be told of it but the first, which
/// comes before there is room again.
fn drain<W: World>(world: &mut W, id: Id, sent: usize) {
    world.until(Seen::Readable(id));
    let mut received = 0;
    for _ in 0..1_000_000 {
        match world.take(id).expect("take") {
            Taken::Data(data) => received += data.len(),
            Taken::Nothing if received < sent => std::thread::yield_now(),
            Taken::Nothing => break,
            Taken::Eof => panic!("the end after {received} bytes of {sent}"),
        }
    }
    assert_eq!(received, sent);
}

fn several_buffers_arrive_in_order<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(b));
    // Much is sent from where it is, little is copied together first.
    for length in [4, 16 * 1024] {
        let body = vec![b'b'; length];
        let bufs = [&b"head\r\n"[..], b"", &body, b"."].map(IoSlice::new);
        assert_eq!(
            world.ask(Op::Send { id: a, bufs: &bufs }),
            Some(Seen::Sent(a, Ok(length + 7)))
        );
        let received = world.receive(b, length + 7);
        assert_eq!(received, [b"head\r\n", &body[..], b"."].concat());
    }
}

fn more_buffers_than_looked_at_are_sent_in_part<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(b));
    let bufs = vec![IoSlice::new(b"z"); MAX_BUFFERS + 5];
    assert_eq!(
        world.ask(Op::Send { id: a, bufs: &bufs }),
        Some(Seen::Sent(a, Ok(MAX_BUFFERS)))
    );
    world.send_all(a, b"y");
    assert_eq!(
        world.receive(b, MAX_BUFFERS + 1).last(),
        Some(&b'y'),
        "not taken for full"
    );
}

fn nothing_is_sent_at_once<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(b));
    assert_eq!(
        world.ask(Op::Send { id: a, bufs: &[] }),
        Some(Seen::Sent(a, Ok(0)))
    );
    assert_eq!(world.send(a, b""), Some(0));
    world.quiet();
}

fn nothing_goes_after_the_end<W: World>() {
    let mut world = W::new();
    let (a, _b) = world.pair();
    assert_eq!(world.ask(Op::Shutdown(a)), Some(Seen::Sent(a, Ok(0))));
    assert_eq!(
        world.ask(Op::Shutdown(a)),
        Some(Seen::Sent(a, Ok(0))),
        "twice is as good"
    );
    let bufs = [IoSlice::new(b"late")];
    assert_eq!(
        world.ask(Op::Send { id: a, bufs: &bufs }),
        Some(Seen::Sent(a, Err(ErrorKind::BrokenPipe)))
    );
}

/// And no signal: by default it would end the process.
fn a_peer_that_is_gone_is_an_error_of_send<W: World>() {
    let signalled = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(Signal::SIGPIPE as i32, signalled.clone()).expect("a signal");
    let mut world = W::new();
    let (a, b) = world.pair();
    world.close(b);
    let bufs = [IoSlice::new(b"anyone"), IoSlice::new(b"?")];
    let mut errors = 0;
    for round in 0..100 {
        match world.ask(Op::Send {
            id: a,
            bufs: &bufs[round % 2..],
        }) {
            Some(Seen::Sent(_, Ok(_))) => world.quiet(),
            Some(Seen::Sent(_, Err(kind))) => {
                assert!(matches!(
                    kind,
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ));
                errors += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(errors > 2, "nobody is there, and it is hardly said");
    assert!(!signalled.load(Ordering::Relaxed));
}

/// How much was taken, once that is known; `None` if there is no room.
fn send_soon<W: World>(world: &mut W, id: Id, parts: &[&[u8]]) -> Option<usize> {
    let bufs: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let answer = world.ask(Op::SendSoon { id, bufs: &bufs });
    let mut seen = answer.map_or_else(|| world.poll(), |answer| vec![answer]);
    seen.retain(|seen| !matches!(seen, Seen::Readable(_)));
    match seen[..] {
        [] => None,
        [Seen::Sent(sender, Ok(count))] if sender == id => Some(count),
        // There was no room, and is again.
        [Seen::Sendable(sender)] if sender == id => Some(0),
        ref other => panic!("sending gave {other:?}"),
    }
}

fn what_is_sent_soon_is_answered_by_the_wait_at_the_latest<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    let sent = send_soon(&mut world, a, &[b"head", b"", b"body"]);
    assert_eq!(sent, Some(8));
    assert_eq!(send_soon(&mut world, a, &[b"more"]), Some(4));
    world.start(Op::RecvStart(b));
    assert_eq!(world.receive(b, 12), b"headbodymore");
    world.quiet();
    world.close(a);
    let bufs = [IoSlice::new(b"x")];
    assert_eq!(
        world.ask(Op::SendSoon { id: a, bufs: &bufs }),
        Some(Seen::Failed(a, ErrorKind::NotFound))
    );
}

fn what_is_sent_soon_to_a_full_stream_waits_for_room<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    let mut sent = 0;
    while let Some(count) = send_soon(&mut world, a, &[&[b'x'; 10_000]]) {
        sent += count;
    }
    world.start(Op::RecvStart(b));
    drain(&mut world, b, sent);
    while !world.until_any().contains(&Seen::Sendable(a)) {}
    assert_eq!(send_soon(&mut world, a, &[b"more"]), Some(4));
    assert_eq!(world.receive(b, 4), b"more");
}

fn what_is_sent_soon_leaves_before_the_end_and_the_close<W: World>() {
    let bufs = [IoSlice::new(b"last words")];
    for end in [false, true] {
        let mut world = W::new();
        let (a, b) = world.pair();
        world.ask(Op::SendSoon { id: a, bufs: &bufs });
        if end {
            assert_eq!(world.ask(Op::Shutdown(a)), Some(Seen::Sent(a, Ok(0))));
        } else {
            world.close(a);
        }
        world.start(Op::RecvStart(b));
        while !world.until_any().contains(&Seen::Readable(b)) {}
        assert_eq!(world.receive(b, 10), b"last words");
        world.until(Seen::Readable(b));
        assert_eq!(world.take(b).expect("take"), Taken::Eof);
    }
}

fn a_reset_ends_a_pending_send<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.fill(a);
    world.reset(b);
    world.until(Seen::Sendable(a));
    let bufs = [IoSlice::new(b"more")];
    match world.ask(Op::Send { id: a, bufs: &bufs }) {
        Some(Seen::Sent(_, Err(kind))) => {
            assert!(matches!(
                kind,
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
            ));
        }
        other => panic!("{other:?}"),
    }
}

/// What comes of a reset to a stream that is being read and waits for room, up to the `Sendable`.
fn reset_while_full<W: World>(last_words: &[u8]) -> (W, Id, Vec<io::Result<Taken>>) {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(a));
    world.fill(a);
    world.quiet();
    if !last_words.is_empty() {
        world.send_all(b, last_words);
    }
    world.reset(b);
    let mut taken = Vec::new();
    loop {
        for seen in world.until_any() {
            match seen {
                Seen::Readable(id) if id == a => taken.push(world.take(a)),
                Seen::Sendable(id) if id == a => return (world, a, taken),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn the_last_words_come_before_the_room_that_a_reset_makes<W: World>() {
    let (_, _, taken) = reset_while_full::<W>(b"too large");
    match &taken[..] {
        [Ok(Taken::Data(data)), ..] => assert_eq!(data, b"too large"),
        other => panic!("{other:?}"),
    }
}

fn a_reset_comes_before_the_room_that_it_makes<W: World>() {
    let (mut world, a, taken) = reset_while_full::<W>(b"");
    match &taken[..] {
        [Err(error)] => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        other => panic!("{other:?}"),
    }
    let bufs = [IoSlice::new(b"more")];
    assert_eq!(
        world.ask(Op::Send { id: a, bufs: &bufs }),
        Some(Seen::Sent(a, Err(ErrorKind::BrokenPipe))),
        "it is told once"
    );
}
