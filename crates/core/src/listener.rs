//! How a listening socket accepts: not too many connections at once, and with patience when the
//! system is out of descriptors or memory.
//!
//! The rules are those of asyncio's `_accept_connection`, except that a shortage ends the round in
//! which it occurs. The machine knows no error numbers: the embedder, on the thread of the loop,
//! says which [`AcceptOutcome`] an accept had.

use std::time::Duration;

/// How one attempt to accept ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptOutcome {
    /// With a connection.
    Accepted,
    /// With nothing to accept, or with a connection that its peer had given up already.
    Empty,
    /// With `EMFILE`, `ENFILE`, `ENOBUFS` or `ENOMEM`: trying again now would fail again, and the
    /// hint would come for as long as the connection waits.
    Exhausted,
    /// With any other error.
    Failed,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptStep {
    /// Try to accept one connection, and report to [`Listener::next`].
    Accept,
    /// Nothing, until the driver says `Acceptable` again.
    Wait,
    /// Stop accepting, and call [`Listener::resume`] after this long.
    Rest(Duration),
    /// Nothing more: the listener is closed.
    Closed,
}

/// The state of one listening socket.
#[derive(Debug)]
pub struct Listener {
    backlog: usize,
    /// Attempts left in the round that runs.
    left: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Accepting,
    Resting,
    Closed,
}

impl Listener {
    /// A listener that accepts, at most `backlog` connections for one hint (and at least one), so
    /// that a flood of connections does not starve those there are.
    #[must_use]
    pub const fn new(backlog: usize) -> Self {
        Self {
            backlog: if backlog == 0 { 1 } else { backlog },
            left: 0,
            state: State::Accepting,
        }
    }

    /// The driver said `Acceptable`: begins a round. The answer is never [`AcceptStep::Rest`].
    pub fn hint(&mut self) -> AcceptStep {
        self.left = self.backlog;
        self.step()
    }

    /// An attempt ended. Asked for after every [`AcceptStep::Accept`], also when the user closed
    /// the listener while taking the connection.
    pub fn next(&mut self, outcome: AcceptOutcome) -> AcceptStep {
        self.left = match outcome {
            AcceptOutcome::Accepted => self.left.saturating_sub(1),
            AcceptOutcome::Empty | AcceptOutcome::Failed | AcceptOutcome::Exhausted => 0,
        };
        if outcome == AcceptOutcome::Exhausted && self.state == State::Accepting {
            self.state = State::Resting;
            return AcceptStep::Rest(RETRY_DELAY);
        }
        self.step()
    }

    /// The rest is over. `true`: start accepting again; `false`: the listener has been closed
    /// meanwhile, or was not resting.
    pub fn resume(&mut self) -> bool {
        let resting = self.state == State::Resting;
        if resting {
            self.state = State::Accepting;
        }
        resting
    }

    /// Ends it. `false`: it was closed already.
    pub fn close(&mut self) -> bool {
        let open = self.state != State::Closed;
        self.state = State::Closed;
        open
    }

    /// Whether the driver should report connections.
    #[must_use]
    pub const fn wants_accept(&self) -> bool {
        matches!(self.state, State::Accepting)
    }

    /// Whether [`Listener::close`] has been called.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    const fn step(&self) -> AcceptStep {
        match self.state {
            State::Accepting if self.left > 0 => AcceptStep::Accept,
            State::Accepting | State::Resting => AcceptStep::Wait,
            State::Closed => AcceptStep::Closed,
        }
    }
}

/// asyncio's `ACCEPT_RETRY_DELAY`.
pub const RETRY_DELAY: Duration = Duration::from_secs(1);
