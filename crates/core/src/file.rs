//! Requests for regular files, and their answers. A transfer owns its bytes, so that they live for
//! as long as the operating system may use them, even if nobody is interested in the result any
//! more.

use std::io;

/// A read or a write, asked for by [`crate::op::Op::File`].
#[derive(Debug)]
pub struct Transfer {
    /// The embedder's name for it, which the answer repeats.
    pub key: u64,
    /// The descriptor, which stays open and the embedder's until the answer.
    pub descriptor: i32,
    /// Where in the file; `None` is where the descriptor stands, which then moves.
    pub offset: Option<u64>,
    /// Which way.
    pub way: Way,
    /// What to write, or room for what is read.
    pub bytes: Vec<u8>,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the file.
    Read,
    /// To the file.
    Write,
}

/// The end of a transfer: of all of it, or as much as the system took or gave.
#[derive(Debug)]
pub struct Transferred {
    /// The embedder's name for it.
    pub key: u64,
    /// How many bytes. `Unsupported`: this driver has not begun it, and somebody else may do it.
    pub outcome: io::Result<usize>,
    /// Those that were to be written, or the room with what was read at its beginning.
    pub bytes: Vec<u8>,
}

impl Transfer {
    /// Its end.
    #[must_use]
    pub fn end(self, outcome: io::Result<usize>) -> Transferred {
        Transferred {
            key: self.key,
            outcome,
            bytes: self.bytes,
        }
    }

    /// Its end where it cannot be done.
    #[must_use]
    pub fn refuse(self) -> Transferred {
        self.end(Err(io::ErrorKind::Unsupported.into()))
    }
}
