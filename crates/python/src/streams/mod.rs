//! asyncio's streams with a native half: what a busy connection does over and over, and the
//! shortest path from a transport to any reader.
//!
//! The native classes hold what asyncio's keep in attributes, under the same names, and are mixed
//! into subclasses of asyncio's (`python/oxlip/_streams.py`), whose coroutines ask here first.
//! Whatever is rare is answered with `NotImplemented`; then asyncio's own coroutine goes on from
//! the same state, so that the meaning is defined once. Objects of classes that a program has
//! derived always take that path.
//!
//! All of it runs on the thread of the stream's loop, as asyncio's streams must.

mod bytes;
mod deliver;
mod piece;
mod reader;
mod slots;
mod stock_reader;
mod waiter;
mod writer;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

pub(crate) use deliver::{deliver, feeds_a_reader};
pub(crate) use reader::StreamReader;
pub(crate) use writer::StreamWriter;

use crate::prompt::Deed;

use self::stock_reader::StockReader;

/// What of streams is mostly done at once.
pub(crate) static DEEDS: [Deed; 1] = [writer::DRAIN];

/// Python's side of it, which `oxlip._streams` makes known when it is imported, unless asyncio has been
/// changed before. Without it nothing is ours to answer.
struct Classes {
    reader: Py<PyType>,
    writer: Py<PyType>,
    /// asyncio's, and ours with the same flow control.
    protocols: [Py<PyType>; 2],
    /// `StreamReaderProtocol.data_received` and `._stream_reader`: asyncio's.
    data_received: Py<PyAny>,
    reader_property: Py<PyAny>,
    /// None if its methods had been replaced before.
    stock_reader: Option<StockReader>,
}

static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();

/// Tells which classes stand on [`StreamReader`] and [`StreamWriter`], and the protocols of streams:
/// ours and asyncio's, and asyncio's reader.
///
/// # Errors
/// `AttributeError` if it lacks what it has had since Python 3.8.
pub(crate) fn own(
    reader: &Bound<'_, PyType>,
    writer: &Bound<'_, PyType>,
    protocol: &Bound<'_, PyType>,
    stock_protocol: &Bound<'_, PyType>,
    stock_reader: Option<&Bound<'_, PyType>>,
) -> PyResult<()> {
    let classes = Classes {
        reader: reader.clone().unbind(),
        writer: writer.clone().unbind(),
        protocols: [stock_protocol.clone().unbind(), protocol.clone().unbind()],
        data_received: stock_protocol.getattr("data_received")?.unbind(),
        reader_property: stock_protocol.getattr("_stream_reader")?.unbind(),
        stock_reader: stock_reader.map(StockReader::new).transpose()?,
    };
    // A second import (of a reloaded module) changes nothing.
    let _ = CLASSES.set(reader.py(), classes);
    Ok(())
}
