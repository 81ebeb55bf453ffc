//! `Stream` against asyncio's rules, written once more in a plainer way, over a socket that takes
//! as much as it likes.

mod cases;

use std::io::IoSlice;

use oxlip_core::op::MAX_BUFFERS;
use oxlip_core::stream::{ClosePlan, EofPlan, Progress, Stream, Then, WritePlan};
use oxlip_core::write_queue::Flow;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Start,
    PauseReading,
    ResumeReading,
    PeerEnds,
    EndReading,
    /// A write of `len` bytes, in the next handle or in the one that runs. If it is to be sent at
    /// once the socket takes `takes` bytes of it, or nothing and says pending.
    Write {
        len: usize,
        next_run: bool,
        takes: Option<usize>,
    },
    WriteLines(Vec<usize>),
    WriteEof,
    Close,
    Abort,
    SetLimits {
        high: usize,
        low: usize,
    },
    /// One send of what is queued, as `takes` above.
    Flush {
        takes: Option<usize>,
        in_halves: bool,
    },
    Sendable,
    /// The second half of a flush once more.
    Settle,
}

fn takes() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![
        2 => Just(None),
        3 => (0..50usize).prop_map(Some),
        3 => Just(Some(usize::MAX)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let write =
        (1..60usize, any::<bool>(), takes()).prop_map(|(len, next_run, takes)| Step::Write {
            len,
            next_run,
            takes,
        });
    let limits = (0..200usize, 0..200usize).prop_map(|(a, b)| Step::SetLimits {
        high: a.max(b),
        low: a.min(b),
    });
    let flush =
        (takes(), any::<bool>()).prop_map(|(takes, in_halves)| Step::Flush { takes, in_halves });
    prop_oneof![
        8 => Just(Step::Start),
        4 => Just(Step::PauseReading),
        4 => Just(Step::ResumeReading),
        1 => Just(Step::PeerEnds),
        1 => Just(Step::EndReading),
        40 => write,
        8 => prop::collection::vec(1..30usize, 1..90).prop_map(Step::WriteLines),
        1 => Just(Step::WriteEof),
        1 => Just(Step::Close),
        1 => Just(Step::Abort),
        2 => limits,
        25 => flush,
        15 => Just(Step::Sendable),
        3 => Just(Step::Settle),
    ]
}

/// What asyncio keeps for such a stream, and what its user and its peer have seen.
#[derive(Default)]
struct Model {
    started: bool,
    paused: bool,
    ended: bool,
    idle: bool,
    closing: bool,
    eof: bool,
    shut: bool,
    lost: Option<u32>,
    blocked: bool,
    high: usize,
    low: usize,
    protocol_paused: bool,
    /// Everything the user has written and the stream has accepted.
    accepted: Vec<u8>,
    /// What of it the socket has taken.
    wire: Vec<u8>,
    run: u64,
    direct_run: Option<u64>,
}

impl Model {
    fn buffered(&self) -> usize {
        if self.lost.is_some() {
            0
        } else {
            self.accepted.len() - self.wire.len()
        }
    }

    fn lose(&mut self) {
        assert_eq!(self.lost, None, "lost twice");
        self.closing = true;
        self.lost = Some(0);
    }

    fn grown(&mut self) -> Option<Flow> {
        let pause = !self.protocol_paused && self.buffered() > self.high;
        self.protocol_paused |= pause;
        pause.then_some(Flow::Pause)
    }

    fn shrunk(&mut self) -> Option<Flow> {
        let resume = self.protocol_paused && self.buffered() <= self.low;
        self.protocol_paused &= !resume;
        resume.then_some(Flow::Resume)
    }

    /// What follows a send, with the effect of it.
    fn settle(&mut self) -> Then {
        if self.lost.is_some() || self.buffered() > 0 {
            Then::Nothing
        } else if self.closing {
            assert_eq!(self.accepted, self.wire, "closed before all was sent");
            self.lose();
            Then::Lost
        } else if self.eof && !self.shut {
            self.shut = true;
            Then::Shutdown
        } else {
            Then::Nothing
        }
    }

    /// `None` if a write is accepted.
    fn refusal(&mut self) -> Option<WritePlan> {
        if self.eof {
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
    byte: u8,
}

impl Pair {
    fn new() -> Self {
        let mut stream = Stream::new();
        assert_eq!(stream.limits(), (16 * 1024, 64 * 1024));
        assert_eq!(stream.set_limits(120, 30), None);
        let model = Model {
            high: 120,
            low: 30,
            ..Model::default()
        };
        Self {
            stream,
            model,
            byte: 0,
        }
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let first = self.byte;
        self.byte = first.wrapping_add(len as u8);
        (0..len).map(|n| first.wrapping_add(n as u8)).collect()
    }

    fn write(
        &mut self,
        len: usize,
        next_run: bool,
        takes: Option<usize>,
    ) -> Result<(), TestCaseError> {
        self.model.run += u64::from(next_run);
        let plan = self.stream.plan_write(self.model.run);
        if let Some(refusal) = self.model.refusal() {
            prop_assert_eq!(plan, refusal);
            return Ok(());
        }
        let bytes = self.bytes(len);
        match plan {
            WritePlan::Now => {
                prop_assert_eq!(self.model.buffered(), 0, "it would overtake what is queued");
                prop_assert_ne!(self.model.direct_run, Some(self.model.run));
                self.model.direct_run = Some(self.model.run);
                let taken = takes.unwrap_or(0).min(len);
                self.model.accepted.extend(&bytes);
                self.model.wire.extend(&bytes[..taken]);
                let flow = self.stream.push(bytes, taken);
                prop_assert_eq!(flow, self.model.grown());
                if takes.is_none() {
                    self.stream.blocked();
                    self.model.blocked = true;
                }
            }
            WritePlan::Later => {
                prop_assert!(
                    self.model.buffered() > 0 || self.model.direct_run.is_some(),
                    "nothing yet gave a reason to wait"
                );
                self.model.accepted.extend(&bytes);
                prop_assert_eq!(self.stream.push(bytes, 0), self.model.grown());
            }
            WritePlan::Refused | WritePlan::Lost(_) => prop_assert!(false, "{:?}", plan),
        }
        Ok(())
    }

    fn write_lines(&mut self, lens: Vec<usize>) -> Result<(), TestCaseError> {
        let plan = self.stream.plan_write_many();
        if let Some(refusal) = self.model.refusal() {
            prop_assert_eq!(plan, refusal);
            return Ok(());
        }
        prop_assert_eq!(plan, WritePlan::Later);
        for len in lens {
            let bytes = self.bytes(len);
            self.model.accepted.extend(&bytes);
            prop_assert_eq!(self.stream.push(bytes, 0), self.model.grown());
        }
        Ok(())
    }

    fn flush(&mut self, takes: Option<usize>, in_halves: bool) -> Result<(), TestCaseError> {
        if !self.stream.needs_flush() {
            return Ok(());
        }
        let mut slices = Vec::new();
        self.stream.buffers(&mut slices);
        prop_assert!(!slices.is_empty() && slices.len() <= MAX_BUFFERS);
        let given: Vec<u8> = slices
            .iter()
            .flat_map(|slice: &IoSlice| slice.to_vec())
            .collect();
        drop(slices);
        let Some(takes) = takes else {
            self.stream.blocked();
            self.model.blocked = true;
            return Ok(());
        };
        let taken = takes.min(given.len());
        self.model.wire.extend(&given[..taken]);
        let progress = if in_halves {
            let flow = self.stream.advance(taken, drop);
            let then = self.stream.settle();
            Progress { flow, then }
        } else {
            self.stream.sent(taken)
        };
        prop_assert_eq!(progress.flow, self.model.shrunk());
        prop_assert_eq!(progress.then, self.model.settle());
        Ok(())
    }

    fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
        let reading = !self.model.closing && !self.model.paused;
        match step {
            Step::Start => {
                self.stream.start();
                self.model.started = true;
            }
            Step::PauseReading => {
                prop_assert_eq!(self.stream.pause_reading(), reading);
                self.model.paused |= reading;
            }
            Step::ResumeReading => {
                let resumes = self.model.paused && !self.model.closing;
                prop_assert_eq!(self.stream.resume_reading(), resumes);
                self.model.paused &= !resumes;
                self.model.idle &= !resumes;
            }
            Step::PeerEnds => {
                self.stream.peer_ended();
                self.model.ended = true;
            }
            Step::EndReading => {
                self.stream.end_reading();
                self.model.idle = true;
            }
            Step::Write {
                len,
                next_run,
                takes,
            } => self.write(len, next_run, takes)?,
            Step::WriteLines(lens) => self.write_lines(lens)?,
            Step::WriteEof => {
                let expected = if self.model.closing || self.model.eof {
                    EofPlan::Already
                } else if self.model.buffered() == 0 {
                    self.model.shut = true;
                    EofPlan::Shutdown
                } else {
                    EofPlan::AfterFlush
                };
                self.model.eof |= expected != EofPlan::Already;
                prop_assert_eq!(self.stream.write_eof(), expected);
            }
            Step::Close => {
                let expected = if self.model.closing {
                    ClosePlan::Already
                } else if self.model.buffered() == 0 {
                    self.model.lose();
                    ClosePlan::Lost
                } else {
                    self.model.closing = true;
                    ClosePlan::Flushing
                };
                prop_assert_eq!(self.stream.close(), expected);
            }
            Step::Abort => {
                let expected = self.model.lost.is_none();
                if expected {
                    self.model.lose();
                }
                prop_assert_eq!(self.stream.abort(), expected);
            }
            Step::SetLimits { high, low } => {
                (self.model.high, self.model.low) = (high, low);
                prop_assert_eq!(self.stream.set_limits(high, low), self.model.grown());
                prop_assert_eq!(self.stream.limits(), (low, high));
            }
            Step::Flush { takes, in_halves } => self.flush(takes, in_halves)?,
            Step::Sendable => {
                self.stream.unblocked();
                self.model.blocked = false;
            }
            Step::Settle => prop_assert_eq!(self.stream.settle(), self.model.settle()),
        }
        Ok(())
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        let (stream, model) = (&self.stream, &self.model);
        let reading = !model.closing && !model.paused;
        prop_assert_eq!(stream.is_reading(), reading);
        prop_assert_eq!(stream.wants_read(), model.started && reading && !model.idle);
        prop_assert_eq!(stream.has_ended(), model.ended);
        prop_assert_eq!(stream.is_closing(), model.closing);
        prop_assert_eq!(stream.eof_requested(), model.eof);
        prop_assert_eq!(stream.is_lost(), model.lost.is_some());
        prop_assert_eq!(stream.buffered(), model.buffered());
        prop_assert_eq!(stream.needs_flush(), model.buffered() > 0 && !model.blocked);
        prop_assert!(model.accepted.starts_with(&model.wire), "not in order");
        let unsent = stream.unsent().collect::<Vec<_>>().concat();
        prop_assert_eq!(
            &unsent[..],
            &model.accepted[model.accepted.len() - unsent.len()..]
        );
        prop_assert_eq!(unsent.len(), model.buffered());
        let mut held = 0;
        stream.for_each_buffer(|buffer| held += buffer.len());
        prop_assert!(held >= model.buffered() && (held > 0) == (model.buffered() > 0));
        Ok(())
    }
}

proptest! {
    #![proptest_config(cases::cases())]

    #[test]
    fn keeps_asyncios_rules(steps in prop::collection::vec(step(), 1..cases::STEPS)) {
        let mut pair = Pair::new();
        for step in steps {
            pair.apply(step)?;
            pair.compare()?;
        }
        // Whatever happened, a socket that takes everything sees it all, and a close gets through.
        pair.apply(Step::Close)?;
        pair.apply(Step::Sendable)?;
        while pair.stream.needs_flush() {
            pair.flush(Some(usize::MAX), false)?;
            pair.compare()?;
        }
        prop_assert!(pair.stream.is_lost());
    }
}

#[test]
fn what_resume_writing_writes_is_sent_before_a_closing_stream_is_lost() {
    let mut stream = Stream::new();
    stream.set_limits(1, 0);
    assert_eq!(stream.plan_write(1), WritePlan::Now);
    assert_eq!(stream.push(b"abc".to_vec(), 1), Some(Flow::Pause));
    assert_eq!(stream.close(), ClosePlan::Flushing);
    assert_eq!(stream.advance(2, drop), Some(Flow::Resume));
    // The protocol writes once more from resume_writing().
    assert_eq!(stream.plan_write(2), WritePlan::Now);
    assert_eq!(stream.push(b"d".to_vec(), 0), None);
    assert_eq!(stream.settle(), Then::Nothing);
    assert_eq!(
        stream.sent(1),
        Progress {
            flow: None,
            then: Then::Lost
        }
    );
    assert_eq!(stream.settle(), Then::Nothing);
}

#[test]
fn a_reserved_stream_refuses_writes_and_says_when_its_queue_is_empty() {
    let mut stream = Stream::new();
    assert!(stream.reserve());
    assert_eq!(stream.plan_write(1), WritePlan::Refused);
    assert_eq!(stream.settle(), Then::Nothing);
    stream.unreserve();
    assert_eq!(stream.plan_write(2), WritePlan::Now);
    stream.push(b"abc".to_vec(), 0);
    stream.blocked();
    assert_eq!(stream.write_eof(), EofPlan::AfterFlush);
    assert!(!stream.reserve());
    stream.unblocked();
    assert_eq!(stream.sent(2).then, Then::Nothing);
    // The end of the stream, which was asked for before, and then whose turn it is: once.
    assert_eq!(stream.sent(1).then, Then::Shutdown);
    assert_eq!(stream.settle(), Then::Yours);
    assert_eq!(stream.settle(), Then::Nothing);
    assert!(stream.is_reserved());
}

#[test]
fn buffers_can_be_dropped_elsewhere() {
    let mut stream = Stream::new();
    for byte in [b"a", b"b", b"c"] {
        stream.push(byte, 0);
    }
    let mut through = Vec::new();
    stream.advance(1, |buffer| through.push(buffer));
    assert_eq!(through, [b"a"]);
    assert_eq!(stream.take_queue(), [b"b", b"c"]);
    assert!(stream.abort());
    assert_eq!(stream.push(b"d", 0), None);
    assert_eq!(stream.buffered(), 0);
}

/// What an embedder does with a write, over a socket that always takes everything: how many sends
/// left in this handle, and how many when it was over.
fn run_handle(stream: &mut Stream<Vec<u8>>, run: u64, writes: usize) -> (usize, usize) {
    let mut at_once = 0;
    for _ in 0..writes {
        match stream.plan_write(run) {
            WritePlan::Now => at_once += 1,
            WritePlan::Later => assert_eq!(stream.push(vec![0; 10], 0), None),
            refusal => panic!("{refusal:?}"),
        }
    }
    let mut at_the_end = 0;
    while stream.needs_flush() {
        at_the_end += 1;
        stream.sent(stream.buffered());
    }
    (at_once, at_the_end)
}

#[test]
fn a_peer_that_waits_for_each_answer_gets_it_at_once() {
    let mut stream = Stream::new();
    for run in 0..10 {
        assert_eq!(run_handle(&mut stream, run, 1), (1, 0));
    }
}

#[test]
fn head_and_body_leave_together_once_it_is_known_that_there_are_two() {
    let mut stream = Stream::new();
    assert_eq!(run_handle(&mut stream, 0, 2), (1, 1));
    for run in 1..10 {
        assert_eq!(run_handle(&mut stream, run, 2), (0, 1));
    }
}

#[test]
fn a_stream_that_stops_writing_twice_is_answered_at_once_again() {
    let mut stream = Stream::new();
    run_handle(&mut stream, 0, 5);
    assert_eq!(run_handle(&mut stream, 1, 1), (0, 1));
    assert_eq!(run_handle(&mut stream, 2, 1), (1, 0));
}

#[test]
fn a_flush_that_was_held_up_teaches_nothing() {
    let mut stream = Stream::new();
    run_handle(&mut stream, 0, 2);
    assert_eq!(stream.plan_write(1), WritePlan::Later);
    stream.push(vec![0; 10], 0);
    stream.blocked();
    assert!(!stream.needs_flush());
    stream.unblocked();
    stream.sent(10);
    assert_eq!(run_handle(&mut stream, 2, 2), (0, 1));
}

/// Whether a single write in a handle of its own is sent directly again.
fn stops_gathering(pend: fn(&mut Stream<Vec<u8>>), answer: fn(&mut Stream<Vec<u8>>)) -> bool {
    let mut stream: Stream<Vec<u8>> = Stream::new();
    stream.start();
    // Twice in one handle: it gathers from here on.
    assert_eq!(stream.plan_write(1), WritePlan::Now);
    assert_eq!(stream.plan_write(1), WritePlan::Later);
    stream.push(vec![0], 0);
    stream.sent(1);
    // Once in the next handle, and what that writes is pending.
    assert_eq!(stream.plan_write(2), WritePlan::Later);
    stream.push(vec![0], 0);
    pend(&mut stream);
    assert!(!stream.needs_flush());
    answer(&mut stream);
    assert!(stream.needs_flush());
    stream.sent(1);
    stream.plan_write(3) == WritePlan::Now
}

#[test]
fn a_send_on_its_way_is_no_backlog() {
    assert!(stops_gathering(Stream::submitted, Stream::unblocked));
    // But want of room is, whenever it is known: then a flush finds what several handles wrote.
    assert!(!stops_gathering(Stream::blocked, Stream::unblocked));
    assert!(!stops_gathering(Stream::submitted, Stream::has_room));
}
