//! A poll that can find nothing makes no system call: the multiplexer is counted.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Interest, Op};
use oxlip_driver::readiness::Readiness;
use oxlip_driver::{Driver, Role};
use oxlip_selectors::backend::{Backend, epoll, poll, select};
use oxlip_selectors::event::Event;
use oxlip_selectors::interest::Interest as Watched;
use rustix::net::{SendFlags, send};

thread_local! {
    /// How often a multiplexer of this thread was asked.
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

/// A multiplexer that counts how often it is asked.
struct Counted<B>(B);

impl<B: Backend> Backend for Counted<B> {
    const NAME: &'static str = B::NAME;
    const EDGES: bool = B::EDGES;
    const ONCE: bool = B::ONCE;

    fn new() -> io::Result<Self> {
        B::new().map(Self)
    }

    fn check(fd: RawFd) -> io::Result<()> {
        B::check(fd)
    }

    fn add(&mut self, fd: RawFd, token: u64, interest: Watched) -> io::Result<()> {
        self.0.add(fd, token, interest)
    }

    fn modify(&mut self, fd: RawFd, token: u64, interest: Watched) -> io::Result<()> {
        self.0.modify(fd, token, interest)
    }

    fn add_edge(&mut self, fd: RawFd, token: u64, interest: Watched) -> io::Result<()> {
        self.0.add_edge(fd, token, interest)
    }

    fn modify_edge(&mut self, fd: RawFd, token: u64, interest: Watched) -> io::Result<()> {
        self.0.modify_edge(fd, token, interest)
    }

    fn add_once(&mut self, fd: RawFd, token: u64, interest: Watched) -> io::Result<()> {
        self.0.add_once(fd, token, interest)
    }

    fn modify_once(&mut self, fd: RawFd, token: u64, interest: Watched) -> io::Result<()> {
        self.0.modify_once(fd, token, interest)
    }

    fn delete(&mut self, fd: RawFd) -> io::Result<()> {
        self.0.delete(fd)
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        ASKED.set(ASKED.get() + 1);
        self.0.wait(timeout, events)
    }
}

fn driver<B: Backend>() -> Readiness<Counted<B>> {
    Readiness::new().expect("a driver")
}

/// Polls once: whether the multiplexer was asked, and what it said.
fn poll_of<B: Backend>(driver: &mut Readiness<Counted<B>>) -> (bool, Vec<Completion>) {
    let before = ASKED.get();
    let mut completions = Vec::new();
    driver
        .wait(Some(Duration::ZERO), &mut completions)
        .expect("poll");
    (ASKED.get() > before, completions)
}

#[track_caller]
fn asks_in_vain<B: Backend>(driver: &mut Readiness<Counted<B>>) {
    let (asked, completions) = poll_of(driver);
    assert!(asked, "there is something to look at");
    assert!(completions.is_empty(), "{completions:?}");
}

#[track_caller]
fn does_not_ask<B: Backend>(driver: &mut Readiness<Counted<B>>) {
    let (asked, completions) = poll_of(driver);
    assert!(!asked, "there is nothing to look at");
    assert!(completions.is_empty(), "{completions:?}");
}

#[track_caller]
fn reports<B: Backend>(driver: &mut Readiness<Counted<B>>, expected: &[Id]) {
    let (_, completions) = poll_of(driver);
    let ready: Vec<Id> = completions
        .iter()
        .map(|completion| match completion {
            Completion::Watched(id, _) | Completion::Readable(id) => *id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ready.len(), expected.len(), "{completions:?}");
    assert!(expected.iter().all(|id| ready.contains(id)));
}

fn tcp_pair() -> (OwnedFd, OwnedFd) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let peer = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    let (ours, _) = listener.accept().expect("accept");
    ours.set_nonblocking(true).expect("non-blocking");
    (ours.into(), peer.into())
}

fn watch(id: Id) -> Op<'static> {
    let interest = Interest::READ;
    Op::Watch { id, interest }
}

fn say(peer: &OwnedFd) {
    send(peer, b"x", SendFlags::empty()).expect("send");
}

/// Only the waker is watched, and it knows by itself whether it has been rung.
fn of_a_new_driver<B: Backend>() {
    let mut driver = driver::<B>();
    does_not_ask(&mut driver);
    driver.waker().wake();
    asks_in_vain(&mut driver);
    does_not_ask(&mut driver);
}

