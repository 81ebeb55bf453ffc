//! Receiving: a large piece straight into the `bytes` that the protocol gets, a small one by way of the
//! driver's buffer. Which it is going to be `oxlip_core::bulk` guesses.
//!
//! Called under the borrow of the loop's state: a `bytes` object is not one that the cycle collector
//! follows, so making and dropping it runs no Python code.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use oxlip_core::bulk::{Bulk, ROOM};
use oxlip_core::id::Id;
use oxlip_driver::{AnyDriver, Driver as _, Received, Taken};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

// SAFETY: as CPython declares it.
unsafe extern "C" {
    // https://docs.python.org/3/c-api/bytes.html#c._PyBytes_Resize
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> c_int;
}

/// What has arrived; empty at the end of the stream, nothing if there is nothing.
///
/// # Errors
/// Those of recv(2), out of memory.
#[inline(always)]
pub(super) fn receive<'py>(
    py: Python<'py>,
    driver: &mut AnyDriver,
    id: Id,
    bulk: &mut Bulk,
) -> io::Result<Option<Bound<'py, PyBytes>>> {
    let received = if bulk.is_likely() {
        receive_large(py, driver, id)?
    } else {
        copied(py, &driver.take(id)?)
    };
    if let Some(data) = &received {
        bulk.note(data.as_bytes().len());
    }
    Ok(received)
}

#[inline(always)]
fn copied<'py>(py: Python<'py>, received: &Received<'_>) -> Option<Bound<'py, PyBytes>> {
    match received {
        Received::Data(data) => Some(PyBytes::new(py, data)),
        Received::Eof => Some(PyBytes::new(py, b"")),
        Received::Nothing => None,
    }
}

fn receive_large<'py>(
    py: Python<'py>,
    driver: &mut AnyDriver,
    id: Id,
) -> io::Result<Option<Bound<'py, PyBytes>>> {
    let mut room = Room::new(py)?;
    match driver.take_or_fill(id, room.memory())? {
        // SAFETY: the driver says that it has filled so much.
        Taken::Filled(count) => unsafe { room.filled(py, count) }.map(Some),
        Taken::Lent(received) => Ok(copied(py, &received)),
    }
}

/// A `bytes` object that nobody has seen, and whose contents are still to come.
struct Room(*mut ffi::PyObject);

impl Room {
    fn new(_py: Python<'_>) -> io::Result<Self> {
        // SAFETY: NULL asks for an object that is not filled; it is new, or NULL with an error.
        let object = unsafe { ffi::PyBytes_FromStringAndSize(ptr::null(), ROOM.cast_signed()) };
        if object.is_null() {
            return Err(out_of_memory());
        }
        Ok(Self(object))
    }

    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: a `bytes` object of this size, which is this one's alone, as are its contents.
        unsafe {
            let memory = ffi::PyBytes_AsString(self.0).cast::<MaybeUninit<u8>>();
            std::slice::from_raw_parts_mut(memory, ROOM)
        }
    }

    /// The object with what has come.
    ///
    /// # Safety
    /// The first `count` bytes have been written; there are no more than `ROOM`.
    unsafe fn filled(mut self, py: Python<'_>, count: usize) -> io::Result<Bound<'_, PyBytes>> {
        // SAFETY: one reference, as a resize needs; it gives up the memory behind what has been written.
        // Where it fails, the object is gone, and NULL in its place.
        if unsafe { _PyBytes_Resize(&raw mut self.0, count.cast_signed()) } != 0 {
            return Err(out_of_memory());
        }
        let object = std::mem::replace(&mut self.0, ptr::null_mut());
        // SAFETY: a new reference to a `bytes` object.
        Ok(unsafe { Bound::from_owned_ptr(py, object).cast_into_unchecked() })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // SAFETY: the only reference, or NULL; who makes a `Room` is attached to the interpreter.
        unsafe { ffi::Py_XDECREF(self.0) };
    }
}

/// Instead of the interpreter's exception, which is set.
#[cold]
fn out_of_memory() -> io::Error {
    // SAFETY: the interpreter is attached; an exception is set.
    unsafe { ffi::PyErr_Clear() };
    io::ErrorKind::OutOfMemory.into()
}
