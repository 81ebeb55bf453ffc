//! `Tls` in a small world: a codec that only counts, a lower transport, a program and a peer that
//! do what they like. Whatever the order, the program is told each thing once and in its place,
//! every byte arrives in front of the farewell, and every connection comes to an end.

mod cases;

use oxlip_core::tls::{
    Begin, ClosePlan, EndPlan, Overdue, READ_HIGH, Shutdown, Step, Tls, WRITE_HIGH, WritePlan,
    limits,
};
use oxlip_core::write_queue::Flow;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Event {
    // The program's.
    Write(usize),
    PauseReading,
    ResumeReading,
    Close,
    Abort,
    ReadLimits(usize, usize),
    WriteLimits(usize, usize),
    // The peer's.
    Handshake,
    Data(usize),
    Farewell,
    End,
    /// The peer needs to hear no more of us: the codec may encrypt again.
    Unblock,
    // The lower transport's.
    Full,
    Drained,
    // The codec is told to wait for the peer before it encrypts.
    Block,
    // The clock's.
    Timeout,
}

fn event() -> impl Strategy<Value = Event> {
    let marks = || (0..400usize, 0..400usize).prop_map(|(a, b)| (a.max(b), a.min(b)));
    prop_oneof![
        20 => (1..200usize).prop_map(Event::Write),
        5 => Just(Event::PauseReading),
        8 => Just(Event::ResumeReading),
        1 => Just(Event::Close),
        1 => Just(Event::Abort),
        2 => marks().prop_map(|(high, low)| Event::ReadLimits(high, low)),
        2 => marks().prop_map(|(high, low)| Event::WriteLimits(high, low)),
        12 => Just(Event::Handshake),
        20 => (1..200usize).prop_map(Event::Data),
        1 => Just(Event::Farewell),
        1 => Just(Event::End),
        6 => Just(Event::Unblock),
        3 => Just(Event::Full),
        6 => Just(Event::Drained),
        3 => Just(Event::Block),
        1 => Just(Event::Timeout),
    ]
}

/// The embedder, with counters for a codec.
#[derive(Default)]
struct World {
    tls: Option<Tls>,
    made_before: bool,
    /// What has reached the codec: handshake done, bytes of data, farewell.
    handshake: bool,
    arrived: usize,
    farewell: bool,
    ended: bool,
    blocked: bool,
    timer: bool,
    lower_reading: bool,
    lower_open: bool,
    lower_closing: bool,
    // The program's side.
    told: Vec<&'static str>,
    paused: bool,
    closed: bool,
    sent_by_peer: usize,
    received: usize,
    // The wire's side.
    accepted: usize,
    encrypted: usize,
    records: usize,
    wire: usize,
    parted: bool,
    writing_paused: bool,
}

impl World {
    fn new(made_before: bool) -> Self {
        let tls = Tls::new(made_before);
        assert_eq!(tls.read_limits(), (READ_HIGH / 4, READ_HIGH));
        assert_eq!(tls.write_limits(), (WRITE_HIGH / 4, WRITE_HIGH));
        Self {
            tls: Some(tls),
            made_before,
            lower_reading: true,
            lower_open: true,
            ..Self::default()
        }
    }

    fn tls(&mut self) -> &mut Tls {
        self.tls.as_mut().expect("made in new()")
    }

    fn tell(&mut self, what: &'static str) {
        assert!(!self.told.contains(&what), "{what} twice: {:?}", self.told);
        assert!(!self.told.contains(&"lost"), "{what} after the loss");
        let made = self.made_before || self.told.contains(&"made");
        assert!(made || what == "made", "{what} before the beginning");
        self.told.push(what);
    }

    fn begin(&mut self) {
        match self.tls().begin() {
            Begin::Handshake => self.timer = true,
            Begin::Abort => self.abort_lower(),
            Begin::Nothing => panic!("it has not begun"),
        }
    }

    fn abort_lower(&mut self) {
        if self.lower_open {
            self.lower_open = false;
            let lost = self.tls().lost();
            self.timer = false;
            if lost.tell {
                self.tell("lost");
            }
        }
    }

    /// The lower transport sends what it has and is gone.
    fn close_lower(&mut self) {
        self.lower_closing = true;
        self.abort_lower();
    }

    fn step(&mut self) {
        match self.tls().step() {
            Step::Nothing => {}
            Step::Handshake if self.handshake => {
                assert!(self.tls().shaken());
                self.timer = false;
                if self.tls().tell_made() {
                    self.tell("made");
                }
                self.step();
            }
            Step::Handshake => {}
            Step::Read => {
                self.receive();
            }
            Step::Flush => self.flush(),
            Step::Shutdown => self.shutdown(),
        }
    }

