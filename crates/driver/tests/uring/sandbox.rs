//! Systems that forbid rings or parts of them, or have no memory for requests.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::task::Poll;
use std::time::Instant;
use std::{env, thread};

use oxlip_core::op::{Completion, Op};
use oxlip_driver::uring::Uring;
use oxlip_driver::{AnyDriver, Driver, Received, Role};

use crate::world::{
    PATIENCE, close, driver, ends, hears_nothing, poll, receive, send_soon, stream, tcp_pair, wait,
};

/// As [`is_alone`], with a filter that refuses a system call.
fn refused(test: &str, call: i64) -> bool {
    let alone = is_alone(test);
    if alone {
        refuse(call, libc::EPERM);
    }
    alone
}

/// Runs this test again in a process of its own; true in that process.
pub(crate) fn is_alone(test: &str) -> bool {
    const MARK: &str = "OXLIP_TEST_ALONE";
    if env::var_os(MARK).is_some() {
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

fn statement(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    let code = u16::try_from(code).expect("a code");
    libc::sock_filter { code, jt, jf, k }
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const JUMP_IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// From here on this thread and those it starts get that error for that system call, as from a
/// container's seccomp profile.
fn refuse(call: i64, error: i32) {
    let call = u32::try_from(call).expect("a number");
    install(&mut [
        // The number of the call comes first in what a filter is given.
        statement(LOAD, 0, 0, 0),
        statement(JUMP_IF_EQUAL, 0, 1, call),
        statement(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | error.unsigned_abs()),
        statement(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]);
}

/// From here on this thread gets that error when it calls a ring without waiting, as from a kernel that
/// has no memory.
fn refuse_requests(error: i32) {
    let call = u32::try_from(libc::SYS_io_uring_enter).expect("a number");
    install(&mut [
        statement(LOAD, 0, 0, 0),
        statement(JUMP_IF_EQUAL, 0, 3, call),
        // The lower half of the third argument: how many answers to wait for.
        statement(LOAD, 0, 0, 16 + 2 * 8),
        statement(JUMP_IF_EQUAL, 0, 1, 0),
        statement(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | error.unsigned_abs()),
        statement(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]);
}

fn install(program: &mut [libc::sock_filter]) {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).expect("a short one"),
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
    let here = "sandbox::where_rings_are_forbidden_it_is_said_and_others_go_on";
    if !refused(here, libc::SYS_io_uring_setup) {
        return;
    }
    let error = Uring::new().err().expect("refused");
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("io_uring"), "{error}");
    let instead = AnyDriver::new(Some("io_uring")).expect("epoll");
    assert_eq!(instead.name(), "epoll");
    assert_eq!(instead.reason(), error.to_string());
    assert_eq!(AnyDriver::new(None).expect("another").name(), "epoll");
}

#[test]
fn a_ring_that_cannot_be_registered_with_is_refused_at_once() {
    let here = "sandbox::a_ring_that_cannot_be_registered_with_is_refused_at_once";
    if refused(here, libc::SYS_io_uring_register) {
        assert!(Uring::new().is_err());
        assert_eq!(
            AnyDriver::new(Some("io_uring")).expect("epoll").name(),
            "epoll"
        );
    }
}

/// What a sandbox forbids later, or by halves.
#[test]
fn a_ring_that_fails_is_replaced_by_epoll() {
    let here = "sandbox::a_ring_that_fails_is_replaced_by_epoll";
    if driver().is_none() || !refused(here, libc::SYS_io_uring_enter) {
        return;
    }
    let mut driver = driver().expect("the ring itself is allowed");
    assert_eq!(driver.name(), "io_uring");
    let (id, mut peer) = stream(&mut driver);
    assert!(poll(&mut driver).is_empty());
    assert_eq!(driver.name(), "epoll");
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

/// The filter is this thread's, for good.
fn in_a_thread(body: impl FnOnce() + Send + 'static) {
    thread::spawn(body).join().expect("the test");
}

#[test]
fn a_send_that_is_refused_for_now_does_not_reach_the_next_connection() {
    in_a_thread(|| {
        let Some(mut driver) = driver() else { return };
        let (id, mut peer) = stream(&mut driver);
        let (next, mut next_peer): (OwnedFd, TcpStream) = tcp_pair();
        poll(&mut driver);
        let number = driver.descriptor(id).expect("its own").as_raw_fd();
        refuse_requests(libc::EAGAIN);
        assert!(send_soon(&mut driver, id, &[b"not for you"]).is_pending());
        close(&mut driver, id);
        // SAFETY: `next` is open, and the lowest free number is asked for.
        let reused = unsafe {
            let reused = libc::fcntl(next.as_raw_fd(), libc::F_DUPFD_CLOEXEC, number);
            OwnedFd::from_raw_fd(reused)
        };
        drop(next);
        let next = driver.adopt(reused, Role::Stream).expect("adopt");
        assert!(driver.submit(Op::RecvStart(next)).is_pending());
        poll(&mut driver);
        let mut got = Vec::new();
        peer.read_to_end(&mut got).expect("all of it");
        assert_eq!(got, b"not for you");
        hears_nothing(&mut next_peer);
        next_peer.write_all(b"ping").expect("write");
        assert_eq!(receive(&mut driver, next, 4), b"ping");
    });
}

#[test]
fn the_end_follows_what_is_refused_for_now() {
    in_a_thread(|| {
        let Some(mut driver) = driver() else { return };
        let (id, mut peer) = stream(&mut driver);
        poll(&mut driver);
        refuse_requests(libc::EAGAIN);
        assert!(send_soon(&mut driver, id, &[b"last words"]).is_pending());
        assert!(matches!(
            driver.submit(Op::Shutdown(id)),
            Poll::Ready(Completion::Sent(_, Ok(0)))
        ));
        let mut got = Vec::new();
        peer.read_to_end(&mut got).expect("all of it");
        assert_eq!(got, b"last words");
        let mut told = poll(&mut driver);
        told.retain(|completion| matches!(completion, Completion::Sent(..)));
        assert!(
            matches!(told[..], [Completion::Sent(_, Ok(10))]),
            "{told:?}"
        );
    });
}

/// More than it takes at a time.
fn refused_for_now(error: i32) {
    in_a_thread(move || {
        let Some(mut driver) = driver() else { return };
        poll(&mut driver);
        let mut streams: Vec<_> = (0..300).map(|_| stream(&mut driver)).collect();
        refuse_requests(error);
        for _ in 0..3 {
            assert!(poll(&mut driver).is_empty());
        }
        let soon = send_soon(&mut driver, streams[0].0, &[b"x"]);
        assert!(soon.is_pending(), "it has given up");
        let (gone, mut peer) = streams.pop().expect("the last");
        close(&mut driver, gone);
        ends(&mut peer);
        let began = Instant::now();
        for (id, peer) in &mut streams {
            peer.write_all(b"x").expect("write");
            let mut told = false;
            while !told {
                assert!(began.elapsed() < PATIENCE);
                told = wait(&mut driver)
                    .iter()
                    .any(|it| matches!(it, Completion::Readable(of) if of == id));
            }
            assert_eq!(receive(&mut driver, *id, 1), b"x");
        }
    });
}

#[test]
fn requests_that_are_refused_for_now_are_not_forgotten() {
    refused_for_now(libc::EAGAIN);
}

#[test]
fn requests_are_not_forgotten_while_answers_are_kept_back() {
    refused_for_now(libc::EBUSY);
}

#[test]
fn a_shortage_of_memory_in_a_call_does_not_end_the_ring() {
    refused_for_now(libc::ENOMEM);
}

#[test]
fn answers_that_the_kernel_says_to_have_dropped_do_not_end_the_ring_if_it_has_not() {
    refused_for_now(libc::EBADR);
}

#[test]
fn an_end_is_not_told_again_by_epoll() {
    in_a_thread(|| {
        let Some(mut driver) = driver() else { return };
        let (id, peer) = stream(&mut driver);
        poll(&mut driver);
        drop(peer);
        assert!(matches!(wait(&mut driver)[..], [Completion::Readable(of)] if of == id));
        assert!(matches!(driver.take(id), Ok(Received::Eof)));
        refuse(libc::SYS_io_uring_enter, libc::EPERM);
        let (other, mut other_peer) = stream(&mut driver);
        for _ in 0..3 {
            assert!(poll(&mut driver).is_empty());
        }
        other_peer.write_all(b"ping").expect("write");
        assert!(matches!(wait(&mut driver)[..], [Completion::Readable(of)] if of == other));
    });
}
