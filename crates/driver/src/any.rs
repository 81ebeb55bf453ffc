//! The drivers of this platform behind one type, chosen by name at run time.
//!
//! An enum, not a trait object: the call of an operation stays a jump that the processor predicts,
//! and the driver's fast paths can be inlined into it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::task::Poll;
use std::time::Duration;

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Op};
use oxlip_core::time::Time;
use oxlip_selectors::backend::{Epoll, Poll as PollBackend, Select};

use crate::wake::Waker;
use crate::{Driver, RawSocket, Readiness, Received, Role};

/// The names that [`AnyDriver::new`] takes on this platform, best first.
pub const NAMES: &[&str] = &["epoll", "poll", "select"];

/// Any driver of this platform.
pub struct AnyDriver {
    choice: Choice,
    reason: &'static str,
}

enum Choice {
    Epoll(Readiness<Epoll>),
    Poll(Readiness<PollBackend>),
    Select(Readiness<Select>),
}

/// What an [`AnyDriver`] adopts.
#[derive(Debug)]
pub enum AnySocket {
    /// A socket of the operating system.
    Os(OwnedFd),
}

/// Does the same with whichever driver it is.
macro_rules! with {
    ($any:expr, $driver:ident => $call:expr) => {
        match $any {
            Choice::Epoll($driver) => $call,
            Choice::Poll($driver) => $call,
            Choice::Select($driver) => $call,
        }
    };
}

impl AnyDriver {
    /// The driver of that name, or the best that works.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is not in [`NAMES`]; the system is out of descriptors or
    /// memory.
    pub fn new(name: Option<&str>) -> io::Result<Self> {
        let Some(name) = name else {
            return Self::best();
        };
        let choice = match name {
            "epoll" => Choice::Epoll(Readiness::new()?),
            "poll" => Choice::Poll(Readiness::new()?),
            "select" => Choice::Select(Readiness::new()?),
            unknown => {
                let message = format!(
                    "unknown driver {unknown:?}, choose one of {}",
                    NAMES.join(", ")
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        };
        Ok(Self {
            choice,
            reason: "asked for by name",
        })
    }

    fn best() -> io::Result<Self> {
        if let Ok(epoll) = Readiness::new() {
            return Ok(Self {
                choice: Choice::Epoll(epoll),
                reason: "the best on this system",
            });
        }
        let poll = Readiness::new()?;
        Ok(Self {
            choice: Choice::Poll(poll),
            reason: "epoll is not to be had",
        })
    }

    /// Why it is this driver: half a sentence for people.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.reason
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
        let AnySocket::Os(socket) = socket;
        with!(&mut self.choice, driver => driver.adopt(socket, role))
    }

    fn borrow(&mut self, fd: RawSocket) -> io::Result<Id> {
        with!(&mut self.choice, driver => driver.borrow(fd))
    }

    fn release(&mut self, id: Id) -> Option<AnySocket> {
        with!(&mut self.choice, driver => driver.release(id).map(AnySocket::Os))
    }

    #[inline]
    fn submit(&mut self, op: Op<'_>) -> Poll<Completion> {
        with!(&mut self.choice, driver => driver.submit(op))
    }

    #[inline]
    fn take(&mut self, id: Id) -> io::Result<Received<'_>> {
        with!(&mut self.choice, driver => driver.take(id))
    }

    #[inline]
    fn take_into(&mut self, id: Id, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        with!(&mut self.choice, driver => driver.take_into(id, buffer))
    }

    fn accept(&mut self, id: Id) -> io::Result<Option<(AnySocket, Option<SocketAddr>)>> {
        let accepted = with!(&mut self.choice, driver => driver.accept(id))?;
        Ok(accepted.map(|(socket, peer)| (AnySocket::Os(socket), peer)))
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
}

impl fmt::Debug for AnyDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyDriver")
            .field("name", &self.name())
            .field("reason", &self.reason)
            .finish()
    }
}
