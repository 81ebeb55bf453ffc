//! The buffer protocol: the memory of an object, as one contiguous run of bytes.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;

/// The memory of an object, for as long as this lives. Dropping it
/// may run Python code (`__release_buffer__`, `__del__`): not under a borrow of the loop's state.
pub(crate) struct Buffer<'py> {
    view: Box<ffi::Py_buffer>,
    _py: Python<'py>,
}

impl<'py> Buffer<'py> {
    /// Asks for memory to read.
    ///
    /// # Errors
    /// `TypeError` if the object has no buffer, `BufferError` if its memory is not contiguous.
    pub(crate) fn readable(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        Self::get(object, ffi::PyBUF_SIMPLE)
    }

    /// Asks for memory to write to. `argument` is how the function that asyncio calls names what it is given.
    ///
    /// # Errors
    /// That function's `TypeError` if there is none.
    pub(crate) fn writable(
        object: &Bound<'py, PyAny>,
        argument: &str,
    ) -> PyResult<WritableBuffer<'py>> {
        match Self::get(object, ffi::PyBUF_WRITABLE) {
            Ok(buffer) => Ok(WritableBuffer(buffer)),
            Err(_) => {
                let class = match object.is_none() {
                    true => "None".to_owned(),
                    false => object.get_type().name()?.to_string(),
                };
                Err(PyTypeError::new_err(format!(
                    "{argument} must be read-write bytes-like object, not {class}"
                )))
            }
        }
    }

    fn get(object: &Bound<'py, PyAny>, flags: std::ffi::c_int) -> PyResult<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: `view` is zeroed memory of the right type that stays in place in its box.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, flags) } != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(Self {
            view,
            _py: object.py(),
        })
    }

    /// The bytes, as long as the buffer is held.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        let len = self.view.len.unsigned_abs();
        if len == 0 {
            return &[];
        }
        // SAFETY: PyBUF_SIMPLE gives `len` contiguous bytes, which stay in place while the view
        // is held. Who reads them is the kernel or OpenSSL, and of us who copies them, which runs no
        // Python code; a program that writes to them meanwhile, from another thread or a callback of
        // OpenSSL's, sends a mixture, as with socket.send.
        unsafe { std::slice::from_raw_parts(self.view.buf.cast(), len) }
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        // SAFETY: filled by PyObject_GetBuffer and released once; `_py` says that the interpreter
        // is attached.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.view) };
    }
}

/// A [`Buffer`] that may be written to.
pub(crate) struct WritableBuffer<'py>(Buffer<'py>);

impl WritableBuffer<'_> {
    /// Where the bytes are, as long as the buffer is held, and how many: for who runs Python code meanwhile, which
    /// may look at them.
    pub(crate) fn memory(&mut self) -> (*mut u8, usize) {
        (self.0.view.buf.cast(), self.0.view.len.unsigned_abs())
    }

    /// The bytes, as long as the buffer is held and no Python code runs.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        let len = self.0.view.len.unsigned_abs();
        if len == 0 {
            return &mut [];
        }
        // SAFETY: as in `Buffer::as_slice`, and PyBUF_WRITABLE says that it may be written.
        unsafe { std::slice::from_raw_parts_mut(self.0.view.buf.cast(), len) }
    }
}
