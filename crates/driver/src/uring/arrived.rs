//! The bytes that have arrived on one resource and have not been taken: pieces, in order.
//!
//! Mostly there is one at a time, in a buffer of the pool. It needs no memory of its own, so that a connection that
//! is silent by now costs no more than one that always was.

use std::collections::VecDeque;

use super::buffers::BufferId;

/// Bytes that have arrived: no more than a buffer of the pool holds.
#[derive(Debug)]
pub(super) enum Piece {
    /// In a buffer of the pool.
    Pooled {
        buffer: BufferId,
        from: u32,
        to: u32,
    },
    /// Kept for a stream that does not want them now, or copied from a ring that no longer exists.
    Owned { bytes: Box<[u8]>, from: u32 },
}

/// A queue of pieces.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    first: Option<Piece>,
    /// Those that follow it; nothing if there is no first.
    others: VecDeque<Piece>,
}

impl Arrived {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    #[inline]
    pub(super) fn first(&self) -> Option<&Piece> {
        self.first.as_ref()
    }

    #[inline]
    pub(super) fn first_mut(&mut self) -> Option<&mut Piece> {
        self.first.as_mut()
    }

    /// The only piece, if there is just one.
    #[inline]
    pub(super) fn only(&self) -> Option<&Piece> {
        self.first.as_ref().filter(|_| self.others.is_empty())
    }

    #[inline]
    pub(super) fn push(&mut self, piece: Piece) {
        if self.first.is_none() {
            self.first = Some(piece);
        } else {
            self.others.push_back(piece);
        }
    }

    /// Removes the first piece.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Piece> {
        let next = self.others.pop_front();
        if next.is_some() && self.others.is_empty() {
            self.others = VecDeque::new();
        }
        std::mem::replace(&mut self.first, next)
    }

    /// How many pieces there are.
    #[inline]
    pub(super) fn count(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Piece> {
        self.first.iter().chain(&self.others)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Piece> {
        self.first.iter_mut().chain(&mut self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(from: u32) -> Piece {
        let bytes = Box::new([]);
        Piece::Owned { bytes, from }
    }

    fn numbers<'a>(pieces: impl Iterator<Item = &'a Piece>) -> Vec<u32> {
        pieces
            .map(|piece| match piece {
                Piece::Owned { from, .. } => *from,
                Piece::Pooled { .. } => unreachable!("none was made"),
            })
            .collect()
    }

    #[test]
    fn pieces_come_out_in_order_and_leave_no_memory() {
        let mut arrived = Arrived::default();
        assert!(arrived.is_empty() && arrived.pop().is_none());
        for number in 0..3 {
            arrived.push(piece(number));
            assert_eq!(arrived.only().is_some(), number == 0);
        }
        assert_eq!(numbers(arrived.iter()), [0, 1, 2]);
        assert_eq!(numbers(arrived.pop().iter()), [0]);
        arrived.push(piece(3));
        for number in 1..=3 {
            assert_eq!(numbers(arrived.first().into_iter()), [number]);
            assert_eq!(numbers(arrived.pop().iter()), [number]);
        }
        assert!(arrived.is_empty());
        assert_eq!(arrived.others.capacity(), 0);
    }

    #[test]
    fn it_is_small() {
        // One for each connection.
        assert!(size_of::<Arrived>() <= 56, "{}", size_of::<Arrived>());
    }
}
