//! What it costs that the loop asks for operations instead of making system calls itself.
//!
//! `cargo bench -p oxlip-driver --bench indirection`
//!
//! An echo server of 1 KiB messages on socket pairs, once through `Driver::wait`, `take` and
//! `submit`, once as a bare loop over the same epoll: wait, `recv` into one shared buffer, `send`.
//! Both make the same system calls, and both copy the bytes out of the buffer, as whoever hands them
//! to a user must. The clients are in the same thread but outside the measured
//! part: all of them ask, then the server answers all, then all of them look at their answers.
//!
//! Rounds of the two alternate; printed is the CPU time of a request and the median of the ratios of
//! neighbouring rounds, with the quartiles, and beside it the same for the bare loop against itself:
//! what the machine does to such a figure when there is nothing to see.

use std::hint::black_box;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::task::Poll;

use oxlip_core::op::{Completion, Op};
use oxlip_driver::readiness;
use oxlip_driver::{Driver, Received, Role};
use oxlip_selectors::backend::{Backend, epoll};
use oxlip_selectors::event::Event;
use oxlip_selectors::interest::Interest;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use rustix::time::{ClockId, clock_gettime};

const MESSAGE: usize = 1024;
/// Requests in one measured round.
const REQUESTS: usize = 2_000;
const ROUNDS: usize = 600;

fn main() {
    println!(
        "echo of {MESSAGE} bytes, CPU time of the server, {ROUNDS} rounds of {REQUESTS} requests"
    );
    println!(
        "connections   bare loop   driver      ratio (quartiles)         bare : bare (quartiles)"
    );
    for connections in [1, 10, 50] {
        compare(connections);
    }
}

fn compare(connections: usize) {
    let mut bare = Clients::with(connections, Bare::new);
    let mut again = Clients::with(connections, Bare::new);
    let mut driven = Clients::with(connections, Driven::new);
    let (mut plain, mut through) = (Vec::new(), Vec::new());
    let (mut ratios, mut nothing) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Whoever comes first in a round finds colder caches: all take turns.
        let (mut a, mut b, mut c) = (0.0, 0.0, 0.0);
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => a = bare.round(),
                1 => b = driven.round(),
                _ => c = again.round(),
            }
        }
        plain.push(a);
        through.push(b);
        ratios.push(2.0 * b / (a + c));
        nothing.push(c / a);
    }
    let [_, plain, _] = quartiles(plain);
    let [_, through, _] = quartiles(through);
    let [low, ratio, high] = quartiles(ratios);
    let [least, none, most] = quartiles(nothing);
    println!(
        "{connections:>11} {plain:>8.0} ns {through:>8.0} ns {ratio:>10.4} ({low:.4} to {high:.4}) \
         {none:>10.4} ({least:.4} to {most:.4})"
    );
}

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[values.len() * quarter / 4])
}

/// Answers what has arrived, once: how many requests that were.
trait Server {
    fn serve(&mut self) -> usize;
}

struct Clients<S> {
    sockets: Vec<OwnedFd>,
    server: S,
}

impl<S: Server> Clients<S> {
    fn with(connections: usize, server: impl FnOnce(Vec<OwnedFd>) -> S) -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let pair = || {
            socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("socketpair")
        };
        let (sockets, others): (_, Vec<_>) = (0..connections).map(|_| pair()).unzip();
        Self {
            sockets,
            server: server(others),
        }
    }

    /// Nanoseconds of CPU time for one request.
    fn round(&mut self) -> f64 {
        let message = [b'm'; MESSAGE];
        let mut answer = [0; MESSAGE];
        let mut spent = 0;
        let batches = REQUESTS / self.sockets.len();
        for _ in 0..batches {
            for socket in &self.sockets {
                assert_eq!(send(socket, &message, SendFlags::NOSIGNAL), Ok(MESSAGE));
            }
            let start = cpu_time();
            let mut served = 0;
            while served < self.sockets.len() {
                served += self.server.serve();
            }
            spent += cpu_time() - start;
            for socket in &self.sockets {
                let (received, _) =
                    recv(socket, &mut answer, RecvFlags::empty()).expect("an answer");
                assert_eq!(received, MESSAGE);
            }
        }
        spent as f64 / (batches * self.sockets.len()) as f64
    }
}

fn cpu_time() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The loop one would write by hand.
struct Bare {
    epoll: epoll::Epoll,
    sockets: Vec<OwnedFd>,
    events: Vec<Event>,
    buffer: Box<[MaybeUninit<u8>]>,
    data: Vec<u8>,
}

impl Bare {
    fn new(sockets: Vec<OwnedFd>) -> Self {
        let mut epoll = epoll::Epoll::new().expect("epoll");
        for (index, socket) in sockets.iter().enumerate() {
            epoll
                .add(socket.as_raw_fd(), index as u64, Interest::READ)
                .expect("add");
        }
        let buffer = Box::new_uninit_slice(256 * 1024);
        Self {
            epoll,
            sockets,
            events: Vec::new(),
            buffer,
            data: Vec::new(),
        }
    }
}

impl Server for Bare {
    fn serve(&mut self) -> usize {
        self.events.clear();
        self.epoll.wait(None, &mut self.events).expect("wait");
        for event in &self.events {
            let socket = &self.sockets[usize::try_from(event.token).expect("an index")];
            self.data.clear();
            let ((data, _), _) =
                recv(socket, &mut *self.buffer, RecvFlags::empty()).expect("a request");
            self.data.extend_from_slice(data);
            let sent = send(socket, black_box(&self.data), SendFlags::NOSIGNAL);
            assert_eq!(sent, Ok(MESSAGE));
        }
        self.events.len()
    }
}

/// The same through the driver, as an embedder does it.
struct Driven {
    driver: readiness::Epoll,
    completions: Vec<Completion>,
    data: Vec<u8>,
}

impl Driven {
    fn new(sockets: Vec<OwnedFd>) -> Self {
        let mut driver = readiness::Epoll::new().expect("a driver");
        for socket in sockets {
            let id = driver.adopt(socket, Role::Stream).expect("adopt");
            assert!(driver.submit(Op::RecvStart(id)).is_pending());
        }
        Self {
            driver,
            completions: Vec::new(),
            data: Vec::new(),
        }
    }
}

impl Server for Driven {
    fn serve(&mut self) -> usize {
        self.driver.wait(None, &mut self.completions).expect("wait");
        let mut served = 0;
        for completion in self.completions.drain(..) {
            let Completion::Readable(id) = completion else {
                continue;
            };
            self.data.clear();
            match self.driver.take(id).expect("take") {
                Received::Data(data) => self.data.extend_from_slice(data),
                Received::Eof | Received::Nothing => continue,
            }
            let bufs = [IoSlice::new(black_box(&self.data))];
            match self.driver.submit(Op::Send { id, bufs: &bufs }) {
                Poll::Ready(Completion::Sent(_, Ok(sent))) => assert_eq!(sent, MESSAGE),
                other => panic!("{other:?}"),
            }
            served += 1;
        }
        served
    }
}
