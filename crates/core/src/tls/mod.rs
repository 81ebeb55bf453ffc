//! One TLS connection on top of a byte stream: what may be read and written, who is to be told
//! what, when to hold back, and how it ends.
//!
//! The rules are those of asyncio's `SSLProtocol` (3.11 and later), without the cipher and without
//! the stream: the embedder owns a codec, which turns bytes into records and back, and a lower
//! transport, which moves the records. It reports what happened to either, and is told what to do
//! next. It runs on the thread of the loop and calls nobody.
//!
//! # The life of a connection
//!
//! *Idle* → [`Tls::begin`] → *handshaking* → [`Tls::shaken`] → *wrapped* → *flushing* (by
//! [`Tls::close`] or by [`Tls::end`], the end of the lower stream: what has arrived is read, what
//! is queued is written) → [`Tls::start_shutdown`] → *shutting down* (the peer's farewell is
//! awaited) → [`Tls::finish`] → *finishing* (the lower transport is being closed) → [`Tls::lost`]
//! → *lost*. [`Tls::abort`] leads from everywhere to *aborted*, which only `lost` leaves.
//!
//! Whenever records have come in, or reading has been resumed, [`Tls::step`] says what they are
//! for.
//!
//! # Time
//!
//! One timer is enough: it runs while handshaking, and again from the moment at which the program
//! or the peer has closed until the connection is lost. When it fires, [`Tls::timed_out`] says what
//! that means.

mod marks;
mod plan;

use crate::write_queue::Flow;
use marks::Marks;

pub use marks::limits;
pub use plan::{Begin, ClosePlan, EndPlan, Lost, Overdue, Shutdown, Step, WritePlan};

/// From this many bytes of records that are not read yet the lower transport stops reading.
pub const READ_HIGH: usize = 256 * 1024;
/// From this many bytes that the lower transport has not got the program is to stop writing.
pub const WRITE_HIGH: usize = 512 * 1024;

/// The state of one TLS connection.
#[derive(Debug)]
pub struct Tls {
    phase: Phase,
    told: Told,
    /// The program's `pause_reading`.
    reading_paused: bool,
    /// The lower transport's `pause_writing`.
    lower_full: bool,
    /// The lower stream has ended.
    ended: bool,
    /// What `is_closing()` says.
    closing: bool,
    /// Bytes of the program's that are not encrypted yet.
    queued: usize,
    /// Writes after the close; the loss of the connection counts as one.
    late: u32,
    reading: Marks,
    writing: Marks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Handshaking,
    Wrapped,
    Flushing,
    ShuttingDown,
    Finishing,
    Aborted,
    Lost,
}

/// What the program's protocol knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Made,
    Eof,
    /// Of the loss, or nothing more by decision.
    Lost,
}

impl Tls {
    /// A connection that has not begun. `made`: the protocol has been told `connection_made` by
    /// another transport, which this one takes over (`start_tls`).
    #[must_use]
    pub fn new(made: bool) -> Self {
        Self {
            phase: Phase::Idle,
            told: if made { Told::Made } else { Told::Nothing },
            reading_paused: false,
            lower_full: false,
            ended: false,
            closing: false,
            queued: 0,
            late: 0,
            reading: Marks::new(READ_HIGH),
            writing: Marks::new(WRITE_HIGH),
        }
    }

    // The handshake.

    /// The lower transport is there.
    pub fn begin(&mut self) -> Begin {
        match self.phase {
            Phase::Idle if self.closing => {
                self.phase = Phase::Aborted;
                Begin::Abort
            }
            Phase::Idle => {
                self.phase = Phase::Handshaking;
                Begin::Handshake
            }
            _ => Begin::Nothing,
        }
    }

    /// What the records that have arrived are for.
    #[must_use]
    #[inline]
    pub fn step(&self) -> Step {
        match self.phase {
            Phase::Handshaking => Step::Handshake,
            Phase::Wrapped => Step::Read,
            Phase::Flushing => Step::Flush,
            Phase::ShuttingDown => Step::Shutdown,
            Phase::Idle | Phase::Finishing | Phase::Aborted | Phase::Lost => Step::Nothing,
        }
    }

    /// The codec has shaken hands: stop the timer. `false`: the connection was aborted meanwhile.
    pub fn shaken(&mut self) -> bool {
        let shaken = self.phase == Phase::Handshaking;
        if shaken {
            self.phase = Phase::Wrapped;
        }
        shaken
    }

