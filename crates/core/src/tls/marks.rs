//! The water marks of one direction, counted as asyncio's `SSLProtocol` counts them: reaching the
//! high mark is already too much.

use crate::write_queue::Flow;

/// Two marks, and on which side of them a buffer is.
#[derive(Debug)]
pub(super) struct Marks {
    high: usize,
    low: usize,
    over: bool,
}

impl Marks {
    pub(super) fn new(high: usize) -> Self {
        Self {
            high,
            low: high / 4,
            over: false,
        }
    }

    /// The buffer holds `size` bytes now. An empty buffer is never too full, even with marks at 0.
    #[inline]
    pub(super) fn update(&mut self, size: usize) -> Option<Flow> {
        if !self.over && size >= self.high && size > 0 {
            self.over = true;
            return Some(Flow::Pause);
        }
        if self.over && size <= self.low {
            self.over = false;
            return Some(Flow::Resume);
        }
        None
    }

    pub(super) fn set(&mut self, high: usize, low: usize) {
        assert!(high >= low, "the high mark is not below the low one");
        self.high = high;
        self.low = low;
    }

    pub(super) fn limits(&self) -> (usize, usize) {
        (self.low, self.high)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }
}

/// The marks `(high, low)` that asyncio takes when one or both are not given: the high one is
/// `default`, or four times the low one; the low one is a quarter of the high one. `Err` has the
/// pair that cannot be.
///
/// # Errors
/// If not `high >= low >= 0`.
pub fn limits(
    high: Option<isize>,
    low: Option<isize>,
    default: usize,
) -> Result<(usize, usize), (isize, isize)> {
    let high = high.unwrap_or_else(|| match low {
        Some(low) => low.saturating_mul(4),
        None => default.cast_signed(),
    });
    let low = low.unwrap_or(high.div_euclid(4));
    match (usize::try_from(high), usize::try_from(low)) {
        (Ok(high), Ok(low)) if high >= low => Ok((high, low)),
        _ => Err((high, low)),
    }
}
