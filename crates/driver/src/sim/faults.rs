//! What goes wrong in a simulated network, and the dice that decide when.

use std::ops::RangeInclusive;
use std::time::Duration;

/// What the simulated network does to those who use it. The default is a perfect one.
///
/// Probabilities are in parts of a thousand, tossed for each operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// How long anything is under way, in each direction. Bytes of one stream never overtake each
    /// other.
    pub latency: RangeInclusive<Duration>,
    /// A receive gets a random part of what has arrived.
    pub short_reads: u32,
    /// A send takes a random part of what is given, and then nothing until `Sendable`.
    pub short_writes: u32,
    /// A send breaks the connection: both sides see a reset.
    pub resets: u32,
    /// A `Readable` or `Acceptable` with nothing behind it.
    pub stale_hints: u32,
    /// Resources that are ready at the same time are reported in random order.
    pub reorder: bool,
    /// Bytes that a connection holds between `Send` and `take`.
    pub window: usize,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO..=Duration::ZERO,
            short_reads: 0,
            short_writes: 0,
            resets: 0,
            stale_hints: 0,
            reorder: false,
            window: 64 * 1024,
        }
    }
}

impl Faults {
    /// Everything that a correct program must get over without noticing: all but resets.
    #[must_use]
    pub fn rough() -> Self {
        Self {
            latency: Duration::ZERO..=Duration::from_millis(20),
            short_reads: 500,
            short_writes: 500,
            resets: 0,
            stale_hints: 100,
            reorder: true,
            window: 4096,
        }
    }
}

/// Random numbers that are the same for the same seed, on every machine (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `low..=high`. The slight preference for small ones that a remainder has does
    /// not matter here.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        match (high - low).checked_add(1) {
            Some(span) => low + self.next() % span,
            None => self.next(),
        }
    }

    /// True in `permille` of a thousand cases. Certain outcomes do not use up a number.
    pub(super) fn happens(&mut self, permille: u32) -> bool {
        permille > 0 && self.between(0, 999) < u64::from(permille)
    }

    /// A part of `whole`, at least 1 unless there is nothing.
    pub(super) fn part(&mut self, whole: usize) -> usize {
        if whole < 2 {
            return whole;
        }
        usize::try_from(self.between(1, whole as u64)).unwrap_or(whole)
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = usize::try_from(self.between(0, last as u64)).unwrap_or(last);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_repeat_and_stay_in_range() {
        let roll = |seed| {
            let mut dice = Dice::new(seed);
            (0..100).map(|_| dice.between(3, 9)).collect::<Vec<_>>()
        };
        assert_eq!(roll(1), roll(1));
        assert_ne!(roll(1), roll(2));
        assert!(roll(7).iter().all(|n| (3..=9).contains(n)));
        assert_eq!(Dice::new(0).between(5, 5), 5);
    }

    #[test]
    fn certainties_are_certain() {
        let mut dice = Dice::new(3);
        assert!((0..1000).all(|_| !dice.happens(0) && dice.happens(1000)));
        assert!((0..1000).all(|_| (1..=10).contains(&dice.part(10))));
        assert_eq!((dice.part(0), dice.part(1)), (0, 1));
    }

    #[test]
    fn a_shuffle_keeps_everything() {
        let mut items: Vec<u32> = (0..50).collect();
        Dice::new(11).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
