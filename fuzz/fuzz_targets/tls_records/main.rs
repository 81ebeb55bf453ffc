//! `Tls` with a codec that speaks records of a toy protocol in the format of TLS, fed with whatever
//! the fuzzer likes: whole records, torn ones, garbage, ends and resets at any point, and a program
//! that uses its transport inside every callback.
//!
//! The embedder is that of the Python extension in small. Whatever happens the program is told
//! each thing once and in its place, reads only what was sent, nothing follows the farewell on the
//! wire, and the connection comes to its end.
#![no_main]

mod codec;
mod embedder;

use std::collections::VecDeque;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use oxlip_core::tls::{Overdue, Step, Tls, limits};

use codec::{ALERT, Codec, DATA, FAREWELL, HANDSHAKE, parse, record};

#[derive(Arbitrary, Debug)]
struct Input {
    made_before: bool,
    close_first: bool,
    /// The protocol is a `BufferedProtocol` with a small buffer.
    buffered: bool,
    /// What the program does in its callbacks, one after the other.
    reactions: Vec<Reaction>,
    events: Vec<Event>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Reaction {
    Nothing,
    Write(u8),
    Close,
    Abort,
    Pause,
    Resume,
}

#[derive(Arbitrary, Debug)]
enum Event {
    Program(Reaction),
    ReadLimits(Option<u8>, Option<u8>),
    WriteLimits(Option<u8>, Option<u8>),
    /// Bytes from the wire, of any kind.
    Raw(Vec<u8>),
    /// A record, whole but for its last `torn` bytes.
    Record {
        kind: Kind,
        len: u8,
        torn: u8,
    },
    End,
    Reset,
    /// The kernel takes some of what the lower transport has.
    Drain(u16),
    Timeout,
    /// The next tick of the loop.
    Tick,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Kind {
    Hello,
    Finished,
    Data,
    Farewell,
    Alert,
    /// The peer wants to be listened to before it hears more, or is content.
    KeyUpdate,
    Unknown,
}

/// What is encrypted before it is handed over.
const PART: usize = 120;
/// The marks of the lower transport.
const FULL: usize = 300;
const LOW: usize = 100;

/// A stream transport of the loop.
struct Lower {
    state: State,
    reading: bool,
    full: bool,
    /// Not yet with the kernel, in bytes.
    buffered: usize,
    /// Everything that was ever written.
    wire: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Closing,
    /// `connection_lost` is due.
    Gone,
    Lost,
}

/// What the loop calls in the next tick.
#[derive(Debug)]
enum Soon {
    Step,
    CloseLower,
    LowerLost,
    ProgramLost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Made,
    Eof,
    Lost,
}

struct World {
    tls: Tls,
    codec: Codec,
    queue: VecDeque<(Vec<u8>, usize)>,
    lower: Lower,
    timer: bool,
    soon: VecDeque<Soon>,
    // The program.
    made_before: bool,
    buffered: bool,
    reactions: VecDeque<Reaction>,
    told: Vec<Told>,
    paused: bool,
    closed: bool,
    writing_paused: bool,
    written: Vec<u8>,
    received: Vec<u8>,
    // The peer.
    fed: Vec<u8>,
    ended: bool,
    /// Something other than a farewell has ended the connection, or made it wait for ever.
    failed: bool,
}

impl World {
    fn new(input: &Input) -> Self {
        Self {
            tls: Tls::new(input.made_before),
            codec: Codec::default(),
            queue: VecDeque::new(),
            lower: Lower {
                state: State::Open,
                reading: true,
                full: false,
                buffered: 0,
                wire: Vec::new(),
            },
            timer: false,
            soon: VecDeque::new(),
            made_before: input.made_before,
            buffered: input.buffered,
            reactions: input.reactions.iter().copied().collect(),
            told: Vec::new(),
            paused: false,
            closed: false,
            writing_paused: false,
            written: Vec::new(),
            received: Vec::new(),
            fed: Vec::new(),
            ended: false,
            failed: false,
        }
    }

    // The program.

    fn tell(&mut self, what: Told) {
        assert!(!self.told.contains(&what), "{what:?} twice");
        assert!(!self.told.contains(&Told::Lost), "{what:?} after the loss");
        let made = self.made_before || self.told.contains(&Told::Made);
        assert!(made || what == Told::Made, "{what:?} before the beginning");
        if what == Told::Eof && !self.closed {
            assert_eq!(
                self.received,
                self.sent_by_peer(),
                "the end before the bytes"
            );
        }
        self.told.push(what);
        if what != Told::Lost {
            self.react();
        }
    }

    fn react(&mut self) {
        if let Some(reaction) = self.reactions.pop_front() {
            self.use_transport(reaction);
        }
    }

    fn use_transport(&mut self, reaction: Reaction) {
        match reaction {
            Reaction::Nothing => {}
            Reaction::Write(len) => {
                let from = self.written.len();
                let bytes = (from..from + usize::from(len) + 1)
                    .map(|n| n as u8)
                    .collect();
                self.write(bytes);
            }
            Reaction::Close => {
                self.closed = true;
                self.close();
            }
            Reaction::Abort => {
                self.failed = true;
                if self.tls.abort() {
                    self.abort_lower();
                }
            }
            Reaction::Pause => {
                self.tls.pause_reading();
                self.paused = true;
            }
            Reaction::Resume => {
                assert_eq!(self.tls.resume_reading(), self.paused);
                if std::mem::take(&mut self.paused) {
                    self.soon.push_back(Soon::Step);
                }
            }
        }
    }

    // The loop.

