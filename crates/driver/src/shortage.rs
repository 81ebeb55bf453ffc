//! Errors that pass: the system has no descriptor or no memory left.
//!
//! Whoever accepts connections tries again after a while instead of giving up.

use std::io;

use rustix::io::Errno;

/// Whether the error says that the process or the system is out of descriptors or memory
/// (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`): those after which asyncio pauses accepting.
#[must_use]
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

/// What the system says when the process has as many descriptors as it may.
pub(crate) fn out_of_descriptors() -> io::Error {
    Errno::MFILE.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_passes_and_a_closed_descriptor_does_not() {
        assert!(is_shortage(&out_of_descriptors()));
        assert!(!is_shortage(&Errno::BADF.into()));
        assert!(
            !is_shortage(&io::ErrorKind::OutOfMemory.into()),
            "not from the system"
        );
    }
}