    /// Whether `connection_made` is to be called, now that hands are shaken. Says so once.
    pub fn tell_made(&mut self) -> bool {
        let tell = self.phase == Phase::Wrapped && self.told == Told::Nothing;
        if tell {
            self.told = Told::Made;
        }
        tell
    }

    // Reading.

    /// Whether what the codec can decrypt may be given to the protocol.
    #[must_use]
    #[inline]
    pub fn wants_read(&self) -> bool {
        self.can_read() && !self.reading_paused
    }

    /// Whether a read that has begun can go on: it does if the protocol pauses reading meanwhile.
    #[must_use]
    #[inline]
    pub fn can_read(&self) -> bool {
        matches!(self.phase, Phase::Wrapped | Phase::Flushing) && !self.closing
    }

    /// asyncio's `is_reading()`: not paused by the program.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        !self.reading_paused
    }

    /// The program holds reading back.
    pub fn pause_reading(&mut self) {
        self.reading_paused = true;
    }

    /// The program reads on. `true`: take the next [`Tls::step`] soon, for what has arrived.
    pub fn resume_reading(&mut self) -> bool {
        std::mem::take(&mut self.reading_paused)
    }

    /// What the lower transport has to be told, with `pending` bytes of records unread.
    #[inline]
    pub fn read_flow(&mut self, pending: usize) -> Option<Flow> {
        self.reading.update(pending)
    }

    /// Sets the marks for reading; ask [`Tls::read_flow`] after it.
    ///
    /// # Panics
    /// If `high < low`.
    pub fn set_read_limits(&mut self, high: usize, low: usize) {
        self.reading.set(high, low);
    }

    /// The marks for reading: `(low, high)`.
    #[must_use]
    pub fn read_limits(&self) -> (usize, usize) {
        self.reading.limits()
    }

    /// Whether `eof_received` is to be called, now that there is nothing more to read. Says so
    /// once.
    pub fn tell_eof(&mut self) -> bool {
        let tell = self.told == Told::Made;
        if tell {
            self.told = Told::Eof;
        }
        tell
    }

    // Writing.

    /// What to do with what the program writes.
    #[inline]
    pub fn plan_write(&mut self) -> WritePlan {
        match self.phase {
            Phase::Handshaking => WritePlan::Queue,
            Phase::Wrapped if self.lower_full => WritePlan::Queue,
            Phase::Wrapped => WritePlan::Encrypt,
            _ => {
                let before = self.late;
                self.late = self.late.saturating_add(1);
                WritePlan::Late(before)
            }
        }
    }

    /// Bytes of the program's wait to be encrypted.
    #[inline]
    pub fn queue(&mut self, n: usize) {
        self.queued += n;
    }

    /// The codec has taken bytes that waited.
    #[inline]
    pub fn unqueue(&mut self, n: usize) {
        self.queued = self.queued.saturating_sub(n);
    }

    /// Whether what is queued may be encrypted: not before there is room for the records, unless
    /// the farewell is to follow.
    #[must_use]
    #[inline]
    pub fn may_encrypt(&self) -> bool {
        match self.phase {
            Phase::Wrapped => !self.lower_full,
            Phase::Flushing => true,
            _ => false,
        }
    }

    /// Whether records may be handed to the lower transport; once it is to be closed, whatever it
    /// says.
    #[must_use]
    #[inline]
    pub fn may_send(&self) -> bool {
        !self.lower_full || matches!(self.phase, Phase::Finishing | Phase::Aborted)
    }

    /// The lower transport's `pause_writing`.
    pub fn lower_full(&mut self) {
        self.lower_full = true;
    }

    /// The lower transport's `resume_writing`: hand it what has gathered, encrypt what is queued.
    pub fn lower_drained(&mut self) {
        self.lower_full = false;
    }

    /// What is not with the lower transport yet, in bytes, with `pending` bytes of records.
    #[must_use]
    #[inline]
    pub fn unsent(&self, pending: usize) -> usize {
        self.queued + pending
    }

    /// What the program has to be told, with `pending` bytes of records that the lower transport
    /// has not got.
    #[inline]
    pub fn write_flow(&mut self, pending: usize) -> Option<Flow> {
        self.writing.update(self.queued + pending)
    }

    /// Whether the program has been told to stop writing.
    #[must_use]
    pub fn is_writing_paused(&self) -> bool {
        self.writing.is_over()
    }

    /// Sets the marks for writing; ask [`Tls::write_flow`] after it.
    ///
    /// # Panics
    /// If `high < low`.
    pub fn set_write_limits(&mut self, high: usize, low: usize) {
        self.writing.set(high, low);
    }

    /// The marks for writing: `(low, high)`.
    #[must_use]
    pub fn write_limits(&self) -> (usize, usize) {
        self.writing.limits()
    }

    // Ending.

    /// The program is done with the connection, or the peer has said farewell.
    pub fn close(&mut self) -> ClosePlan {
        let before = std::mem::replace(&mut self.closing, true);
        match self.phase {
            Phase::Handshaking => {
                self.phase = Phase::Aborted;
                ClosePlan::Abort
            }
            Phase::Wrapped => {
                self.phase = Phase::Flushing;
                ClosePlan::Flush
            }
            // The lower stream had ended while reading was paused: nobody wants the rest any more.
            Phase::Flushing if !before => ClosePlan::Flush,
            _ => ClosePlan::Nothing,
        }
    }

    /// The lower stream has ended.
    pub fn end(&mut self) -> EndPlan {
        self.ended = true;
        match self.phase {
            Phase::Handshaking => {
                self.phase = Phase::Aborted;
                EndPlan::Fail
            }
            Phase::Wrapped => {
                self.phase = Phase::Flushing;
                if self.reading_paused {
                    EndPlan::Keep
                } else {
                    EndPlan::Flush
                }
            }
            Phase::Flushing => EndPlan::Flush,
            Phase::ShuttingDown => EndPlan::Shutdown,
            Phase::Idle | Phase::Finishing | Phase::Aborted | Phase::Lost => EndPlan::Nothing,
        }
    }

    /// What is queued has been written; `drained`: what has arrived has been read. `false`: this is
    /// not the time for it, and if the lower stream has ended the lower transport must stay open.
    pub fn start_shutdown(&mut self, drained: bool) -> bool {
        let start = self.phase == Phase::Flushing && (self.closing || drained);
        if start {
            self.phase = Phase::ShuttingDown;
        }
        start
    }

    /// Whether the rest of an ended stream still waits to be read: the lower transport must stay
    /// open for that.
    #[must_use]
    pub fn keeps_open(&self) -> bool {
        self.phase == Phase::Flushing && !self.closing
    }

    /// How the farewell goes on.
    #[must_use]
    pub fn shutdown(&self) -> Shutdown {
        match self.phase {
            Phase::ShuttingDown if self.ended => Shutdown::Finish,
            Phase::ShuttingDown => Shutdown::Unwrap,
            _ => Shutdown::Nothing,
        }
    }

    /// Farewells are exchanged, or nobody is left to exchange them with. `true`: close the lower
    /// transport, which still sends what it was given.
    pub fn finish(&mut self) -> bool {
        let finish = self.phase == Phase::ShuttingDown;
        if finish {
            self.phase = Phase::Finishing;
            self.closing = true;
        }
        finish
    }

    /// The end, by the program's will or by an error. `true`: abort the lower transport.
    pub fn abort(&mut self) -> bool {
        self.closing = true;
        let abort = !matches!(self.phase, Phase::Idle | Phase::Aborted | Phase::Lost);
        if abort {
            self.phase = Phase::Aborted;
        }
        abort
    }

    /// The timer has fired.
    pub fn timed_out(&mut self) -> Option<Overdue> {
        let overdue = match self.phase {
            Phase::Handshaking => {
                // asyncio tells a protocol of `start_tls` of every failure but this one.
                self.told = Told::Lost;
                Overdue::Handshake
            }
            Phase::Flushing | Phase::ShuttingDown | Phase::Finishing => Overdue::Shutdown,
            Phase::Idle | Phase::Wrapped | Phase::Aborted | Phase::Lost => return None,
        };
        self.phase = Phase::Aborted;
        self.closing = true;
        Some(overdue)
    }

    /// The lower transport is gone, and the timer with it.
    pub fn lost(&mut self) -> Lost {
        let tell = self.phase != Phase::Handshaking && matches!(self.told, Told::Made | Told::Eof);
        let first = self.phase != Phase::Lost;
        self.phase = Phase::Lost;
        self.told = Told::Lost;
        self.closing = true;
        self.queued = 0;
        if first {
            self.late = self.late.saturating_add(1);
        }
        Lost { tell }
    }

    /// asyncio's `is_closing()`.
    #[must_use]
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether the lower transport is gone.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.phase == Phase::Lost
    }
}
