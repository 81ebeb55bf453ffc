//! One connected byte stream: what may be read, what is still to be written, and how it ends.
//!
//! The rules are those of asyncio's `_SelectorSocketTransport`, without the I/O: the embedder calls
//! in with what the user did and what the driver answered, and gets told what to do next. It runs
//! on the thread of the loop and calls nobody.
//!
//! # The life of a stream
//!
//! *Open* → *closing* (by [`Stream::close`]: reading is over, what is queued is still sent) →
//! *lost* (`connection_lost` is due or has been called: nothing is read or written any more).
//! [`Stream::abort`] leads straight to lost. Exactly one call in a stream's life says so:
//! `close` ([`ClosePlan::Lost`]), `abort` (`true`), or `sent`/`settle` ([`Then::Lost`]).
//!
//! # The life of a write
//!
//! [`Stream::plan_write`] says whether to send at once or to queue:
//!
//! * [`WritePlan::Now`]: submit the bytes themselves; if not all are taken, [`Stream::push`] the
//!   buffer with what was (`skip`), and [`Stream::blocked`] if the driver said pending;
//! * [`WritePlan::Later`]: `push` it. When the handle that runs is over, flush.
//!
//! To flush is: while [`Stream::needs_flush`], submit [`Stream::buffers`] and report
//! [`Stream::sent`] or `blocked` ([`Stream::submitted`] if the answer may be `Sent`, too). A pending
//! send ends with `Sendable`: [`Stream::has_room`] or [`Stream::unblocked`], then flush. A send that
//! fails is an `abort`. All of an embedder's sends follow this pattern, so that bytes leave in the
//! order in which they were written.

mod pace;
mod plan;

use std::io::IoSlice;

use crate::write_queue::{Flow, WriteQueue};
use pace::Pace;

pub use plan::{ClosePlan, EofPlan, Progress, Then, WritePlan};

/// The state of one connected stream; `B` is whatever the embedder keeps bytes in.
#[derive(Debug)]
pub struct Stream<B> {
    queue: WriteQueue<B>,
    pace: Pace,
    /// 0 until the connection is lost, then 1 plus the writes since: asyncio's `_conn_lost`.
    lost: u32,
    started: bool,
    paused: bool,
    /// The peer has sent its end.
    ended: bool,
    /// Nothing is read until somebody resumes.
    idle: bool,
    closing: bool,
    eof: bool,
    /// The end of the stream has been handed to the embedder to send.
    shut: bool,
    /// A send is pending.
    blocked: bool,
    reserved: Reserved,
}

/// Whether somebody else sends on the stream: see [`Stream::reserve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reserved {
    No,
    /// From the moment on at which the queue is empty.
    Soon,
    Now,
}

