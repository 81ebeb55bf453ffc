//! What the kernel receives, and in which order it is given.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use oxlip_core::op::{Completion, Op};
use oxlip_driver::{Driver, Received, Role};
use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::world::{close, driver, poll, receive, replace, stream, tcp_pair, wait};

/// More streams have something than the pool has buffers, twice.
#[test]
fn a_pool_that_runs_out_loses_nothing() {
    const STREAMS: usize = 1500;
    let Some(mut driver) = driver() else { return };
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).expect("setrlimit");
    let mut streams: Vec<_> = (0..STREAMS).map(|_| stream(&mut driver)).collect();
    for round in 0..3_u8 {
        for (at, (_, peer)) in streams.iter_mut().enumerate() {
            let words = vec![round; 1 + at * 37 % 12_000];
            peer.write_all(&words).expect("write");
        }
        // In the later rounds nobody looks at the first reports.
        for _ in 0..round {
            poll(&mut driver);
        }
        for (at, (id, _)) in streams.iter().enumerate() {
            let count = 1 + at * 37 % 12_000;
            let got = receive(&mut driver, *id, count);
            assert!(got.len() == count && got.iter().all(|byte| *byte == round));
        }
    }
}

/// Receives are started and stopped at any time, in two ways of receiving: bytes stay in order.
#[test]
fn bytes_stay_in_order_whatever_is_asked() {
    const TOTAL: usize = 6_000_000;
    let Some(mut driver) = driver() else { return };
    let (id, mut peer) = stream(&mut driver);
    let byte = |at: usize| (at % 251) as u8;
    let writer = thread::spawn(move || {
        let mut random = 12345_usize;
        let mut said = 0;
        while said < TOTAL {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            // Small ones for a while, then large ones.
            let most = if (said / 500_000) % 2 == 0 {
                3000
            } else {
                200_000
            };
            let length = (1 + (random >> 33) % most).min(TOTAL - said);
            let words: Vec<u8> = (said..said + length).map(byte).collect();
            peer.write_all(&words).expect("write");
            said += length;
        }
        peer
    });
    let mut heard = 0;
    let mut buffer = vec![0; 10_000];
    let mut random = 54321_usize;
    let mut stopped = false;
    while heard < TOTAL {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        match (random >> 33) % 8 {
            0 => {
                stopped = true;
                assert!(driver.submit(Op::RecvStop(id)).is_pending());
            }
            1 | 2 => {
                stopped = false;
                assert!(driver.submit(Op::RecvStart(id)).is_pending());
            }
            3 => {
                let length = 1 + (random >> 40) % buffer.len();
                if let Some(count) = driver
                    .take_into(id, &mut buffer[..length])
                    .expect("take_into")
                {
                    assert!((0..count).all(|at| buffer[at] == byte(heard + at)));
                    heard += count;
                }
            }
            4 | 5 => {
                if let Received::Data(data) = driver.take(id).expect("take") {
                    assert!((0..data.len()).all(|at| data[at] == byte(heard + at)));
                    heard += data.len();
                }
            }
            _ => {
                let readable = poll(&mut driver)
                    .iter()
                    .any(|completion| matches!(completion, Completion::Readable(_)));
                assert!(!(stopped && readable), "a stopped stream was reported");
            }
        }
    }
    drop(writer.join().expect("the writer"));
}

/// From the wait after the stop on, the system keeps it.
#[test]
fn what_arrives_for_a_stopped_stream_is_left_where_it_is() {
    let Some(mut driver) = driver() else { return };
    let (id, mut peer) = stream(&mut driver);
    poll(&mut driver);
    assert!(driver.submit(Op::RecvStop(id)).is_pending());
    poll(&mut driver);
    peer.write_all(b"untouched").expect("write");
    assert!(poll(&mut driver).is_empty());
    let socket = driver.release(id).expect("a socket");
    let mut got = [0; 16];
    assert_eq!(rustix::io::read(&socket, &mut got).expect("read"), 9);
}

