//! A driver with something to connect to, and what the bodies do to it.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::task::Poll;
use std::time::{Duration, Instant};

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Interest, Op};
use oxlip_driver::readiness;
use oxlip_driver::uring::Uring;
use oxlip_driver::{Driver, Received, Role, Sim, net};

/// One driver, and how to make sockets that it can adopt.
pub(crate) trait World: Sized {
    type Driver: Driver;

    fn new() -> Self;
    fn driver(&mut self) -> &mut Self::Driver;
    /// Two streams that are connected to each other.
    fn pair(&mut self) -> (Id, Id);
    fn listener(&mut self) -> (Id, SocketAddr);
    fn stream(&mut self, addr: SocketAddr) -> Id;
    /// An address on which nobody listens.
    fn nobody(&mut self) -> SocketAddr;
    fn local_addr(&mut self, id: Id) -> SocketAddr;
    /// Ends the stream so that its peer sees a reset.
    fn reset(&mut self, id: Id);
}

/// The real thing, over loopback.
pub(crate) struct Real<D>(pub D);

pub(crate) trait OsDriver: Driver<Socket = OwnedFd> {
    fn make() -> io::Result<Self>
    where
        Self: Sized;
    fn fd(&self, id: Id) -> std::os::fd::BorrowedFd<'_>;
}

macro_rules! os_driver {
    ($($driver:ty),*) => {$(
        impl OsDriver for $driver {
            fn make() -> io::Result<Self> {
                Self::new()
            }
            fn fd(&self, id: Id) -> std::os::fd::BorrowedFd<'_> {
                self.descriptor(id).expect("an adopted socket")
            }
        }
    )*};
}

os_driver!(readiness::Epoll, readiness::Poll, readiness::Select, Uring);

/// A world of descriptors.
pub(crate) trait OsWorld: World<Driver: Driver<Socket = OwnedFd>> {}

impl<W: World<Driver: Driver<Socket = OwnedFd>>> OsWorld for W {}

/// Two connected TCP sockets.
pub(crate) fn tcp_pair() -> (OwnedFd, OwnedFd) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let one = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    let (other, _) = listener.accept().expect("accept");
    for stream in [&one, &other] {
        stream.set_nonblocking(true).expect("non-blocking");
        stream.set_nodelay(true).expect("no delay");
    }
    (one.into(), other.into())
}

impl<D: OsDriver> World for Real<D> {
    type Driver = D;

    fn new() -> Self {
        Self(D::make().expect("a driver"))
    }

    fn driver(&mut self) -> &mut D {
        &mut self.0
    }

    fn pair(&mut self) -> (Id, Id) {
        let (one, other) = tcp_pair();
        let mut adopt = |socket| self.0.adopt(socket, Role::Stream).expect("adopt");
        (adopt(one), adopt(other))
    }

    fn listener(&mut self) -> (Id, SocketAddr) {
        let socket = net::tcp_listen((Ipv4Addr::LOCALHOST, 0).into(), 16, false).expect("listen");
        let addr = net::local_addr(&socket)
            .expect("getsockname")
            .expect("an address");
        (self.0.adopt(socket, Role::Listener).expect("adopt"), addr)
    }

    fn stream(&mut self, addr: SocketAddr) -> Id {
        let socket = net::tcp_stream(addr).expect("socket");
        self.0.adopt(socket, Role::Stream).expect("adopt")
    }

    fn nobody(&mut self) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        listener.local_addr().expect("address")
    }

    fn local_addr(&mut self, id: Id) -> SocketAddr {
        net::local_addr(self.0.fd(id))
            .expect("getsockname")
            .expect("an address")
    }

    fn reset(&mut self, id: Id) {
        rustix::net::sockopt::set_socket_linger(self.0.fd(id), Some(Duration::ZERO))
            .expect("linger");
        assert!(matches!(
            self.0.submit(Op::Close(id)),
            Poll::Ready(Completion::Closed(_))
        ));
    }
}

