//! What only a simulation can do: repeat itself, jump in time, and be unlucky on demand.

use std::io::{ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::task::Poll;
use std::time::{Duration, Instant};

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Op};
use oxlip_core::time::Time;
use oxlip_driver::{Driver, Faults, Received, Role, Sim};
use proptest::prelude::*;

fn pair(sim: &mut Sim) -> (Id, Id) {
    let (one, other) = sim.pair().expect("pair");
    let one = sim.adopt(one, Role::Stream).expect("adopt");
    (one, sim.adopt(other, Role::Stream).expect("adopt"))
}

fn wait(sim: &mut Sim, timeout: Option<Duration>) -> Vec<Completion> {
    let mut completions = Vec::new();
    sim.wait(timeout, &mut completions).expect("wait");
    completions
}

/// One side of a conversation: what it still has to say, and what it has heard.
struct Side {
    id: Id,
    said: usize,
    blocked: bool,
    shut: bool,
    heard: Vec<u8>,
    /// The peer's end, or the error, has been taken.
    over: Option<Result<(), ErrorKind>>,
}

impl Side {
    fn new(sim: &mut Sim, id: Id) -> Self {
        assert!(sim.submit(Op::RecvStart(id)).is_pending());
        Self {
            id,
            said: 0,
            blocked: false,
            shut: false,
            heard: Vec::new(),
            over: None,
        }
    }

    fn say(&mut self, sim: &mut Sim, words: &[u8]) {
        while !self.blocked && !self.shut {
            let op = if self.said < words.len() {
                let rest = &words[self.said..];
                let (head, tail) = rest.split_at(rest.len() / 3);
                let bufs = [IoSlice::new(head), IoSlice::new(tail)];
                sim.submit(Op::Send {
                    id: self.id,
                    bufs: &bufs,
                })
            } else {
                self.shut = true;
                sim.submit(Op::Shutdown(self.id))
            };
            match op {
                Poll::Ready(Completion::Sent(_, Ok(count))) => self.said += count,
                Poll::Ready(Completion::Sent(_, Err(_))) => self.shut = true,
                Poll::Pending => self.blocked = true,
                Poll::Ready(other) => panic!("{other:?}"),
            }
        }
    }

    fn hear(&mut self, sim: &mut Sim) {
        match sim.take(self.id) {
            Ok(Received::Data(data)) => self.heard.extend(data),
            Ok(Received::Eof) => self.over = Some(Ok(())),
            Ok(Received::Nothing) => {}
            Err(error) => self.over = Some(Err(error.kind())),
        }
    }
}

/// Two sides say all they have to each other and end. Gives both, and every step that was taken.
fn converse(seed: u64, faults: &Faults, words: [&[u8]; 2]) -> ([Side; 2], String) {
    let mut sim = Sim::new(seed);
    sim.set_faults(faults.clone());
    let (a, b) = pair(&mut sim);
    let mut sides = [Side::new(&mut sim, a), Side::new(&mut sim, b)];
    let mut trace = String::new();
    for _ in 0..200_000 {
        for (side, words) in sides.iter_mut().zip(words) {
            side.say(&mut sim, words);
        }
        if sides.iter().all(|side| side.over.is_some()) {
            return (sides, trace);
        }
        for completion in wait(&mut sim, None) {
            trace += &format!("{:?} {completion:?}\n", sim.now());
            for side in &mut sides {
                match completion {
                    Completion::Readable(id) if id == side.id => side.hear(&mut sim),
                    Completion::Sendable(id) if id == side.id => {
                        assert!(side.blocked, "sendable without a pending send");
                        side.blocked = false;
                    }
                    _ => {}
                }
            }
        }
    }
    panic!("the conversation does not end");
}

