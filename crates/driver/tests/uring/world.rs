//! A driver, streams in it and their peers.

use std::io::{IoSlice, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::task::Poll;
use std::time::{Duration, Instant};

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Op};
use oxlip_driver::uring::Uring;
use oxlip_driver::{Driver, Received, Role};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// `None` where the system forbids rings, after saying so.
pub(crate) fn driver() -> Option<Uring> {
    Uring::new()
        .inspect_err(|error| eprintln!("skipped: {error}"))
        .ok()
}

pub(crate) fn tcp_pair() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let peer = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    let (ours, _) = listener.accept().expect("accept");
    for stream in [&ours, &peer] {
        stream.set_nodelay(true).expect("no delay");
    }
    ours.set_nonblocking(true).expect("non-blocking");
    peer.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    (ours.into(), peer)
}

/// A stream that receives, and its peer.
pub(crate) fn stream(driver: &mut Uring) -> (Id, TcpStream) {
    let (ours, peer) = tcp_pair();
    let id = driver.adopt(ours, Role::Stream).expect("adopt");
    assert!(driver.submit(Op::RecvStart(id)).is_pending());
    (id, peer)
}

pub(crate) fn wait(driver: &mut Uring) -> Vec<Completion> {
    let mut completions = Vec::new();
    driver.wait(Some(PATIENCE), &mut completions).expect("wait");
    completions
}

/// One look, without a wait.
pub(crate) fn poll(driver: &mut Uring) -> Vec<Completion> {
    let mut completions = Vec::new();
    driver
        .wait(Some(Duration::ZERO), &mut completions)
        .expect("wait");
    completions
}

/// Takes that many bytes.
pub(crate) fn receive(driver: &mut Uring, id: Id, count: usize) -> Vec<u8> {
    let began = Instant::now();
    let mut received = Vec::new();
    while received.len() < count {
        assert!(began.elapsed() < PATIENCE, "{} bytes", received.len());
        match driver.take(id).expect("take") {
            Received::Data(data) => received.extend_from_slice(data),
            Received::Eof => panic!("the end after {} bytes", received.len()),
            Received::Nothing => drop(wait(driver)),
        }
    }
    received
}

pub(crate) fn send_soon(driver: &mut Uring, id: Id, parts: &[&[u8]]) -> Poll<Completion> {
    let bufs: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    driver.submit(Op::SendSoon { id, bufs: &bufs })
}

pub(crate) fn close(driver: &mut Uring, id: Id) {
    assert!(matches!(
        driver.submit(Op::Close(id)),
        Poll::Ready(Completion::Closed(_))
    ));
}

pub(crate) fn ends(peer: &mut TcpStream) {
    assert_eq!(peer.read(&mut [0; 8]).expect("the end"), 0);
}

/// Nothing comes for a while.
pub(crate) fn hears_nothing(peer: &mut TcpStream) {
    peer.set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a time-out");
    let mut got = [0; 64];
    let heard = peer.read(&mut got);
    assert!(heard.is_err(), "{heard:?}: {got:?}");
    peer.set_read_timeout(Some(PATIENCE)).expect("a time-out");
}

/// A stream without any room, of which the driver does not know, and how much it holds.
pub(crate) fn full_stream(driver: &mut Uring) -> (Id, UnixStream, usize) {
    let (ours, peer) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("non-blocking");
    peer.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut filled = 0;
    while let Ok(count) = (&ours).write(&[b'x'; 1000]) {
        filled += count;
    }
    let id = driver.adopt(ours.into(), Role::Stream).expect("adopt");
    (id, peer, filled)
}

/// Gives the number of a stream's descriptor to another socket, as if the program had closed it.
pub(crate) fn replace(driver: &Uring, id: Id, socket: OwnedFd) -> OwnedFd {
    let number = driver.descriptor(id).expect("its own").as_raw_fd();
    // SAFETY: both are open, and the driver's copy of the number is about to lose its claim to it.
    assert_eq!(unsafe { libc::dup2(socket.as_raw_fd(), number) }, number);
    drop(socket);
    // SAFETY: it was made just now.
    unsafe { OwnedFd::from_raw_fd(number) }
}
