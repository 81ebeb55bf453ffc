//! What is ready, and what add, modify and delete change about it.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;

use oxlip_selectors::backend::Backend;
use oxlip_selectors::event::{Event, Readiness};
use oxlip_selectors::interest::Interest;

use crate::fixture::{drain, fill, pair, ready, tcp_pair, wait};

on_every_backend! {
    a_pipe_is_readable_while_something_is_in_it
    a_socket_is_writable_while_there_is_room
    a_tcp_socket_is_ready_in_the_directions_asked_for
    a_listener_is_readable_when_a_connection_waits
    both_directions_come_in_one_event
    each_descriptor_has_its_own_token
    modify_replaces_the_interest
    modify_replaces_the_token
    delete_stops_the_reports
    deleted_descriptors_can_be_added_again
    deleting_one_leaves_the_others
    a_second_add_fails_and_changes_nothing
    what_is_not_watched_is_not_found
    events_are_appended
    many_are_reported_at_once
}

fn a_pipe_is_readable_while_something_is_in_it<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (mut reader, mut writer) = io::pipe().unwrap();
    backend.add(reader.as_raw_fd(), 1, Interest::READ).unwrap();
    assert_eq!(ready(&mut backend), []);
    writer.write_all(b"ab").unwrap();
    for _ in 0..3 {
        assert_eq!(ready(&mut backend), [(1, Readiness::READABLE)]);
    }
    reader.read_exact(&mut [0; 1]).unwrap();
    assert_eq!(ready(&mut backend), [(1, Readiness::READABLE)]);
    reader.read_exact(&mut [0; 1]).unwrap();
    assert_eq!(ready(&mut backend), []);
}

fn a_socket_is_writable_while_there_is_room<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (ours, theirs) = pair();
    backend.add(ours.as_raw_fd(), 1, Interest::WRITE).unwrap();
    for _ in 0..3 {
        assert_eq!(ready(&mut backend), [(1, Readiness::WRITABLE)]);
    }
    fill(&ours);
    assert_eq!(ready(&mut backend), []);
    drain(&theirs);
    assert_eq!(ready(&mut backend), [(1, Readiness::WRITABLE)]);
}

fn a_tcp_socket_is_ready_in_the_directions_asked_for<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (ours, mut theirs) = tcp_pair();
    backend.add(ours.as_raw_fd(), 1, Interest::READ).unwrap();
    assert_eq!(ready(&mut backend), []);
    theirs.write_all(b"x").unwrap();
    assert_eq!(wait(&mut backend, None), [(1, Readiness::READABLE)]);
    backend
        .modify(ours.as_raw_fd(), 1, Interest::WRITE)
        .unwrap();
    assert_eq!(ready(&mut backend), [(1, Readiness::WRITABLE)]);
}

fn a_listener_is_readable_when_a_connection_waits<B: Backend>() {
    let mut backend = B::new().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    backend
        .add(listener.as_raw_fd(), 1, Interest::READ)
        .unwrap();
    assert_eq!(ready(&mut backend), []);
    let _peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(wait(&mut backend, None), [(1, Readiness::READABLE)]);
}

fn both_directions_come_in_one_event<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (ours, mut theirs) = pair();
    backend.add(ours.as_raw_fd(), 1, Interest::BOTH).unwrap();
    assert_eq!(ready(&mut backend), [(1, Readiness::WRITABLE)]);
    theirs.write_all(b"x").unwrap();
    assert_eq!(
        ready(&mut backend),
        [(1, Readiness::READABLE | Readiness::WRITABLE)]
    );
    fill(&ours);
    assert_eq!(ready(&mut backend), [(1, Readiness::READABLE)]);
}

fn each_descriptor_has_its_own_token<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (a, b) = pair();
    let (c, mut d) = pair();
    backend.add(a.as_raw_fd(), 0, Interest::WRITE).unwrap();
    backend
        .add(b.as_raw_fd(), u64::MAX, Interest::WRITE)
        .unwrap();
    backend.add(c.as_raw_fd(), 1 << 32, Interest::READ).unwrap();
    let writable = Readiness::WRITABLE;
    assert_eq!(ready(&mut backend), [(0, writable), (u64::MAX, writable)]);
    d.write_all(b"x").unwrap();
    let readable = Readiness::READABLE;
    assert_eq!(
        ready(&mut backend),
        [(0, writable), (1 << 32, readable), (u64::MAX, writable)]
    );
}

