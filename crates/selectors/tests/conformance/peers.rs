//! Peers that hang up, fail or refuse: whatever was asked for is answered, on every backend.

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::AsRawFd;
use std::time::Duration;

use oxlip_selectors::backend::Backend;
use oxlip_selectors::interest::Interest;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

use crate::fixture::{answers, fill, pair, ready, tcp_pair, wait};

on_every_backend! {
    a_pipe_without_writers_is_readable
    a_pipe_without_readers_is_writable_even_if_it_is_full
    a_socket_whose_peer_has_closed_answers_everything
    a_peer_that_only_stops_sending_is_no_hang_up
    a_reset_connection_answers_everything
    a_refused_connection_is_writable
}

fn a_pipe_without_writers_is_readable<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (reader, mut writer) = io::pipe().unwrap();
    backend.add(reader.as_raw_fd(), 1, Interest::READ).unwrap();
    writer.write_all(b"x").unwrap();
    drop(writer);
    for _ in 0..3 {
        assert_eq!(answers(&mut backend, Interest::READ), [(1, Interest::READ)]);
    }
    let [(_, readiness)] = ready(&mut backend)[..] else {
        panic!("one event")
    };
    assert_eq!(readiness.hang_up(), B::NAME != "select");
    assert!(readiness.readable());
}

fn a_pipe_without_readers_is_writable_even_if_it_is_full<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (reader, writer) = io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    fill(&writer);
    backend.add(writer.as_raw_fd(), 1, Interest::WRITE).unwrap();
    assert_eq!(ready(&mut backend), []);
    drop(reader);
    for _ in 0..3 {
        assert_eq!(
            answers(&mut backend, Interest::WRITE),
            [(1, Interest::WRITE)]
        );
    }
    assert_eq!(ready(&mut backend)[0].1.error(), B::NAME != "select");
}

fn a_socket_whose_peer_has_closed_answers_everything<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (ours, theirs) = pair();
    let fd = ours.as_raw_fd();
    fill(&ours);
    backend.add(fd, 1, Interest::BOTH).unwrap();
    assert_eq!(ready(&mut backend), []);
    drop(theirs);
    for asked in [Interest::READ, Interest::WRITE, Interest::BOTH] {
        backend.modify(fd, 1, asked).unwrap();
        assert_eq!(answers(&mut backend, asked), [(1, asked)]);
    }
    assert_eq!(ready(&mut backend)[0].1.hang_up(), B::NAME != "select");
}

fn a_peer_that_only_stops_sending_is_no_hang_up<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (ours, theirs) = tcp_pair();
    backend.add(ours.as_raw_fd(), 1, Interest::READ).unwrap();
    assert_eq!(ready(&mut backend), []);
    theirs.shutdown(Shutdown::Write).unwrap();
    let [(1, readiness)] = wait(&mut backend, None)[..] else {
        panic!("one event")
    };
    assert!(readiness.readable());
    assert!(!readiness.hang_up() && !readiness.error());
}

fn a_reset_connection_answers_everything<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (ours, theirs) = tcp_pair();
    let fd = ours.as_raw_fd();
    backend.add(fd, 1, Interest::READ).unwrap();
    sockopt::set_socket_linger(&theirs, Some(Duration::ZERO)).unwrap();
    drop(theirs);
    assert_eq!(wait(&mut backend, None).len(), 1);
    for asked in [Interest::READ, Interest::WRITE, Interest::BOTH] {
        backend.modify(fd, 1, asked).unwrap();
        assert_eq!(answers(&mut backend, asked), [(1, asked)]);
    }
    assert_eq!(ready(&mut backend)[0].1.error(), B::NAME != "select");
}

fn a_refused_connection_is_writable<B: Backend>() {
    let mut backend = B::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let ours = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    connect(&ours, &address).unwrap_err();
    backend.add(ours.as_raw_fd(), 1, Interest::WRITE).unwrap();
    let [(1, readiness)] = wait(&mut backend, None)[..] else {
        panic!("one event")
    };
    assert_eq!(readiness.answers(Interest::WRITE), Interest::WRITE);
    let error = sockopt::socket_error(&ours).unwrap().unwrap_err();
    assert_eq!(error, rustix::io::Errno::CONNREFUSED);
}
