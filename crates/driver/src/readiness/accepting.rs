//! Accepting connections from a listening socket, and finding out that there are no more.
//!
//! `accept4(2)` makes a socket and takes a descriptor before it checks whether anybody is waiting.
//! If nobody is, it costs eight times as much as `poll(2)`, which only checks (1,120 ns against 140
//! on the machine of docs/performance.md). So after each connection `poll(2)` goes first. Where
//! many are waiting, checking costs more than it saves: after a few connections in a row, accept is
//! simply tried.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use oxlip_core::id::Id;
use oxlip_selectors::backend::Backend;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Readiness, transfer};

/// Up to so many connections in a row are checked for: together that costs as much as it can save.
const LOOKS: u8 = 8;

/// What has been accepted since the last hint.
#[derive(Debug, Default)]
pub(super) struct Round {
    listener: Option<Id>,
    accepted: u8,
}

impl Round {
    /// There is something to accept, so no check is needed.
    pub(super) fn begin(&mut self) {
        *self = Self::default();
    }

    fn should_look(&self, listener: Id) -> bool {
        self.listener == Some(listener) && self.accepted <= LOOKS
    }

    fn accepted(&mut self, listener: Id) {
        if self.listener != Some(listener) {
            self.listener = Some(listener);
            self.accepted = 0;
        }
        self.accepted = self.accepted.saturating_add(1);
    }
}

impl<B: Backend> Readiness<B> {
    pub(super) fn accept_next(
        &mut self,
        id: Id,
    ) -> io::Result<Option<(OwnedFd, Option<SocketAddr>)>> {
        let Some(resource) = self.resources.get(id) else {
            return Ok(None);
        };
        let listener = resource.listener()?;
        if self.round.should_look(id) && nobody_waits(listener) {
            return Ok(None);
        }
        let accepted = transfer::accept(listener)?;
        if accepted.is_some() {
            self.round.accepted(id);
        }
        Ok(accepted)
    }
}

/// An error is left for accept(2) to report.
fn nobody_waits(listener: BorrowedFd<'_>) -> bool {
    let mut watched = [PollFd::from_borrowed_fd(listener, PollFlags::IN)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut watched, Some(&at_once)), Ok(0))
}

#[cfg(test)]
mod tests {
    use oxlip_core::id::Arena;

    use super::*;

    #[test]
    fn one_looks_behind_the_first_connections_of_a_round() {
        let mut ids = Arena::new();
        let (one, other) = (ids.insert(()), ids.insert(()));
        let mut round = Round::default();
        assert!(!round.should_look(one));
        for _ in 0..LOOKS {
            round.accepted(one);
            assert!(round.should_look(one) && !round.should_look(other));
        }
        round.accepted(one);
        assert!(!round.should_look(one));
        round.begin();
        assert!(!round.should_look(one));
        round.accepted(one);
        assert!(round.should_look(one));
        round.accepted(other);
        assert!(round.should_look(other) && !round.should_look(one));
    }
}
