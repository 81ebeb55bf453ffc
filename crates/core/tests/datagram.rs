//! `Endpoint` against asyncio's rules, written once more in a plainer way, over a socket that takes
//! what it likes and refuses what it likes.

mod cases;

use oxlip_core::datagram::{ClosePlan, Endpoint, Flow, SendPlan};
use oxlip_core::op::MAX_DATAGRAMS;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Start,
    PauseReading,
    ResumeReading,
    Send {
        len: usize,
        answer: Answer,
    },
    /// `Sendable`, and what the socket says to each that is then tried.
    Sendable(Vec<Answer>),
    Close,
    Abort,
    SetLimits {
        high: usize,
        low: usize,
    },
    Received(usize),
}

/// What a socket says to one datagram.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Taken,
    Full,
    Refused,
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        4 => Just(Answer::Taken),
        3 => Just(Answer::Full),
        1 => Just(Answer::Refused),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Start),
        4 => Just(Step::PauseReading),
        4 => Just(Step::ResumeReading),
        40 => (0..60usize, answer()).prop_map(|(len, answer)| Step::Send { len, answer }),
        20 => prop::collection::vec(answer(), 1..20).prop_map(Step::Sendable),
        1 => Just(Step::Close),
        1 => Just(Step::Abort),
        3 => (0..300usize, 0..300usize).prop_map(|(a, b)| Step::SetLimits {
            high: a.max(b),
            low: a.min(b),
        }),
        4 => (0..40usize).prop_map(Step::Received),
        1 => (40..5000usize).prop_map(Step::Received),
    ]
}

/// What asyncio keeps for such a socket, and what everybody has seen. Datagrams are told apart by
/// their address, which counts up.
#[derive(Default)]
struct Model {
    header: usize,
    started: bool,
    paused: bool,
    closing: bool,
    lost: bool,
    high: usize,
    low: usize,
    protocol_paused: bool,
    queue: Vec<(usize, u64)>,
    next: u64,
    wire: Vec<u64>,
}

impl Model {
    fn size(&self) -> usize {
        self.queue.iter().map(|(len, _)| len + self.header).sum()
    }

    fn maybe_pause(&mut self) -> Option<Flow> {
        let pause = !self.protocol_paused && self.size() > self.high;
        self.protocol_paused |= pause;
        pause.then_some(Flow::Pause)
    }

    fn maybe_resume(&mut self) -> Option<Flow> {
        let resume = self.protocol_paused && self.size() <= self.low;
        self.protocol_paused &= !resume;
        resume.then_some(Flow::Resume)
    }
}

type Machine = Endpoint<Vec<u8>, u64>;

fn check(machine: &Machine, model: &Model) {
    assert_eq!(machine.buffered(), model.size());
    assert_eq!(machine.len(), model.queue.len());
    assert_eq!(machine.is_empty(), model.queue.is_empty());
    assert_eq!(machine.limits(), (model.low, model.high));
    assert_eq!(machine.is_closing(), model.closing);
    assert_eq!(machine.is_reading(), !model.closing && !model.paused);
    assert_eq!(
        machine.wants_read(),
        model.started && !model.closing && !model.paused
    );
    let queued: Vec<_> = machine.queued().map(|(buf, to)| (buf.len(), *to)).collect();
    assert_eq!(queued, model.queue);
    assert!((1..=MAX_DATAGRAMS).contains(&machine.batch()));
}

fn send(machine: &mut Machine, model: &mut Model, len: usize, answer: Answer) {
    let (data, to) = (vec![0; len], model.next);
    model.next += 1;
    let plan = machine.plan_send();
    if model.lost {
        assert_eq!(plan, SendPlan::Lost);
        return;
    }
    if model.queue.is_empty() {
        assert_eq!(plan, SendPlan::Now);
        match answer {
            Answer::Taken => model.wire.push(to),
            Answer::Refused => {}
            Answer::Full => machine.blocked(),
        }
        if answer != Answer::Full {
            return;
        }
    } else {
        assert_eq!(plan, SendPlan::Later);
    }
    model.queue.push((len, to));
    let flow = model.maybe_pause();
    assert_eq!(machine.push(data, to), flow);
}

/// The embedder's round of sending, one datagram at a time.
fn sendable(machine: &mut Machine, model: &mut Model, answers: &[Answer]) {
    if model.lost {
        return;
    }
    machine.unblocked();
    for answer in answers {
        assert_eq!(machine.needs_flush(), !model.queue.is_empty());
        let Some((buf, to)) = machine.pop() else {
            break;
        };
        match answer {
            Answer::Taken => {
                assert_eq!((buf.len(), to), model.queue.remove(0));
                model.wire.push(to);
            }
            Answer::Refused => {
                model.queue.remove(0);
                machine.blocked();
                // The rest waits for the next `Sendable`, the protocol, too.
                return;
            }
            Answer::Full => {
                machine.unpop(buf, to);
                machine.blocked();
                assert!(!machine.needs_flush());
                break;
            }
        }
    }
    assert_eq!(machine.resume(), model.maybe_resume());
    let over = model.closing && model.queue.is_empty();
    assert_eq!(machine.settle(), over);
    model.lost |= over;
}

