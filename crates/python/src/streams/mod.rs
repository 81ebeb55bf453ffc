//! asyncio's streams without Python code on their way: the reader and the writer of
//! `oxlip.open_connection()`, and the shortest path from a transport to any reader.
//!
//! The native classes hold what asyncio's keep in attributes, under the same names, and are mixed into
//! subclasses of asyncio's (`python/oxlip/_streams.py`). They replace the methods that a busy
//! connection calls; everything else is asyncio's own code, working on the same attributes. What is
//! rare here is handed over to it as well, from the same state, so that there is one meaning.
//!
//! All of it runs on the thread of the stream's loop, as asyncio's streams must. A reader or a writer
//! whose class the program has derived gets asyncio's methods.

mod bytes;
mod call;
mod deliver;
mod reader;
mod writer;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

pub(crate) use call::StreamCall;
pub(crate) use deliver::{deliver, feeds_a_reader};
pub(crate) use reader::StreamReader;
pub(crate) use writer::StreamWriter;

/// Python's side of it, which `oxlip._streams` makes known when it is imported.
struct Classes {
    reader: Py<PyType>,
    stock_reader: Py<PyType>,
    stock_writer: Py<PyType>,
    /// `StreamReaderProtocol.data_received` and `._stream_reader` of asyncio.
    data_received: Py<PyAny>,
    reader_property: Py<PyAny>,
    /// `FlowControlMixin._drain_helper` of asyncio.
    drain_helper: Py<PyAny>,
}

static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();

/// Tells which class stands on [`StreamReader`], and which of asyncio's are behind it and behind the
/// writer and the protocol.
///
/// # Errors
/// `AttributeError` if asyncio's classes lack what they have had since Python 3.8.
pub(crate) fn own(
    reader: &Bound<'_, PyType>,
    stock_reader: &Bound<'_, PyType>,
    stock_writer: &Bound<'_, PyType>,
    stock_protocol: &Bound<'_, PyType>,
) -> PyResult<()> {
    let classes = Classes {
        reader: reader.clone().unbind(),
        stock_reader: stock_reader.clone().unbind(),
        stock_writer: stock_writer.clone().unbind(),
        data_received: stock_protocol.getattr("data_received")?.unbind(),
        reader_property: stock_protocol.getattr("_stream_reader")?.unbind(),
        drain_helper: stock_protocol.getattr("_drain_helper")?.unbind(),
    };
    // A second import (of a reloaded module) changes nothing.
    let _ = CLASSES.set(reader.py(), classes);
    Ok(())
}

fn classes<'py>(py: Python<'py>) -> PyResult<&'py Classes> {
    CLASSES.get(py).ok_or_else(|| {
        PyRuntimeError::new_err("oxlip's streams are used through the package oxlip")
    })
}