    fn tick(&mut self) {
        for _ in 0..self.soon.len() {
            match self.soon.pop_front() {
                Some(Soon::Step) => self.step(),
                Some(Soon::CloseLower) => self.close_lower(),
                Some(Soon::LowerLost) => {
                    assert_eq!(self.lower.state, State::Gone);
                    self.lower.state = State::Lost;
                    self.timer = false;
                    self.queue.clear();
                    self.codec.outgoing.clear();
                    if self.tls.lost().tell {
                        self.soon.push_back(Soon::ProgramLost);
                    }
                }
                Some(Soon::ProgramLost) => self.tell(Told::Lost),
                None => {}
            }
        }
    }

    fn time_out(&mut self) {
        if !std::mem::take(&mut self.timer) {
            return;
        }
        self.failed = true;
        let step = self.tls.step();
        match self.tls.timed_out() {
            Some(Overdue::Handshake) => {
                assert_eq!(step, Step::Handshake);
                self.fatal();
            }
            Some(Overdue::Shutdown) => {
                assert_ne!(step, Step::Handshake);
                self.abort_lower();
            }
            None => {}
        }
    }

    fn apply(&mut self, event: &Event) {
        let marks = |high: Option<u8>, low: Option<u8>| {
            limits(high.map(isize::from), low.map(isize::from), 100)
        };
        match *event {
            Event::Program(reaction) => self.use_transport(reaction),
            Event::ReadLimits(high, low) => {
                if let Ok((high, low)) = marks(high, low) {
                    self.tls.set_read_limits(high, low);
                    assert_eq!(self.tls.read_limits(), (low, high));
                }
            }
            Event::WriteLimits(high, low) => {
                if let Ok((high, low)) = marks(high, low) {
                    self.tls.set_write_limits(high, low);
                    assert_eq!(self.tls.write_limits(), (low, high));
                }
            }
            Event::Raw(ref bytes) => self.feed(bytes),
            Event::Record { kind, len, torn } => {
                let record = match kind {
                    Kind::Hello => record(HANDSHAKE, &[1]),
                    Kind::Finished => record(HANDSHAKE, &[20]),
                    Kind::Data => {
                        let from = self.fed.len();
                        let body: Vec<u8> =
                            (from..from + usize::from(len)).map(|n| n as u8).collect();
                        record(DATA, &body)
                    }
                    Kind::Farewell => record(ALERT, &FAREWELL),
                    Kind::Alert => record(ALERT, &[2, len]),
                    Kind::KeyUpdate => record(HANDSHAKE, &vec![24; usize::from(len)]),
                    Kind::Unknown => record(len, b"?"),
                };
                self.feed(&record[..record.len().saturating_sub(torn.into())]);
            }
            Event::End => self.end(),
            Event::Reset => {
                self.failed = true;
                self.abort_lower();
            }
            Event::Drain(n) => self.drain(n.into()),
            Event::Timeout => self.time_out(),
            Event::Tick => self.tick(),
        }
    }

    fn check(&self) {
        let lost = self.lower.state == State::Lost;
        assert_eq!(self.tls.is_lost(), lost);
        assert!(self.tls.is_closing() || !lost);
        assert!(self.tls.is_closing() || !self.closed);
        assert_eq!(self.tls.is_reading(), !self.paused);
        assert_eq!(self.tls.is_writing_paused(), self.writing_paused);
        assert!(self.tls.keeps_open() || self.tls.step() != Step::Flush || self.tls.is_closing());
    }

    /// What is on the wire is what was written, and the farewell is the last.
    fn check_wire(&self) -> usize {
        let mut rest = &self.lower.wire[..];
        let mut sent = Vec::new();
        let mut parted = false;
        while let Some((kind, body, len)) = parse(rest).expect("records") {
            assert!(!parted, "something follows the farewell");
            match kind {
                DATA => sent.extend(body),
                ALERT => parted = true,
                _ => {}
            }
            rest = &rest[len..];
        }
        assert!(rest.is_empty(), "half a record");
        assert!(self.written.starts_with(&sent));
        assert!(!parted || self.failed || self.codec.waits || sent == self.written);
        sent.len()
    }

    /// What a reader of all that has arrived would get.
    fn sent_by_peer(&self) -> Vec<u8> {
        let mut rest = &self.fed[..];
        let mut plain = Vec::new();
        let mut shaken = false;
        while let Ok(Some((kind, body, len))) = parse(rest) {
            match kind {
                DATA if shaken => plain.extend(body),
                HANDSHAKE => shaken |= body.first() == Some(&20),
                _ => break, // A farewell, or an error.
            }
            rest = &rest[len..];
        }
        plain
    }
}

fuzz_target!(|input: Input| {
    let mut world = World::new(&input);
    if input.close_first {
        world.use_transport(Reaction::Close);
    }
    world.begin();
    world.check();
    for event in &input.events {
        world.apply(event);
        world.check();
    }
    // The program closes; then the clock ends what nobody else does.
    world.reactions.clear();
    world.use_transport(Reaction::Close);
    for _ in 0..3 {
        world.tick();
        world.check();
    }
    assert!(world.timer || world.lower.state != State::Open);
    world.time_out();
    for _ in 0..3 {
        world.drain(usize::MAX);
        world.tick();
        world.check();
    }
    assert_eq!(world.lower.state, State::Lost);
    let made = world.made_before || world.told.contains(&Told::Made);
    assert!(made || world.told.is_empty());
    assert!(world.check_wire() <= world.written.len());
    assert!(world.sent_by_peer().starts_with(&world.received));
});
