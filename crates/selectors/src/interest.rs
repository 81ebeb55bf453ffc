//! What a descriptor is watched for.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub};

/// Readable, writable, both or neither: Python's `EVENT_READ | EVENT_WRITE`, with the same bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Interest(u8);

impl Interest {
    /// Neither. No multiplexer accepts it: a descriptor nobody is interested in is not watched.
    pub const NONE: Self = Self(0);
    /// Reading would not block.
    pub const READ: Self = Self(1);
    /// Writing would not block.
    pub const WRITE: Self = Self(2);
    /// Both.
    pub const BOTH: Self = Self(3);

    /// The interest with these bits of Python's `selectors`; `None` if there are others among them.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits > Self::BOTH.0 {
            None
        } else {
            Some(Self(bits))
        }
    }

    /// The bits of Python's `selectors`: 1 to read, 2 to write.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether reading is included.
    #[must_use]
    pub const fn reads(self) -> bool {
        self.0 & Self::READ.0 != 0
    }

    /// Whether writing is included.
    #[must_use]
    pub const fn writes(self) -> bool {
        self.0 & Self::WRITE.0 != 0
    }

    /// Whether neither is included.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Interest {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Interest {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Interest {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// What is in the first and not in the second.
impl Sub for Interest {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::READ => "READ",
            Self::WRITE => "WRITE",
            Self::BOTH => "READ | WRITE",
            _ => "NONE",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Interest;

    #[test]
    fn the_bits_are_those_of_python() {
        assert_eq!(Interest::READ.bits(), 1);
        assert_eq!(Interest::WRITE.bits(), 2);
        for bits in 0..4 {
            assert_eq!(Interest::from_bits(bits).map(Interest::bits), Some(bits));
        }
        assert_eq!(Interest::from_bits(4), None);
        assert_eq!(Interest::from_bits(u8::MAX), None);
    }

    #[test]
    fn combines_as_a_set() {
        assert_eq!(Interest::READ | Interest::WRITE, Interest::BOTH);
        assert_eq!(Interest::BOTH - Interest::READ, Interest::WRITE);
        assert_eq!(Interest::BOTH & Interest::READ, Interest::READ);
        assert!((Interest::READ & Interest::WRITE).is_empty());
        assert!(Interest::BOTH.reads() && Interest::BOTH.writes());
        assert!(!Interest::READ.writes() && !Interest::WRITE.reads());
    }
}
