//! Connecting to the first of several addresses that answers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use oxlip_core::connect::{Connect, ConnectStep, interleave};
use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Op};
use oxlip_core::time::Time;
use oxlip_driver::{Driver, Role};

use super::wake;
use crate::local::{Loop, Resource};

/// The "Connection Attempt Delay" that RFC 8305, section 8, recommends.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The first of these addresses to connect: the driver's id of its socket, which nobody is told about yet.
/// Dropped midway, it closes every attempt.
pub(super) async fn race(lp: &Loop, addrs: &[SocketAddr]) -> io::Result<Id> {
    let mut race = Race {
        lp: lp.clone(),
        machine: Connect::new(interleave(addrs, 1), Some(ATTEMPT_DELAY)),
        attempts: Vec::new(),
        reports: Rc::default(),
    };
    loop {
        match race.machine.next(lp.now()) {
            ConnectStep::Start { attempt, addr } => race.start(attempt, addr),
            ConnectStep::Wait(until) => {
                if let Some((attempt, outcome)) = race.report(until).await {
                    race.settle(attempt, outcome);
                }
            }
            ConnectStep::Won(attempt) => {
                let id = race.attempts[attempt]
                    .take()
                    .expect("only the winner's is kept");
                return Ok(id);
            }
            ConnectStep::Over => return Err(race.error()),
        }
    }
}

struct Race {
    lp: Loop,
    machine: Connect<io::Error>,
    /// Whose sockets are open, by the attempt's number.
    attempts: Vec<Option<Id>>,
    reports: Rc<Reports>,
}

type Report = (usize, io::Result<()>);

#[derive(Default)]
struct Reports {
    queue: RefCell<VecDeque<Report>>,
    waiter: Cell<Option<Waker>>,
}

/// Whom the driver tells of one attempt's end.
struct Attempt {
    number: usize,
    reports: Rc<Reports>,
}

impl Race {
    fn start(&mut self, number: usize, addr: SocketAddr) {
        let made = self.lp.with_driver(|driver| {
            let socket = driver.tcp_stream(addr)?;
            driver.adopt(socket, Role::Stream)
        });
        self.attempts.push(made.as_ref().ok().copied());
        match made {
            Err(error) => self.machine.failed(number, error),
            Ok(id) => {
                let reports = self.reports.clone();
                self.lp.register(id, Rc::new(Attempt { number, reports }));
                if let Poll::Ready(answer) = self.lp.submit(Op::Connect { id, addr }) {
                    self.settle(number, outcome(answer));
                }
            }
        }
    }

    /// The next report, or `None` when the time has come.
    async fn report(&self, until: Option<Time>) -> Option<Report> {
        let mut sleep = until.map(|until| self.lp.sleep_until(until));
        poll_fn(|cx| {
            if let Some(report) = self.reports.queue.borrow_mut().pop_front() {
                return Poll::Ready(Some(report));
            }
            self.reports.waiter.set(Some(cx.waker().clone()));
            match &mut sleep {
                Some(sleep) => Pin::new(sleep).poll(cx).map(|()| None),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn settle(&mut self, attempt: usize, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => match self.machine.connected(attempt) {
                Some(losers) => losers.into_iter().for_each(|loser| self.close(loser)),
                None => self.close(attempt),
            },
            Err(error) => {
                self.close(attempt);
                self.machine.failed(attempt, error);
            }
        }
    }

    fn close(&mut self, attempt: usize) {
        if let Some(id) = self.attempts[attempt].take() {
            self.lp.close(id);
        }
    }

    fn error(&mut self) -> io::Error {
        let machine = mem::replace(&mut self.machine, Connect::new(Vec::new(), None));
        let mut errors = machine.into_errors();
        match errors.len() {
            0 => io::Error::new(io::ErrorKind::InvalidInput, "no address to connect to"),
            1 => errors.remove(0).1,
            _ => {
                let each: Vec<String> = errors
                    .iter()
                    .map(|(addr, error)| format!("{addr}: {error}"))
                    .collect();
                io::Error::new(errors[0].1.kind(), each.join("; "))
            }
        }
    }
}

impl Drop for Race {
    fn drop(&mut self) {
        for attempt in 0..self.attempts.len() {
            self.close(attempt);
        }
    }
}

impl Resource for Attempt {
    fn completed(self: Rc<Self>, completion: Completion) {
        self.reports
            .queue
            .borrow_mut()
            .push_back((self.number, outcome(completion)));
        wake(&self.reports.waiter);
    }
}

fn outcome(completion: Completion) -> io::Result<()> {
    match completion {
        Completion::Connected(_, outcome) => outcome,
        Completion::Failed(_, error) => Err(error),
        other => unreachable!("a connecting stream was answered {other:?}"),
    }
}
