//! Descriptors that are closed, and whose number somebody else gets, while they are watched.
//!
//! The backends cannot agree here: epoll watches files, the others numbers. What all promise is
//! said here: a bad number is refused, the others are not disturbed, and whoever adds, or modifies
//! if that already exists, hears of the new descriptor only.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use oxlip_selectors::backend::Backend;
use oxlip_selectors::event::Readiness;
use oxlip_selectors::interest::Interest;
use rustix::io::{Errno, dup2};

use crate::fixture::{FIRST_RESERVED, Reserved, pair, ready};

on_every_backend! {
    a_closed_descriptor_cannot_be_added
    deleting_before_closing_leaves_nothing
    a_closed_descriptor_is_forgotten_or_in_error
    a_closed_descriptor_can_be_deleted
    a_reused_number_can_be_added_or_modified
    a_reused_number_can_be_modified_or_added
}

fn a_closed_descriptor_cannot_be_added<B: Backend>() {
    let _reserved = Reserved::new();
    let mut backend = B::new().unwrap();
    for fd in [FIRST_RESERVED, -1, -2, RawFd::MIN] {
        let error = backend.add(fd, 1, Interest::READ).unwrap_err();
        assert_eq!(
            error.raw_os_error(),
            Some(Errno::BADF.raw_os_error()),
            "for {fd}"
        );
        let error = backend.modify(fd, 1, Interest::READ).unwrap_err();
        assert!(is_gone(&error), "for {fd}: {error}");
        assert!(is_gone(&backend.delete(fd).unwrap_err()));
    }
    assert_eq!(ready(&mut backend), []);
}

fn deleting_before_closing_leaves_nothing<B: Backend>() {
    let reserved = Reserved::new();
    let mut backend = B::new().unwrap();
    let (ours, _theirs) = pair();
    let first = reserved.duplicate(&ours);
    let fd = first.as_raw_fd();
    backend.add(fd, 1, Interest::WRITE).unwrap();
    backend.delete(fd).unwrap();
    drop(first);
    let second = reserved.duplicate(&ours);
    assert_eq!(second.as_raw_fd(), fd);
    assert_eq!(ready(&mut backend), []);
    backend.add(fd, 2, Interest::WRITE).unwrap();
    assert_eq!(ready(&mut backend), [(2, Readiness::WRITABLE)]);
}

fn a_closed_descriptor_is_forgotten_or_in_error<B: Backend>() {
    let reserved = Reserved::new();
    let mut backend = B::new().unwrap();
    let (ours, theirs) = pair();
    let (reader, _writer) = io::pipe().unwrap();
    let closed = reserved.duplicate(&theirs);
    let fd = closed.as_raw_fd();
    backend.add(ours.as_raw_fd(), 1, Interest::WRITE).unwrap();
    backend.add(fd, 2, Interest::READ).unwrap();
    backend.add(reader.as_raw_fd(), 3, Interest::READ).unwrap();
    drop((closed, theirs));
    for _ in 0..3 {
        let mut found = ready(&mut backend);
        if B::NAME != "epoll" {
            assert_eq!(found.remove(1), (2, Readiness::ERROR));
        }
        let [(1, readiness)] = found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(readiness.answers(Interest::WRITE), Interest::WRITE);
    }
    let _ = backend.delete(fd);
    assert_eq!(ready(&mut backend).len(), 1);
}

fn a_closed_descriptor_can_be_deleted<B: Backend>() {
    let reserved = Reserved::new();
    let mut backend = B::new().unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    let closed = reserved.duplicate(reader);
    let fd = closed.as_raw_fd();
    backend.add(fd, 1, Interest::READ).unwrap();
    drop(closed);
    if let Err(error) = backend.delete(fd) {
        assert!(is_gone(&error), "{error}");
    }
    assert_eq!(ready(&mut backend), []);
    let (ours, _theirs) = pair();
    let reused = reserved.duplicate(ours);
    assert_eq!(reused.as_raw_fd(), fd);
    backend.add(fd, 2, Interest::WRITE).unwrap();
    assert_eq!(ready(&mut backend), [(2, Readiness::WRITABLE)]);
}

fn a_reused_number_can_be_added_or_modified<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    let mut number = OwnedFd::from(reader);
    let (ours, _theirs) = pair();
    backend.add(number.as_raw_fd(), 1, Interest::READ).unwrap();
    dup2(&ours, &mut number).unwrap();
    match backend.add(number.as_raw_fd(), 2, Interest::WRITE) {
        Ok(()) => {}
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            backend
                .modify(number.as_raw_fd(), 2, Interest::WRITE)
                .unwrap();
        }
    }
    assert_eq!(ready(&mut backend), [(2, Readiness::WRITABLE)]);
}

fn a_reused_number_can_be_modified_or_added<B: Backend>() {
    let mut backend = B::new().unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    let mut number = OwnedFd::from(reader);
    let (ours, _theirs) = pair();
    backend.add(number.as_raw_fd(), 1, Interest::READ).unwrap();
    dup2(&ours, &mut number).unwrap();
    match backend.modify(number.as_raw_fd(), 2, Interest::WRITE) {
        Ok(()) => {}
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            backend.add(number.as_raw_fd(), 2, Interest::WRITE).unwrap();
        }
    }
    assert_eq!(ready(&mut backend), [(2, Readiness::WRITABLE)]);
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(Errno::BADF.raw_os_error())
}
