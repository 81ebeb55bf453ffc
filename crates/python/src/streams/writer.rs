//! `StreamWriter`: the transport as a stream's program sees it.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::call::{Request, StreamCall};
use super::classes;
use super::reader::StreamReader;
use crate::counts::{Counted, Kind};
use crate::ffi;
use crate::transport::{self, Link, StreamTransport};

/// The native half of `oxlip.StreamWriter`.
#[pyclass(subclass, module = "oxlip._native")]
pub(crate) struct StreamWriter {
    #[pyo3(get, set, name = "_transport")]
    transport: Option<Py<PyAny>>,
    #[pyo3(get, set, name = "_protocol")]
    protocol: Option<Py<PyAny>>,
    #[pyo3(get, set, name = "_reader")]
    reader: Option<Py<PyAny>>,
    _counted: Counted,
}

#[pymethods]
impl StreamWriter {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            transport: None,
            protocol: None,
            reader: None,
            _counted: Counted::new(Kind::StreamWriter),
        }
    }

    /// Sends bytes, or keeps what the system does not take at once. Never blocks.
    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let transport = slf.borrow().transport.as_ref().map(|it| it.clone_ref(py));
        let transport = transport.map_or_else(|| py.None().into_bound(py), |it| it.into_bound(py));
        match transport.cast_exact::<StreamTransport>() {
            Ok(transport) => transport::write(Link::Stream(transport), data),
            Err(_) => ffi::call_method(intern!(py, "write"), [&transport, data]).map(drop),
        }
    }

    /// Waits while the write buffer is over its high-water mark.
    fn drain<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        StreamCall::create(slf.py(), Request::Drain(slf.clone().unbind()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.transport)?;
        visit.call(&self.protocol)?;
        visit.call(&self.reader)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let taken = {
            let mut this = slf.borrow_mut();
            let this = &mut *this;
            [
                this.transport.take(),
                this.protocol.take(),
                this.reader.take(),
            ]
        };
        drop(taken);
    }
}

impl StreamWriter {
    /// Whether `drain()` has nothing to wait for and nothing to raise, as far as can be told without
    /// asyncio's: a transport of ours that is open, a reader of ours without an error, a protocol
    /// that decides as asyncio's does and is not paused.
    pub(super) fn is_drained(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let (transport, protocol, reader) = {
            let this = slf.borrow();
            let copy =
                |it: &Option<Py<PyAny>>| it.as_ref().map(|it| it.clone_ref(py).into_bound(py));
            (
                copy(&this.transport),
                copy(&this.protocol),
                copy(&this.reader),
            )
        };
        let (Some(transport), Some(protocol)) = (transport, protocol) else {
            return Ok(false);
        };
        if let Some(reader) = reader {
            match reader.cast::<StreamReader>() {
                Ok(reader) if StreamReader::error(reader).is_none() => {}
                _ => return Ok(false),
            }
        }
        match transport.cast_exact::<StreamTransport>() {
            Ok(transport) if !transport.get().is_closing() => {}
            _ => return Ok(false),
        }
        let helper = protocol.get_type().getattr(intern!(py, "_drain_helper"))?;
        Ok(helper.is(&classes(py)?.drain_helper)
            && !protocol
                .getattr(intern!(py, "_connection_lost"))?
                .is_truthy()?
            && !protocol.getattr(intern!(py, "_paused"))?.is_truthy()?)
    }

    /// asyncio's coroutine.
    pub(super) fn stock_drain<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let class = classes(slf.py())?.stock_writer.bind(slf.py());
        class.call_method1(intern!(slf.py(), "drain"), (slf,))
    }
}
