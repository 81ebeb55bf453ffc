//! Whose the ring is, and what becomes of requests when their descriptor goes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::Instant;

use oxlip_core::op::{Completion, Op};
use oxlip_driver::{Driver, Role};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::sandbox::is_alone;
use crate::world::{PATIENCE, close, driver, ends, poll, receive, send_soon, stream, wait};

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

/// The kernel does only some of its work for a ring in a call that does not wait.
#[test]
fn a_closed_listener_leaves_its_port_although_much_is_going_on() {
    let Some(mut driver) = driver() else { return };
    let mut streams: Vec<_> = (0..200).map(|_| stream(&mut driver)).collect();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    listener.set_nonblocking(true).expect("non-blocking");
    let address = listener.local_addr().expect("an address");
    let listener = driver
        .adopt(listener.into(), Role::Listener)
        .expect("adopt");
    assert!(driver.submit(Op::AcceptStart(listener)).is_pending());
    let (id, mut peer) = stream(&mut driver);
    poll(&mut driver);
    for (_, peer) in &mut streams {
        peer.write_all(b"x").expect("write");
    }
    close(&mut driver, listener);
    drop(TcpListener::bind(address).expect("the port is free"));
    for (_, peer) in &mut streams {
        peer.write_all(b"x").expect("write");
    }
    close(&mut driver, id);
    ends(&mut peer);
    for (id, _) in &streams {
        receive(&mut driver, *id, 2);
    }
}

/// It shares the memory through which the ring is asked.
#[test]
fn a_forked_child_does_not_use_the_ring_of_its_parent() {
    let Some(mut driver) = driver() else { return };
    let (id, mut peer) = stream(&mut driver);
    let (other, mut other_peer) = stream(&mut driver);
    poll(&mut driver);
    // What the parent has in the place where the child puts its own words.
    assert!(send_soon(&mut driver, other, &[b"a secret"]).is_pending());
    poll(&mut driver);
    other_peer.read_exact(&mut [0; 8]).expect("what was sent");
    // SAFETY: the child uses its copy of the driver and of the allocator, which can be used after a
    // fork, and ends without running anything else.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let _ = send_soon(&mut driver, id, &[b"of child"]);
        let _ = driver.submit(Op::Close(id));
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: waits for the child of just now.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    poll(&mut driver);
    // The child has the connection, too, and sends by means of its own.
    let mut got = [0; 8];
    peer.read_exact(&mut got).expect("what was sent");
    assert_eq!(&got, b"of child");
    peer.write_all(b"ping").expect("write");
    while !matches!(wait(&mut driver)[..], [Completion::Readable(of)] if of == id) {}
    assert_eq!(receive(&mut driver, id, 4), b"ping");
}

#[test]
fn a_child_after_a_fork_leaves_what_is_staged_to_its_parent() {
    let Some(mut driver) = driver() else { return };
    let (id, mut peer) = stream(&mut driver);
    poll(&mut driver);
    assert!(send_soon(&mut driver, id, &[b"once"]).is_pending());
    // SAFETY: as in the test before.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let started_over = driver.after_fork().is_ok();
        let mut completions = Vec::new();
        let waited = driver.wait(Some(std::time::Duration::ZERO), &mut completions);
        let told = matches!(completions[..], [Completion::Sent(_, Ok(4))]);
        let status = i32::from(!(started_over && waited.is_ok() && told));
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(status) };
    }
    let mut status = 0;
    // SAFETY: waits for the child of just now.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    assert!(matches!(
        poll(&mut driver)[..],
        [Completion::Sent(_, Ok(4))]
    ));
    close(&mut driver, id);
    let mut got = Vec::new();
    peer.read_to_end(&mut got).expect("all of it");
    assert_eq!(got, b"once");
}

#[test]
fn a_shortage_of_descriptors_does_not_end_the_ring() {
    let here = "ends::a_shortage_of_descriptors_does_not_end_the_ring";
    if driver().is_none() || !is_alone(here) {
        return;
    }
    let mut driver = driver().expect("a ring");
    let (id, mut peer) = stream(&mut driver);
    poll(&mut driver);
    let other = thread::spawn(move || {
        // This thread needs a ring of its own.
        let before = getrlimit(Resource::Nofile);
        let current = Some(3);
        setrlimit(Resource::Nofile, Rlimit { current, ..before }).expect("setrlimit");
        peer.write_all(b"ping").expect("write");
        assert!(matches!(wait(&mut driver)[..], [Completion::Readable(of)] if of == id));
        assert_eq!(receive(&mut driver, id, 4), b"ping");
        assert!(send_soon(&mut driver, id, &[b"x"]).is_ready(), "no ring");
        driver.waker().wake();
        assert!(wait(&mut driver).is_empty());
        setrlimit(Resource::Nofile, before).expect("setrlimit");
        let began = Instant::now();
        while send_soon(&mut driver, id, &[b"x"]).is_ready() {
            assert!(began.elapsed() < PATIENCE, "the ring does not come back");
            peer.read_exact(&mut [0]).expect("what was sent");
            poll(&mut driver);
        }
        poll(&mut driver);
        peer.write_all(b"pong").expect("write");
        assert!(matches!(wait(&mut driver)[..], [Completion::Readable(of)] if of == id));
        assert_eq!(receive(&mut driver, id, 4), b"pong");
        driver.waker().wake();
        assert!(wait(&mut driver).is_empty());
        assert!(driver.submit(Op::RecvStop(id)).is_pending());
        peer.write_all(b"later").expect("write");
        assert!(poll(&mut driver).is_empty());
        assert!(poll(&mut driver).is_empty());
    });
    other.join().expect("the other thread");
}
