//! What could be lost where TCP is watched edge-triggered, and is not: on every driver.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::time::Duration;

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Op};
use oxlip_driver::readiness::{Epoll, Poll, Select};
use oxlip_driver::uring::Uring;
use oxlip_driver::{Driver, Received, Role};
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, send, sendmsg, shutdown,
};

fn tcp_pair() -> (OwnedFd, OwnedFd) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let peer = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    let (ours, _) = listener.accept().expect("accept");
    ours.set_nonblocking(true).expect("non-blocking");
    (ours.into(), peer.into())
}

/// Takes until the bytes or the end wanted are there, each time after a hint.
fn take_all(driver: &mut impl Driver, id: Id, bytes: usize, end: bool) -> Vec<u8> {
    let (mut taken, mut ended) = (Vec::new(), false);
    while taken.len() < bytes || ended != end {
        let mut completions = Vec::new();
        driver
            .wait(Some(Duration::from_secs(5)), &mut completions)
            .expect("wait");
        assert!(!completions.is_empty(), "no hint for what is left");
        for completion in completions {
            assert!(matches!(completion, Completion::Readable(of) if of == id));
            match driver.take(id).expect("take") {
                Received::Data(data) => taken.extend_from_slice(data),
                Received::Eof => ended = true,
                Received::Nothing => {}
            }
        }
    }
    taken
}

fn start<D: Driver<Socket = OwnedFd>>(driver: &mut D) -> (Id, OwnedFd) {
    let (ours, peer) = tcp_pair();
    let id = driver.adopt(ours, Role::Stream).expect("adopt");
    assert!(driver.submit(Op::RecvStart(id)).is_pending());
    (id, peer)
}

/// The end has come before the wait: no edge follows the bytes.
fn the_end_behind_the_bytes(mut driver: impl Driver<Socket = OwnedFd>) {
    let (id, peer) = start(&mut driver);
    send(&peer, b"last words", SendFlags::empty()).expect("send");
    shutdown(&peer, Shutdown::Write).expect("shutdown");
    assert_eq!(take_all(&mut driver, id, 10, true), b"last words");
}

/// A receive stops short at urgent data, though more is behind it.
fn bytes_behind_urgent_data(mut driver: impl Driver<Socket = OwnedFd>) {
    let (id, peer) = start(&mut driver);
    send(&peer, b"before", SendFlags::empty()).expect("send");
    send(&peer, b"!", SendFlags::OOB).expect("send");
    send(&peer, b"behind", SendFlags::empty()).expect("send");
    assert_eq!(take_all(&mut driver, id, 12, false), b"beforebehind");
}

/// A receive that fills its buffer cannot tell whether anything is left. Nothing is: then there is no
/// hint either, or a protocol would be asked for a buffer in vain.
fn nothing_behind_a_full_buffer(mut driver: impl Driver<Socket = OwnedFd>) {
    let (id, peer) = start(&mut driver);
    send(&peer, b"four", SendFlags::empty()).expect("send");
    let mut completions = Vec::new();
    driver
        .wait(Some(Duration::from_secs(5)), &mut completions)
        .expect("wait");
    assert!(matches!(completions[..], [Completion::Readable(of)] if of == id));
    assert_eq!(driver.take_into(id, &mut [0; 4]).expect("take"), Some(4));
    completions.clear();
    driver
        .wait(Some(Duration::from_millis(20)), &mut completions)
        .expect("wait");
    assert!(completions.is_empty(), "{completions:?}");
    send(&peer, b"more", SendFlags::empty()).expect("send");
    assert_eq!(take_all(&mut driver, id, 4, false), b"more");
}

/// Urgent data alone is no hint, and does no harm.
fn urgent_data_alone(mut driver: impl Driver<Socket = OwnedFd>) {
    let (id, peer) = start(&mut driver);
    send(&peer, b"!", SendFlags::OOB).expect("send");
    let mut completions = Vec::new();
    driver
        .wait(Some(Duration::from_millis(20)), &mut completions)
        .expect("wait");
    for completion in completions.drain(..) {
        assert!(matches!(completion, Completion::Readable(of) if of == id));
        assert!(matches!(driver.take(id), Ok(Received::Nothing)));
    }
    send(&peer, b"behind", SendFlags::empty()).expect("send");
    assert_eq!(take_all(&mut driver, id, 6, false), b"behind");
}

/// A receive from a Unix socket stops short at passed descriptors: what such a listener gives is not watched
/// for edges.
fn bytes_behind_a_passed_descriptor(mut driver: impl Driver<Socket = OwnedFd>) {
    let name = format!("oxlip-edges-{}-{:p}", std::process::id(), &raw const driver);
    let address = UnixAddress::from_abstract_name(name).expect("a name");
    let socket = UnixListener::bind_addr(&address).expect("bind");
    socket.set_nonblocking(true).expect("non-blocking");
    let listener = driver.adopt(socket.into(), Role::Listener).expect("adopt");
    let peer = UnixStream::connect_addr(&address).expect("connect");
    let (socket, _) = driver.accept(listener).expect("accept").expect("a peer");
    assert!(driver.accept(listener).expect("accept").is_none());
    let role = Role::Accepted(listener);
    let id = driver.adopt(socket, role).expect("adopt");
    assert!(driver.submit(Op::RecvStart(id)).is_pending());
    let passed = [peer.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&passed)));
    let bytes = [IoSlice::new(b"with")];
    sendmsg(&peer, &bytes, &mut control, SendFlags::empty()).expect("sendmsg");
    send(&peer, b"behind", SendFlags::empty()).expect("send");
    assert_eq!(take_all(&mut driver, id, 10, false), b"withbehind");
}

macro_rules! on_every_multiplexer {
    ($($body:ident),*) => {$(
        mod $body {
            #[test]
            fn epoll() {
                super::$body(super::Epoll::new().expect("epoll"));
            }
            #[test]
            fn poll() {
                super::$body(super::Poll::new().expect("poll"));
            }
            #[test]
            fn select() {
                super::$body(super::Select::new().expect("select"));
            }
            #[test]
            fn io_uring() {
                match super::Uring::new() {
                    Ok(driver) => super::$body(driver),
                    Err(error) => eprintln!("skipped: io_uring cannot be used here: {error}"),
                }
            }
        }
    )*};
}

on_every_multiplexer!(
    the_end_behind_the_bytes,
    bytes_behind_urgent_data,
    nothing_behind_a_full_buffer,
    urgent_data_alone,
    bytes_behind_a_passed_descriptor
);
