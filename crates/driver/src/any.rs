//! The drivers of this platform behind one type, chosen by name at run time.
//!
//! An enum, not a trait object: the call of an operation stays a jump that the processor predicts,
//! and the driver's fast paths can be inlined into it.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::Poll;
use std::time::Duration;

use oxlip_core::address::Address;
use oxlip_core::holding::Clocks;
use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Op};
use oxlip_core::time::Time;

use crate::readiness::{self, Readiness};
use crate::sim::{Sim, SimSocket};
use crate::uring::Uring;
use crate::wake::Waker;
use crate::{Driver, RawSocket, Received, Role, Taken, clock, net};

/// The names that [`AnyDriver::new`] takes on this platform, best first.
pub const NAMES: &[&str] = &["epoll", "io_uring", "poll", "select", "sim"];

/// Any driver of this platform.
pub struct AnyDriver {
    choice: Choice,
    reason: Cow<'static, str>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "one for each loop, and never moved while in use"
)]
enum Choice {
    Epoll(readiness::Epoll),
    Poll(readiness::Poll),
    Select(readiness::Select),
    Uring(Box<Uring>),
    Sim(Box<Sim>),
}

/// What an [`AnyDriver`] adopts.
#[derive(Debug)]
pub enum AnySocket {
    /// A socket of the operating system.
    Os(OwnedFd),
    /// A socket of a simulation.
    Sim(SimSocket),
}

/// Does the same with whichever driver it is, with `os` and `sim` where the two worlds differ.
macro_rules! with {
    ($any:expr, $driver:ident => $call:expr) => {
        with!($any, os $driver => $call, sim $driver => $call)
    };
    ($any:expr, os $os:ident => $real:expr, sim $sim:ident => $simulated:expr) => {
        match $any {
            Choice::Epoll($os) => $real,
            Choice::Poll($os) => $real,
            Choice::Select($os) => $real,
            Choice::Uring($os) => $real,
            Choice::Sim($sim) => $simulated,
        }
    };
}

impl AnyDriver {
    /// The driver of that name, or the best that works.
    ///
    /// Where the system has no io_uring or forbids it, epoll takes its place: [`Driver::name`] and
    /// [`AnyDriver::reason`] say so. Who would rather have the error uses [`Uring::new`].
    ///
    /// # Errors
    /// `InvalidInput` for a name that is not in [`NAMES`]; the system is out of descriptors or
    /// memory.
    pub fn new(name: Option<&str>) -> io::Result<Self> {
        let Some(name) = name else {
            return Self::best();
        };
        let mut reason = Cow::Borrowed("asked for by name");
        let choice = match name {
            "epoll" => Choice::Epoll(Readiness::new()?),
            "poll" => Choice::Poll(Readiness::new()?),
            "select" => Choice::Select(Readiness::new()?),
            "io_uring" => match Uring::new() {
                Ok(uring) => Choice::Uring(Box::new(uring)),
                Err(why) => {
                    reason = Cow::Owned(why.to_string());
                    Choice::Epoll(Readiness::new()?)
                }
            },
            "sim" => Choice::Sim(Box::new(Sim::new(0))),
            unknown => {
                let message = format!(
                    "unknown driver {unknown:?}, choose one of {}",
                    NAMES.join(", ")
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        };
        Ok(Self { choice, reason })
    }

    fn best() -> io::Result<Self> {
        if let Ok(epoll) = Readiness::new() {
            return Ok(Self {
                choice: Choice::Epoll(epoll),
                reason: Cow::Borrowed("the best on this system"),
            });
        }
        let poll = Readiness::new()?;
        Ok(Self {
            choice: Choice::Poll(poll),
            reason: Cow::Borrowed("epoll is not to be had"),
        })
    }

    /// A simulation that is set up already.
    #[must_use]
    pub fn simulating(sim: Sim) -> Self {
        Self {
            choice: Choice::Sim(Box::new(sim)),
            reason: Cow::Borrowed("made by the program"),
        }
    }

    /// The simulation, to make things happen in it.
    pub fn simulation(&mut self) -> Option<&mut Sim> {
        match &mut self.choice {
            Choice::Sim(sim) => Some(sim),
            Choice::Epoll(_) | Choice::Poll(_) | Choice::Select(_) | Choice::Uring(_) => None,
        }
    }

    /// Why this driver was chosen: half a sentence for people.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// A listening TCP socket in this driver's world. See [`net::tcp_listen`].
    ///
    /// # Errors
    /// Those of [`net::tcp_listen`].
    pub fn tcp_listen(&mut self, addr: SocketAddr, backlog: u16) -> io::Result<AnySocket> {
        with!(&mut self.choice,
            os _driver => net::tcp_listen(addr, backlog.into(), false).map(AnySocket::Os),
            sim sim => sim.listen(addr, backlog.into()).map(AnySocket::Sim))
    }

    /// A TCP socket in this driver's world, to be connected. See [`net::tcp_stream`].
    ///
    /// # Errors
    /// Those of [`net::tcp_stream`].
    pub fn tcp_stream(&mut self, addr: SocketAddr) -> io::Result<AnySocket> {
        with!(&mut self.choice,
            os _driver => net::tcp_stream(addr).map(AnySocket::Os),
            sim sim => sim.stream(addr).map(AnySocket::Sim))
    }

    /// The address that an adopted socket is bound to; `None` if it has no Internet address.
    #[must_use]
    pub fn local_addr(&self, id: Id) -> Option<SocketAddr> {
        with!(&self.choice,
            os driver => net::local_addr(driver.descriptor(id)?).ok()?,
            sim sim => sim.local_addr(id))
    }

    /// The address of an adopted stream's peer, while it is connected.
    #[must_use]
    pub fn peer_addr(&self, id: Id) -> Option<SocketAddr> {
        with!(&self.choice,
            os driver => net::peer_addr(driver.descriptor(id)?).ok()?,
            sim sim => sim.peer_addr(id))
    }

    /// The descriptor of an adopted socket, to ask for addresses or set options; `None` in a
    /// simulation. It must not be closed or made blocking.
    #[must_use]
    pub fn descriptor(&self, id: Id) -> Option<BorrowedFd<'_>> {
        with!(&self.choice, os driver => driver.descriptor(id), sim _sim => None)
    }
}

impl Driver for AnyDriver {
    type Socket = AnySocket;

