//! A `bytes` object that is still being filled, and that nobody else has seen.
//!
//! The cycle collector does not follow it, so making and dropping it runs no Python code: it may be
//! done while the loop's state is borrowed.

use std::ffi::c_int;
use std::mem::{self, MaybeUninit};
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

// SAFETY: as CPython declares it.
unsafe extern "C" {
    // https://docs.python.org/3/c-api/bytes.html#c._PyBytes_Resize
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> c_int;
}

/// Memory for bytes that are to be a `bytes` object.
pub(crate) struct Room<'py> {
    object: *mut ffi::PyObject,
    size: usize,
    py: Python<'py>,
}

impl<'py> Room<'py> {
    /// Room for at most `size` bytes, at least two.
    ///
    /// # Errors
    /// `MemoryError`, `OverflowError`.
    pub(crate) fn new(py: Python<'py>, size: usize) -> PyResult<Self> {
        debug_assert!(
            size > 1,
            "the empty bytes and those of one byte are shared objects"
        );
        // SAFETY: NULL asks for an object that is not filled; it is new, or NULL with an error.
        let object = unsafe { ffi::PyBytes_FromStringAndSize(ptr::null(), size.cast_signed()) };
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        Ok(Self { object, size, py })
    }

    /// All of it.
    pub(crate) fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: a `bytes` object of this size, which nobody else refers to.
        unsafe {
            let memory = ffi::PyBytes_AsString(self.object).cast::<MaybeUninit<u8>>();
            std::slice::from_raw_parts_mut(memory, self.size)
        }
    }

    /// Makes it larger or smaller; what is in it stays.
    ///
    /// # Errors
    /// `MemoryError`, `OverflowError`.
    pub(crate) fn resize(&mut self, size: usize) -> PyResult<()> {
        // SAFETY: there is one reference, as a resize needs. Where it fails, the object is gone, and NULL
        // in its place.
        if unsafe { _PyBytes_Resize(&raw mut self.object, size.cast_signed()) } != 0 {
            self.size = 0;
            return Err(PyErr::fetch(self.py));
        }
        self.size = size;
        Ok(())
    }

    /// The object with its first `count` bytes.
    ///
    /// # Errors
    /// `MemoryError`, `OverflowError`.
    ///
    /// # Safety
    /// They have been written.
    pub(crate) unsafe fn filled(mut self, count: usize) -> PyResult<Bound<'py, PyBytes>> {
        self.resize(count)?;
        let object = mem::replace(&mut self.object, ptr::null_mut());
        // SAFETY: a reference to a `bytes` object, which this one gives up.
        Ok(unsafe { Bound::from_owned_ptr(self.py, object).cast_into_unchecked() })
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        // SAFETY: the only reference, or NULL; `py` says that the interpreter is attached.
        unsafe { ffi::Py_XDECREF(self.object) };
    }
}
