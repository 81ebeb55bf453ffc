//! One datagram socket as its protocol sees it: what waits to be sent, what may be received, how it
//! ends.
//!
//! The rules are those of asyncio's selector transport for datagrams. A datagram is sent at once
//! unless others are waiting. The size of the buffer counts each waiting datagram with its bytes
//! and a header. An error concerns one datagram and ends nothing. The machine knows neither buffers
//! (`B`) nor addresses (`A`): the embedder, on the thread of the loop, hands them over and gets
//! them back.

use std::collections::VecDeque;

pub use crate::flow::Flow;
use crate::flow::WaterMarks;
use crate::op::MAX_DATAGRAMS;
pub use crate::stream::ClosePlan;

/// What to do with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendPlan {
    /// Send it at once; [`Endpoint::push`] it if there is no room.
    Now,
    /// Others wait: [`Endpoint::push`] it behind them.
    Later,
    /// The end has been scheduled: send it at once if at all. It must not be pushed.
    Lost,
}

/// The state of one datagram socket.
#[derive(Debug)]
pub struct Endpoint<B, A> {
    queue: VecDeque<(B, A)>,
    /// Bytes and headers of all that is queued.
    buffered: usize,
    /// What each datagram counts beside its bytes.
    header: usize,
    marks: WaterMarks,
    /// The system has no room, or has refused one: nothing is tried before `Sendable`.
    blocked: bool,
    started: bool,
    paused: bool,
    state: State,
    /// How many datagrams to take at once.
    batch: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// What is queued is still sent.
    Closing,
    Lost,
}

impl<B: AsRef<[u8]>, A> Endpoint<B, A> {
    /// A socket that does not receive yet. `header` is what each queued datagram counts beside its
    /// bytes: 8 since Python 3.13, nothing before.
    #[must_use]
    pub fn new(header: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            buffered: 0,
            header,
            marks: WaterMarks::default(),
            blocked: false,
            started: false,
            paused: false,
            state: State::Open,
            batch: 1,
        }
    }

    // Receiving

    /// `connection_made` has been called.
    pub fn start(&mut self) {
        self.started = true;
    }

    /// `true`: it was not paused, stop receiving.
    pub fn pause_reading(&mut self) -> bool {
        let pauses = self.is_reading();
        self.paused |= pauses;
        pauses
    }

    /// `true`: it was paused, [`Endpoint::wants_read`] says whether to start receiving.
    pub fn resume_reading(&mut self) -> bool {
        let resumes = self.paused && self.state == State::Open;
        self.paused &= !resumes;
        resumes
    }

    /// What `is_reading()` answers.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        self.state == State::Open && !self.paused
    }

    /// Whether a datagram may be handed to the protocol now.
    #[must_use]
    #[inline]
    pub fn wants_read(&self) -> bool {
        self.started && self.is_reading()
    }

    /// How many datagrams to take at the next hint. One for a socket with a quiet peer, which would
    /// only pay for the preparation of more; up to [`MAX_DATAGRAMS`] under a flood.
    #[must_use]
    #[inline]
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// So many were there when [`Endpoint::batch`] were asked for: more, if the system has joined
    /// some. Then fewer are asked for next time, to come to [`MAX_DATAGRAMS`] or a little more.
    #[inline]
    pub fn received(&mut self, count: usize) {
        if count >= self.batch {
            let enough = MAX_DATAGRAMS * self.batch / count;
            self.batch = (self.batch * 4).min(enough).max(1);
        } else if count <= self.batch / 4 {
            self.batch = (self.batch / 2).max(1);
        }
    }

    // Sending

    /// What to do with a datagram.
    #[must_use]
    #[inline]
    pub fn plan_send(&self) -> SendPlan {
        match self.state {
            State::Lost => SendPlan::Lost,
            State::Open | State::Closing if self.queue.is_empty() => SendPlan::Now,
            State::Open | State::Closing => SendPlan::Later,
        }
    }

    /// Queues a datagram behind the others.
    pub fn push(&mut self, buf: B, to: A) -> Option<Flow> {
        debug_assert!(self.state != State::Lost, "queued after the end");
        self.buffered += self.cost(&buf);
        self.queue.push_back((buf, to));
        self.marks.pause_if_high(self.buffered)
    }

    /// There was no room: `Sendable` will say when there is.
    pub fn blocked(&mut self) {
        self.blocked = true;
    }

    /// `Sendable`.
    pub fn unblocked(&mut self) {
        self.blocked = false;
    }

    /// Whether something is queued that may be tried now.
    #[must_use]
    pub fn needs_flush(&self) -> bool {
        !self.blocked && !self.queue.is_empty()
    }

    /// What is queued, in order.
    pub fn queued(&self) -> impl Iterator<Item = &(B, A)> {
        self.queue.iter()
    }

    /// Takes the first out: it was sent, was refused, or is tried now.
    pub fn pop(&mut self) -> Option<(B, A)> {
        let first = self.queue.pop_front()?;
        self.buffered -= self.cost(&first.0);
        Some(first)
    }

    /// Puts the first back: there was no room.
    pub fn unpop(&mut self, buf: B, to: A) {
        debug_assert!(self.state != State::Lost, "queued after the end");
        self.buffered += self.cost(&buf);
        self.queue.push_front((buf, to));
    }

    /// A round of sending is over without an error: whether the protocol may go on.
    pub fn resume(&mut self) -> Option<Flow> {
        self.marks.resume_if_low(self.buffered)
    }

    /// What `get_write_buffer_size()` answers.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// How many datagrams are queued.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Sets the water marks in bytes. This can pause the protocol, but it resumes only when
    /// something has been sent.
    ///
    /// # Panics
    /// If `high < low`.
    pub fn set_limits(&mut self, high: usize, low: usize) -> Option<Flow> {
        self.marks.set(high, low);
        self.marks.pause_if_high(self.buffered)
    }

    /// The water marks in asyncio's order: `(low, high)`.
    #[must_use]
    pub fn limits(&self) -> (usize, usize) {
        self.marks.limits()
    }

    // Ending

    /// `close()`. With [`ClosePlan::Flushing`], [`Endpoint::settle`] will say when it is over.
    pub fn close(&mut self) -> ClosePlan {
        if self.state != State::Open {
            return ClosePlan::Already;
        }
        if self.queue.is_empty() {
            self.state = State::Lost;
            return ClosePlan::Lost;
        }
        self.state = State::Closing;
        ClosePlan::Flushing
    }

    /// Whether `close()` or `abort()` has been called.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.state != State::Open
    }

    /// Nothing is sent any more: `connection_lost` is to be scheduled, unless it is already
    /// (`false`). What was queued goes to `release`.
    pub fn abort(&mut self, release: impl FnMut((B, A))) -> bool {
        let lost = self.state != State::Lost;
        self.state = State::Lost;
        self.buffered = 0;
        self.queue.drain(..).for_each(release);
        lost
    }

    /// After a round of sending: `true` if `close()` has waited for the queue to be empty and it is.
    /// asyncio then calls `connection_lost` at once.
    pub fn settle(&mut self) -> bool {
        let over = self.state == State::Closing && self.queue.is_empty();
        if over {
            self.state = State::Lost;
        }
        over
    }

    #[inline]
    fn cost(&self, buf: &B) -> usize {
        buf.as_ref().len() + self.header
    }
}
