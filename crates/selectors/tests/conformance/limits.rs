//! More descriptors, and other ones, than some multiplexers take.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};

use oxlip_selectors::backend::{Backend, NAMES};
use oxlip_selectors::event::Readiness;
use oxlip_selectors::interest::Interest;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::fixture::{Reserved, ready};

on_every_backend! {
    numbers_from_fd_setsize_on_are_refused_by_select_only
    the_last_number_below_fd_setsize_is_accepted
    a_regular_file_is_refused_by_epoll_only
    the_name_is_listed
}

fn numbers_from_fd_setsize_on_are_refused_by_select_only<B: Backend>() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )
    .unwrap();
    let mut backend = B::new().unwrap();
    let (_reader, writer) = io::pipe().unwrap();
    // High numbers without the low ones, which tests that run beside this one need.
    let writers: Vec<OwnedFd> = (0..1100)
        .map(|_| fcntl_dupfd_cloexec(&writer, FD_SETSIZE).unwrap())
        .collect();
    for (token, writer) in (0..).zip(&writers) {
        let fd = writer.as_raw_fd();
        let added = backend.add(fd, token, Interest::WRITE);
        if B::NAME != "select" {
            B::check(fd).unwrap();
            added.unwrap();
            continue;
        }
        for error in [added.unwrap_err(), B::check(fd).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let message = error.to_string();
            assert!(message.contains("FD_SETSIZE"), "{message}");
            assert!(message.contains(&fd.to_string()), "{message}");
        }
        for error in [
            backend.modify(fd, token, Interest::WRITE).unwrap_err(),
            backend.delete(fd).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
    }
    let expected = if B::NAME == "select" { 0 } else { 1100 };
    let all: Vec<_> = (0..expected)
        .map(|token| (token, Readiness::WRITABLE))
        .collect();
    assert_eq!(ready(&mut backend), all);
}

fn the_last_number_below_fd_setsize_is_accepted<B: Backend>() {
    let _reserved = Reserved::new();
    let mut backend = B::new().unwrap();
    let (_reader, writer) = io::pipe().unwrap();
    let last = fcntl_dupfd_cloexec(&writer, FD_SETSIZE - 1).unwrap();
    assert_eq!(last.as_raw_fd(), FD_SETSIZE - 1);
    B::check(last.as_raw_fd()).unwrap();
    backend.add(last.as_raw_fd(), 1, Interest::WRITE).unwrap();
    assert_eq!(ready(&mut backend), [(1, Readiness::WRITABLE)]);
    backend.delete(last.as_raw_fd()).unwrap();
    assert_eq!(ready(&mut backend), []);
}

fn a_regular_file_is_refused_by_epoll_only<B: Backend>() {
    let mut backend = B::new().unwrap();
    let file = File::open("Cargo.toml").unwrap();
    let added = backend.add(file.as_raw_fd(), 1, Interest::BOTH);
    if B::NAME == "epoll" {
        assert_eq!(
            added.unwrap_err().raw_os_error(),
            Some(Errno::PERM.raw_os_error())
        );
        assert_eq!(ready(&mut backend), []);
    } else {
        added.unwrap();
        assert_eq!(
            ready(&mut backend),
            [(1, Readiness::READABLE | Readiness::WRITABLE)]
        );
    }
}

fn the_name_is_listed<B: Backend>() {
    assert!(NAMES.contains(&B::NAME));
}

/// The limit as the C library's headers have it.
const FD_SETSIZE: i32 = 1024;
