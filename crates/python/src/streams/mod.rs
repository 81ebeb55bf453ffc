//! asyncio's streams with a native half: what a busy connection does over and over, and the shortest
//! path from a transport to any reader.
//!
//! The native classes hold what asyncio's keep in attributes, under the same names, and are mixed into
//! subclasses of asyncio's (`python/oxlip/_streams.py`), whose coroutines ask here first. What is rare
//! is answered with `NotImplemented`, and then asyncio's own coroutine goes on from the same state, so
//! that there is one meaning. An object of a class that the program has derived is always rare.
//!
//! All of it runs on the thread of the stream's loop, as asyncio's streams must.

mod bytes;
mod deliver;
mod reader;
mod writer;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

pub(crate) use deliver::{deliver, feeds_a_reader};
pub(crate) use reader::StreamReader;
pub(crate) use writer::StreamWriter;

/// Python's side of it, which `oxlip._streams` makes known when it is imported, unless asyncio has been
/// changed before. Without it nothing is ours to answer.
struct Classes {
    reader: Py<PyType>,
    writer: Py<PyType>,
    /// `StreamReaderProtocol.data_received`, `._stream_reader` and `._drain_helper`: asyncio's.
    data_received: Py<PyAny>,
    reader_property: Py<PyAny>,
    drain_helper: Py<PyAny>,
}

static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();

/// Tells which classes stand on [`StreamReader`] and [`StreamWriter`], and what asyncio's protocol of
/// streams has for methods.
///
/// # Errors
/// `AttributeError` if it lacks what it has had since Python 3.8.
pub(crate) fn own(
    reader: &Bound<'_, PyType>,
    writer: &Bound<'_, PyType>,
    protocol: &Bound<'_, PyType>,
) -> PyResult<()> {
    let classes = Classes {
        reader: reader.clone().unbind(),
        writer: writer.clone().unbind(),
        data_received: protocol.getattr("data_received")?.unbind(),
        reader_property: protocol.getattr("_stream_reader")?.unbind(),
        drain_helper: protocol.getattr("_drain_helper")?.unbind(),
    };
    // A second import (of a reloaded module) changes nothing.
    let _ = CLASSES.set(reader.py(), classes);
    Ok(())
}