impl<B: AsRef<[u8]>> Default for Stream<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: AsRef<[u8]>> Stream<B> {
    /// A connected stream whose reading has not begun, with limits of 64 KiB and 16 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self {
            queue: WriteQueue::new(),
            pace: Pace::new(),
            lost: 0,
            started: false,
            paused: false,
            ended: false,
            idle: false,
            closing: false,
            eof: false,
            shut: false,
            blocked: false,
            reserved: Reserved::No,
        }
    }

    // Reading.

    /// `connection_made` has run: reading may begin.
    pub fn start(&mut self) {
        self.started = true;
    }

    /// Whether the driver should receive, and whether what it has may be given to the protocol.
    #[must_use]
    #[inline]
    pub fn wants_read(&self) -> bool {
        self.started && !self.paused && !self.idle && !self.closing
    }

    /// asyncio's `is_reading()`: neither closing nor paused.
    #[must_use]
    #[inline]
    pub fn is_reading(&self) -> bool {
        !self.closing && !self.paused
    }

    /// Pauses reading. `false`: nothing changed.
    #[inline]
    pub fn pause_reading(&mut self) -> bool {
        let change = self.is_reading();
        self.paused |= change;
        change
    }

    /// Ends a pause. `false`: nothing changed.
    #[inline]
    pub fn resume_reading(&mut self) -> bool {
        let change = self.paused && !self.closing;
        self.paused &= !change;
        self.idle &= !change;
        change
    }

    /// The peer has sent its end, of which the protocol is about to be told.
    pub fn peer_ended(&mut self) {
        self.ended = true;
    }

    /// There is nothing to read: the stream is only written to, or the peer has ended and the protocol, which was told,
    /// keeps it open. Who resumes after a pause reads again, and is told again, as with asyncio's selector.
    pub fn end_reading(&mut self) {
        self.idle = true;
    }

    /// Whether the peer has sent its end.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    // Writing.

    /// What to do with a write in the handle with the number `run`; every handle has another number.
    /// Not for empty writes: asyncio ignores them, except after `write_eof`.
    #[inline]
    pub fn plan_write(&mut self, run: u64) -> WritePlan {
        match self.plan_write_many() {
            WritePlan::Later if self.queue.is_empty() && !self.pace.gathers(run) => WritePlan::Now,
            plan => plan,
        }
    }

    /// What to do with several buffers at once: never [`WritePlan::Now`], since they are best
    /// pushed and flushed together.
    #[inline]
    pub fn plan_write_many(&mut self) -> WritePlan {
        if self.eof || self.is_reserved() {
            return WritePlan::Refused;
        }
        if self.lost > 0 {
            let nth = self.lost;
            self.lost = self.lost.saturating_add(1);
            return WritePlan::Lost(nth);
        }
        WritePlan::Later
    }

    /// Queues a buffer of which `skip` bytes have been sent already.
    ///
    /// `Pause` may be the answer although nothing blocks, when much is written in one handle. An
    /// embedder that then flushes at once, and is told `Resume` by that, need not tell either.
    #[inline]
    pub fn push(&mut self, buf: B, skip: usize) -> Option<Flow> {
        if self.lost > 0 {
            return None;
        }
        self.queue.push(buf, skip)
    }

    /// Whether something is queued, and may be sent now.
    #[must_use]
    #[inline]
    pub fn needs_flush(&self) -> bool {
        !self.queue.is_empty() && !self.blocked
    }

    /// Appends the slices for one send: at most [`crate::op::MAX_BUFFERS`], from the first unsent
    /// byte on.
    #[inline]
    pub fn buffers<'a>(&'a self, out: &mut Vec<IoSlice<'a>>) {
        self.queue.buffers(out);
    }

    /// What is unsent, in order, none of it empty: as [`Stream::buffers`] for an embedder that
    /// keeps the slices elsewhere.
    #[inline]
    pub fn unsent(&self) -> impl Iterator<Item = &[u8]> {
        self.queue.unsent()
    }

    /// A send is pending for want of room: no more of them until [`Stream::unblocked`].
    #[inline]
    pub fn blocked(&mut self) {
        self.blocked = true;
        self.pace.held_up();
    }

    /// A send is on its way, and its answer comes with the next wait (`Op::SendSoon`): no more of them
    /// until [`Stream::unblocked`]. Unlike [`Stream::blocked`] this says nothing about room.
    #[inline]
    pub fn submitted(&mut self) {
        self.blocked = true;
    }

    /// The pending send is over, what is queued may be tried again.
    #[inline]
    pub fn unblocked(&mut self) {
        self.blocked = false;
    }

    /// As [`Stream::unblocked`], after `Sendable`: there was no room before.
    #[inline]
    pub fn has_room(&mut self) {
        self.blocked = false;
        self.pace.held_up();
    }

    /// A send of [`Stream::buffers`] took `n` bytes: [`Stream::advance`], then [`Stream::settle`].
    ///
    /// # Panics
    /// If fewer than `n` bytes are queued.
    #[inline]
    pub fn sent(&mut self, n: usize) -> Progress {
        let flow = self.advance(n, drop);
        let then = self.settle();
        Progress { flow, then }
    }

    /// The first half of [`Stream::sent`]: takes `n` sent bytes off the queue and gives the buffers
    /// that are through to `release`.
    ///
    /// asyncio calls `resume_writing()` between the halves, and what that writes is still sent
    /// although the transport is closing. An embedder does the same by calling the halves.
    ///
    /// # Panics
    /// If fewer than `n` bytes are queued.
    #[inline]
    pub fn advance(&mut self, n: usize, release: impl FnMut(B)) -> Option<Flow> {
        if self.lost > 0 {
            return None;
        }
        self.pace.flushed(self.queue.len());
        self.queue.advance_with(n, release)
    }

    /// The second half of [`Stream::sent`]: what follows when nothing is queued any more. It is said only
    /// once.
    #[inline]
    pub fn settle(&mut self) -> Then {
        if self.lost > 0 || !self.queue.is_empty() {
            return Then::Nothing;
        }
        if self.closing {
            self.lose();
            return Then::Lost;
        }
        if self.eof && !self.shut {
            self.shut = true;
            return Then::Shutdown;
        }
        if self.reserved == Reserved::Soon {
            self.reserved = Reserved::Now;
            return Then::Yours;
        }
        Then::Nothing
    }

    // Sending past the queue.

    /// From now on writes are refused, because somebody else is going to send on the socket itself
    /// (sendfile). `true`: nothing is queued, so it may begin; otherwise [`Then::Yours`] will say
    /// when. To be asked after a flush, and not while [`Stream::is_reserved`].
    pub fn reserve(&mut self) -> bool {
        let free = self.queue.is_empty();
        self.reserved = if free { Reserved::Now } else { Reserved::Soon };
        free
    }

    /// Ends [`Stream::reserve`], whether or not its turn had come.
    pub fn unreserve(&mut self) {
        self.reserved = Reserved::No;
    }

    /// Whether writes are refused because of [`Stream::reserve`].
    #[must_use]
    #[inline]
    pub fn is_reserved(&self) -> bool {
        self.reserved != Reserved::No
    }

    // Ending.

    /// The user writes no more.
    pub fn write_eof(&mut self) -> EofPlan {
        if self.closing || self.eof {
            return EofPlan::Already;
        }
        self.eof = true;
        if self.queue.is_empty() {
            self.shut = true;
            return EofPlan::Shutdown;
        }
        EofPlan::AfterFlush
    }

    /// The user is done with the stream: reading ends, what is queued is sent.
    pub fn close(&mut self) -> ClosePlan {
        if self.closing {
            return ClosePlan::Already;
        }
        self.closing = true;
        if self.queue.is_empty() {
            self.lose();
            return ClosePlan::Lost;
        }
        ClosePlan::Flushing
    }

    /// The connection is lost, by the user's will or by an error; what is queued is dropped
    /// ([`Stream::take_queue`] before, if it must not be dropped here). `true`: schedule
    /// `connection_lost`. `false`: it was lost already.
    pub fn abort(&mut self) -> bool {
        if self.lost > 0 {
            return false;
        }
        self.closing = true;
        self.lose();
        true
    }

    /// Takes every queued buffer out, never to be sent: for use just before [`Stream::abort`].
    pub fn take_queue(&mut self) -> Vec<B> {
        self.queue.clear()
    }

    /// asyncio's `is_closing()`.
    #[must_use]
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether an empty queue leads to something: [`Stream::settle`] says to what.
    #[must_use]
    #[inline]
    pub fn is_ending(&self) -> bool {
        self.closing || self.eof
    }

    /// Whether `write_eof` has been called.
    #[must_use]
    #[inline]
    pub fn eof_requested(&self) -> bool {
        self.eof
    }

    /// Whether `connection_lost` is due or has been called.
    #[must_use]
    #[inline]
    pub fn is_lost(&self) -> bool {
        self.lost > 0
    }

    // The queue.

    /// Whether the protocol was told to pause and not yet to resume.
    #[must_use]
    pub fn is_writing_paused(&self) -> bool {
        self.queue.is_paused()
    }

    /// Sets the water marks, in bytes; see [`WriteQueue::set_limits`].
    ///
    /// # Panics
    /// If `high < low`.
    pub fn set_limits(&mut self, high: usize, low: usize) -> Option<Flow> {
        self.queue.set_limits(high, low)
    }

    /// The water marks in asyncio's order: `(low, high)`.
    #[must_use]
    pub fn limits(&self) -> (usize, usize) {
        self.queue.limits()
    }

    /// How many bytes are queued: asyncio's `get_write_buffer_size()`.
    #[must_use]
    #[inline]
    pub fn buffered(&self) -> usize {
        self.queue.buffered()
    }

    /// Shows every buffer held, for a cycle collector.
    pub fn for_each_buffer(&self, show: impl FnMut(&B)) {
        self.queue.for_each(show);
    }

    fn lose(&mut self) {
        self.lost = 1;
        self.queue.clear();
    }
}