    /// Whether everything was read.
    fn receive(&mut self) -> bool {
        let wanted = self.tls().wants_read();
        if wanted {
            assert!(!self.paused && !self.closed, "data that nobody wants");
            self.received += std::mem::take(&mut self.arrived);
            if self.farewell {
                if self.tls().tell_eof() {
                    self.tell("eof");
                }
                self.close();
            }
        }
        self.write_queued();
        let pending = self.arrived;
        match self.tls().read_flow(pending) {
            Some(Flow::Pause) => assert!(std::mem::take(&mut self.lower_reading)),
            Some(Flow::Resume) => assert!(!std::mem::replace(&mut self.lower_reading, true)),
            None => {}
        }
        wanted
    }

    fn write_queued(&mut self) {
        if !self.blocked && self.tls().may_encrypt() {
            let waiting = self.accepted - self.encrypted;
            self.tls().unqueue(waiting);
            self.encrypted = self.accepted;
            self.records += waiting;
        }
        self.send();
    }

    fn send(&mut self) {
        if !self.lower_open {
            return;
        }
        if self.tls().may_send() {
            self.wire += std::mem::take(&mut self.records);
        }
        let pending = self.records;
        let size = self.tls().unsent(pending);
        assert_eq!(size, pending + self.accepted - self.encrypted);
        match self.tls().write_flow(pending) {
            Some(Flow::Pause) => assert!(!std::mem::replace(&mut self.writing_paused, true)),
            Some(Flow::Resume) => assert!(std::mem::take(&mut self.writing_paused)),
            None => {}
        }
    }

    fn close(&mut self) {
        match self.tls().close() {
            ClosePlan::Nothing => {}
            ClosePlan::Flush => {
                self.timer = true;
                self.flush();
            }
            ClosePlan::Abort => self.abort_lower(),
        }
    }

    fn flush(&mut self) {
        let drained = self.receive();
        if self.tls().start_shutdown(drained) {
            self.shutdown();
        }
    }

    fn shutdown(&mut self) {
        match self.tls().shutdown() {
            Shutdown::Nothing => return,
            Shutdown::Unwrap if self.arrived > 0 => {} // late data
            Shutdown::Unwrap if !self.farewell => {
                self.parted = true;
                self.send();
                return;
            }
            Shutdown::Unwrap | Shutdown::Finish => {
                self.parted |= !self.ended;
                if self.tls().finish() {
                    self.send();
                    if self.tls().tell_eof() {
                        self.tell("eof");
                    }
                    self.close_lower();
                }
                return;
            }
        }
        self.parted = true;
        assert!(self.tls().finish());
        self.send();
        self.close_lower();
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Write(n) => match self.tls().plan_write() {
                WritePlan::Late(_) => {}
                WritePlan::Queue | WritePlan::Encrypt => {
                    assert!(!self.parted, "a write after the farewell");
                    self.tls().queue(n);
                    self.accepted += n;
                    self.write_queued();
                }
            },
            Event::PauseReading => {
                self.tls().pause_reading();
                self.paused = true;
            }
            Event::ResumeReading => {
                let paused = std::mem::take(&mut self.paused);
                assert_eq!(self.tls().resume_reading(), paused);
                if paused {
                    self.step();
                }
            }
            Event::Close => {
                self.closed = true;
                self.close();
            }
            Event::Abort => {
                if self.tls().abort() {
                    self.abort_lower();
                }
            }
            Event::ReadLimits(high, low) => {
                self.tls().set_read_limits(high, low);
                assert_eq!(self.tls().read_limits(), (low, high));
            }
            Event::WriteLimits(high, low) => {
                self.tls().set_write_limits(high, low);
                assert_eq!(self.tls().write_limits(), (low, high));
                self.send();
            }
            Event::Handshake | Event::Data(_) | Event::Farewell
                if !self.lower_open || !self.lower_reading || self.ended || self.farewell => {}
            Event::Handshake => {
                self.handshake = true;
                self.step();
            }
            Event::Data(_) | Event::Farewell if !self.handshake => {}
            Event::Data(n) => {
                self.arrived += n;
                self.sent_by_peer += n;
                self.step();
            }
            Event::Farewell => {
                self.farewell = true;
                self.step();
            }
            Event::End if !self.lower_open || self.ended => {}
            Event::End => {
                self.ended = true;
                let keep = match self.tls().end() {
                    EndPlan::Nothing => false,
                    EndPlan::Keep => true,
                    EndPlan::Fail => {
                        self.abort_lower();
                        false
                    }
                    EndPlan::Flush => {
                        self.flush();
                        self.tls().keeps_open()
                    }
                    EndPlan::Shutdown => {
                        self.shutdown();
                        false
                    }
                };
                if !keep {
                    self.close_lower();
                }
            }
            Event::Full if self.lower_open => self.tls().lower_full(),
            Event::Drained if self.lower_open => {
                self.tls().lower_drained();
                self.write_queued();
            }
            Event::Full | Event::Drained => {}
            Event::Block => self.blocked = true,
            Event::Unblock => {
                self.blocked = false;
                if self.lower_open {
                    self.step();
                }
            }
            Event::Timeout if !self.timer => {}
            Event::Timeout => {
                let before = self.tls().step();
                match self.tls().timed_out() {
                    Some(Overdue::Handshake) => assert_eq!(before, Step::Handshake),
                    Some(Overdue::Shutdown) => assert_ne!(before, Step::Handshake),
                    None => panic!("a timer without a meaning in {before:?}"),
                }
                self.abort_lower();
            }
        }
    }

    fn check(&mut self) {
        let open = self.lower_open;
        let closing = self.tls().is_closing();
        assert_eq!(self.tls().is_lost(), !open);
        assert!(open || closing);
        assert!(!self.closed || closing);
        assert!(self.received + self.arrived <= self.sent_by_peer);
        assert!(self.wire <= self.encrypted && self.encrypted <= self.accepted);
        let (paused, reading) = (self.writing_paused, !self.paused);
        assert_eq!(self.tls().is_writing_paused(), paused);
        assert_eq!(self.tls().is_reading(), reading);
    }
}

