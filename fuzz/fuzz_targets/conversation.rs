//! Streams over the simulated driver: several conversations at once, in a network that does what
//! the fuzzer likes. Nothing is lost, doubled or delivered to somebody else, ends come after bytes,
//! and every conversation comes to its end.
#![no_main]

use std::io::IoSlice;
use std::task::Poll;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Op};
use oxlip_core::stream::{ClosePlan, EofPlan, Stream, Then, WritePlan};
use oxlip_core::write_queue::Flow;
use oxlip_driver::{Driver, Faults, Received, Role, Sim};

/// Conversations at a time; sides `2n` and `2n + 1` talk to each other.
const PAIRS: usize = 2;

#[derive(Arbitrary, Debug)]
struct Input {
    seed: u64,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Write {
        side: u8,
        len: u16,
        next_run: bool,
    },
    WriteLines {
        side: u8,
        count: u8,
        len: u8,
    },
    Flush {
        side: u8,
    },
    WriteEof {
        side: u8,
    },
    Close {
        side: u8,
    },
    Abort {
        side: u8,
    },
    Pause {
        side: u8,
    },
    Resume {
        side: u8,
    },
    Cut {
        side: u8,
    },
    /// The socket is taken out of the driver and adopted again, under another id.
    Move {
        side: u8,
    },
    /// What is gone is replaced by a new conversation.
    Replace {
        pair: u8,
    },
    Rough(Rough),
    Tick {
        millis: u8,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Rough {
    micros: u16,
    short_reads: u16,
    short_writes: u16,
    resets: u8,
    stale_hints: u16,
    reorder: bool,
    window: u16,
}

struct Side {
    id: Option<Id>,
    stream: Stream<Vec<u8>>,
    armed: bool,
    blocked: bool,
    /// Everything written and accepted; the first `wire` bytes of it are with the driver.
    written: Vec<u8>,
    wire: usize,
    heard: Vec<u8>,
    /// The peer's end has been taken.
    ended: bool,
    shut: bool,
    lost_due: bool,
}

struct World {
    sim: Sim,
    sides: Vec<Side>,
    /// A conversation in which somebody closes early, or the network resets, may lose its tail.
    spoiled: [bool; PAIRS],
    resets: bool,
    made: u32,
    run: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            sim: Sim::new(seed),
            sides: Vec::new(),
            spoiled: [false; PAIRS],
            resets: false,
            made: 0,
            run: 0,
        };
        for pair in 0..PAIRS {
            let sides = world.begin();
            world.sides.extend(sides);
            world.arm(2 * pair);
            world.arm(2 * pair + 1);
        }
        world
    }

    fn begin(&mut self) -> [Side; 2] {
        let (one, other) = self.sim.pair().expect("a pair");
        [one, other].map(|socket| {
            let mut stream = Stream::new();
            stream.set_limits(2000, 500);
            stream.start();
            Side {
                id: Some(self.sim.adopt(socket, Role::Stream).expect("adopted")),
                stream,
                armed: false,
                blocked: false,
                written: Vec::new(),
                wire: 0,
                heard: Vec::new(),
                ended: false,
                shut: false,
                lost_due: false,
            }
        })
    }

    /// Tells the driver whether to receive.
    fn arm(&mut self, at: usize) {
        let side = &mut self.sides[at];
        let Some(id) = side.id else { return };
        side.armed = side.stream.wants_read();
        let op = if side.armed {
            Op::RecvStart(id)
        } else {
            Op::RecvStop(id)
        };
        assert!(self.sim.submit(op).is_pending());
    }

    fn lose(&mut self, at: usize) {
        let side = &mut self.sides[at];
        assert!(side.stream.is_lost());
        assert!(!side.lost_due, "lost twice");
        side.lost_due = true;
        self.arm(at);
    }

    fn fail(&mut self, at: usize) {
        self.spoiled[at / 2] = true;
        if self.sides[at].stream.abort() {
            self.lose(at);
        }
    }

    fn bytes(&mut self, at: usize, len: usize) -> Vec<u8> {
        // No two sides write the same.
        let base = self.made;
        self.made += len as u32;
        let hash = |n: u32| (n.wrapping_mul(0x9e37_79b1) >> 24) as u8;
        let bytes: Vec<u8> = (base..self.made).map(hash).collect();
        self.sides[at].written.extend(&bytes);
        bytes
    }

    fn write(&mut self, at: usize, len: usize, next_run: bool) {
        self.run += u64::from(next_run);
        match self.sides[at].stream.plan_write(self.run) {
            WritePlan::Now => {
                let bytes = self.bytes(at, len);
                match self.send(at, &[IoSlice::new(&bytes)]) {
                    Some(taken) => {
                        self.sides[at].stream.push(bytes, taken);
                        if self.sides[at].blocked {
                            self.sides[at].stream.blocked();
                        }
                    }
                    None => self.fail(at),
                }
            }
            WritePlan::Later => {
                let bytes = self.bytes(at, len);
                self.sides[at].stream.push(bytes, 0);
            }
            WritePlan::Refused => assert!(self.sides[at].stream.eof_requested()),
            WritePlan::Lost(_) => assert!(self.sides[at].stream.is_lost()),
        }
    }

