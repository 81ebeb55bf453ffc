//! `Stream` against the rules of asyncio's socket transport, written once more in a plainer way.
//!
//! The socket below takes as much as the fuzzer likes; the protocol above writes from
//! `resume_writing()` too.
#![no_main]

use std::io::IoSlice;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use oxlip_core::op::MAX_BUFFERS;
use oxlip_core::stream::{ClosePlan, EofPlan, Stream, Then, WritePlan};
use oxlip_core::write_queue::Flow;

#[derive(Arbitrary, Debug)]
enum Op {
    Start,
    PauseReading,
    ResumeReading,
    EndReading,
    /// In the next handle, or in the one that runs. If it is to be sent at once the socket takes
    /// `takes` bytes of it, or says pending.
    Write {
        len: u8,
        next_run: bool,
        takes: Option<u8>,
    },
    WriteLarge(u16),
    WriteLines {
        count: u8,
        len: u8,
    },
    WriteEof,
    Close,
    Abort {
        take_queue: bool,
    },
    SetLimits(u16, u16),
    /// One send of what is queued. `answers`: what `resume_writing()` writes, if it is called.
    Flush {
        takes: Option<u16>,
        answers: u8,
    },
    Sendable,
    Settle,
    Reserve,
    Unreserve,
}

/// Bytes that do not repeat soon: those that change places are seen.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let hash = |n: u32| (n.wrapping_mul(0x9e37_79b1) >> 24) as u8;
    (0..1 << 18).map(hash).collect()
});

/// What the rules say about a stream, and what was seen of it.
#[derive(Default)]
struct Model {
    started: bool,
    paused: bool,
    ended: bool,
    closing: bool,
    eof: bool,
    shut: bool,
    /// How many writes came after the loss.
    lost: Option<u32>,
    blocked: bool,
    high: usize,
    low: usize,
    writing_paused: bool,
    /// Who has reserved the stream waits for its turn, or has got it.
    waiting: bool,
    reserved: bool,
    /// What was written and accepted; the first `wire` bytes of it have been sent.
    written: Vec<u8>,
    wire: usize,
    /// What was queued when the connection was lost.
    dropped: usize,
    run: u64,
    last_direct: Option<u64>,
    /// Two writes in one handle have been seen.
    gathered: bool,
}

impl Model {
    fn buffered(&self) -> usize {
        self.written.len() - self.wire - self.dropped
    }

    fn lose(&mut self) {
        assert!(self.lost.is_none());
        self.dropped = self.buffered();
        self.closing = true;
        self.lost = Some(0);
    }

    fn grown(&mut self) -> Option<Flow> {
        let pause = !self.writing_paused && self.buffered() > self.high;
        self.writing_paused |= pause;
        pause.then_some(Flow::Pause)
    }

    fn shrunk(&mut self) -> Option<Flow> {
        let resume = self.writing_paused && self.buffered() <= self.low;
        self.writing_paused &= !resume;
        resume.then_some(Flow::Resume)
    }

    fn settle(&mut self) -> Then {
        if self.lost.is_some() || self.buffered() > 0 {
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
        if std::mem::take(&mut self.waiting) {
            return Then::Yours;
        }
        Then::Nothing
    }

    /// Why a write is not accepted, if it is not.
    fn refusal(&mut self) -> Option<WritePlan> {
        if self.eof || self.reserved {
            return Some(WritePlan::Refused);
        }
        let count = self.lost.as_mut()?;
        *count += 1;
        Some(WritePlan::Lost(*count))
    }
}

struct Pair {
    stream: Stream<Vec<u8>>,
    model: Model,
    made: usize,
}

impl Pair {
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let from = self.made;
        self.made = (from + len) % (PATTERN.len() / 2);
        PATTERN[from..from + len].to_vec()
    }

    fn write(&mut self, len: usize, next_run: bool, takes: Option<usize>) {
        self.model.run += u64::from(next_run);
        let plan = self.stream.plan_write(self.model.run);
        if let Some(refusal) = self.model.refusal() {
            assert_eq!(plan, refusal);
            return;
        }
        let bytes = self.bytes(len);
        let empty = self.model.buffered() == 0;
        let again = self.model.last_direct == Some(self.model.run);
        self.model.written.extend(&bytes);
        match plan {
            WritePlan::Now => {
                assert!(empty, "it would overtake what is queued");
                assert!(!again, "a second send in one handle");
                self.model.last_direct = Some(self.model.run);
                let taken = takes.unwrap_or(0).min(len);
                self.model.wire += taken;
                assert_eq!(self.stream.push(bytes, taken), self.model.grown());
                if takes.is_none() {
                    self.stream.blocked();
                    self.model.blocked = true;
                }
            }
            WritePlan::Later => {
                self.model.gathered |= empty && again;
                assert!(!empty || self.model.gathered, "nothing to wait for");
                assert_eq!(self.stream.push(bytes, 0), self.model.grown());
            }
            WritePlan::Refused | WritePlan::Lost(_) => panic!("{plan:?}"),
        }
    }

    fn write_lines(&mut self, count: u8, len: usize) {
        let plan = self.stream.plan_write_many();
        if let Some(refusal) = self.model.refusal() {
            assert_eq!(plan, refusal);
            return;
        }
        assert_eq!(plan, WritePlan::Later);
        for _ in 0..count {
            let bytes = self.bytes(len);
            self.model.written.extend(&bytes);
            assert_eq!(self.stream.push(bytes, 0), self.model.grown());
        }
    }

