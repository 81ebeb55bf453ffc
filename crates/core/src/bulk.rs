//! Which streams are being sent large pieces, so that the next one can be received where it will
//! stay.
//!
//! A driver receives everything into one buffer, and an embedder copies it out. That is cheap for
//! small pieces, because both ends of the copy are in the cache. A large piece is better received
//! straight into memory of its own. That memory has to be there before the size is known, so what a
//! stream will be sent next is guessed from what it was sent before. The guess must not be too
//! small either: a read that is cut in two costs more than the copy.

/// The room that a large piece is given, in bytes. Longer ones are received as small pieces are. It stays below
/// 128 KiB, from where on the C library would map memory for it alone.
pub const ROOM: usize = 120 * 1024;

/// From this size on, in bytes, a copy costs more than giving unused room back.
pub const LARGE: usize = 8 * 1024;

/// After this many large pieces in a row the next one is likely to be large.
const LIKELY_AFTER: u8 = 4;

/// What one stream has been sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bulk {
    large_in_a_row: u8,
}

impl Bulk {
    /// Notes that so many bytes have been read at once.
    #[inline]
    pub fn note(&mut self, received: usize) {
        self.large_in_a_row = if (LARGE..ROOM).contains(&received) {
            self.large_in_a_row.saturating_add(1)
        } else {
            0
        };
    }

    /// Whether the next read deserves [`ROOM`] of its own.
    #[must_use]
    #[inline]
    pub fn is_likely(self) -> bool {
        self.large_in_a_row >= LIKELY_AFTER
    }
}
