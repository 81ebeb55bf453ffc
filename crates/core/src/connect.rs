//! Connecting to one of several addresses: "happy eyeballs" (RFC 8305, section 5), with the rules
//! of asyncio's `staggered_race`.
//!
//! Addresses are tried in order. The next attempt begins when the latest one has failed, or has
//! been under way for the delay. The first to connect wins, and the others are called off. If all
//! fail, the whole fails, with all their errors.
//!
//! The embedder, on the thread of the loop, calls [`Connect::next`] until it says to wait, and
//! again after every report and when the wait is over.

use std::net::SocketAddr;
use std::time::Duration;

use crate::time::Time;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectStep {
    /// Begin the attempt with this number to reach this address, and ask again.
    Start {
        /// The address's place in the list, by which the attempt is reported.
        attempt: usize,
        /// Where to.
        addr: SocketAddr,
    },
    /// Wait for a report of an attempt, or until the time if there is one.
    Wait(Option<Time>),
    /// Nothing: the attempt with this number has won.
    Won(usize),
    /// Nothing: every attempt has failed ([`Connect::into_errors`]), or [`Connect::abandon`] was
    /// called.
    Over,
}

/// A race of connection attempts; `E` is an attempt's error.
#[derive(Debug)]
pub struct Connect<E> {
    addrs: Vec<SocketAddr>,
    /// One for each address tried so far.
    attempts: Vec<Attempt<E>>,
    delay: Option<Duration>,
    /// When the delay of the attempt begun last is over.
    next_at: Time,
    state: State,
}

#[derive(Debug)]
enum Attempt<E> {
    Running,
    Failed(E),
    Won,
    CalledOff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Racing,
    Won(usize),
    Abandoned,
}

impl<E> Connect<E> {
    /// A race to these addresses, in this order (see [`interleave`]). RFC 8305 recommends a delay
    /// of 250 ms; `None`: one attempt at a time.
    #[must_use]
    pub fn new(addrs: Vec<SocketAddr>, delay: Option<Duration>) -> Self {
        Self {
            addrs,
            attempts: Vec::new(),
            delay,
            next_at: Time::ZERO,
            state: State::Racing,
        }
    }

    /// What to do at the time `now`.
    pub fn next(&mut self, now: Time) -> ConnectStep {
        match self.state {
            State::Won(attempt) => return ConnectStep::Won(attempt),
            State::Abandoned => return ConnectStep::Over,
            State::Racing => {}
        }
        let attempt = self.attempts.len();
        let Some(&addr) = self.addrs.get(attempt) else {
            let running = self.running().next().is_some();
            return if running {
                ConnectStep::Wait(None)
            } else {
                ConnectStep::Over
            };
        };
        let last_runs = matches!(self.attempts.last(), Some(Attempt::Running));
        if last_runs && self.delay.is_none() {
            return ConnectStep::Wait(None);
        }
        if last_runs && now < self.next_at {
            return ConnectStep::Wait(Some(self.next_at));
        }
        self.attempts.push(Attempt::Running);
        self.next_at = self.delay.map_or(Time::NEVER, |delay| now.after(delay));
        ConnectStep::Start { attempt, addr }
    }

    /// An attempt has failed, be it that its socket could not even be made. Ask
    /// [`Connect::next`] what follows. An attempt that has been called off is not heard any more.
    ///
    /// # Panics
    /// If no such attempt was begun.
    pub fn failed(&mut self, attempt: usize, error: E) {
        let attempt = &mut self.attempts[attempt];
        if matches!(attempt, Attempt::Running) {
            *attempt = Attempt::Failed(error);
        }
    }

    /// An attempt has connected. `Some`: it is the winner, and these are the attempts to call off
    /// (to close). `None`: it is too late, close it too.
    ///
    /// # Panics
    /// If no such attempt was begun.
    pub fn connected(&mut self, attempt: usize) -> Option<Vec<usize>> {
        if !matches!(self.attempts[attempt], Attempt::Running) {
            return None;
        }
        self.attempts[attempt] = Attempt::Won;
        self.state = State::Won(attempt);
        Some(self.call_off())
    }

    /// Ends the race without a winner, for a caller that has been cancelled: the attempts to call
    /// off. None if it was over.
    pub fn abandon(&mut self) -> Vec<usize> {
        if self.state == State::Racing {
            self.state = State::Abandoned;
        }
        self.call_off()
    }

    /// The errors so far, in the order of the addresses.
    pub fn errors(&self) -> impl Iterator<Item = (SocketAddr, &E)> {
        self.addrs
            .iter()
            .zip(&self.attempts)
            .filter_map(|(addr, attempt)| match attempt {
                Attempt::Failed(error) => Some((*addr, error)),
                _ => None,
            })
    }

    /// The errors, in the order of the addresses.
    #[must_use]
    pub fn into_errors(self) -> Vec<(SocketAddr, E)> {
        self.addrs
            .into_iter()
            .zip(self.attempts)
            .filter_map(|(addr, attempt)| match attempt {
                Attempt::Failed(error) => Some((addr, error)),
                _ => None,
            })
            .collect()
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        self.attempts
            .iter()
            .enumerate()
            .filter(|(_, attempt)| matches!(attempt, Attempt::Running))
            .map(|(number, _)| number)
    }

    fn call_off(&mut self) -> Vec<usize> {
        let losers: Vec<usize> = self.running().collect();
        for &loser in &losers {
            self.attempts[loser] = Attempt::CalledOff;
        }
        losers
    }
}

/// Mixes the address families, so that a family that does not work costs one attempt and not all
/// (RFC 8305, section 4): `first_family` addresses of the family that comes first, then one of each
/// in turn. The order within a family stays.
#[must_use]
pub fn interleave(addrs: &[SocketAddr], first_family: usize) -> Vec<SocketAddr> {
    let first_is_v6 = addrs.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addrs.iter().partition(|addr| addr.is_ipv6() == first_is_v6);
    let mut mixed = Vec::with_capacity(addrs.len());
    let mut first = first.into_iter();
    let mut second = second.into_iter();
    mixed.extend(first.by_ref().take(first_family.saturating_sub(1)));
    loop {
        let before = mixed.len();
        mixed.extend(first.next());
        mixed.extend(second.next());
        if mixed.len() == before {
            return mixed;
        }
    }
}