fn apply(machine: &mut Machine, model: &mut Model, step: &Step) {
    match step {
        Step::Start => {
            machine.start();
            model.started = true;
        }
        Step::PauseReading => {
            let pauses = !model.closing && !model.paused;
            assert_eq!(machine.pause_reading(), pauses);
            model.paused |= pauses;
        }
        Step::ResumeReading => {
            let resumes = !model.closing && model.paused;
            assert_eq!(machine.resume_reading(), resumes);
            model.paused &= !resumes;
        }
        Step::Send { len, answer } => send(machine, model, *len, *answer),
        Step::Sendable(answers) => sendable(machine, model, answers),
        Step::Close => {
            let plan = match (model.closing, model.queue.is_empty()) {
                (true, _) => ClosePlan::Already,
                (false, true) => ClosePlan::Lost,
                (false, false) => ClosePlan::Flushing,
            };
            assert_eq!(machine.close(), plan);
            model.closing = true;
            model.lost |= plan == ClosePlan::Lost;
        }
        Step::Abort => {
            let mut released = Vec::new();
            let lost = machine.abort(|(buf, to)| released.push((buf.len(), to)));
            assert_eq!(lost, !model.lost);
            assert_eq!(released, model.queue);
            model.queue.clear();
            model.closing = true;
            model.lost = true;
        }
        Step::SetLimits { high, low } => {
            (model.high, model.low) = (*high, *low);
            assert_eq!(machine.set_limits(*high, *low), model.maybe_pause());
        }
        Step::Received(count) => machine.received(*count),
    }
}

proptest! {
    #![proptest_config(cases::cases())]

    #[test]
    fn it_does_what_asyncio_does(
        header in prop_oneof![Just(0), Just(8)],
        steps in prop::collection::vec(step(), 1..cases::STEPS),
    ) {
        let mut machine = Machine::new(header);
        let mut model = Model { header, high: 65536, low: 16384, ..Model::default() };
        for step in &steps {
            apply(&mut machine, &mut model, step);
            check(&machine, &model);
        }
        prop_assert!(model.wire.is_sorted(), "datagrams overtook each other");
    }
}

#[test]
fn of_what_comes_joined_less_is_asked_for() {
    for joined in [1, 2, 5, 8, 16, 64, 128] {
        let mut machine = Machine::new(8);
        for _ in 0..6 {
            machine.received(MAX_DATAGRAMS);
        }
        let mut counts = Vec::new();
        for _ in 0..20 {
            counts.push(machine.batch() * joined);
            machine.received(machine.batch() * joined);
        }
        let expected = joined.max(MAX_DATAGRAMS);
        let least = joined.max(MAX_DATAGRAMS / 2);
        assert!(
            counts[10..]
                .iter()
                .all(|count| (least..=expected).contains(count)),
            "{counts:?}"
        );
    }
}

#[test]
fn the_batch_follows_the_traffic() {
    let mut machine = Machine::new(8);
    assert_eq!(machine.batch(), 1);
    let mut reads = 0;
    while machine.batch() < MAX_DATAGRAMS {
        machine.received(machine.batch());
        reads += 1;
    }
    assert!(reads <= 4, "a flood must not take long to be seen: {reads}");
    machine.received(MAX_DATAGRAMS);
    assert_eq!(machine.batch(), MAX_DATAGRAMS);
    machine.received(MAX_DATAGRAMS / 2);
    assert_eq!(machine.batch(), MAX_DATAGRAMS, "still busy");
    for _ in 0..10 {
        machine.received(1);
    }
    assert!(machine.batch() <= 2);
    for _ in 0..10 {
        machine.received(0);
    }
    assert_eq!(machine.batch(), 1);
}

#[test]
fn an_empty_datagram_counts_its_header() {
    let mut machine = Machine::new(8);
    machine.set_limits(15, 0);
    machine.blocked();
    assert_eq!(machine.push(Vec::new(), 1), None);
    assert_eq!(machine.push(Vec::new(), 2), Some(Flow::Pause));
    assert_eq!(machine.buffered(), 16);
    machine.unblocked();
    machine.pop();
    assert_eq!(machine.resume(), None);
    machine.pop();
    assert_eq!(machine.resume(), Some(Flow::Resume));
}
