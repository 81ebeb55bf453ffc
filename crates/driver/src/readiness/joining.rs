//! When the kernel is to join the datagrams that arrive at a UDP socket (`UDP_GRO`).
//!
//! If the sender or a network card joins them, a flood costs a third of what it costs otherwise. If
//! nobody does, the kernel looks for joined datagrams in vain, and a flood costs a tenth more. So
//! joining is tried once there is a flood, given up after some batches without a joined one, and
//! tried again after a rest, which grows each time. Giving up needs an empty queue (`offload.rs`),
//! so a flood that never lets up keeps the setting it has. This module makes no system calls:
//! `datagram.rs` asks it, and acts.

/// Batches without a joined datagram after which it is given up.
const TRIAL: u8 = 4;
/// Batches until the next trial, at first; each rest is twice as long as the one before.
const REST: u8 = 4;

/// What has been found out about one socket, in as few bytes as an idle stream can spare.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joining {
    state: State,
    /// The number of batches until the state ends.
    left: u8,
    /// How long the next rest is.
    rest: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There was no flood yet.
    Unasked,
    /// The kernel joins, because it was told to.
    On,
    Resting,
    /// The kernel cannot or must not join, or the program has set the option itself.
    Never,
}

impl Joining {
    pub(super) fn new() -> Self {
        Self {
            state: State::Unasked,
            left: 0,
            rest: REST,
        }
    }

    /// The kernel is never told to join: others receive from the socket, and would have to know.
    pub(super) fn never() -> Self {
        Self {
            state: State::Never,
            ..Self::new()
        }
    }

    /// Whether the kernel has been told to join, which must be undone at the end.
    #[inline]
    pub(super) fn is_on(self) -> bool {
        self.state == State::On
    }

    /// Called before a batch of at most `limit`. Returns whether to tell the kernel to join, after
    /// which [`Joining::switched_on`] must be called.
    #[inline]
    pub(super) fn begins(&mut self, limit: usize) -> bool {
        // A socket with a quiet peer is left alone: nothing would be joined.
        if limit <= 1 {
            return false;
        }
        match self.state {
            State::Unasked => true,
            State::Resting => {
                self.left -= 1;
                self.left == 0
            }
            State::On | State::Never => false,
        }
    }

    /// Notes whether the kernel joins now.
    pub(super) fn switched_on(&mut self, done: bool) {
        self.state = if done { State::On } else { State::Never };
        self.left = TRIAL;
    }

    /// Called after a batch that was not empty. Returns whether it is time to stop, after which
    /// [`Joining::switched_off`] must be called, if the kernel could be told.
    #[inline]
    pub(super) fn ends(&mut self, joined: bool) -> bool {
        if self.state != State::On {
            return false;
        }
        if joined {
            self.left = TRIAL;
            self.rest = REST;
        } else {
            self.left = self.left.saturating_sub(1);
        }
        self.left == 0
    }

    /// The kernel joins no more.
    pub(super) fn switched_off(&mut self) {
        self.state = State::Resting;
        self.left = self.rest;
        self.rest = self.rest.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For a number of full batches: how many of them the kernel was to join, and how often it was told to change.
    fn play(joining: &mut Joining, batches: usize, joined: bool) -> (usize, usize) {
        let (mut on, mut told) = (0, 0);
        for _ in 0..batches {
            if joining.begins(32) {
                joining.switched_on(true);
                told += 1;
            }
            on += usize::from(joining.is_on());
            if joining.ends(joined && joining.is_on()) {
                joining.switched_off();
                told += 1;
            }
        }
        (on, told)
    }

    #[test]
    fn a_quiet_socket_is_left_alone() {
        let mut joining = Joining::new();
        for _ in 0..1000 {
            assert!(!joining.begins(1));
            assert!(!joining.ends(false));
        }
        assert!(joining.begins(2));
    }

    #[test]
    fn a_flood_that_nobody_joins_costs_next_to_nothing() {
        let mut joining = Joining::new();
        play(&mut joining, 1000, false);
        let (on, told) = play(&mut joining, 10_000, false);
        assert!(on < 200 && told < 100, "{on} {told}");
    }

    #[test]
    fn a_flood_that_is_joined_stays_so() {
        let mut joining = Joining::new();
        assert_eq!(play(&mut joining, 1000, true), (1000, 1));
        // A single datagram is no reason to stop.
        for _ in 0..100 {
            assert_eq!(play(&mut joining, 3, false), (3, 0));
            assert_eq!(play(&mut joining, 1, true), (1, 0));
        }
        play(&mut joining, 1000, false);
        let (on, _) = play(&mut joining, 1000, true);
        assert!(on > 700, "a joined flood is soon seen again: {on}");
    }

    #[test]
    fn giving_up_waits_for_its_moment() {
        let mut joining = Joining::new();
        assert!(joining.begins(4));
        joining.switched_on(true);
        let ends: Vec<_> = (0..6).map(|_| joining.ends(false)).collect();
        assert_eq!(ends, [false, false, false, true, true, true]);
        assert!(!joining.ends(true), "there is a reason again");
        assert!(joining.is_on());
    }

    #[test]
    fn a_kernel_that_cannot_is_asked_once() {
        let mut joining = Joining::new();
        assert!(joining.begins(4));
        joining.switched_on(false);
        for _ in 0..1000 {
            assert!(!joining.begins(32) && !joining.ends(false) && !joining.is_on());
        }
    }
}
