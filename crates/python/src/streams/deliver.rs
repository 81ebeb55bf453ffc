//! From a transport to a stream's reader, bypassing the protocol between them, and `feed_data()` of asyncio's reader.
//!
//! `StreamReaderProtocol.data_received()` only looks up its reader and feeds it. Where that method
//! is asyncio's own, in the instance, its class and the class's bases, the same is done here. This
//! is checked once the protocol has its transport: replacing the method later, on a living
//! connection, has no effect.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyWeakrefMethods, PyWeakrefReference};

use super::CLASSES;
use crate::ffi;

/// Whether data for this protocol is data for its reader.
pub(crate) fn feeds_a_reader(protocol: &Bound<'_, PyAny>) -> bool {
    let py = protocol.py();
    let Some(classes) = CLASSES.get(py) else {
        return false;
    };
    let is_stock = || -> PyResult<bool> {
        // Most protocols have no such property: an exception to say so would cost a tenth of what a
        // connection does outside the kernel.
        let property = protocol
            .get_type()
            .getattr_opt(intern!(py, "_stream_reader"))?;
        if !property.is_some_and(|found| found.is(&classes.reader_property)) {
            return Ok(false);
        }
        let method = protocol.getattr(intern!(py, "data_received"))?;
        Ok(method
            .getattr(intern!(py, "__func__"))?
            .is(&classes.data_received)
            && method.getattr(intern!(py, "__self__"))?.is(protocol))
    };
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
    if let Some(stock) = CLASSES
        .get(py)
        .and_then(|classes| classes.stock_reader.as_ref())
        && stock.feed(&reader, data)?
    {
        return Ok(());
    }
    ffi::call_method(intern!(py, "feed_data"), [&reader, data.as_any()]).map(drop)
}
