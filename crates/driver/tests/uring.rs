//! What only the io_uring driver has: a pool that runs out, requests under way when a descriptor is
//! closed, a ring that belongs to a thread, and systems that forbid it.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::task::Poll;
use std::time::{Duration, Instant};
use std::{env, thread};

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Op};
use oxlip_driver::uring::Uring;
use oxlip_driver::{AnyDriver, Driver, Received, Role};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const PATIENCE: Duration = Duration::from_secs(10);

/// `None` where the system forbids rings, after saying so.
fn driver() -> Option<Uring> {
    Uring::new()
        .inspect_err(|error| eprintln!("skipped: {error}"))
        .ok()
}

fn tcp_pair() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let peer = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    let (ours, _) = listener.accept().expect("accept");
    for stream in [&ours, &peer] {
        stream.set_nodelay(true).expect("no delay");
    }
    ours.set_nonblocking(true).expect("non-blocking");
    peer.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    (ours.into(), peer)
}

/// A stream that receives, and its peer.
fn stream(driver: &mut Uring) -> (Id, TcpStream) {
    let (ours, peer) = tcp_pair();
    let id = driver.adopt(ours, Role::Stream).expect("adopt");
    assert!(driver.submit(Op::RecvStart(id)).is_pending());
    (id, peer)
}

fn wait(driver: &mut Uring) -> Vec<Completion> {
    let mut completions = Vec::new();
    driver.wait(Some(PATIENCE), &mut completions).expect("wait");
    completions
}

/// One look, without a wait.
fn poll(driver: &mut Uring) -> Vec<Completion> {
    let mut completions = Vec::new();
    driver
        .wait(Some(Duration::ZERO), &mut completions)
        .expect("wait");
    completions
}

/// Takes that many bytes.
fn receive(driver: &mut Uring, id: Id, count: usize) -> Vec<u8> {
    let began = Instant::now();
    let mut received = Vec::new();
    while received.len() < count {
        assert!(began.elapsed() < PATIENCE, "{} bytes", received.len());
        match driver.take(id).expect("take") {
            Received::Data(data) => received.extend_from_slice(data),
            Received::Eof => panic!("the end after {} bytes", received.len()),
            Received::Nothing => drop(wait(driver)),
        }
    }
    received
}

fn send_soon(driver: &mut Uring, id: Id, parts: &[&[u8]]) -> Poll<Completion> {
    let bufs: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    driver.submit(Op::SendSoon { id, bufs: &bufs })
}

fn close(driver: &mut Uring, id: Id) {
    assert!(matches!(
        driver.submit(Op::Close(id)),
        Poll::Ready(Completion::Closed(_))
    ));
}

fn ends(peer: &mut TcpStream) {
    assert_eq!(peer.read(&mut [0; 8]).expect("the end"), 0);
}

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

/// The kernel keeps the file of a request that is under way.
#[test]
fn a_peer_sees_the_close_although_nobody_waits() {
    let Some(mut driver) = driver() else { return };
    let (id, mut peer) = stream(&mut driver);
    assert!(poll(&mut driver).is_empty(), "the receive is under way");
    close(&mut driver, id);
    ends(&mut peer);

    let (id, mut peer) = stream(&mut driver);
    poll(&mut driver);
    drop(driver.release(id).expect("a socket"));
    ends(&mut peer);

    let (_, mut peer) = stream(&mut driver);
    poll(&mut driver);
    drop(driver);
    ends(&mut peer);
}

#[test]
fn a_peer_sees_the_close_in_another_thread() {
    let Some(mut driver) = driver() else { return };
    let (id, mut peer) = stream(&mut driver);
    let (_, mut other) = stream(&mut driver);
    assert!(poll(&mut driver).is_empty());
    thread::spawn(move || {
        close(&mut driver, id);
        ends(&mut peer);
        drop(driver);
        ends(&mut other);
    })
    .join()
    .expect("the other thread");
}