fn modify_replaces_the_interest<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (ours, mut theirs) = pair();
    let fd = ours.as_raw_fd();
    theirs.write_all(b"x").unwrap();
    backend.add(fd, 1, Interest::READ).unwrap();
    assert_eq!(ready(&mut backend), [(1, Readiness::READABLE)]);
    backend.modify(fd, 1, Interest::WRITE).unwrap();
    assert_eq!(ready(&mut backend), [(1, Readiness::WRITABLE)]);
    backend.modify(fd, 1, Interest::BOTH).unwrap();
    assert_eq!(
        ready(&mut backend),
        [(1, Readiness::READABLE | Readiness::WRITABLE)]
    );
    backend.modify(fd, 1, Interest::READ).unwrap();
    assert_eq!(ready(&mut backend), [(1, Readiness::READABLE)]);
}

fn modify_replaces_the_token<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (ours, _theirs) = pair();
    backend.add(ours.as_raw_fd(), 1, Interest::WRITE).unwrap();
    backend
        .modify(ours.as_raw_fd(), 2, Interest::WRITE)
        .unwrap();
    assert_eq!(ready(&mut backend), [(2, Readiness::WRITABLE)]);
}

fn delete_stops_the_reports<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (ours, _theirs) = pair();
    backend.add(ours.as_raw_fd(), 1, Interest::BOTH).unwrap();
    assert_eq!(ready(&mut backend), [(1, Readiness::WRITABLE)]);
    backend.delete(ours.as_raw_fd()).unwrap();
    assert_eq!(ready(&mut backend), []);
}

fn deleted_descriptors_can_be_added_again<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (ours, _theirs) = pair();
    for token in 0..3 {
        backend
            .add(ours.as_raw_fd(), token, Interest::WRITE)
            .unwrap();
        assert_eq!(ready(&mut backend), [(token, Readiness::WRITABLE)]);
        backend.delete(ours.as_raw_fd()).unwrap();
    }
}

fn deleting_one_leaves_the_others<B: Backend>() {
    for deleted in 0..4 {
        let mut backend = B::new().unwrap();
        let sockets: Vec<_> = (0..4).map(|_| pair()).collect();
        for (token, (ours, _)) in (0..).zip(&sockets) {
            backend
                .add(ours.as_raw_fd(), token, Interest::WRITE)
                .unwrap();
        }
        backend.delete(sockets[deleted].0.as_raw_fd()).unwrap();
        let left = (0..4).filter(|&token| token != deleted as u64);
        let expected: Vec<_> = left
            .clone()
            .map(|token| (token, Readiness::WRITABLE))
            .collect();
        assert_eq!(ready(&mut backend), expected);
        // The others are still found under their numbers.
        for token in left {
            let fd = sockets[usize::try_from(token).unwrap()].0.as_raw_fd();
            backend.modify(fd, token + 10, Interest::WRITE).unwrap();
            assert!(ready(&mut backend).contains(&(token + 10, Readiness::WRITABLE)));
            backend.delete(fd).unwrap();
        }
        assert_eq!(ready(&mut backend), []);
    }
}

fn a_second_add_fails_and_changes_nothing<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (ours, mut theirs) = pair();
    theirs.write_all(b"x").unwrap();
    backend.add(ours.as_raw_fd(), 1, Interest::WRITE).unwrap();
    let error = backend
        .add(ours.as_raw_fd(), 2, Interest::READ)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(ready(&mut backend), [(1, Readiness::WRITABLE)]);
}

fn what_is_not_watched_is_not_found<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (a, b) = pair();
    backend.add(a.as_raw_fd(), 1, Interest::WRITE).unwrap();
    backend.delete(a.as_raw_fd()).unwrap();
    for fd in [a.as_raw_fd(), b.as_raw_fd()] {
        assert_eq!(backend.delete(fd).unwrap_err().kind(), ErrorKind::NotFound);
        let error = backend.modify(fd, 2, Interest::WRITE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    assert_eq!(ready(&mut backend), []);
}

fn events_are_appended<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (ours, _theirs) = pair();
    backend.add(ours.as_raw_fd(), 1, Interest::WRITE).unwrap();
    let earlier = Event {
        token: 9,
        readiness: Readiness::READABLE,
    };
    let mut events = vec![earlier];
    backend.wait(None, &mut events).unwrap();
    assert_eq!(
        events,
        [
            earlier,
            Event {
                token: 1,
                readiness: Readiness::WRITABLE
            }
        ]
    );
}

fn many_are_reported_at_once<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (_reader, writer) = io::pipe().unwrap();
    let writers: Vec<_> = (0..200).map(|_| writer.try_clone().unwrap()).collect();
    for (token, writer) in (0..).zip(&writers) {
        backend
            .add(writer.as_raw_fd(), token, Interest::WRITE)
            .unwrap();
    }
    let all: Vec<_> = (0..200).map(|token| (token, Readiness::WRITABLE)).collect();
    assert_eq!(ready(&mut backend), all);
    for writer in writers.iter().step_by(2) {
        backend.delete(writer.as_raw_fd()).unwrap();
    }
    let odd: Vec<_> = all.into_iter().skip(1).step_by(2).collect();
    assert_eq!(ready(&mut backend), odd);
}
