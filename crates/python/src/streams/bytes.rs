//! A reader's buffer: a `bytearray`, because programs look at the one of asyncio's readers.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyByteArray, PyBytes};

/// Takes the first `n` bytes out of the buffer, or all of them if there are fewer.
///
/// # Errors
/// `BufferError` while somebody holds a view of it; then nothing is taken.
pub(super) fn take<'py>(
    buffer: &Bound<'py, PyByteArray>,
    n: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let taken = with_bytes(buffer, |bytes| {
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
        delete_front(buffer, n)
    }
}

/// Where the separator begins, looked for from `from` on.
pub(super) fn find(
    buffer: &Bound<'_, PyByteArray>,
    separator: &[u8],
    from: usize,
) -> Option<usize> {
    with_bytes(buffer, |bytes| {
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

/// Shows the bytes of a `bytearray`; `look` must not run Python code.
#[inline]
fn with_bytes<R>(array: &Bound<'_, PyByteArray>, look: impl FnOnce(&[u8]) -> R) -> R {
    with_critical_section(array, || {
        // SAFETY: nobody changes the array meanwhile: `look` runs no Python code, and another thread
        // would need the GIL, or without one the array's critical section.
        look(unsafe { array.as_bytes() })
    })
}

/// Appends to a `bytearray`.
///
/// # Errors
/// `BufferError` while somebody holds a view of it, `MemoryError`.
#[inline]
pub(super) fn append(array: &Bound<'_, PyByteArray>, data: &[u8]) -> PyResult<()> {
    with_critical_section(array, || {
        let before = array.len();
        array.resize(before + data.len())?;
        // SAFETY: as in `with_bytes`; `data` is not of this array: a view would have kept it from
        // being resized.
        let bytes = unsafe { array.as_bytes_mut() };
        bytes[before..].copy_from_slice(data);
        Ok(())
    })
}

/// `del array[:n]`; `n` is at most its length.
///
/// # Errors
/// As [`append`].
fn delete_front(array: &Bound<'_, PyByteArray>, n: usize) -> PyResult<()> {
    let end = ffi::Py_ssize_t::try_from(n)?;
    // SAFETY: a live object, and a call that reports its errors as Python does.
    if unsafe { ffi::PySequence_DelSlice(array.as_ptr(), 0, end) } != 0 {
        return Err(PyErr::fetch(array.py()));
    }
    Ok(())
}
