//! Bytes into records and back, with the program's own `ssl.SSLContext`.
//!
//! Handshake and farewell are `SSLObject`'s: the context's callbacks run there, and what is raised
//! is the interpreter's own. None of these methods may be called while anything is borrowed: they
//! run Python code.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::object::Object;
use crate::buffer::Data;

/// What makes and opens the records of one connection.
pub(super) struct Codec {
    object: Object,
}

/// Why reading stopped.
pub(super) enum End {
    /// More records are needed.
    More,
    /// The peer has said farewell.
    Closed,
    Failed(PyErr),
}

/// What could be decrypted.
pub(super) struct Read<'py> {
    pub(super) data: Option<Bound<'py, PyBytes>>,
    pub(super) end: End,
}

/// What could be decrypted into a buffer.
pub(super) struct Filled {
    pub(super) filled: usize,
    /// `None`: the buffer is full.
    pub(super) end: Option<End>,
}

impl Codec {
    /// # Errors
    /// What the context's `wrap_bio()` raises.
    pub(super) fn new(
        context: &Bound<'_, PyAny>,
        server_side: bool,
        server_hostname: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Ok(Self {
            object: Object::new(context, server_side, server_hostname)?,
        })
    }

    /// The `SSLObject`.
    pub(super) fn sslobj(&self) -> &Py<PyAny> {
        &self.object.sslobj
    }

    /// The Python objects it holds, for the cycle collector.
    pub(super) fn traverse(
        &self,
        visit: &pyo3::gc::PyVisit<'_>,
    ) -> Result<(), pyo3::gc::PyTraverseError> {
        visit.call(&self.object.sslobj)?;
        visit.call(&self.object.incoming)?;
        visit.call(&self.object.outgoing)
    }

    /// Takes records of the peer's.
    pub(super) fn feed(&self, records: &Bound<'_, PyAny>) -> PyResult<()> {
        self.object.feed(records)
    }

    /// Shakes hands; `false`: the peer has to send more.
    pub(super) fn handshake(&self, py: Python<'_>) -> PyResult<bool> {
        self.object.handshake(py)
    }

    /// Says farewell; `false`: the peer's is missing.
    pub(super) fn unwrap(&self, py: Python<'_>) -> PyResult<bool> {
        self.object.unwrap(py)
    }

    /// Everything that can be decrypted.
    pub(super) fn read<'py>(&self, py: Python<'py>) -> Read<'py> {
        self.object.read(py)
    }

    /// Decrypts into `buffer` until it is full or there is nothing more.
    pub(super) fn read_into(&self, buffer: &Bound<'_, PyAny>) -> PyResult<Filled> {
        self.object.read_into(buffer)
    }

    /// Encrypts what a program has just written; how many bytes, `None` if the peer has to send
    /// something first. `object` is what `data` is of.
    pub(super) fn write(
        &self,
        object: &Bound<'_, PyAny>,
        _data: &Data<'_>,
    ) -> PyResult<Option<usize>> {
        self.object.write(object)
    }

    /// As [`Codec::write`], for what had to wait.
    pub(super) fn write_slice(&self, py: Python<'_>, data: &[u8]) -> PyResult<Option<usize>> {
        self.object.write(PyBytes::new(py, data).as_any())
    }

    /// The records that are due.
    pub(super) fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.object.take(py)
    }

    /// Bytes of records that are not read yet.
    pub(super) fn pending_in(&self, py: Python<'_>) -> PyResult<usize> {
        self.object.pending_in(py)
    }

    /// Bytes of records that nobody has taken yet.
    pub(super) fn pending_out(&self, py: Python<'_>) -> PyResult<usize> {
        self.object.pending_out(py)
    }
}
