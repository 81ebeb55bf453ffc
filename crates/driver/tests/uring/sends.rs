//! Sends that leave with the wait.

use std::io::{IoSlice, Read};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use oxlip_core::op::{Completion, Op};
use oxlip_driver::{Driver, Role};

use crate::world::{
    PATIENCE, close, driver, full_stream, hears_nothing, poll, replace, send_soon, stream,
    tcp_pair, wait,
};

#[test]
fn sends_leave_with_the_wait_and_are_answered_by_it() {
    let Some(mut driver) = driver() else { return };
    let mut streams: Vec<_> = (0..600).map(|_| stream(&mut driver)).collect();
    for (at, (id, _)) in streams.iter().enumerate() {
        let length = at * 20;
        assert!(send_soon(&mut driver, *id, &[&vec![b'a'; length], b"end"]).is_pending());
    }
    let mut sent = Vec::new();
    for completion in poll(&mut driver) {
        match completion {
            Completion::Sent(id, Ok(count)) => sent.push((id, count)),
            other => panic!("{other:?}"),
        }
    }
    let expected: Vec<_> = streams
        .iter()
        .enumerate()
        .map(|(at, (id, _))| (*id, at * 20 + 3))
        .collect();
    assert!(sent == expected, "{} answers", sent.len());
    for (at, (_, peer)) in streams.iter_mut().enumerate() {
        let mut got = vec![0; at * 20 + 3];
        peer.read_exact(&mut got).expect("what was sent");
        assert!(got.ends_with(b"end"));
    }
}

#[test]
fn much_is_sent_at_once() {
    let Some(mut driver) = driver() else { return };
    let (id, _peer) = stream(&mut driver);
    let much = vec![b'x'; 100_000];
    assert!(matches!(
        send_soon(&mut driver, id, &[&much]),
        Poll::Ready(Completion::Sent(_, Ok(1..)))
    ));
}

#[test]
fn a_full_stream_is_sendable_when_it_has_room() {
    let Some(mut driver) = driver() else { return };
    let (id, mut peer) = stream(&mut driver);
    let mut total = 0;
    let block = [b'x'; 5000];
    // The first that finds no room is known only after the wait.
    let sendable = loop {
        assert!(send_soon(&mut driver, id, &[&block]).is_pending());
        match poll(&mut driver)[..] {
            [Completion::Sent(_, Ok(count))] => total += count,
            [] => break false,
            [Completion::Sendable(_)] => break true,
            ref other => panic!("{other:?}"),
        }
        assert!(total < 1 << 30);
    };
    let mut got = vec![0; total];
    peer.read_exact(&mut got).expect("what was sent");
    if !sendable {
        assert!(matches!(wait(&mut driver)[..], [Completion::Sendable(of)] if of == id));
    }
    assert!(send_soon(&mut driver, id, &[b"more"]).is_pending());
    assert!(matches!(
        poll(&mut driver)[..],
        [Completion::Sent(_, Ok(4))]
    ));
}

#[test]
fn a_failed_send_is_told_by_the_wait() {
    let Some(mut driver) = driver() else { return };
    let (id, peer) = stream(&mut driver);
    drop(peer);
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < PATIENCE);
        assert!(send_soon(&mut driver, id, &[b"anyone?"]).is_pending());
        let failed = wait(&mut driver)
            .iter()
            .any(|completion| matches!(completion, Completion::Sent(_, Err(_))));
        if failed {
            return;
        }
    }
}

#[test]
fn what_is_to_be_sent_leaves_before_the_end() {
    let Some(mut driver) = driver() else { return };
    let (id, mut peer) = stream(&mut driver);
    assert!(send_soon(&mut driver, id, &[b"last ", b"words"]).is_pending());
    assert!(driver.submit(Op::Shutdown(id)).is_ready());
    let mut got = Vec::new();
    peer.read_to_end(&mut got).expect("all of it");
    assert_eq!(got, b"last words");
    assert!(matches!(
        poll(&mut driver)[..],
        [Completion::Sent(_, Ok(10))]
    ));

    let (id, mut peer) = stream(&mut driver);
    assert!(send_soon(&mut driver, id, &[b"good bye"]).is_pending());
    close(&mut driver, id);
    let mut got = Vec::new();
    peer.read_to_end(&mut got).expect("all of it");
    assert_eq!(got, b"good bye");
    assert!(poll(&mut driver).is_empty());
}

#[test]
fn room_ends_the_wait_that_has_found_none() {
    let Some(mut driver) = driver() else { return };
    let (id, mut peer, filled) = full_stream(&mut driver);
    assert!(send_soon(&mut driver, id, &[b"no room"]).is_pending());
    let reader = thread::spawn(move || {
        // Let the other one sleep: too short a time would only prove less.
        thread::sleep(Duration::from_millis(50));
        peer.read_exact(&mut vec![0; filled])
            .expect("what was sent");
        peer
    });
    let began = Instant::now();
    assert!(matches!(wait(&mut driver)[..], [Completion::Sendable(of)] if of == id));
    assert!(began.elapsed() < PATIENCE / 2);
    drop(reader.join().expect("the reader"));
}

#[test]
fn a_send_behind_another_is_answered_as_any() {
    let Some(mut driver) = driver() else { return };
    let (id, mut peer) = stream(&mut driver);
    assert!(send_soon(&mut driver, id, &[b"first "]).is_pending());
    let bufs = [IoSlice::new(b"second ")];
    assert!(matches!(
        driver.submit(Op::Send { id, bufs: &bufs }),
        Poll::Ready(Completion::Sent(_, Ok(7)))
    ));
    assert!(send_soon(&mut driver, id, &[b"third"]).is_pending());
    assert!(matches!(
        poll(&mut driver)[..],
        [Completion::Sent(_, Ok(6)), Completion::Sent(_, Ok(5))]
    ));
    let mut got = [0; 18];
    peer.read_exact(&mut got).expect("what was sent");
    assert_eq!(&got, b"first second third");

    // Without room both wait for it.
    let (id, mut peer, filled) = full_stream(&mut driver);
    assert!(send_soon(&mut driver, id, &[b"no room"]).is_pending());
    assert!(driver.submit(Op::Send { id, bufs: &bufs }).is_pending());
    assert!(poll(&mut driver).is_empty());
    peer.read_exact(&mut vec![0; filled])
        .expect("what was sent");
    assert!(matches!(wait(&mut driver)[..], [Completion::Sendable(of)] if of == id));
    assert!(driver.submit(Op::Send { id, bufs: &bufs }).is_ready());
}

#[test]
fn what_was_to_be_sent_does_not_reach_the_next_holder_of_a_number() {
    let Some(mut driver) = driver() else { return };
    let (id, _peer) = stream(&mut driver);
    let (other, mut other_peer): (OwnedFd, TcpStream) = tcp_pair();
    poll(&mut driver);
    assert!(send_soon(&mut driver, id, &[b"not for you"]).is_pending());
    let other = replace(&driver, id, other);
    let other = driver.adopt(other, Role::Stream).expect("adopt");
    assert!(matches!(poll(&mut driver)[..], [Completion::Failed(of, _)] if of == id));
    hears_nothing(&mut other_peer);
    assert!(send_soon(&mut driver, other, &[b"for you"]).is_pending());
    assert!(matches!(
        poll(&mut driver)[..],
        [Completion::Sent(_, Ok(7))]
    ));
    other_peer.read_exact(&mut [0; 7]).expect("what was sent");
}