impl World for Sim {
    type Driver = Self;

    fn new() -> Self {
        Self::new(0)
    }

    fn driver(&mut self) -> &mut Self {
        self
    }

    fn pair(&mut self) -> (Id, Id) {
        let (one, other) = Sim::pair(self).expect("pair");
        let mut adopt = |socket| self.adopt(socket, Role::Stream).expect("adopt");
        (adopt(one), adopt(other))
    }

    fn listener(&mut self) -> (Id, SocketAddr) {
        let socket = self
            .listen((Ipv4Addr::LOCALHOST, 0).into(), 16)
            .expect("listen");
        let id = self.adopt(socket, Role::Listener).expect("adopt");
        (id, Sim::local_addr(self, id).expect("an address"))
    }

    fn stream(&mut self, addr: SocketAddr) -> Id {
        let socket = Sim::stream(self, addr).expect("socket");
        self.adopt(socket, Role::Stream).expect("adopt")
    }

    fn nobody(&mut self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 9).into()
    }

    fn local_addr(&mut self, id: Id) -> SocketAddr {
        Sim::local_addr(self, id).expect("an address")
    }

    fn reset(&mut self, id: Id) {
        self.cut(id);
        assert!(matches!(
            self.submit(Op::Close(id)),
            Poll::Ready(Completion::Closed(_))
        ));
    }
}

/// A completion that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Readable(Id),
    Receivable(Id),
    Sendable(Id),
    Sent(Id, Result<usize, io::ErrorKind>),
    Acceptable(Id),
    Connected(Id, Result<(), io::ErrorKind>),
    Watched(Id, Interest),
    Closed(Id),
    Failed(Id, io::ErrorKind),
}

impl From<Completion> for Seen {
    fn from(completion: Completion) -> Self {
        match completion {
            Completion::Readable(id) => Self::Readable(id),
            Completion::Receivable(id) => Self::Receivable(id),
            Completion::Sendable(id) => Self::Sendable(id),
            Completion::Sent(id, outcome) => Self::Sent(id, outcome.map_err(|e| e.kind())),
            Completion::Acceptable(id) => Self::Acceptable(id),
            Completion::Connected(id, outcome) => {
                Self::Connected(id, outcome.map_err(|e| e.kind()))
            }
            Completion::Watched(id, interest) => Self::Watched(id, interest),
            Completion::Closed(id) => Self::Closed(id),
            Completion::Failed(id, error) => Self::Failed(id, error.kind()),
            Completion::File(_) => unreachable!("no body reads a file"),
        }
    }
}

/// What every body does to its driver. `World`'s methods are there too.
pub(crate) trait Play: World {
    /// The answer to an op, if it came at once.
    fn ask(&mut self, op: Op<'_>) -> Option<Seen> {
        match self.driver().submit(op) {
            Poll::Ready(completion) => Some(completion.into()),
            Poll::Pending => None,
        }
    }

    /// An op that is answered later.
    fn start(&mut self, op: Op<'_>) {
        assert_eq!(self.ask(op), None);
    }

    fn close(&mut self, id: Id) {
        assert_eq!(self.ask(Op::Close(id)), Some(Seen::Closed(id)));
    }

    /// Sends as much as goes: how much, or `None` if the send is pending.
    fn send(&mut self, id: Id, bytes: &[u8]) -> Option<usize> {
        match self.ask(Op::Send {
            id,
            bufs: &[IoSlice::new(bytes)],
        })? {
            Seen::Sent(sender, Ok(count)) if sender == id => Some(count),
            other => panic!("sending gave {other:?}"),
        }
    }

    /// Sends a little, which must fit.
    fn send_all(&mut self, id: Id, bytes: &[u8]) {
        assert_eq!(self.send(id, bytes), Some(bytes.len()));
    }

