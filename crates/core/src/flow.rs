//! When to tell a protocol to stop or resume writing: the water marks of a write buffer.
//!
//! The rules are those of asyncio's `_FlowControlMixin` (PEP 3156, "flow control"). Part of a
//! machine that queues, on the thread of the loop.

/// What the protocol has to be told. The two alternate, beginning with `Pause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More than the high-water mark is queued: `pause_writing()`.
    Pause,
    /// After a `Pause`, no more than the low-water mark is left: `resume_writing()`.
    Resume,
}

/// The two marks in bytes, and on which side of them the protocol believes to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaterMarks {
    high: usize,
    low: usize,
    paused: bool,
}

impl Default for WaterMarks {
    /// asyncio's: 64 KiB and 16 KiB.
    fn default() -> Self {
        Self {
            high: 64 * 1024,
            low: 16 * 1024,
            paused: false,
        }
    }
}

impl WaterMarks {
    /// # Panics
    /// If `high < low`.
    pub(crate) fn set(&mut self, high: usize, low: usize) {
        assert!(
            high >= low,
            "the high-water mark {high} is below the low-water mark {low}"
        );
        self.high = high;
        self.low = low;
    }

    /// In asyncio's order: `(low, high)`.
    pub(crate) fn limits(&self) -> (usize, usize) {
        (self.low, self.high)
    }

    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// More is queued than before.
    #[inline]
    pub(crate) fn pause_if_high(&mut self, buffered: usize) -> Option<Flow> {
        if self.paused || buffered <= self.high {
            return None;
        }
        self.paused = true;
        Some(Flow::Pause)
    }

    /// Less is queued than before.
    #[inline]
    pub(crate) fn resume_if_low(&mut self, buffered: usize) -> Option<Flow> {
        if !self.paused || buffered > self.low {
            return None;
        }
        self.paused = false;
        Some(Flow::Resume)
    }
}
