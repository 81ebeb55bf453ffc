//! When a write leaves: at once, or together with others at the end of the handle.
//!
//! A peer that waits for each answer must get it at once; a program that writes head and body
//! separately should not pay for two system calls. Nobody says which kind a stream is, so it is
//! learnt: a second write in one handle turns gathering on, a flush that finds a single buffer
//! turns it off.

/// What has been learnt about one stream's writes.
#[derive(Debug)]
pub(super) struct Pace {
    /// The handle of the last direct send.
    run: Option<u64>,
    habit: Habit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// Handles write once.
    Direct,
    /// This handle has sent directly and now writes more. Its flush lacks what was sent before,
    /// so finding one buffer will mean nothing.
    Turning,
    /// Handles write more than once.
    Gathering,
    /// As `Gathering`, but the flush was held up: what it finds is no single handle's.
    Backlogged,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self {
            run: None,
            habit: Habit::Direct,
        }
    }

    /// Whether a write in the handle `run`, with nothing queued, should wait for others. If not it
    /// is taken to be sent directly.
    #[inline]
    pub(super) fn gathers(&mut self, run: u64) -> bool {
        if self.habit != Habit::Direct {
            return true;
        }
        if self.run == Some(run) {
            self.habit = Habit::Turning;
            return true;
        }
        self.run = Some(run);
        false
    }

    /// A send has found no room.
    #[inline]
    pub(super) fn held_up(&mut self) {
        if self.habit == Habit::Gathering {
            self.habit = Habit::Backlogged;
        }
    }

    /// A send was made of `buffers` queued buffers.
    #[inline]
    pub(super) fn flushed(&mut self, buffers: usize) {
        self.habit = match self.habit {
            Habit::Gathering if buffers == 1 => Habit::Direct,
            Habit::Turning | Habit::Backlogged => Habit::Gathering,
            habit => habit,
        };
    }
}
