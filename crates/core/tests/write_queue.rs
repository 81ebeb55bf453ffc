//! `WriteQueue` against a flat row of bytes.

mod cases;

use std::collections::VecDeque;

use oxlip_core::op::MAX_BUFFERS;
use oxlip_core::write_queue::{Flow, WriteQueue};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Push { len: usize, skip: usize },
    Advance(prop::sample::Index),
    SetLimits { high: usize, low: usize },
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..60usize, 0..70usize).prop_map(|(len, skip)| {
            // Mostly from the start, sometimes from within, sometimes past the end.
            Step::Push { len, skip: skip.saturating_sub(50) }
        }),
        8 => any::<prop::sample::Index>().prop_map(Step::Advance),
        1 => (0..300usize, 0..300usize).prop_map(|(a, b)| {
            Step::SetLimits { high: a.max(b), low: a.min(b) }
        }),
        1 => Just(Step::Clear),
    ]
}

/// The bytes in order; a buffer is only a number that some of them belong to.
#[derive(Default)]
struct Model {
    bytes: VecDeque<(u8, usize)>,
    high: usize,
    low: usize,
    paused: bool,
}

impl Model {
    fn grown(&mut self) -> Option<Flow> {
        let pause = !self.paused && self.bytes.len() > self.high;
        self.paused |= pause;
        pause.then_some(Flow::Pause)
    }

    fn shrunk(&mut self) -> Option<Flow> {
        let resume = self.paused && self.bytes.len() <= self.low;
        self.paused &= !resume;
        resume.then_some(Flow::Resume)
    }

    /// The numbers of the buffers that have bytes here, in order.
    fn buffers(&self) -> Vec<usize> {
        let mut buffers: Vec<usize> = self.bytes.iter().map(|byte| byte.1).collect();
        buffers.dedup();
        buffers
    }
}

#[derive(Debug)]
struct Buffer {
    number: usize,
    bytes: Vec<u8>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

proptest! {
    #![proptest_config(cases::cases())]

    #[test]
    fn behaves_like_a_row_of_bytes(steps in prop::collection::vec(step(), 1..cases::STEPS)) {
        let mut queue = WriteQueue::new();
        let mut model = Model { high: 100, low: 25, ..Model::default() };
        prop_assert_eq!(queue.limits(), (16 * 1024, 64 * 1024));
        prop_assert_eq!(queue.set_limits(100, 25), None);
        let mut byte = 0u8;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push { len, skip } => {
                    let bytes: Vec<u8> = (0..len).map(|n| byte.wrapping_add(n as u8)).collect();
                    byte = byte.wrapping_add(len as u8);
                    model.bytes.extend(bytes.iter().skip(skip).map(|byte| (*byte, number)));
                    let flow = queue.push(Buffer { number, bytes }, skip);
                    prop_assert_eq!(flow, model.grown());
                }
                Step::Advance(index) => {
                    let n = index.index(model.bytes.len() + 1);
                    let before = model.buffers();
                    model.bytes.drain(..n);
                    let after = model.buffers();
                    let mut released = Vec::new();
                    let flow = queue.advance_with(n, |buffer| released.push(buffer.number));
                    prop_assert_eq!(flow, model.shrunk());
                    prop_assert_eq!(&released[..], &before[..before.len() - after.len()]);
                }
                Step::SetLimits { high, low } => {
                    (model.high, model.low) = (high, low);
                    prop_assert_eq!(queue.set_limits(high, low), model.grown());
                    prop_assert_eq!(queue.limits(), (low, high));
                }
                Step::Clear => {
                    let cleared: Vec<usize> =
                        queue.clear().into_iter().map(|buffer| buffer.number).collect();
                    prop_assert_eq!(cleared, model.buffers());
                    model.bytes.clear();
                }
            }
            let unsent: Vec<&[u8]> = queue.unsent().collect();
            let expected: Vec<u8> = model.bytes.iter().map(|byte| byte.0).collect();
            prop_assert_eq!(unsent.concat(), expected);
            prop_assert!(unsent.iter().all(|slice| !slice.is_empty()));
            prop_assert_eq!(queue.buffered(), model.bytes.len());
            prop_assert_eq!(queue.len(), model.buffers().len());
            prop_assert_eq!(queue.is_empty(), model.bytes.is_empty());
            prop_assert_eq!(queue.is_paused(), model.paused);

            let mut slices = Vec::new();
            queue.buffers(&mut slices);
            prop_assert_eq!(slices.len(), unsent.len().min(MAX_BUFFERS));
            prop_assert!(slices.iter().zip(&unsent).all(|(slice, unsent)| **slice == **unsent));

            let mut held = Vec::new();
            queue.for_each(|buffer| held.push(buffer.number));
            prop_assert_eq!(held, model.buffers());
        }
    }
}

#[test]
fn one_send_is_given_a_limited_number_of_buffers() {
    let mut queue = WriteQueue::new();
    for n in 0..MAX_BUFFERS + 10 {
        queue.push([n as u8], 0);
    }
    let mut slices = Vec::new();
    queue.buffers(&mut slices);
    assert_eq!(slices.len(), MAX_BUFFERS);
    queue.advance(MAX_BUFFERS);
    assert_eq!(queue.len(), 10);
    assert_eq!(queue.unsent().next(), Some([MAX_BUFFERS as u8].as_slice()));
}

#[test]
fn the_marks_themselves_are_on_the_quiet_side() {
    let mut queue = WriteQueue::new();
    queue.set_limits(10, 4);
    assert_eq!(queue.push(vec![0; 10], 0), None);
    assert_eq!(queue.push(vec![0; 1], 0), Some(Flow::Pause));
    assert_eq!(queue.push(vec![0; 1], 0), None);
    assert_eq!(queue.advance(7), None);
    assert_eq!(queue.advance(1), Some(Flow::Resume));
    assert_eq!(queue.advance(4), None);
}

#[test]
fn limits_of_zero_pause_at_each_byte_and_resume_when_all_is_sent() {
    let mut queue = WriteQueue::new();
    queue.set_limits(0, 0);
    assert_eq!(queue.push(b"ab", 0), Some(Flow::Pause));
    assert_eq!(queue.advance(1), None);
    assert_eq!(queue.advance(1), Some(Flow::Resume));
}

#[test]
fn lower_limits_pause_at_once_and_higher_ones_do_not_resume() {
    let mut queue = WriteQueue::new();
    queue.push([0; 100], 0);
    assert_eq!(queue.set_limits(50, 10), Some(Flow::Pause));
    assert_eq!(queue.set_limits(1000, 500), None);
    assert_eq!(queue.advance(1), Some(Flow::Resume));
}

#[test]
#[should_panic(expected = "3 bytes sent of 2 queued")]
fn more_cannot_be_sent_than_is_queued() {
    let mut queue = WriteQueue::new();
    queue.push(b"ab", 0);
    queue.advance(3);
}

#[test]
#[should_panic(expected = "below the low-water mark")]
fn the_high_water_mark_is_not_below_the_low_one() {
    WriteQueue::<Vec<u8>>::new().set_limits(1, 2);
}
