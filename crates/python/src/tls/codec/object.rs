//! The codec that works everywhere: `SSLObject` between two `MemoryBIO`s, one call for each record.

use pyo3::buffer::PyBuffer;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMemoryView};

use super::{End, Filled, Read};
use crate::names;

/// The most that a record contains (RFC 8446, 5.1).
const RECORD: usize = 16 * 1024;

/// An `SSLObject` and its two `MemoryBIO`s. Its methods may run Python code of the program:
/// callbacks of the context.
pub(super) struct Object {
    pub(super) sslobj: Py<PyAny>,
    /// Records from the peer.
    pub(super) incoming: Py<PyAny>,
    /// Records for the peer.
    pub(super) outgoing: Py<PyAny>,
}

impl Object {
    /// # Errors
    /// What `wrap_bio()` raises.
    pub(super) fn new(
        context: &Bound<'_, PyAny>,
        server_side: bool,
        server_hostname: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = context.py();
        let bio = names::MEMORY_BIO.get(py)?;
        let (incoming, outgoing) = (bio.call0()?, bio.call0()?);
        let options = PyDict::new(py);
        options.set_item("server_side", server_side)?;
        options.set_item("server_hostname", server_hostname)?;
        let sslobj = context.call_method("wrap_bio", (&incoming, &outgoing), Some(&options))?;
        Ok(Self {
            sslobj: sslobj.unbind(),
            incoming: incoming.unbind(),
            outgoing: outgoing.unbind(),
        })
    }

    pub(super) fn feed(&self, records: &Bound<'_, PyAny>) -> PyResult<()> {
        self.incoming
            .bind(records.py())
            .call_method1(intern!(records.py(), "write"), (records,))
            .map(drop)
    }

    /// Goes on with the handshake; `false` if the peer has to send more.
    pub(super) fn handshake(&self, py: Python<'_>) -> PyResult<bool> {
        let done = self
            .sslobj
            .bind(py)
            .call_method0(intern!(py, "do_handshake"));
        Ok(unless_again(py, done)?.is_some())
    }

    /// Sends `close_notify`; `false` if the peer's is missing.
    pub(super) fn unwrap(&self, py: Python<'_>) -> PyResult<bool> {
        let done = self.sslobj.bind(py).call_method0(intern!(py, "unwrap"));
        Ok(unless_again(py, done)?.is_some())
    }

    /// Everything that can be decrypted.
    pub(super) fn read<'py>(&self, py: Python<'py>) -> Read<'py> {
        let sslobj = self.sslobj.bind(py);
        let mut parts: Vec<Bound<'py, PyBytes>> = Vec::new();
        let end = loop {
            let part = sslobj.call_method1(intern!(py, "read"), (RECORD,));
            match unless_again(py, part) {
                Ok(None) => break End::More,
                Ok(Some(part)) => match part.cast_into::<PyBytes>() {
                    Ok(part) if part.as_bytes().is_empty() => break End::Closed,
                    Ok(part) => parts.push(part),
                    Err(error) => break End::Failed(error.into()),
                },
                Err(error) => break End::Failed(error),
            }
        };
        let data = if parts.len() > 1 {
            let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
            Some(PyBytes::new(py, &parts.concat()))
        } else {
            parts.pop()
        };
        Read { data, end }
    }

    /// Decrypts into `buffer` until it is full or there is nothing more.
    pub(super) fn read_into(&self, buffer: &Bound<'_, PyAny>) -> PyResult<Filled> {
        let py = buffer.py();
        let sslobj = self.sslobj.bind(py);
        let size = PyBuffer::<u8>::get(buffer)?.len_bytes();
        let view = PyMemoryView::from(buffer)?;
        let mut filled = 0;
        let end = loop {
            if filled == size {
                break None;
            }
            let rest = view.get_item(pyo3::types::PySlice::new(
                py,
                filled.cast_signed(),
                size.cast_signed(),
                1,
            ))?;
            let count = sslobj.call_method1(intern!(py, "read"), (size - filled, rest));
            match unless_again(py, count) {
                Ok(None) => break Some(End::More),
                Ok(Some(count)) => match count.extract::<usize>() {
                    Ok(0) => break Some(End::Closed),
                    Ok(count) => filled += count,
                    Err(error) => break Some(End::Failed(error)),
                },
                Err(error) => break Some(End::Failed(error)),
            }
        };
        Ok(Filled { filled, end })
    }

    /// Encrypts. Returns how many bytes were taken; `None` if the peer has to send something first.
    pub(super) fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
        let py = data.py();
        let count = self
            .sslobj
            .bind(py)
            .call_method1(intern!(py, "write"), (data,));
        unless_again(py, count)?
            .map(|count| count.extract())
            .transpose()
    }

    /// The records to be sent.
    pub(super) fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let records = self.outgoing.bind(py).call_method0(intern!(py, "read"))?;
        Ok(records.cast_into::<PyBytes>()?)
    }

    pub(super) fn pending_in(&self, py: Python<'_>) -> PyResult<usize> {
        self.incoming
            .bind(py)
            .getattr(intern!(py, "pending"))?
            .extract()
    }

    pub(super) fn pending_out(&self, py: Python<'_>) -> PyResult<usize> {
        self.outgoing
            .bind(py)
            .getattr(intern!(py, "pending"))?
            .extract()
    }
}

/// `None` if the codec only waits for records. A `MemoryBIO` has no errors of its own, so an error
/// of the system is one that an earlier call has left behind.
fn unless_again<'py>(
    py: Python<'py>,
    result: PyResult<Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if error.matches(py, names::SSL_WANT_READ.get(py)?)?
                || error.matches(py, names::SSL_SYSCALL.get(py)?)? =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
