//! Accepting connections.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use oxlip_core::id::Id;
use oxlip_core::listener::{AcceptOutcome, AcceptStep, Listener};
use oxlip_core::op::{Completion, Op};
use oxlip_driver::{Driver, Role, is_shortage};

use super::stream::TcpStream;
use super::wake;
use crate::local::{Loop, Resource};

/// A listening TCP socket. Dropping it closes it, and the connections that nobody accepted.
pub struct TcpListener(Rc<Accepting>);

struct Accepting {
    lp: Loop,
    id: Id,
    machine: RefCell<Listener>,
    accepted: RefCell<VecDeque<io::Result<Accepted>>>,
    waiter: Cell<Option<Waker>>,
}

type Accepted = (TcpStream, Option<SocketAddr>);

/// Connections that the kernel completes before anybody accepts them, and the most that are accepted
/// at once: asyncio's default.
const BACKLOG: u16 = 100;

impl TcpListener {
    /// Listens at the address; port 0 takes a free one.
    ///
    /// # Errors
    /// Those of socket(2), bind(2) and listen(2).
    pub fn bind(lp: &Loop, addr: SocketAddr) -> io::Result<Self> {
        let id = lp.with_driver(|driver| {
            let socket = driver.tcp_listen(addr, BACKLOG)?;
            driver.adopt(socket, Role::Listener)
        })?;
        let accepting = Rc::new(Accepting {
            lp: lp.clone(),
            id,
            machine: RefCell::new(Listener::new(BACKLOG.into())),
            accepted: RefCell::default(),
            waiter: Cell::new(None),
        });
        lp.register(id, accepting.clone());
        Ok(Self(accepting))
    }

    /// The next connection, and the peer's address if it has one. When the system is out of
    /// descriptors or memory, tries again every second.
    ///
    /// # Errors
    /// Those of accept(2), except those of a shortage. The listener goes on.
    pub async fn accept(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        poll_fn(|cx| self.0.poll_accept(cx)).await
    }

    /// The address listened at.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.0.lp.with_driver(|driver| driver.local_addr(self.0.id))
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.0.machine.borrow_mut().close();
        self.0.lp.close(self.0.id);
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("addr", &self.local_addr())
            .finish_non_exhaustive()
    }
}

impl Accepting {
    fn poll_accept(&self, cx: &Context<'_>) -> Poll<io::Result<Accepted>> {
        if let Some(accepted) = self.accepted.borrow_mut().pop_front() {
            return Poll::Ready(accepted);
        }
        self.waiter.set(Some(cx.waker().clone()));
        self.start();
        Poll::Pending
    }

    fn start(&self) {
        if self.machine.borrow().wants_accept() {
            let _ = self.lp.submit(Op::AcceptStart(self.id));
        }
    }

    fn stop(&self) {
        let _ = self.lp.submit(Op::AcceptStop(self.id));
    }

    /// One attempt.
    fn accept(&self) -> AcceptOutcome {
        let accepted = match self.lp.with_driver(|driver| driver.accept(self.id)) {
            Ok(None) => return AcceptOutcome::Empty,
            Ok(Some((socket, peer))) => {
                let stream = TcpStream::adopt(&self.lp, socket, Role::Accepted(self.id));
                stream.map(|stream| (stream, peer))
            }
            Err(error) if is_shortage(&error) => return AcceptOutcome::Exhausted,
            Err(error) => Err(error),
        };
        let outcome = if accepted.is_ok() {
            AcceptOutcome::Accepted
        } else {
            AcceptOutcome::Failed
        };
        self.accepted.borrow_mut().push_back(accepted);
        outcome
    }

    fn rest(self: &Rc<Self>, pause: Duration) {
        self.stop();
        let resting: Weak<Self> = Rc::downgrade(self);
        self.lp.call_later(pause, move || {
            if let Some(rested) = resting.upgrade() {
                rested.machine.borrow_mut().resume();
                rested.start();
            }
        });
    }
}

impl Resource for Accepting {
    fn completed(self: Rc<Self>, completion: Completion) {
        match completion {
            Completion::Acceptable(_) => {
                let mut step = self.machine.borrow_mut().hint();
                while step == AcceptStep::Accept {
                    let outcome = self.accept();
                    step = self.machine.borrow_mut().next(outcome);
                }
                if let AcceptStep::Rest(pause) = step {
                    self.rest(pause);
                }
            }
            Completion::Failed(_, error) => self.accepted.borrow_mut().push_back(Err(error)),
            _ => return,
        }
        // What nobody waits for stays with the driver.
        if !self.accepted.borrow().is_empty() && !wake(&self.waiter) {
            self.stop();
        }
    }
}