fn faults() -> impl Strategy<Value = Faults> {
    let rates = (0..=900_u32, 0..=900_u32, 0..=300_u32, any::<bool>());
    (rates, 0..50_u64, 0..50_u64, 1..5000_usize).prop_map(
        |((short_reads, short_writes, stale_hints, reorder), low, more, window)| Faults {
            latency: Duration::from_micros(low)..=Duration::from_micros(low + more),
            short_reads,
            short_writes,
            resets: 0,
            stale_hints,
            reorder,
            window,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bytes_arrive_complete_and_in_order_whatever_happens(
        seed: u64,
        faults in faults(),
        one in proptest::collection::vec(any::<u8>(), 0..3000),
        other in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        let ([a, b], _) = converse(seed, &faults, [&one, &other]);
        prop_assert_eq!(a.over, Some(Ok(())));
        prop_assert_eq!(b.over, Some(Ok(())));
        prop_assert!(a.heard == other);
        prop_assert!(b.heard == one);
    }

    #[test]
    fn a_reset_loses_bytes_but_invents_none(
        seed: u64,
        faults in faults(),
        resets in 1..400_u32,
        words in proptest::collection::vec(any::<u8>(), 1..3000),
    ) {
        let faults = Faults { resets, ..faults };
        let ([a, b], _) = converse(seed, &faults, [&words, &words]);
        for side in [a, b] {
            prop_assert!(words.starts_with(&side.heard));
            if side.over == Some(Ok(())) {
                prop_assert_eq!(side.heard.len(), words.len());
            }
        }
    }

    #[test]
    fn the_same_seed_does_the_same(seed: u64, faults in faults()) {
        let words: Vec<u8> = (0..2000_u32).map(|n| n as u8).collect();
        let (_, trace) = converse(seed, &faults, [&words, b"yes"]);
        let (_, again) = converse(seed, &faults, [&words, b"yes"]);
        prop_assert!(!trace.is_empty());
        prop_assert_eq!(trace, again);
    }
}

#[test]
fn another_seed_does_something_else() {
    let words = [7; 5000];
    let traces = [1, 2].map(|seed| converse(seed, &Faults::rough(), [&words, &words]).1);
    assert_ne!(traces[0], traces[1]);
}

#[test]
fn an_hour_passes_at_once() {
    let started = Instant::now();
    let mut sim = Sim::new(0);
    let hour = Duration::from_secs(3600);
    assert!(wait(&mut sim, Some(hour)).is_empty());
    assert_eq!(sim.now(), Time::ZERO.after(hour));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn what_arrives_stops_the_clock_at_its_arrival() {
    let mut sim = Sim::new(0);
    let latency = Duration::from_millis(30);
    sim.set_faults(Faults {
        latency: latency..=latency,
        ..Faults::default()
    });
    let (a, b) = pair(&mut sim);
    assert!(sim.submit(Op::RecvStart(b)).is_pending());
    let bufs = [IoSlice::new(b"x")];
    assert!(sim.submit(Op::Send { id: a, bufs: &bufs }).is_ready());
    assert!(wait(&mut sim, Some(Duration::from_millis(29))).is_empty());
    assert_eq!(sim.now(), Time::from_nanos(29_000_000));
    assert!(matches!(
        wait(&mut sim, Some(Duration::from_secs(9)))[..],
        [Completion::Readable(_)]
    ));
    assert_eq!(sim.now(), Time::from_nanos(30_000_000));
}

#[test]
fn a_silent_address_never_answers() {
    let mut sim = Sim::new(0);
    let addr: SocketAddr = ([10, 0, 0, 1], 80).into();
    sim.silence(addr);
    let socket = sim.stream(addr).expect("socket");
    let id = sim.adopt(socket, Role::Stream).expect("adopt");
    assert!(sim.submit(Op::Connect { id, addr }).is_pending());
    assert!(wait(&mut sim, Some(Duration::from_secs(1000))).is_empty());
}

#[test]
fn a_full_backlog_refuses_and_a_closed_listener_resets_who_waited() {
    let mut sim = Sim::new(0);
    let addr: SocketAddr = ([127, 0, 0, 1], 80).into();
    let socket = sim.listen(addr, 2).expect("listen");
    let listener = sim.adopt(socket, Role::Listener).expect("adopt");
    assert_eq!(
        sim.listen(addr, 2).expect_err("taken").kind(),
        ErrorKind::AddrInUse
    );
    let mut outcomes = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..3 {
        let socket = sim.stream(addr).expect("socket");
        let id = sim.adopt(socket, Role::Stream).expect("adopt");
        assert!(sim.submit(Op::Connect { id, addr }).is_pending());
        match wait(&mut sim, None).pop() {
            Some(Completion::Connected(_, outcome)) => outcomes.push(outcome.map_err(|e| e.kind())),
            other => panic!("{other:?}"),
        }
        clients.push(id);
    }
    assert_eq!(
        outcomes,
        [Ok(()), Ok(()), Err(ErrorKind::ConnectionRefused)]
    );
    assert!(sim.submit(Op::Close(listener)).is_ready());
    assert!(sim.submit(Op::RecvStart(clients[0])).is_pending());
    assert!(matches!(
        wait(&mut sim, None)[..],
        [Completion::Readable(_)]
    ));
    let error = sim.take(clients[0]).expect_err("nobody accepted it");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(sim.listen(addr, 2).is_ok(), "the address is free again");
}

#[test]
fn ports_and_addresses_are_those_of_the_family() {
    let mut sim = Sim::new(0);
    let wildcard: SocketAddr = "[::]:0".parse().expect("an address");
    let socket = sim.listen(wildcard, 1).expect("listen");
    let listener = sim.adopt(socket, Role::Listener).expect("adopt");
    let port = sim.local_addr(listener).expect("bound").port();
    assert_ne!(port, 0);
    let addr = SocketAddr::new([0, 0, 0, 0, 0, 0, 0, 1].into(), port);
    let socket = sim.stream(addr).expect("socket");
    let client = sim.adopt(socket, Role::Stream).expect("adopt");
    assert_eq!(sim.peer_addr(client), None);
    assert!(sim.submit(Op::Connect { id: client, addr }).is_pending());
    assert!(matches!(
        wait(&mut sim, None)[..],
        [Completion::Connected(_, Ok(()))]
    ));
    assert_eq!(sim.peer_addr(client), Some(addr));
    assert!(sim.local_addr(client).expect("bound").is_ipv6());
}
