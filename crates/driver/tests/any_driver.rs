//! Choosing a driver by name.

use std::io::ErrorKind;
use std::task::Poll;

use oxlip_core::file::{Transfer, Way};
use oxlip_core::op::{Completion, Op};
use oxlip_driver::{AnyDriver, AnySocket, Driver, NAMES, Role, Sim};

fn is_send(_: &impl Send) {}

#[test]
fn every_name_is_that_of_a_driver() {
    for name in NAMES {
        let driver = AnyDriver::new(Some(name)).expect("a driver");
        is_send(&driver);
        if *name == "io_uring" && driver.name() == "epoll" {
            eprintln!("skipped: {}", driver.reason());
            continue;
        }
        assert_eq!(driver.name(), *name);
        assert_eq!(driver.reason(), "asked for by name");
    }
}

#[test]
fn the_best_is_the_first_name() {
    let driver = AnyDriver::new(None).expect("a driver");
    assert_eq!(driver.name(), NAMES[0]);
    assert!(!driver.reason().is_empty());
}

#[test]
fn an_unknown_name_is_told_the_known_ones() {
    let error = AnyDriver::new(Some("kqueue")).expect_err("not on this platform");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    for name in NAMES {
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn worlds_do_not_mix() {
    let mut epoll = AnyDriver::new(Some("epoll")).expect("a driver");
    let mut sim = AnyDriver::simulating(Sim::new(1));
    let addr = ([127, 0, 0, 1], 1).into();
    let real = epoll.tcp_stream(addr).expect("socket");
    let simulated = sim.tcp_stream(addr).expect("socket");
    let others = AnyDriver::simulating(Sim::new(1))
        .tcp_stream(addr)
        .expect("socket");
    for (driver, socket) in [(&mut epoll, simulated), (&mut sim, real)] {
        let error = driver
            .adopt(socket, Role::Stream)
            .expect_err("of another world");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert!(matches!(others, AnySocket::Sim(_)));
    let error = sim
        .adopt(others, Role::Stream)
        .expect_err("of another simulation");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(epoll.simulation().is_none());
    assert!(sim.simulation().is_some());
    assert_eq!(
        sim.borrow(0).expect_err("no descriptors").kind(),
        ErrorKind::Unsupported
    );
}

#[test]
fn who_does_not_do_files_says_so_at_once() {
    for name in NAMES.iter().filter(|name| **name != "io_uring") {
        let mut driver = AnyDriver::new(Some(name)).expect("a driver");
        let transfer = Transfer {
            key: 5,
            descriptor: 0,
            offset: None,
            way: Way::Read,
            bytes: vec![0; 3],
        };
        let Poll::Ready(Completion::File(ended)) = driver.submit(Op::File(Box::new(transfer)))
        else {
            panic!("no answer");
        };
        assert_eq!((ended.key, ended.bytes.len()), (5, 3));
        assert_eq!(
            ended.outcome.map_err(|error| error.kind()),
            Err(ErrorKind::Unsupported)
        );
    }
}
