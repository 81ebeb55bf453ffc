//! Accepting when the process has no descriptor left. Alone in its process: the limit is everybody's.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::task::Poll;
use std::time::Duration;

use oxlip_core::op::{Completion, Op};
use oxlip_driver::{AnyDriver, AnySocket, Driver, Faults, Role, Sim, is_shortage};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Runs `body` in a process that can have no descriptor more than now.
fn without_descriptors<T>(body: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::Nofile);
    // The lowest free number: from there on nothing is given out.
    let next = rustix::io::dup(io::stderr()).expect("dup").as_raw_fd();
    let current = Some(u64::try_from(next).expect("a number"));
    setrlimit(Resource::Nofile, Rlimit { current, ..before }).expect("setrlimit");
    let outcome = body();
    setrlimit(Resource::Nofile, before).expect("setrlimit");
    outcome
}

fn wait(driver: &mut AnyDriver) -> Vec<Completion> {
    let mut completions = Vec::new();
    driver
        .wait(Some(Duration::from_secs(5)), &mut completions)
        .expect("wait");
    completions
}

#[test]
fn a_caller_waits_until_there_is_a_descriptor_for_it() {
    for name in ["epoll", "io_uring", "poll", "select"] {
        let mut driver = AnyDriver::new(Some(name)).expect("a driver");
        let socket = driver
            .tcp_listen((Ipv4Addr::LOCALHOST, 0).into(), 16)
            .expect("listen");
        let listener = driver.adopt(socket, Role::Listener).expect("adopt");
        let addr: SocketAddr = driver.local_addr(listener).expect("an address");
        let _client = TcpStream::connect(addr).expect("connect");
        assert!(driver.submit(Op::AcceptStart(listener)).is_pending());
        without_descriptors(|| {
            for _ in 0..2 {
                assert!(matches!(wait(&mut driver)[..], [Completion::Acceptable(_)]));
                let error = driver.accept(listener).expect_err("none is left");
                assert!(is_shortage(&error), "{name}: {error}");
            }
        });
        assert!(
            matches!(wait(&mut driver)[..], [Completion::Acceptable(_)]),
            "it still waits"
        );
        assert!(driver.accept(listener).expect("accept").is_some());
        assert!(driver.accept(listener).expect("accept").is_none());

        // The shortage is over for those that come later, too.
        let _client = TcpStream::connect(addr).expect("connect");
        assert!(matches!(wait(&mut driver)[..], [Completion::Acceptable(_)]));
        assert!(driver.accept(listener).expect("accept").is_some());

        // With none left again it is no error that nobody comes.
        without_descriptors(|| {
            let mut completions = Vec::new();
            let soon = Some(Duration::from_millis(20));
            driver.wait(soon, &mut completions).expect("wait");
            assert!(completions.is_empty(), "{name}: {completions:?}");
        });
    }
}

#[test]
fn the_simulation_runs_out_of_descriptors_too() {
    let mut sim = Sim::new(0);
    sim.set_faults(Faults {
        latency: Duration::from_millis(1)..=Duration::from_millis(1),
        ..Faults::default()
    });
    sim.set_descriptor_limit(2);
    let mut driver = AnyDriver::simulating(sim);
    let addr = (Ipv4Addr::LOCALHOST, 80).into();
    let socket = driver.tcp_listen(addr, 16).expect("listen");
    let listener = driver.adopt(socket, Role::Listener).expect("adopt");
    let socket = driver.tcp_stream(addr).expect("socket");
    let client = driver.adopt(socket, Role::Stream).expect("adopt");
    assert!(is_shortage(
        &driver.tcp_stream(addr).expect_err("two are open")
    ));

    assert!(driver.submit(Op::AcceptStart(listener)).is_pending());
    assert!(driver.submit(Op::Connect { id: client, addr }).is_pending());
    assert!(matches!(wait(&mut driver)[..], [Completion::Acceptable(_)]));
    assert!(is_shortage(
        &driver.accept(listener).expect_err("two are open")
    ));
    assert!(matches!(
        driver.submit(Op::Close(client)),
        Poll::Ready(Completion::Closed(_))
    ));
    let accepted = driver.accept(listener).expect("accept");
    assert!(matches!(accepted, Some((AnySocket::Sim(_), Some(_)))));
}
