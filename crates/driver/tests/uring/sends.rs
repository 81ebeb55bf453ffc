//! Sends that leave with the wait.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Op};
use oxlip_driver::uring::Uring;
use oxlip_driver::{Driver, Received, Role};
use rustix::net::sockopt::set_socket_linger;

use crate::world::{
    PATIENCE, close, driver, full_stream, hears_nothing, poll, receive, replace, send_soon, stream,
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
            [Completion::Readable(_), Completion::Sendable(_)] => break true,
            ref other => panic!("{other:?}"),
        }
        assert!(total < 1 << 30);
    };
    let mut got = vec![0; total];
    peer.read_exact(&mut got).expect("what was sent");
    if !sendable {
        // What there is to read comes first: there might be something.
        assert!(matches!(
            wait(&mut driver)[..],
            [Completion::Readable(one), Completion::Sendable(other)] if one == id && other == id
        ));
        assert!(matches!(driver.take(id), Ok(Received::Nothing)));
    }
    assert!(send_soon(&mut driver, id, &[b"more"]).is_pending());
    assert!(matches!(
        poll(&mut driver)[..],
        [Completion::Sent(_, Ok(4))]
    ));
}

#[test]
fn a_failed_send_is_told_by_the_wait_or_by_the_next() {
    for reads in [false, true] {
        let Some(mut driver) = driver() else { return };
        let (id, peer) = stream(&mut driver);
        if !reads {
            assert!(driver.submit(Op::RecvStop(id)).is_pending());
        }
        drop(peer);
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE);
            let answer = send_soon(&mut driver, id, &[b"anyone?"]);
            if let Poll::Ready(answer) = answer {
                assert!(matches!(answer, Completion::Sent(_, Err(_))));
                assert!(reads);
                break;
            }
            let failed = poll(&mut driver)
                .iter()
                .any(|completion| matches!(completion, Completion::Sent(_, Err(_))));
            if failed {
                assert!(!reads);
                break;
            }
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

/// A send was staged before the peer went: what has come from it is told first.
#[test]
fn the_last_words_come_before_a_failed_send() {
    for last_words in [&b"too large"[..], b""] {
        let Some(mut driver) = driver() else { return };
        let (id, mut peer) = stream(&mut driver);
        assert!(poll(&mut driver).is_empty());
        peer.write_all(last_words).expect("write");
        reset(peer);
        assert!(send_soon(&mut driver, id, &[b"anyone?"]).is_pending());
        assert!(matches!(
            wait(&mut driver)[..],
            [Completion::Readable(one), Completion::Sendable(other)] if one == id && other == id
        ));
        if last_words.is_empty() {
            // The system has told the send, and calls the end a clean one from then on.
            let error = driver.take(id).map(|_| ()).expect_err("a reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        } else {
            assert_eq!(receive(&mut driver, id, last_words.len()), last_words);
            assert!(matches!(
                send_soon(&mut driver, id, &[b"anyone?"]),
                Poll::Ready(Completion::Sent(_, Err(error)))
                    if error.kind() == ErrorKind::ConnectionReset
            ));
            assert!(matches!(driver.take(id), Ok(Received::Eof)));
        }
        assert!(matches!(
            send(&mut driver, id, b"anyone?"),
            Poll::Ready(Completion::Sent(_, Err(error))) if error.kind() == ErrorKind::BrokenPipe
        ));
        assert!(poll(&mut driver).is_empty());
        close(&mut driver, id);
    }
}

#[test]
fn a_failed_send_of_a_stream_that_is_not_read_is_told_by_the_wait() {
    let Some(mut driver) = driver() else { return };
    let (id, peer) = stream(&mut driver);
    assert!(driver.submit(Op::RecvStop(id)).is_pending());
    assert!(poll(&mut driver).is_empty());
    reset(peer);
    assert!(send_soon(&mut driver, id, &[b"anyone?"]).is_pending());
    assert!(matches!(
        &wait(&mut driver)[..],
        [Completion::Sent(_, Err(error))] if error.kind() == ErrorKind::ConnectionReset
    ));
}

/// As where the send is the first to ask the system: the ring was.
#[test]
fn a_send_is_told_of_the_reset_that_nobody_has_read() {
    for soon in [false, true] {
        let Some(mut driver) = driver() else { return };
        let (id, peer) = stream(&mut driver);
        assert!(poll(&mut driver).is_empty());
        reset(peer);
        assert!(matches!(wait(&mut driver)[..], [Completion::Readable(of)] if of == id));
        assert!(driver.submit(Op::RecvStop(id)).is_pending());
        let answer = if soon {
            assert!(send_soon(&mut driver, id, &[b"anyone?"]).is_pending());
            wait(&mut driver).pop()
        } else {
            match send(&mut driver, id, b"anyone?") {
                Poll::Ready(answer) => Some(answer),
                Poll::Pending => None,
            }
        };
        assert!(matches!(
            answer,
            Some(Completion::Sent(_, Err(error))) if error.kind() == ErrorKind::ConnectionReset
        ));
        // And so is who reads, as with the other drivers.
        let taken = driver.take(id).expect_err("a reset");
        assert_eq!(taken.kind(), ErrorKind::ConnectionReset);
    }
}

fn reset(peer: TcpStream) {
    set_socket_linger(&peer, Some(Duration::ZERO)).expect("linger");
    drop(peer);
}

fn send(driver: &mut Uring, id: Id, bytes: &[u8]) -> Poll<Completion> {
    let bufs = [IoSlice::new(bytes)];
    driver.submit(Op::Send { id, bufs: &bufs })
}

/// The peer does not read, and says nothing: no event but the failure ends the wait.
#[test]
fn a_failed_send_is_told_though_nothing_is_to_be_read() {
    for sent_early in [false, true] {
        let Some(mut driver) = driver() else { return };
        let (ours, peer) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("non-blocking");
        let id = driver.adopt(ours.into(), Role::Stream).expect("adopt");
        assert!(driver.submit(Op::RecvStart(id)).is_pending());
        let (other, _its_peer) = stream(&mut driver);
        while !poll(&mut driver).is_empty() {}
        peer.shutdown(Shutdown::Read).expect("shutdown");
        while !poll(&mut driver).is_empty() {}
        assert!(send_soon(&mut driver, id, &[b"anyone?"]).is_pending());
        if sent_early {
            assert!(send_soon(&mut driver, other, &[b"bye"]).is_pending());
            close(&mut driver, other);
        }
        let began = Instant::now();
        assert!(matches!(
            wait(&mut driver)[..],
            [Completion::Readable(one), Completion::Sendable(other)] if one == id && other == id
        ));
        assert!(began.elapsed() < PATIENCE);
        assert!(matches!(driver.take(id), Ok(Received::Nothing)));
        assert!(matches!(
            send(&mut driver, id, b"anyone?"),
            Poll::Ready(Completion::Sent(_, Err(error))) if error.kind() == ErrorKind::BrokenPipe
        ));
    }
}

#[test]
fn a_send_behind_a_failed_one_is_told_of_the_same() {
    let Some(mut driver) = driver() else { return };
    let (id, peer) = stream(&mut driver);
    assert!(poll(&mut driver).is_empty());
    reset(peer);
    assert!(send_soon(&mut driver, id, &[b"anyone?"]).is_pending());
    assert!(matches!(
        send(&mut driver, id, b"anyone?"),
        Poll::Ready(Completion::Sent(_, Err(error))) if error.kind() == ErrorKind::ConnectionReset
    ));
    assert!(matches!(
        wait(&mut driver)[..],
        [Completion::Readable(_), Completion::Sendable(_)]
    ));
}