    /// Sends until no more goes; how much went.
    fn fill(&mut self, id: Id) -> usize {
        let block = [b'x'; 64 * 1024];
        let mut total = 0;
        for _ in 0..10_000 {
            match self.send(id, &block) {
                Some(count) => total += count,
                None => return total,
            }
        }
        panic!("{total} bytes and still not full")
    }

    /// One wait of at most `timeout`.
    fn wait(&mut self, timeout: Duration) -> Vec<Seen> {
        let mut completions = Vec::new();
        self.driver()
            .wait(Some(timeout), &mut completions)
            .expect("wait");
        completions.into_iter().map(Seen::from).collect()
    }

    fn poll(&mut self) -> Vec<Seen> {
        self.wait(Duration::ZERO)
    }

    /// Nothing comes, although there is time for it.
    fn quiet(&mut self) {
        let before = self.driver().now();
        assert_eq!(self.wait(QUIET), []);
        assert!(
            self.driver().now().since(before) >= QUIET,
            "the wait was a busy one"
        );
    }

    /// Waits until `wanted` comes and nothing but it.
    fn until(&mut self, wanted: Seen) {
        assert_eq!(self.until_any(), [wanted]);
    }

    /// The first wait that is not empty.
    fn until_any(&mut self) -> Vec<Seen> {
        let start = Instant::now();
        loop {
            let seen = self.wait(PATIENCE);
            if !seen.is_empty() {
                return seen;
            }
            assert!(start.elapsed() < PATIENCE, "nothing came");
        }
    }

    fn take(&mut self, id: Id) -> io::Result<Taken> {
        Ok(match self.driver().take(id)? {
            Received::Data(data) => Taken::Data(data.to_vec()),
            Received::Eof => Taken::Eof,
            Received::Nothing => Taken::Nothing,
        })
    }

    /// Receives that many bytes. Receiving must be started.
    fn receive(&mut self, id: Id, count: usize) -> Vec<u8> {
        let mut received = Vec::new();
        while received.len() < count {
            match self.take(id).expect("take") {
                Taken::Data(data) => received.extend(data),
                Taken::Nothing => drop(self.until_any()),
                Taken::Eof => panic!("the end after {} bytes of {count}", received.len()),
            }
        }
        received
    }
}

impl<W: World> Play for W {}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Data(Vec<u8>),
    Eof,
    Nothing,
}

impl From<&[u8]> for Taken {
    fn from(data: &[u8]) -> Self {
        Self::Data(data.to_vec())
    }
}

/// A wait that does not come back in this time never will.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a wait must be empty for a body to believe it.
const QUIET: Duration = Duration::from_millis(1);

/// Whether this system lets us have rings; says so if not.
pub(crate) fn has_io_uring() -> bool {
    let refused = Uring::new().err();
    if let Some(error) = &refused {
        eprintln!("skipped: io_uring cannot be used here: {error}");
    }
    refused.is_none()
}

/// One test for each body and driver.
macro_rules! on_every_driver {
    ($($body:ident),* $(,)?) => {
        $crate::world::on_os_drivers!($($body),*);
        mod sim {
            $(#[test] fn $body() { super::$body::<oxlip_driver::Sim>(); })*
        }
    };
}

/// As `on_every_driver!`, for what needs descriptors.
macro_rules! on_os_drivers {
    ($($body:ident),* $(,)?) => {
        mod epoll {
            $(#[test] fn $body() { super::$body::<$crate::world::Real<oxlip_driver::readiness::Epoll>>(); })*
        }
        mod poll {
            $(#[test] fn $body() { super::$body::<$crate::world::Real<oxlip_driver::readiness::Poll>>(); })*
        }
        mod select {
            $(#[test] fn $body() { super::$body::<$crate::world::Real<oxlip_driver::readiness::Select>>(); })*
        }
        mod io_uring {
            $(#[test] fn $body() {
                if $crate::world::has_io_uring() {
                    super::$body::<$crate::world::Real<oxlip_driver::uring::Uring>>();
                }
            })*
        }
    };
}

pub(crate) use {on_every_driver, on_os_drivers};
