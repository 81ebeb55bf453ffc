//! More answers than the ring has room for: the kernel keeps the rest (`IORING_SQ_CQ_OVERFLOW`), ends
//! multishot requests, and nothing is lost. That so small a ring does overflow is seen in a test of
//! the ring itself (`src/uring/ring.rs`).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Op};
use oxlip_driver::uring::Uring;
use oxlip_driver::{Driver, Received};

use crate::world::{PATIENCE, close, ends, full_stream, poll, receive, send_soon, stream, wait};

/// A driver whose ring has next to no room.
fn narrow() -> Option<Uring> {
    Uring::with_room_for(8, 8)
        .inspect_err(|error| eprintln!("skipped: {error}"))
        .ok()
}

fn narrow_with_streams(count: usize) -> Option<(Uring, Vec<(Id, TcpStream)>)> {
    let mut driver = narrow()?;
    let streams = (0..count).map(|_| stream(&mut driver)).collect();
    assert!(poll(&mut driver).is_empty());
    Some((driver, streams))
}

/// What the stream of that number is told, and nobody else.
fn words(at: usize, round: usize) -> Vec<u8> {
    format!("{at}.{round};")
        .into_bytes()
        .repeat(1 + at * 131 % 900)
}

#[test]
fn more_arrives_at_once_than_there_is_room_for_answers() {
    let Some((mut driver, mut streams)) = narrow_with_streams(200) else {
        return;
    };
    for round in 0..5 {
        for (at, (_, peer)) in streams.iter_mut().enumerate() {
            peer.write_all(&words(at, round)).expect("write");
        }
        let mut heard = vec![Vec::new(); streams.len()];
        let began = Instant::now();
        while (0..streams.len()).any(|at| heard[at].len() < words(at, round).len()) {
            assert!(began.elapsed() < PATIENCE, "something is lost");
            for completion in wait(&mut driver) {
                let Completion::Readable(id) = completion else {
                    panic!("{completion:?}");
                };
                let at = streams.iter().position(|(known, _)| *known == id);
                if let Received::Data(data) = driver.take(id).expect("take") {
                    heard[at.expect("one of them")].extend_from_slice(data);
                }
            }
        }
        for (at, heard) in heard.iter().enumerate() {
            assert!(*heard == words(at, round), "stream {at}, round {round}");
        }
    }
}

#[test]
fn ends_and_resets_are_told_although_there_is_no_room_for_them() {
    let Some((mut driver, streams)) = narrow_with_streams(100) else {
        return;
    };
    let ids: Vec<Id> = streams.iter().map(|(id, _)| *id).collect();
    for (_, mut peer) in streams {
        peer.write_all(b"bye").expect("write");
    }
    for id in ids {
        assert_eq!(receive(&mut driver, id, 3), b"bye");
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE);
            match driver.take(id).expect("take") {
                Received::Eof => break,
                Received::Nothing => drop(wait(&mut driver)),
                Received::Data(data) => panic!("{data:?}"),
            }
        }
    }
}

/// A send that the system has taken says nothing: one whose failure is kept back must not look so.
#[test]
fn a_send_whose_answer_is_kept_back_does_not_count_as_sent() {
    let Some((mut driver, mut streams)) = narrow_with_streams(60) else {
        return;
    };
    let mut full: Vec<_> = (0..60).map(|_| full_stream(&mut driver)).collect();
    for (_, peer) in &mut streams {
        peer.write_all(b"ping").expect("write");
    }
    for (at, (id, _, _)) in full.iter().enumerate() {
        let words = format!("answer {at:3}");
        assert!(send_soon(&mut driver, *id, &[words.as_bytes()]).is_pending());
    }
    let mut told = poll(&mut driver);
    told.retain(|completion| !matches!(completion, Completion::Readable(_)));
    assert!(told.is_empty(), "there was no room: {told:?}");
    for (id, _) in &streams {
        assert_eq!(receive(&mut driver, *id, 4), b"ping");
    }
    // Each is told of the room that its peer makes, and then sends the same words once.
    for (at, (id, peer, filled)) in full.iter_mut().enumerate() {
        peer.read_exact(&mut vec![0; *filled])
            .expect("what was in the way");
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "no room is told");
            let told = wait(&mut driver);
            if told
                .iter()
                .any(|it| matches!(it, Completion::Sendable(of) if of == id))
            {
                break;
            }
        }
        let words = format!("answer {at:3}");
        assert!(send_soon(&mut driver, *id, &[words.as_bytes()]).is_pending());
        let told = poll(&mut driver);
        assert!(
            matches!(told[..], [Completion::Sent(of, Ok(10))] if of == *id),
            "{told:?}"
        );
        let mut got = [0; 10];
        peer.read_exact(&mut got).expect("what was sent");
        assert_eq!(got, words.as_bytes());
    }
}

/// The end of a request that is cancelled may be among what is kept back.
#[test]
fn a_stream_can_be_closed_while_answers_are_kept_back() {
    let Some((mut driver, mut streams)) = narrow_with_streams(100) else {
        return;
    };
    let mut going = streams.split_off(50);
    for (_, peer) in streams.iter_mut().chain(&mut going) {
        peer.write_all(&[b'x'; 5000]).expect("write");
    }
    for (id, mut peer) in going {
        peer.shutdown(std::net::Shutdown::Write).expect("shutdown");
        close(&mut driver, id);
        // Not taken by anybody: the system tells of that with a reset, or an end.
        let _ = peer.read(&mut [0; 8]);
    }
    for (id, _) in &streams {
        assert_eq!(receive(&mut driver, *id, 5000), [b'x'; 5000]);
        assert!(driver.submit(Op::RecvStop(*id)).is_pending());
    }
    for (_, peer) in &mut streams {
        peer.write_all(b"later").expect("write");
    }
    for (id, _) in &streams {
        assert!(driver.submit(Op::RecvStart(*id)).is_pending());
        assert_eq!(receive(&mut driver, *id, 5), b"later");
    }
    for (id, mut peer) in streams {
        close(&mut driver, id);
        ends(&mut peer);
    }
}