/// While it is stopped, a stream takes no more than what was under way.
#[test]
fn a_stopped_stream_holds_its_peer_back() {
    let Some(mut driver) = driver() else { return };
    let (id, peer) = stream(&mut driver);
    poll(&mut driver);
    assert!(driver.submit(Op::RecvStop(id)).is_pending());
    peer.set_nonblocking(true).expect("non-blocking");
    let mut written = 0;
    let mut full = 0;
    while full < 20 {
        match (&peer).write(&[b'x'; 65536]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => full += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(poll(&mut driver).is_empty());
        assert!(written < 256 << 20, "nobody holds it back");
    }
    assert!(driver.submit(Op::RecvStart(id)).is_pending());
    receive(&mut driver, id, written);
}

/// The system tells an error once, and whoever asks behind a full buffer is the one who is told.
#[test]
fn a_reset_is_no_end() {
    let Some(mut driver) = driver() else { return };
    let (id, mut peer) = stream(&mut driver);
    poll(&mut driver);
    peer.write_all(&[b'x'; 4096]).expect("write");
    assert!(matches!(wait(&mut driver)[..], [Completion::Readable(of)] if of == id));
    set_socket_linger(&peer, Some(Duration::ZERO)).expect("linger");
    drop(peer);
    assert_eq!(receive(&mut driver, id, 4096).len(), 4096);
    loop {
        assert!(matches!(wait(&mut driver)[..], [Completion::Readable(of)] if of == id));
        match driver.take(id) {
            Ok(Received::Nothing) => {}
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// And the end behind a full buffer is told as any.
#[test]
fn an_end_behind_a_full_buffer_is_told_once() {
    let Some(mut driver) = driver() else { return };
    let (id, mut peer) = stream(&mut driver);
    poll(&mut driver);
    peer.write_all(&[b'x'; 4096]).expect("write");
    assert!(matches!(wait(&mut driver)[..], [Completion::Readable(of)] if of == id));
    drop(peer);
    let mut buffer = [0; 4096];
    assert_eq!(driver.take_into(id, &mut buffer).expect("take"), Some(4096));
    assert!(matches!(wait(&mut driver)[..], [Completion::Readable(of)] if of == id));
    assert_eq!(driver.take_into(id, &mut buffer).expect("take"), Some(0));
    assert!(poll(&mut driver).is_empty());
}

/// The receive under way keeps the file of a number that was closed behind the driver's back.
#[test]
fn what_arrives_for_a_lost_stream_does_not_reach_the_next_holder_of_its_number() {
    let Some(mut driver) = driver() else { return };
    let (id, mut peer) = stream(&mut driver);
    let (other, mut other_peer) = tcp_pair();
    poll(&mut driver);
    peer.write_all(b"not for you").expect("write");
    let other = replace(&driver, id, other);
    peer.write_all(b"nor is this").expect("write");
    let other = driver.adopt(other, Role::Stream).expect("adopt");
    assert!(driver.submit(Op::RecvStart(other)).is_pending());
    assert!(matches!(poll(&mut driver)[..], [Completion::Failed(of, _)] if of == id));
    other_peer.write_all(b"for you").expect("write");
    assert_eq!(receive(&mut driver, other, 7), b"for you");
    assert!(poll(&mut driver).is_empty());
    // Nothing keeps the first connection.
    assert!(matches!(peer.read(&mut [0; 8]), Ok(0) | Err(_)));
}

/// Whatever the kernel was doing for it: an answer may come before the cancellation, or with it.
#[test]
fn what_arrives_for_a_closed_stream_does_not_reach_the_next_with_its_number() {
    let Some(mut driver) = driver() else { return };
    let (mut id, mut peer) = stream(&mut driver);
    for round in 0..300_usize {
        for step in 0..3 {
            if round >> step & 1 == 1 {
                poll(&mut driver);
            }
            if round % 4 == step {
                peer.write_all(b"not for you").expect("write");
            }
        }
        let number = driver.descriptor(id).expect("its own").as_raw_fd();
        // Made before, so that the number that becomes free is not taken by its peer.
        let (next, next_peer) = tcp_pair();
        close(&mut driver, id);
        // SAFETY: `next` is open, and the lowest free number is asked for.
        let reused = unsafe {
            let reused = libc::fcntl(next.as_raw_fd(), libc::F_DUPFD_CLOEXEC, number);
            OwnedFd::from_raw_fd(reused)
        };
        drop(next);
        id = driver.adopt(reused, Role::Stream).expect("adopt");
        peer = next_peer;
        assert!(driver.submit(Op::RecvStart(id)).is_pending());
        assert!(poll(&mut driver).is_empty());
        let words = format!("{round:8}");
        peer.write_all(words.as_bytes()).expect("write");
        assert_eq!(receive(&mut driver, id, 8), words.as_bytes());
    }
}