    fn name(&self) -> &'static str {
        with!(&self.choice, driver => driver.name())
    }

    #[inline]
    fn now(&self) -> Time {
        with!(&self.choice, driver => driver.now())
    }

    fn adopt(&mut self, socket: AnySocket, role: Role) -> io::Result<Id> {
        match (&mut self.choice, socket) {
            (Choice::Epoll(driver), AnySocket::Os(socket)) => driver.adopt(socket, role),
            (Choice::Poll(driver), AnySocket::Os(socket)) => driver.adopt(socket, role),
            (Choice::Select(driver), AnySocket::Os(socket)) => driver.adopt(socket, role),
            (Choice::Uring(driver), AnySocket::Os(socket)) => driver.adopt(socket, role),
            (Choice::Sim(sim), AnySocket::Sim(socket)) => sim.adopt(socket, role),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a socket of another world than the driver's",
            )),
        }
    }

    fn borrow(&mut self, fd: RawSocket) -> io::Result<Id> {
        with!(&mut self.choice, driver => driver.borrow(fd))
    }

    fn release(&mut self, id: Id) -> Option<AnySocket> {
        with!(&mut self.choice,
            os driver => driver.release(id).map(AnySocket::Os),
            sim sim => sim.release(id).map(AnySocket::Sim))
    }

    #[inline(always)]
    fn submit(&mut self, op: Op<'_>) -> Poll<Completion> {
        with!(&mut self.choice, driver => driver.submit(op))
    }

    #[inline(always)]
    fn take(&mut self, id: Id) -> io::Result<Received<'_>> {
        with!(&mut self.choice, driver => driver.take(id))
    }

    #[inline(always)]
    fn take_or_fill(&mut self, id: Id, room: &mut [MaybeUninit<u8>]) -> io::Result<Taken<'_>> {
        with!(&mut self.choice, driver => driver.take_or_fill(id, room))
    }

    #[inline(always)]
    fn take_into(&mut self, id: Id, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        with!(&mut self.choice, driver => driver.take_into(id, buffer))
    }

    fn take_datagrams(
        &mut self,
        id: Id,
        limit: usize,
        each: impl FnMut(&[u8], Option<Address>),
    ) -> io::Result<usize> {
        with!(&mut self.choice, driver => driver.take_datagrams(id, limit, each))
    }

    fn accept(&mut self, id: Id) -> io::Result<Option<(AnySocket, Option<SocketAddr>)>> {
        Ok(with!(&mut self.choice,
            os driver => driver.accept(id)?.map(|(socket, peer)| (AnySocket::Os(socket), peer)),
            sim sim => sim.accept(id)?.map(|(socket, peer)| (AnySocket::Sim(socket), peer))))
    }

    fn wait(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        with!(&mut self.choice, driver => driver.wait(timeout, completions))
    }

    fn waker(&self) -> Waker {
        with!(&self.choice, driver => driver.waker())
    }

    #[inline]
    fn gathers_sends(&self) -> bool {
        with!(&self.choice, driver => driver.gathers_sends())
    }

    fn only_wakes(&mut self, id: Id) {
        with!(&mut self.choice, driver => driver.only_wakes(id));
    }

    fn before_fork(&mut self) {
        with!(&mut self.choice, driver => driver.before_fork());
    }

    fn after_fork(&mut self) -> io::Result<()> {
        with!(&mut self.choice, driver => driver.after_fork())
    }
}

impl Clocks for AnyDriver {
    #[inline]
    fn now(&self) -> Time {
        Driver::now(self)
    }

    fn run_delay(&self) -> Option<Duration> {
        match self.choice {
            Choice::Sim(_) => None,
            _ => clock::run_delay(),
        }
    }
}

impl fmt::Debug for AnyDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyDriver")
            .field("name", &self.name())
            .field("reason", &self.reason)
            .finish()
    }
}