proptest! {
    #![proptest_config(cases::cases())]

    #[test]
    fn every_connection_comes_to_its_end(
        made_before in any::<bool>(),
        close_first in prop::bool::weighted(0.05),
        events in prop::collection::vec(event(), 1..cases::STEPS),
    ) {
        let mut world = World::new(made_before);
        if close_first {
            world.apply(Event::Close);
        }
        world.begin();
        world.check();
        prop_assert!(!close_first || !world.lower_open);
        for event in events {
            world.apply(event);
            world.check();
        }
        // Whatever has happened, closing starts the clock, and the clock ends what nobody else does.
        world.apply(Event::Close);
        world.check();
        prop_assert!(world.timer || !world.lower_open);
        world.apply(Event::Timeout);
        world.check();
        prop_assert!(!world.lower_open);
        let made = made_before || world.told.contains(&"made");
        prop_assert!(made || world.told.is_empty());
    }

    #[test]
    fn a_good_end_loses_nothing(
        writes in prop::collection::vec(1..100usize, 0..20),
        data in prop::collection::vec(1..100usize, 0..20),
        by_peer in any::<bool>(),
        full in any::<bool>(),
    ) {
        let mut world = World::new(false);
        world.begin();
        for n in writes.iter().take(3) {
            world.apply(Event::Write(*n)); // these wait for the handshake
        }
        world.apply(Event::Handshake);
        if full {
            world.apply(Event::Full);
        }
        for n in writes.iter().skip(3) {
            world.apply(Event::Write(*n));
        }
        for n in &data {
            world.apply(Event::Data(*n));
        }
        if !by_peer {
            world.apply(Event::Close);
        }
        world.apply(Event::Farewell);
        world.check();
        prop_assert!(world.lower_closing && world.parted);
        prop_assert_eq!(world.received, data.iter().sum::<usize>());
        prop_assert_eq!(world.wire, writes.iter().sum::<usize>());
        prop_assert_eq!(&world.told[..], &["made", "eof", "lost"]);
    }

    #[test]
    fn marks_are_asyncios(high in prop::option::of(-9..99isize), low in prop::option::of(-9..99isize)) {
        let default = 64;
        let wanted_high = high.unwrap_or(low.map_or(default, |low| 4 * low));
        let wanted_low = low.unwrap_or(wanted_high.div_euclid(4));
        let expected = if wanted_high >= wanted_low && wanted_low >= 0 {
            Ok((wanted_high.unsigned_abs(), wanted_low.unsigned_abs()))
        } else {
            Err((wanted_high, wanted_low))
        };
        prop_assert_eq!(limits(high, low, 64), expected);
    }
}

#[test]
fn what_a_paused_program_has_not_read_survives_the_end_of_the_stream() {
    let mut world = World::new(false);
    world.begin();
    world.apply(Event::Handshake);
    world.apply(Event::PauseReading);
    world.apply(Event::Data(10));
    world.apply(Event::End);
    assert!(world.lower_open);
    assert_eq!(world.received, 0);
    world.apply(Event::ResumeReading);
    assert_eq!(world.received, 10);
    assert_eq!(world.told, ["made", "eof", "lost"]);
}

#[test]
fn a_handshake_that_takes_too_long_is_nothing_to_the_protocol_of_start_tls() {
    let mut world = World::new(true);
    world.begin();
    world.apply(Event::Timeout);
    assert!(world.told.is_empty());
    let mut world = World::new(true);
    world.begin();
    world.apply(Event::End);
    assert_eq!(world.told, ["lost"]);
}

#[test]
fn writes_that_come_too_late_are_counted() {
    let mut tls = Tls::new(true);
    assert_eq!(tls.plan_write(), WritePlan::Late(0));
    assert_eq!(tls.begin(), Begin::Handshake);
    assert_eq!(tls.plan_write(), WritePlan::Queue);
    assert!(tls.shaken());
    assert_eq!(tls.plan_write(), WritePlan::Encrypt);
    assert_eq!(tls.close(), ClosePlan::Flush);
    assert_eq!(tls.plan_write(), WritePlan::Late(1));
    assert!(tls.lost().tell);
    assert_eq!(tls.plan_write(), WritePlan::Late(3));
    assert!(!tls.lost().tell);
    assert_eq!(tls.plan_write(), WritePlan::Late(4));
}