    /// How many bytes the driver took, none if it is full; `None` for an error.
    fn send(&mut self, at: usize, bufs: &[IoSlice<'_>]) -> Option<usize> {
        let side = &mut self.sides[at];
        assert!(!side.blocked, "a second send while one is pending");
        let id = side.id.expect("not lost");
        match self.sim.submit(Op::Send { id, bufs }) {
            Poll::Ready(Completion::Sent(answered, Ok(count))) => {
                assert_eq!(answered, id);
                assert!(count > 0);
                side.wire += count;
                Some(count)
            }
            Poll::Ready(Completion::Sent(_, Err(_))) => None,
            Poll::Pending => {
                side.blocked = true;
                Some(0)
            }
            Poll::Ready(other) => panic!("{other:?}"),
        }
    }

    fn flush(&mut self, at: usize) {
        while self.sides[at].stream.needs_flush() {
            let stream = std::mem::take(&mut self.sides[at].stream);
            let mut slices = Vec::new();
            stream.buffers(&mut slices);
            let sent = self.send(at, &slices);
            drop(slices);
            self.sides[at].stream = stream;
            match sent {
                None => return self.fail(at),
                Some(_) if self.sides[at].blocked => return self.sides[at].stream.blocked(),
                Some(count) => {
                    let flow = self.sides[at].stream.advance(count, drop);
                    if flow == Some(Flow::Resume) && count % 3 == 0 {
                        self.write(at, 20, false); // resume_writing() does
                    }
                }
            }
            self.settle(at);
        }
    }

    fn settle(&mut self, at: usize) {
        loop {
            match self.sides[at].stream.settle() {
                Then::Nothing => return,
                Then::Shutdown => self.shut(at),
                Then::Yours => panic!("nobody has reserved it"),
                Then::Lost => self.lose(at),
            }
        }
    }

    fn shut(&mut self, at: usize) {
        let side = &mut self.sides[at];
        assert!(!side.shut, "its end is sent twice");
        assert_eq!(side.wire, side.written.len(), "the end overtakes bytes");
        side.shut = true;
        let id = side.id.expect("not lost");
        assert!(matches!(
            self.sim.submit(Op::Shutdown(id)),
            Poll::Ready(Completion::Sent(_, Ok(0)))
        ));
    }

    fn close(&mut self, at: usize) {
        self.flush(at);
        match self.sides[at].stream.close() {
            ClosePlan::Already => {}
            ClosePlan::Flushing => self.arm(at),
            ClosePlan::Lost => self.lose(at),
        }
    }

    fn read(&mut self, at: usize) {
        let side = &mut self.sides[at];
        let Some(id) = side.id.filter(|_| side.stream.wants_read()) else {
            return;
        };
        match self.sim.take(id) {
            Ok(Received::Data(data)) => {
                assert!(!data.is_empty());
                let from = side.heard.len();
                side.heard.extend(data);
                let peer = &self.sides[at ^ 1];
                assert!(peer.written[from..peer.wire].starts_with(data));
            }
            Ok(Received::Nothing) => {}
            Ok(Received::Eof) => {
                side.ended = true;
                side.stream.end_reading();
                let (heard, peer) = (&self.sides[at].heard, &self.sides[at ^ 1]);
                assert!(peer.shut || peer.stream.is_lost(), "an end from nowhere");
                assert!(self.spoiled[at / 2] || *heard == peer.written);
                self.arm(at);
                self.close(at);
            }
            Err(_) => self.fail(at),
        }
    }

    fn tick(&mut self, timeout: Duration) {
        for at in 0..self.sides.len() {
            self.flush(at);
        }
        for side in &mut self.sides {
            if std::mem::take(&mut side.lost_due) {
                let id = side.id.take().expect("closed once");
                assert!(matches!(
                    self.sim.submit(Op::Close(id)),
                    Poll::Ready(Completion::Closed(_))
                ));
            }
        }
        let mut completions = Vec::new();
        let before = self.sim.now();
        self.sim
            .wait(Some(timeout), &mut completions)
            .expect("simulated");
        assert!(self.sim.now() <= before.after(timeout));
        assert!(!completions.is_empty() || self.sim.now() == before.after(timeout));
        let find = |sides: &[Side], id| sides.iter().position(|side| side.id == Some(id));
        // Whatever is reported was asked for, by somebody who is still there.
        for completion in &completions {
            match *completion {
                Completion::Readable(id) => {
                    let at = find(&self.sides, id).expect("reported to a dead id");
                    assert!(self.sides[at].armed, "readable, but not asked for");
                }
                Completion::Sendable(id) => {
                    let at = find(&self.sides, id).expect("reported to a dead id");
                    assert!(self.sides[at].blocked, "sendable, but nothing was pending");
                    self.sides[at].blocked = false;
                }
                ref other => panic!("{other:?}"),
            }
        }
        for completion in completions {
            match completion {
                Completion::Readable(id) => {
                    let at = find(&self.sides, id).expect("nothing closes in between");
                    self.read(at);
                }
                Completion::Sendable(id) => {
                    let at = find(&self.sides, id).expect("nothing closes in between");
                    self.sides[at].stream.unblocked();
                    self.flush(at);
                    self.settle(at);
                }
                _ => {}
            }
        }
    }

    fn apply(&mut self, step: &Step) {
        let at = |side: u8| usize::from(side) % (2 * PAIRS);
        match *step {
            Step::Write {
                side,
                len,
                next_run,
            } => self.write(at(side), usize::from(len % 3000) + 1, next_run),
            Step::WriteLines { side, count, len } => {
                let at = at(side);
                for _ in 0..count % 100 {
                    if self.sides[at].stream.plan_write_many() == WritePlan::Later {
                        let bytes = self.bytes(at, usize::from(len % 32) + 1);
                        self.sides[at].stream.push(bytes, 0);
                    }
                }
            }
            Step::Flush { side } => self.flush(at(side)),
            Step::WriteEof { side } => self.write_eof(at(side)),
            Step::Close { side } => {
                self.spoiled[at(side) / 2] = true;
                self.close(at(side));
            }
            Step::Abort { side } => self.fail(at(side)),
            Step::Pause { side } => {
                if self.sides[at(side)].stream.pause_reading() {
                    self.arm(at(side));
                }
            }
            Step::Resume { side } => {
                if self.sides[at(side)].stream.resume_reading() {
                    self.arm(at(side));
                }
            }
            Step::Cut { side } => {
                if let Some(id) = self.sides[at(side)].id {
                    self.spoiled[at(side) / 2] = true;
                    self.sim.cut(id);
                }
            }
            Step::Move { side } => self.move_socket(at(side)),
            Step::Replace { pair } => {
                let first = usize::from(pair) % PAIRS * 2;
                if self.sides[first..first + 2]
                    .iter()
                    .all(|side| side.id.is_none())
                {
                    let [one, other] = self.begin();
                    self.sides[first] = one;
                    self.sides[first + 1] = other;
                    self.spoiled[first / 2] = self.resets;
                    self.arm(first);
                    self.arm(first + 1);
                }
            }
            Step::Rough(rough) => self.roughen(rough),
            Step::Tick { millis } => self.tick(Duration::from_millis(millis.into())),
        }
    }

    fn write_eof(&mut self, at: usize) {
        self.flush(at);
        match self.sides[at].stream.write_eof() {
            EofPlan::Already | EofPlan::AfterFlush => {}
            EofPlan::Shutdown => self.shut(at),
        }
    }

    fn move_socket(&mut self, at: usize) {
        let side = &mut self.sides[at];
        let Some(id) = side.id.filter(|_| !side.blocked) else {
            return;
        };
        let socket = self.sim.release(id).expect("it was alive");
        assert!(self.sim.release(id).is_none());
        assert!(matches!(
            self.sim.submit(Op::RecvStart(id)),
            Poll::Ready(Completion::Failed(..))
        ));
        side.id = Some(self.sim.adopt(socket, Role::Stream).expect("adopted"));
        assert_ne!(side.id, Some(id));
        self.arm(at);
    }

    fn roughen(&mut self, rough: Rough) {
        self.resets |= rough.resets > 0;
        if self.resets {
            self.spoiled = [true; PAIRS];
        }
        self.sim.set_faults(Faults {
            latency: Duration::ZERO..=Duration::from_micros(rough.micros.into()),
            short_reads: u32::from(rough.short_reads) % 1000,
            short_writes: u32::from(rough.short_writes) % 1000,
            resets: rough.resets.into(),
            stale_hints: u32::from(rough.stale_hints) % 1000,
            reorder: rough.reorder,
            window: usize::from(rough.window) + 1,
        });
    }

    /// The network is good again, everybody listens and says goodbye.
    fn finish(&mut self) {
        self.sim.set_faults(Faults::default());
        for at in 0..self.sides.len() {
            if self.spoiled[at / 2] {
                // Two that close with bytes to send, and do not read, would wait for each other.
                self.fail(at);
                continue;
            }
            if self.sides[at].stream.resume_reading() {
                self.arm(at);
            }
            self.write_eof(at);
        }
        for _ in 0..5000 {
            if self.sides.iter().all(|side| side.id.is_none()) {
                break;
            }
            self.tick(Duration::from_secs(1));
        }
        for (at, side) in self.sides.iter().enumerate() {
            assert!(
                side.id.is_none() && side.stream.is_lost(),
                "it does not end"
            );
            if !self.spoiled[at / 2] {
                assert!(side.ended && side.heard == self.sides[at ^ 1].written);
            }
        }
        assert!(format!("{:?}", self.sim).contains("resources: 0"));
    }
}

fuzz_target!(|input: Input| {
    let mut world = World::new(input.seed);
    for step in &input.steps {
        world.apply(step);
    }
    world.finish();
});