fn of_a_stream<B: Backend>() {
    let mut driver = driver::<B>();
    let (ours, peer) = tcp_pair();
    let id = driver.adopt(ours, Role::Stream).expect("adopt");
    does_not_ask(&mut driver);
    assert!(driver.submit(Op::RecvStart(id)).is_pending());
    asks_in_vain(&mut driver);
    say(&peer);
    reports(&mut driver, &[id]);
    assert!(driver.submit(Op::RecvStop(id)).is_pending());
    does_not_ask(&mut driver);
    assert!(driver.submit(Op::RecvStart(id)).is_pending());
    reports(&mut driver, &[id]);
    let _ = driver.submit(Op::Close(id));
    does_not_ask(&mut driver);
}

fn of_what_others_own<B: Backend>() {
    let mut driver = driver::<B>();
    let (ours, peer) = tcp_pair();
    let id = driver.borrow(ours.as_raw_fd()).expect("borrow");
    let interest = Interest::READ;
    assert!(driver.submit(Op::WatchOnce { id, interest }).is_pending());
    asks_in_vain(&mut driver);
    say(&peer);
    reports(&mut driver, &[id]);
    // (Epoll is asked about what has been reported for once: it stays in its set.)
    assert!(driver.submit(watch(id)).is_pending());
    reports(&mut driver, &[id]);
    reports(&mut driver, &[id]);
    let _ = driver.submit(Op::Close(id));
    does_not_ask(&mut driver);
}

/// As the descriptor that ends sleeps for signals: it does not count, and is heard nevertheless.
fn of_what_only_wakes<B: Backend>() {
    let mut driver = driver::<B>();
    let (bell, ringer) = tcp_pair();
    let wakes = driver.borrow(bell.as_raw_fd()).expect("borrow");
    assert!(driver.submit(watch(wakes)).is_pending());
    asks_in_vain(&mut driver);
    driver.only_wakes(wakes);
    does_not_ask(&mut driver);
    say(&ringer);
    does_not_ask(&mut driver);

    let mut completions = Vec::new();
    driver.wait(None, &mut completions).expect("wait");
    assert!(matches!(completions[..], [Completion::Watched(id, _)] if id == wakes));

    let (ours, peer) = tcp_pair();
    let other = driver.borrow(ours.as_raw_fd()).expect("borrow");
    assert!(driver.submit(watch(other)).is_pending());
    reports(&mut driver, &[wakes]);
    say(&peer);
    reports(&mut driver, &[wakes, other]);
    let _ = driver.submit(Op::Close(other));
    does_not_ask(&mut driver);
    let _ = driver.submit(Op::Close(wakes));
    does_not_ask(&mut driver);
}

/// A number that another resource has taken is watched for nobody; and a new multiplexer, as in a
/// forked child, has nothing to say before it is told what to watch.
fn of_what_was_lost_and_made_anew<B: Backend>() {
    let mut driver = driver::<B>();
    let (ours, peer) = tcp_pair();
    let old = driver.borrow(ours.as_raw_fd()).expect("borrow");
    assert!(driver.submit(watch(old)).is_pending());
    let new = driver.adopt(ours, Role::Stream).expect("adopt");
    let (asked, completions) = poll_of(&mut driver);
    assert!(!asked);
    assert!(
        matches!(completions[..], [Completion::Failed(id, _)] if id == old),
        "{completions:?}"
    );
    let _ = driver.submit(Op::Close(old));

    assert!(driver.submit(Op::RecvStart(new)).is_pending());
    asks_in_vain(&mut driver);
    driver.after_fork().expect("a new multiplexer");
    asks_in_vain(&mut driver);
    say(&peer);
    reports(&mut driver, &[new]);
    let _ = driver.submit(Op::Close(new));
    does_not_ask(&mut driver);
}

/// One that may sleep always asks.
fn not_of_a_wait<B: Backend>() {
    let mut driver = driver::<B>();
    let before = ASKED.get();
    driver
        .wait(Some(Duration::from_millis(1)), &mut Vec::new())
        .expect("wait");
    assert_eq!(ASKED.get(), before + 1);
}

macro_rules! on_every_multiplexer {
    ($($body:ident),*) => {$(
        mod $body {
            #[test]
            fn epoll() {
                super::$body::<super::epoll::Epoll>();
            }
            #[test]
            fn poll() {
                super::$body::<super::poll::Poll>();
            }
            #[test]
            fn select() {
                super::$body::<super::select::Select>();
            }
        }
    )*};
}

on_every_multiplexer!(
    of_a_new_driver,
    of_a_stream,
    of_what_others_own,
    of_what_only_wakes,
    of_what_was_lost_and_made_anew,
    not_of_a_wait
);
