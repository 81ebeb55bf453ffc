//! Readable is a hint, take is the truth.

use std::io::ErrorKind;
use std::mem::MaybeUninit;

use oxlip_core::op::Op;
use oxlip_driver::{Driver, Received, Taken as Answer};

use crate::world::{Play, Seen, Taken, World, on_every_driver};

on_every_driver!(
    a_hint_is_repeated_until_the_bytes_are_taken,
    taking_without_a_hint_is_allowed_and_may_find_nothing,
    a_small_buffer_leaves_the_rest,
    a_stopped_stream_keeps_its_bytes,
    a_hint_may_be_followed_by_a_stop,
    a_storm_of_starts_and_stops_ends_as_last_asked,
    the_end_comes_after_the_bytes_and_is_reported_until_taken,
    the_end_of_one_direction_leaves_the_other_open,
    an_empty_buffer_takes_nothing_and_ends_nothing,
    a_reset_is_an_error_of_take,
    a_megabyte_arrives_in_order,
    room_is_filled_or_something_is_lent,
);

fn a_hint_is_repeated_until_the_bytes_are_taken<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(b));
    world.quiet();
    world.send_all(a, b"ping");
    for _ in 0..3 {
        world.until(Seen::Readable(b));
    }
    assert_eq!(world.take(b).expect("take"), Taken::from(&b"ping"[..]));
    assert_eq!(world.take(b).expect("take"), Taken::Nothing);
    world.quiet();
}

fn taking_without_a_hint_is_allowed_and_may_find_nothing<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    assert_eq!(world.take(a).expect("take"), Taken::Nothing);
    assert_eq!(
        world.driver().take_into(a, &mut [0; 8]).expect("take"),
        None
    );
    world.start(Op::RecvStart(b));
    world.send_all(a, b"one");
    world.until(Seen::Readable(b));
    world.start(Op::RecvStop(b));
    assert_eq!(world.take(b).expect("take"), Taken::from(&b"one"[..]));
}

fn a_small_buffer_leaves_the_rest<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(b));
    world.send_all(a, b"abcdefgh");
    world.until(Seen::Readable(b));
    let mut buffer = [0; 5];
    assert_eq!(
        world.driver().take_into(b, &mut buffer).expect("take"),
        Some(5)
    );
    assert_eq!(&buffer, b"abcde");
    world.until(Seen::Readable(b));
    assert_eq!(
        world.driver().take_into(b, &mut buffer).expect("take"),
        Some(3)
    );
    assert_eq!(&buffer[..3], b"fgh");
    world.quiet();
}

fn a_stopped_stream_keeps_its_bytes<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(b));
    world.start(Op::RecvStop(b));
    world.send_all(a, b"kept");
    world.quiet();
    world.start(Op::RecvStart(b));
    world.until(Seen::Readable(b));
    assert_eq!(world.take(b).expect("take"), Taken::from(&b"kept"[..]));
}

fn a_hint_may_be_followed_by_a_stop<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(b));
    world.send_all(a, b"later");
    world.until(Seen::Readable(b));
    world.start(Op::RecvStop(b));
    world.quiet();
    world.start(Op::RecvStart(b));
    world.until(Seen::Readable(b));
    assert_eq!(world.receive(b, 5), b"later");
}

fn a_storm_of_starts_and_stops_ends_as_last_asked<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    for _ in 0..1000 {
        world.start(Op::RecvStart(b));
        world.start(Op::RecvStop(b));
    }
    world.send_all(a, b"storm");
    world.quiet();
    for _ in 0..1000 {
        world.start(Op::RecvStart(b));
        world.start(Op::RecvStop(b));
        world.start(Op::RecvStart(b));
    }
    world.until(Seen::Readable(b));
    for _ in 0..1000 {
        world.start(Op::RecvStop(b));
        world.start(Op::RecvStart(b));
        world.start(Op::RecvStop(b));
    }
    world.quiet();
}