    fn flush(&mut self, takes: Option<usize>, answers: u8) {
        if !self.stream.needs_flush() {
            return;
        }
        let mut slices: Vec<IoSlice<'_>> = Vec::new();
        self.stream.buffers(&mut slices);
        assert!((1..=MAX_BUFFERS).contains(&slices.len()));
        let given = slices
            .iter()
            .map(|slice| &**slice)
            .collect::<Vec<_>>()
            .concat();
        assert!(self.model.written[self.model.wire..].starts_with(&given));
        let Some(takes) = takes else {
            self.stream.blocked();
            self.model.blocked = true;
            return;
        };
        let taken = takes.min(given.len());
        self.model.wire += taken;
        let flow = self.stream.advance(taken, drop);
        assert_eq!(flow, self.model.shrunk());
        if flow == Some(Flow::Resume) {
            for _ in 0..answers % 4 {
                self.write(1 + usize::from(answers), false, None);
            }
        }
        assert_eq!(self.stream.settle(), self.model.settle());
    }

    fn apply(&mut self, op: &Op) {
        let reading = !self.model.closing && !self.model.paused;
        match *op {
            Op::Start => {
                self.stream.start();
                self.model.started = true;
            }
            Op::PauseReading => {
                assert_eq!(self.stream.pause_reading(), reading);
                self.model.paused |= reading;
            }
            Op::ResumeReading => {
                let resumes = self.model.paused && !self.model.closing;
                assert_eq!(self.stream.resume_reading(), resumes);
                self.model.paused &= !resumes;
            }
            Op::EndReading => {
                self.stream.end_reading();
                self.model.ended = true;
            }
            Op::Write {
                len,
                next_run,
                takes,
            } => self.write(usize::from(len) + 1, next_run, takes.map(usize::from)),
            Op::WriteLarge(len) => self.write(usize::from(len) + 1, true, Some(0)),
            Op::WriteLines { count, len } => self.write_lines(count, usize::from(len)),
            Op::WriteEof => self.write_eof(),
            Op::Close => self.close(),
            Op::Abort { take_queue } => {
                if take_queue && self.model.lost.is_none() {
                    let queued = self.stream.take_queue().concat();
                    let unsent = &self.model.written[self.model.wire..];
                    assert!(queued.ends_with(unsent));
                }
                let first = self.model.lost.is_none();
                if first {
                    self.model.lose();
                }
                assert_eq!(self.stream.abort(), first);
            }
            Op::SetLimits(one, other) => {
                let (high, low) = (one.max(other).into(), one.min(other).into());
                (self.model.high, self.model.low) = (high, low);
                assert_eq!(self.stream.set_limits(high, low), self.model.grown());
                assert_eq!(self.stream.limits(), (low, high));
            }
            Op::Flush { takes, answers } => self.flush(takes.map(usize::from), answers),
            Op::Sendable => {
                self.stream.unblocked();
                self.model.blocked = false;
            }
            Op::Settle => assert_eq!(self.stream.settle(), self.model.settle()),
            Op::Reserve if self.model.reserved => {}
            Op::Reserve => {
                let free = self.model.buffered() == 0;
                assert_eq!(self.stream.reserve(), free);
                self.model.reserved = true;
                self.model.waiting = !free;
            }
            Op::Unreserve => {
                self.stream.unreserve();
                self.model.reserved = false;
                self.model.waiting = false;
            }
        }
    }

    fn write_eof(&mut self) {
        let expected = if self.model.closing || self.model.eof {
            EofPlan::Already
        } else if self.model.buffered() == 0 {
            self.model.shut = true;
            EofPlan::Shutdown
        } else {
            EofPlan::AfterFlush
        };
        self.model.eof |= expected != EofPlan::Already;
        assert_eq!(self.stream.write_eof(), expected);
    }

    fn close(&mut self) {
        let expected = if self.model.closing {
            ClosePlan::Already
        } else if self.model.buffered() == 0 {
            self.model.lose();
            ClosePlan::Lost
        } else {
            self.model.closing = true;
            ClosePlan::Flushing
        };
        assert_eq!(self.stream.close(), expected);
    }

    fn compare(&self) {
        let (stream, model) = (&self.stream, &self.model);
        let reading = !model.closing && !model.paused;
        let wants = model.started && reading && !model.ended;
        assert_eq!(stream.is_reading(), reading);
        assert_eq!(stream.wants_read(), wants);
        assert_eq!(stream.is_closing(), model.closing);
        assert_eq!(stream.is_ending(), model.closing || model.eof);
        assert_eq!(stream.eof_requested(), model.eof);
        assert_eq!(stream.is_lost(), model.lost.is_some());
        assert_eq!(stream.is_reserved(), model.reserved);
        assert_eq!(stream.is_writing_paused(), model.writing_paused);
        assert_eq!(stream.buffered(), model.buffered());
        let flush = model.buffered() > 0 && !model.blocked;
        assert_eq!(stream.needs_flush(), flush);
        let mut rest = &model.written[model.wire..][..model.buffered()];
        for slice in stream.unsent() {
            assert!(rest.starts_with(slice));
            rest = &rest[slice.len()..];
        }
        assert!(rest.is_empty());
    }
}

fuzz_target!(|ops: Vec<Op>| {
    let mut pair = Pair {
        stream: Stream::new(),
        model: Model {
            high: 64 * 1024,
            low: 16 * 1024,
            ..Model::default()
        },
        made: 0,
    };
    for op in &ops {
        pair.apply(op);
        pair.compare();
    }
    // Whatever has happened, a close gets through as soon as the socket takes everything.
    pair.apply(&Op::Close);
    pair.apply(&Op::Sendable);
    while pair.stream.needs_flush() {
        pair.flush(Some(usize::MAX), 0);
        pair.compare();
    }
    assert!(pair.stream.is_lost());
});
