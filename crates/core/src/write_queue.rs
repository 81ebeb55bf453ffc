//! Bytes on their way out, and when to tell the protocol to stop or resume writing.
//!
//! The queue keeps the buffers it is given, of whatever kind, and never copies: [`IoSlice`]s over
//! them go to the driver, and what has been sent is dropped or handed back.
//!
//! Belongs to one [`crate::stream::Stream`], on the thread of the loop.

use std::collections::VecDeque;
use std::io::IoSlice;

pub use crate::flow::Flow;
use crate::flow::WaterMarks;
use crate::op::MAX_BUFFERS;

/// A FIFO of buffers of which a part may have been sent already.
#[derive(Debug)]
pub struct WriteQueue<B> {
    entries: VecDeque<Entry<B>>,
    /// The sum of what is unsent in all entries, in bytes.
    buffered: usize,
    marks: WaterMarks,
}

/// A buffer that still has unsent bytes.
#[derive(Debug)]
struct Entry<B> {
    buf: B,
    sent: usize,
}

impl<B> Default for WriteQueue<B> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            buffered: 0,
            marks: WaterMarks::default(),
        }
    }
}

impl<B: AsRef<[u8]>> WriteQueue<B> {
    /// An empty queue with limits of 64 KiB and 16 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a buffer of which the first `skip` bytes need not be sent any more. Nothing is queued
    /// if that is all of it.
    #[inline]
    pub fn push(&mut self, buf: B, skip: usize) -> Option<Flow> {
        let unsent = buf.as_ref().len().saturating_sub(skip);
        if unsent == 0 {
            return None;
        }
        self.buffered += unsent;
        self.entries.push_back(Entry { buf, sent: skip });
        self.marks.pause_if_high(self.buffered)
    }

    /// How many bytes are unsent.
    #[must_use]
    #[inline]
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// How many buffers have unsent bytes.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything has been sent.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is unsent, in order, none of it empty.
    #[inline]
    pub fn unsent(&self) -> impl Iterator<Item = &[u8]> {
        self.entries
            .iter()
            .map(|entry| &entry.buf.as_ref()[entry.sent..])
    }

    /// Appends what one send should be given: at most [`MAX_BUFFERS`] slices, from the first
    /// unsent byte on.
    #[inline]
    pub fn buffers<'a>(&'a self, out: &mut Vec<IoSlice<'a>>) {
        out.extend(self.unsent().take(MAX_BUFFERS).map(IoSlice::new));
    }

    /// Notes that the next `n` bytes have been sent, and drops the buffers that are through.
    ///
    /// # Panics
    /// If fewer than `n` bytes are unsent.
    #[inline]
    pub fn advance(&mut self, n: usize) -> Option<Flow> {
        self.advance_with(n, drop)
    }

    /// As [`WriteQueue::advance`], for an embedder that must not drop a buffer here: each one that
    /// is through goes to `release`.
    ///
    /// # Panics
    /// If fewer than `n` bytes are unsent.
    #[inline]
    pub fn advance_with(&mut self, mut n: usize, mut release: impl FnMut(B)) -> Option<Flow> {
        assert!(
            n <= self.buffered,
            "{n} bytes sent of {} queued",
            self.buffered
        );
        self.buffered -= n;
        while let Some(first) = self.entries.front_mut() {
            let unsent = first.buf.as_ref().len() - first.sent;
            if n < unsent {
                first.sent += n;
                break;
            }
            n -= unsent;
            if let Some(entry) = self.entries.pop_front() {
                release(entry.buf);
            }
        }
        self.marks.resume_if_low(self.buffered)
    }

    /// Takes everything out without a word to the protocol: the connection is lost.
    pub fn clear(&mut self) -> Vec<B> {
        self.buffered = 0;
        self.entries.drain(..).map(|entry| entry.buf).collect()
    }

    /// Sets the water marks, in bytes. As in asyncio this can pause the protocol, but it resumes
    /// only when something has been sent.
    ///
    /// # Panics
    /// If `high < low`.
    pub fn set_limits(&mut self, high: usize, low: usize) -> Option<Flow> {
        self.marks.set(high, low);
        self.marks.pause_if_high(self.buffered)
    }

    /// The water marks in asyncio's order: `(low, high)`.
    #[must_use]
    pub fn limits(&self) -> (usize, usize) {
        self.marks.limits()
    }

    /// Whether the protocol has been told to pause and not yet to resume.
    #[must_use]
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.marks.is_paused()
    }

    /// Shows every buffer held, for a cycle collector.
    pub fn for_each(&self, mut show: impl FnMut(&B)) {
        self.entries.iter().for_each(|entry| show(&entry.buf));
    }
}
