//! A reader's buffer: a `bytearray`, because programs look at the one of asyncio's readers.

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::ffi;

/// Takes the first `n` bytes out of the buffer, or all of them if there are fewer.
///
/// # Errors
/// `BufferError` while somebody holds a view of it; then nothing is taken.
pub(super) fn take<'py>(
    buffer: &Bound<'py, PyByteArray>,
    n: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let taken = ffi::with_bytes(buffer, |bytes| {
        PyBytes::new(buffer.py(), &bytes[..n.min(bytes.len())])
    });
    drop_front(buffer, n)?;
    Ok(taken)
}

/// Drops the first `n` bytes, or all of them if there are fewer.
///
/// # Errors
/// As [`take`].
pub(super) fn drop_front(buffer: &Bound<'_, PyByteArray>, n: usize) -> PyResult<()> {
    if n >= buffer.len() {
        buffer.resize(0)
    } else {
        ffi::delete_front(buffer, n)
    }
}

/// Where the separator begins, looked for from `from` on.
pub(super) fn find(
    buffer: &Bound<'_, PyByteArray>,
    separator: &[u8],
    from: usize,
) -> Option<usize> {
    ffi::with_bytes(buffer, |bytes| {
        let found = find_in(bytes.get(from..)?, separator);
        found.map(|at| at + from)
    })
}

/// Where the separator begins.
#[inline]
pub(super) fn find_in(bytes: &[u8], separator: &[u8]) -> Option<usize> {
    match separator {
        [byte] => memchr::memchr(*byte, bytes),
        _ => memchr::memmem::find(bytes, separator),
    }
}
