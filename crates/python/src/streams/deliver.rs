//! From a transport to a stream's reader, past the protocol between them.
//!
//! `StreamReaderProtocol.data_received()` does nothing but look up its reader and feed it. Where that
//! method is asyncio's own, in the instance, its class and the class's bases, what it does is done here.
//! Whether it is gets asked when a transport is given its protocol: one that is replaced on a living
//! connection is replaced too late.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyWeakrefMethods, PyWeakrefReference};

use super::reader::StreamReader;
use super::{CLASSES, classes};
use crate::ffi;

/// Whether data for this protocol is data for its reader.
pub(crate) fn feeds_a_reader(protocol: &Bound<'_, PyAny>) -> bool {
    let py = protocol.py();
    let Some(classes) = CLASSES.get(py) else {
        return false;
    };
    let is_stock = || -> PyResult<bool> {
        let method = protocol.getattr(intern!(py, "data_received"))?;
        let property = protocol.get_type().getattr(intern!(py, "_stream_reader"))?;
        Ok(method
            .getattr(intern!(py, "__func__"))?
            .is(&classes.data_received)
            && method.getattr(intern!(py, "__self__"))?.is(protocol)
            && property.is(&classes.reader_property))
    };
    // Most protocols have no such property.
    is_stock().unwrap_or(false)
}

/// Does what `protocol.data_received(data)` would.
///
/// # Errors
/// Those of the reader's `feed_data()`.
#[inline]
pub(crate) fn deliver(protocol: &Bound<'_, PyAny>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
    let py = protocol.py();
    let weak = protocol.getattr(intern!(py, "_stream_reader_wr"))?;
    let reader = match weak.cast_exact::<PyWeakrefReference>() {
        Ok(weak) => weak.upgrade(),
        Err(_) if weak.is_none() => None,
        // Not what asyncio puts there.
        Err(_) => Some(weak.call0()?).filter(|reader| !reader.is_none()),
    };
    let Some(reader) = reader else {
        return Ok(()); // Collected: nobody will read this.
    };
    if reader.get_type().is(&classes(py)?.reader) {
        let reader = reader.cast::<StreamReader>()?;
        StreamReader::feed(reader, data.as_bytes())
    } else {
        ffi::call_method(intern!(py, "feed_data"), [&reader, data.as_any()]).map(drop)
    }
}
