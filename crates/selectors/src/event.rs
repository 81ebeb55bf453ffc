//! What a multiplexer reports.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use crate::interest::Interest;

/// One watched descriptor that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What the descriptor was added or last modified with.
    pub token: u64,
    /// Never empty.
    pub readiness: Readiness,
}

/// What a descriptor is ready for, as the system says it.
///
/// A hang-up or an error is reported whatever was asked for, and alone if the system says so:
/// [`Readiness::answers`] turns them into what the asker can act on.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Readiness(u8);

impl Readiness {
    // The values of POLLIN, POLLOUT, POLLERR and POLLHUP, which EPOLL* share: what the kernel
    // reports is kept as it comes.

    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Reading would not block.
    pub const READABLE: Self = Self(0x01);
    /// Writing would not block.
    pub const WRITABLE: Self = Self(0x04);
    /// The descriptor has a pending error, or is not open (poll, select).
    pub const ERROR: Self = Self(0x08);
    /// The other side is gone. select cannot tell and says readable.
    pub const HANG_UP: Self = Self(0x10);

    /// Urgent data has come. Only where edges were asked for.
    pub const URGENT: Self = Self(0x02);
    /// The peer sends no more, and may still receive. Only where edges were asked for. (The value
    /// is ours: POLLRDHUP does not fit.)
    pub const ENDED: Self = Self(0x40);

    /// What poll(2) and epoll(7) say, without the bits that have no name here.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the bits that are kept are below 256"
    )]
    pub(crate) const fn from_poll_bits(bits: u32) -> Self {
        const KNOWN: u8 = Readiness::READABLE.0
            | Readiness::URGENT.0
            | Readiness::WRITABLE.0
            | Readiness::ERROR.0
            | Readiness::HANG_UP.0;
        // POLLRDHUP is 0x2000 on Linux, where alone it is asked for.
        let ended = (bits >> 7) as u8 & Self::ENDED.0;
        Self(bits as u8 & KNOWN | ended)
    }

    /// Whether reading would not block.
    #[inline]
    #[must_use]
    pub const fn readable(self) -> bool {
        self.0 & Self::READABLE.0 != 0
    }

    /// Whether writing would not block.
    #[inline]
    #[must_use]
    pub const fn writable(self) -> bool {
        self.0 & Self::WRITABLE.0 != 0
    }

    /// Whether the descriptor has a pending error, or is not open (poll, select).
    #[inline]
    #[must_use]
    pub const fn error(self) -> bool {
        self.0 & Self::ERROR.0 != 0
    }

    /// Whether the other side is gone. Never from select, which says readable instead.
    #[inline]
    #[must_use]
    pub const fn hang_up(self) -> bool {
        self.0 & Self::HANG_UP.0 != 0
    }

    /// Whether the peer sends no more.
    #[inline]
    #[must_use]
    pub const fn ended(self) -> bool {
        self.0 & Self::ENDED.0 != 0
    }

    /// Whether a read that gets less than it asked for has got all there is: not if more can be
    /// behind it that will not be reported again.
    #[inline]
    #[must_use]
    pub const fn short_read_is_all(self) -> bool {
        const MORE: u8 =
            Readiness::URGENT.0 | Readiness::ENDED.0 | Readiness::ERROR.0 | Readiness::HANG_UP.0;
        self.0 & MORE == 0
    }

    /// Whether there is nothing.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What of `asked` this answers. A hang-up or an error answers all of it: the read or write
    /// that follows meets it and says which it was. Python's `selectors` does the same.
    #[inline]
    #[must_use]
    pub fn answers(self, asked: Interest) -> Interest {
        if self.0 & (Self::ERROR.0 | Self::HANG_UP.0) != 0 {
            return asked;
        }
        let mut ready = Interest::NONE;
        if self.readable() {
            ready |= Interest::READ;
        }
        if self.writable() {
            ready |= Interest::WRITE;
        }
        ready & asked
    }
}

impl BitOr for Readiness {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Readiness {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::READABLE, "READABLE"),
            (Self::WRITABLE, "WRITABLE"),
            (Self::ERROR, "ERROR"),
            (Self::HANG_UP, "HANG_UP"),
            (Self::URGENT, "URGENT"),
            (Self::ENDED, "ENDED"),
        ];
        let mut separator = "";
        for (_, name) in names.iter().filter(|(bit, _)| self.0 & bit.0 != 0) {
            write!(f, "{separator}{name}")?;
            separator = " | ";
        }
        if self.is_empty() {
            f.write_str("NONE")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness;
    use crate::interest::Interest;

    #[test]
    fn a_hang_up_or_an_error_answers_what_was_asked_and_no_more() {
        for readiness in [
            Readiness::HANG_UP,
            Readiness::ERROR,
            Readiness::HANG_UP | Readiness::READABLE,
        ] {
            for asked in [Interest::READ, Interest::WRITE, Interest::BOTH] {
                assert_eq!(readiness.answers(asked), asked);
            }
        }
    }

    #[test]
    fn plain_readiness_answers_its_own_direction() {
        assert_eq!(Readiness::READABLE.answers(Interest::BOTH), Interest::READ);
        assert_eq!(Readiness::WRITABLE.answers(Interest::BOTH), Interest::WRITE);
        assert_eq!(Readiness::READABLE.answers(Interest::WRITE), Interest::NONE);
        assert_eq!(
            (Readiness::READABLE | Readiness::WRITABLE).answers(Interest::BOTH),
            Interest::BOTH
        );
        assert_eq!(Readiness::NONE.answers(Interest::BOTH), Interest::NONE);
    }

    #[test]
    fn unnamed_bits_of_the_kernel_are_left_out() {
        assert_eq!(Readiness::from_poll_bits(0x4001), Readiness::READABLE);
        assert_eq!(Readiness::from_poll_bits(0x0020), Readiness::NONE);
        assert_eq!(Readiness::from_poll_bits(0x2000), Readiness::ENDED);
        assert_eq!(
            format!("{:?}", Readiness::from_poll_bits(0x11)),
            "READABLE | HANG_UP"
        );
    }
}