fn the_end_comes_after_the_bytes_and_is_reported_until_taken<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(b));
    world.send_all(a, b"last words");
    assert_eq!(world.ask(Op::Shutdown(a)), Some(Seen::Sent(a, Ok(0))));
    assert_eq!(world.receive(b, 10), b"last words");
    world.until(Seen::Readable(b));
    world.until(Seen::Readable(b));
    assert_eq!(world.take(b).expect("take"), Taken::Eof);
    world.quiet();
    assert_eq!(
        world.take(b).expect("take"),
        Taken::Eof,
        "the end stays the end"
    );
    assert_eq!(
        world.driver().take_into(b, &mut [0; 4]).expect("take"),
        Some(0)
    );
    world.start(Op::RecvStart(b));
    world.quiet();
}

fn the_end_of_one_direction_leaves_the_other_open<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(a));
    world.start(Op::RecvStart(b));
    assert_eq!(world.ask(Op::Shutdown(a)), Some(Seen::Sent(a, Ok(0))));
    world.until(Seen::Readable(b));
    assert_eq!(world.take(b).expect("take"), Taken::Eof);
    world.send_all(b, b"still here");
    world.until(Seen::Readable(a));
    assert_eq!(world.receive(a, 10), b"still here");
}

fn an_empty_buffer_takes_nothing_and_ends_nothing<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(b));
    world.send_all(a, b"x");
    world.until(Seen::Readable(b));
    assert_eq!(world.driver().take_into(b, &mut []).expect("take"), Some(0));
    world.until(Seen::Readable(b));
    assert_eq!(world.take(b).expect("take"), Taken::from(&b"x"[..]));
}

fn a_reset_is_an_error_of_take<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(b));
    world.reset(a);
    world.until(Seen::Readable(b));
    let error = world.take(b).expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    world.quiet();
}

fn a_megabyte_arrives_in_order<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    let sent: Vec<u8> = (0..1_000_003_u32).map(|n| (n % 251) as u8).collect();
    let mut received = Vec::new();
    let mut from = 0;
    let mut blocked = false;
    world.start(Op::RecvStart(b));
    while received.len() < sent.len() {
        while !blocked && from < sent.len() {
            match world.send(a, &sent[from..]) {
                Some(count) => from += count,
                None => blocked = true,
            }
        }
        for seen in world.until_any() {
            match seen {
                Seen::Sendable(id) if id == a => blocked = false,
                Seen::Readable(id) if id == b => match world.take(b).expect("take") {
                    Taken::Data(data) => received.extend(data),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(received == sent);
}

fn room_is_filled_or_something_is_lent<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    let mut room = [MaybeUninit::new(0); 5000];
    let sent: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8).collect();
    world.start(Op::RecvStart(b));
    for size in (100..20_000).step_by(1300) {
        world.send_all(a, &sent[..size]);
        let mut received = Vec::new();
        while received.len() < size {
            world.until(Seen::Readable(b));
            match world.driver().take_or_fill(b, &mut room).expect("take") {
                Answer::Filled(count) => {
                    // SAFETY: the room was made of zeros.
                    let bytes = room[..count]
                        .iter()
                        .map(|byte| unsafe { byte.assume_init() });
                    received.extend(bytes);
                }
                Answer::Lent(Received::Data(data)) => received.extend(data),
                other => panic!("{other:?}"),
            }
        }
        assert!(received == sent[..size]);
        world.quiet();
        let nothing = world.driver().take_or_fill(b, &mut room);
        assert!(matches!(nothing, Ok(Answer::Lent(Received::Nothing))));
    }
    assert_eq!(world.ask(Op::Shutdown(a)), Some(Seen::Sent(a, Ok(0))));
    world.until(Seen::Readable(b));
    let end = world.driver().take_or_fill(b, &mut room);
    assert!(matches!(end, Ok(Answer::Lent(Received::Eof))), "{end:?}");
    world.quiet();
}
