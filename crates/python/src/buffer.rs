//! What a program passes to `write()`: borrowed for the call, and kept only as far as it was not
//! sent.

use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use crate::py_buffer::Buffer;

/// Bytes that wait to be sent.
pub(crate) enum Chunk {
    /// An immutable object of the program's, kept alive.
    Bytes(PyBytesView),
    /// A copy: what the program passed may change before it is sent.
    Copied(Box<[u8]>),
}

/// A `bytes` object together with the address of its contents, so that reading it needs no
/// interpreter.
pub(crate) struct PyBytesView {
    data: *const u8,
    len: usize,
    _owner: Py<PyBytes>,
}

// SAFETY: the memory is immutable and lives as long as `_owner`, which is itself `Send`.
unsafe impl Send for PyBytesView {}

impl PyBytesView {
    pub(crate) fn new(bytes: &Bound<'_, PyBytes>) -> Self {
        let contents = bytes.as_bytes();
        Self {
            data: contents.as_ptr(),
            len: contents.len(),
            _owner: bytes.clone().unbind(),
        }
    }
}

impl AsRef<[u8]> for PyBytesView {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `data` and `len` were taken from `_owner`, a bytes object: its memory neither
        // moves nor changes while it lives, and `self` keeps it alive.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

impl AsRef<[u8]> for Chunk {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Bytes(view) => view.as_ref(),
            Self::Copied(bytes) => bytes,
        }
    }
}

/// The argument of one `write()`. Dropping it may run Python code: not under a borrow of the
/// loop's state.
pub(crate) enum Data<'py> {
    /// The usual case.
    Bytes(Bound<'py, PyBytes>),
    /// A buffer whose contents may change once the call is over.
    Buffer(Buffer<'py>),
    /// Our own memory, for the call.
    Borrowed(&'py [u8]),
}

impl<'py> Data<'py> {
    /// Takes what asyncio's transports take: `bytes`, `bytearray` and `memoryview`.
    ///
    /// # Errors
    /// `TypeError` for anything else.
    #[inline]
    pub(crate) fn extract(data: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            return Ok(Self::Bytes(bytes.clone()));
        }
        if data.is_instance_of::<PyBytes>()
            || data.is_instance_of::<PyByteArray>()
            || data.is_instance_of::<PyMemoryView>()
        {
            return Self::any_buffer(data);
        }
        Err(PyTypeError::new_err(format!(
            "data argument must be a bytes-like object, not '{}'",
            data.get_type().name()?
        )))
    }

    /// Takes any object with the buffer protocol, as `socket.send` does, and memory that is not
    /// contiguous, too.
    ///
    /// # Errors
    /// `TypeError` if it has none.
    pub(crate) fn any_buffer(data: &Bound<'py, PyAny>) -> PyResult<Self> {
        // Not a subclass: a chunk is dropped where no Python code may run.
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            return Ok(Self::Bytes(bytes.clone()));
        }
        match Buffer::readable(data) {
            Ok(buffer) => Ok(Self::Buffer(buffer)),
            Err(error) if error.is_instance_of::<PyBufferError>(data.py()) => {
                let flat = PyMemoryView::from(data)?.call_method0("tobytes")?;
                Ok(Self::Bytes(flat.cast_into::<PyBytes>()?))
            }
            Err(error) => Err(error),
        }
    }

    /// The bytes, for the time of the call.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes.as_bytes(),
            Self::Buffer(buffer) => buffer.as_slice(),
            Self::Borrowed(bytes) => bytes,
        }
    }

    /// What is to be kept when `sent` bytes are gone, and how many of its first bytes to skip.
    pub(crate) fn to_chunk(&self, sent: usize) -> (Chunk, usize) {
        match self {
            Self::Bytes(bytes) => (Chunk::Bytes(PyBytesView::new(bytes)), sent),
            Self::Buffer(_) | Self::Borrowed(_) => {
                (Chunk::Copied(self.as_slice()[sent..].into()), 0)
            }
        }
    }
}