#[test]
fn a_driver_at_rest_can_change_its_thread() {
    let Some(mut driver) = driver() else { return };
    let (id, mut peer) = stream(&mut driver);
    let waker = driver.waker();
    let mut said = Vec::new();
    let mut heard = Vec::new();
    for round in 0..6_u8 {
        let words = [round; 3000];
        peer.write_all(&words).expect("write");
        said.extend_from_slice(&words);
        // What has arrived and is not taken moves with it, and so does what is still to be sent.
        while !matches!(wait(&mut driver)[..], [Completion::Readable(of)] if of == id) {}
        assert!(send_soon(&mut driver, id, &[&[round]]).is_pending());
        let waker = waker.clone();
        let count = said.len() - heard.len();
        let (moved, got) = thread::spawn(move || {
            waker.wake();
            let sent = wait(&mut driver)
                .iter()
                .any(|completion| matches!(completion, Completion::Sent(_, Ok(1))));
            assert!(sent, "without the ring");
            let got = receive(&mut driver, id, count);
            (driver, got)
        })
        .join()
        .expect("the other thread");
        driver = moved;
        heard.extend(got);
        let mut answer = [0xff];
        peer.read_exact(&mut answer).expect("the answer");
        assert_eq!(answer, [round]);
    }
    assert_eq!(heard, said);
}

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

#[test]
fn a_poll_without_anything_to_do_is_no_system_call() {
    let Some(mut driver) = driver() else { return };
    let (id, mut peer) = stream(&mut driver);
    poll(&mut driver);
    let began = Instant::now();
    for _ in 0..100_000 {
        assert!(poll(&mut driver).is_empty());
    }
    // Hardly a proof, but ten times what it takes.
    assert!(began.elapsed() < Duration::from_secs(5));
    peer.write_all(b"x").expect("write");
    while poll(&mut driver).is_empty() {
        assert!(began.elapsed() < PATIENCE, "the polls look at nothing");
    }
    assert_eq!(receive(&mut driver, id, 1), b"x");
}

/// Runs this test again in a process of its own, with a filter that refuses a system call; true in
/// that process.
fn refused(test: &str, call: i64) -> bool {
    const MARK: &str = "OXLIP_TEST_REFUSES";
    if env::var_os(MARK).is_some() {
        refuse(u32::try_from(call).expect("a number"));
        return true;
    }
    let status = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(MARK, "1")
        .status()
        .expect("the same program");
    assert!(status.success());
    false
}

/// From here on this thread and those it starts get `EPERM` for that system call, as from a container's
/// seccomp profile.
fn refuse(call: u32) {
    let statement = |code: u32, jt, jf, k| libc::sock_filter {
        code: u16::try_from(code).expect("a code"),
        jt,
        jf,
        k,
    };
    let mut program = [
        // The number of the call comes first in what a filter is given.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call),
        statement(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs(),
        ),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: 4,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the program is as long as it says and lives through the calls.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) == 0
    };
    assert!(installed, "{}", io::Error::last_os_error());
}

#[test]
fn where_rings_are_forbidden_it_is_said_and_others_go_on() {
    let here = "where_rings_are_forbidden_it_is_said_and_others_go_on";
    if !refused(here, libc::SYS_io_uring_setup) {
        return;
    }
    let error = AnyDriver::new(Some("io_uring")).expect_err("refused");
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("io_uring"), "{error}");
    assert_eq!(AnyDriver::new(None).expect("another").name(), "epoll");
}

#[test]
fn a_ring_that_cannot_be_registered_with_is_refused_at_once() {
    let here = "a_ring_that_cannot_be_registered_with_is_refused_at_once";
    if refused(here, libc::SYS_io_uring_register) {
        assert!(AnyDriver::new(Some("io_uring")).is_err());
    }
}

/// What a sandbox forbids later, or by halves.
#[test]
fn a_ring_that_fails_is_replaced_by_epoll() {
    let here = "a_ring_that_fails_is_replaced_by_epoll";
    if driver().is_none() || !refused(here, libc::SYS_io_uring_enter) {
        return;
    }
    let mut driver = driver().expect("the ring itself is allowed");
    let (id, mut peer) = stream(&mut driver);
    assert!(poll(&mut driver).is_empty());
    peer.write_all(b"ping").expect("write");
    assert!(matches!(wait(&mut driver)[..], [Completion::Readable(of)] if of == id));
    assert_eq!(receive(&mut driver, id, 4), b"ping");
    assert!(matches!(
        send_soon(&mut driver, id, &[b"pong"]),
        Poll::Ready(Completion::Sent(_, Ok(4)))
    ));
    let waker = driver.waker();
    let other = thread::spawn(move || waker.wake());
    driver.wait(None, &mut Vec::new()).expect("woken");
    other.join().expect("the other thread");
    assert!(driver.submit(Op::RecvStop(id)).is_pending());
    peer.write_all(b"later").expect("write");
    assert!(poll(&mut driver).is_empty());
    close(&mut driver, id);
}
