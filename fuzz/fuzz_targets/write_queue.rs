//! `WriteQueue` against a plain row of bytes, under any sequence of operations.
#![no_main]

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use oxlip_core::op::MAX_BUFFERS;
use oxlip_core::write_queue::{Flow, WriteQueue};

#[derive(Arbitrary, Debug)]
enum Op {
    /// A buffer, and how much of its beginning has been sent already: perhaps more than all.
    Push {
        len: u8,
        skip: u8,
    },
    /// A long buffer.
    PushLarge(u16),
    /// So many small buffers at once.
    PushMany(u8),
    /// One send of what `buffers` gives, of which the kernel takes a part.
    Send(u16),
    /// Any number of bytes is through, as far as they exist.
    Advance(u16),
    SetLimits(u16, u16),
    Clear,
}

/// Bytes that do not repeat soon: those that change places are seen.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let hash = |n: u32| (n.wrapping_mul(0x9e37_79b1) >> 24) as u8;
    (0..1 << 17).map(hash).collect()
});

struct Buffer {
    number: usize,
    bytes: Vec<u8>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What is unsent, and to which buffers it belongs: their numbers, with how many bytes are left.
#[derive(Default)]
struct Model {
    bytes: Vec<u8>,
    buffers: VecDeque<(usize, usize)>,
    high: usize,
    low: usize,
    paused: bool,
}

impl Model {
    fn push(&mut self, number: usize, unsent: &[u8]) -> Option<Flow> {
        if unsent.is_empty() {
            return None;
        }
        self.bytes.extend(unsent);
        self.buffers.push_back((number, unsent.len()));
        self.grown()
    }

    fn grown(&mut self) -> Option<Flow> {
        let pause = !self.paused && self.bytes.len() > self.high;
        self.paused |= pause;
        pause.then_some(Flow::Pause)
    }

    /// Which buffers are through, and what the protocol is told.
    fn advance(&mut self, n: usize) -> (Vec<usize>, Option<Flow>) {
        self.bytes.drain(..n);
        let mut through = Vec::new();
        let mut left = n;
        while let Some((number, unsent)) = self.buffers.front_mut() {
            if left < *unsent {
                *unsent -= left;
                break;
            }
            left -= *unsent;
            through.push(*number);
            self.buffers.pop_front();
        }
        let resume = self.paused && self.bytes.len() <= self.low;
        self.paused &= !resume;
        (through, resume.then_some(Flow::Resume))
    }
}

struct Pair {
    queue: WriteQueue<Buffer>,
    model: Model,
    made: usize,
    written: usize,
}

impl Pair {
    fn push(&mut self, len: usize, skip: usize) {
        let bytes = PATTERN[self.written..self.written + len].to_vec();
        self.written = (self.written + len) % (PATTERN.len() / 2);
        self.made += 1;
        let expected = self.model.push(self.made, bytes.get(skip..).unwrap_or(&[]));
        let number = self.made;
        assert_eq!(self.queue.push(Buffer { number, bytes }, skip), expected);
    }

    fn advance(&mut self, n: usize) {
        let mut through = Vec::new();
        let flow = self
            .queue
            .advance_with(n, |buffer| through.push(buffer.number));
        assert_eq!((through, flow), self.model.advance(n));
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Push { len, skip } => self.push(len.into(), skip.into()),
            Op::PushLarge(len) => self.push(len.into(), 0),
            Op::PushMany(count) => (0..count).for_each(|_| self.push(3, 0)),
            Op::Send(takes) => {
                let mut slices: Vec<IoSlice<'_>> = Vec::new();
                self.queue.buffers(&mut slices);
                let given = slices
                    .iter()
                    .map(|slice| &**slice)
                    .collect::<Vec<_>>()
                    .concat();
                assert!(self.model.bytes.starts_with(&given));
                assert!(slices.len() == MAX_BUFFERS || given.len() == self.model.bytes.len());
                assert!(slices.len() <= MAX_BUFFERS);
                self.advance(usize::from(takes).min(given.len()));
            }
            Op::Advance(n) => self.advance(usize::from(n).min(self.model.bytes.len())),
            Op::SetLimits(one, other) => {
                (self.model.high, self.model.low) = (one.max(other).into(), one.min(other).into());
                let (high, low) = (self.model.high, self.model.low);
                assert_eq!(self.queue.set_limits(high, low), self.model.grown());
                assert_eq!(self.queue.limits(), (low, high));
            }
            Op::Clear => {
                let cleared = self.queue.clear();
                let numbers = cleared.iter().map(|buffer| buffer.number);
                assert!(numbers.eq(self.model.buffers.iter().map(|(number, _)| *number)));
                self.model.bytes.clear();
                self.model.buffers.clear();
            }
        }
    }

    fn compare(&self) {
        let (queue, model) = (&self.queue, &self.model);
        assert_eq!(queue.buffered(), model.bytes.len());
        assert_eq!(queue.len(), model.buffers.len());
        assert_eq!(queue.is_empty(), model.bytes.is_empty());
        assert_eq!(queue.is_paused(), model.paused);
        assert!(queue.unsent().all(|slice| !slice.is_empty()));
        let mut rest = &model.bytes[..];
        for slice in queue.unsent() {
            assert!(rest.starts_with(slice));
            rest = &rest[slice.len()..];
        }
        assert!(rest.is_empty());
        let mut held = Vec::new();
        queue.for_each(|buffer| held.push(buffer.number));
        assert!(
            held.iter()
                .eq(model.buffers.iter().map(|(number, _)| number))
        );
    }
}

fuzz_target!(|ops: Vec<Op>| {
    let mut pair = Pair {
        queue: WriteQueue::new(),
        model: Model {
            high: 64 * 1024,
            low: 16 * 1024,
            ..Model::default()
        },
        made: 0,
        written: 0,
    };
    for op in &ops {
        pair.apply(op);
        pair.compare();
    }
    pair.advance(pair.model.bytes.len());
    pair.compare();
});
