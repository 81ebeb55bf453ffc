//! `StreamWriter`: a program's view of a stream's transport.

use pyo3::exceptions::PyAttributeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::CLASSES;
use super::reader::StreamReader;
use super::slots::{Slot, look, put};
use crate::counts::{Counted, Kind};
use crate::ffi;
use crate::fields::{Fields, has_fields, hold};
use crate::prompt::Deed;
use crate::transport::{self, Link, StreamTransport};

type Any<'py> = Bound<'py, PyAny>;

/// The native half of `oxlip.StreamWriter`.
#[pyclass(frozen, subclass, module = "oxlip._native")]
pub(crate) struct StreamWriter {
    fields: Fields<StreamWriterFields>,
    _counted: Counted,
}

pub(crate) struct StreamWriterFields {
    transport: Slot,
    protocol: Slot,
    reader: Slot,
    // Not for us. In a dict of the object they would be all that is there, and the interpreter finds
    // methods faster on an object that has none.
    event_loop: Slot,
    complete_future: Slot,
}

has_fields!(StreamWriter, StreamWriterFields);

#[pymethods]
impl StreamWriter {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            fields: Fields::new(StreamWriterFields {
                transport: None,
                protocol: None,
                reader: None,
                event_loop: None,
                complete_future: None,
            }),
            _counted: Counted::new(Kind::StreamWriter),
        }
    }

    /// Sends bytes, or keeps what the system does not take at once. Never blocks.
    fn write(slf: &Bound<'_, Self>, data: &Any<'_>) -> PyResult<()> {
        let py = slf.py();
        let classes = CLASSES.get(py);
        if classes.is_some_and(|classes| slf.get_type().is(&classes.writer)) {
            let transport = look(slf, |this| &this.transport);
            if let Ok(transport) = transport.cast_exact::<StreamTransport>() {
                return transport::write(Link::Stream(transport), data);
            }
        }
        let transport = slf.getattr(intern!(py, "_transport"))?;
        ffi::call_method(intern!(py, "write"), [&transport, data]).map(drop)
    }

    /// Whether `drain()` has nothing to wait for and nothing to raise, as far as can be told without
    /// asyncio's: a transport of ours that is open, a reader of ours without an error, a protocol
    /// of asyncio's or ours that is not paused.
    fn _is_drained(slf: &Bound<'_, Self>) -> PyResult<bool> {
        match Self::is_drained(slf) {
            // asyncio's says what is missing, or does without.
            Err(error) if error.is_instance_of::<PyAttributeError>(slf.py()) => Ok(false),
            drained => drained,
        }
    }

    // asyncio's attributes.

    #[getter(_transport)]
    fn transport<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        look(slf, |this| &this.transport)
    }

    #[setter(_transport)]
    fn set_transport(slf: &Bound<'_, Self>, transport: Option<Any<'_>>) {
        put(slf, |this| &mut this.transport, transport);
    }

    #[getter(_protocol)]
    fn protocol<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        look(slf, |this| &this.protocol)
    }

    #[setter(_protocol)]
    fn set_protocol(slf: &Bound<'_, Self>, protocol: Option<Any<'_>>) {
        put(slf, |this| &mut this.protocol, protocol);
    }

    #[getter(_reader)]
    fn reader<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        look(slf, |this| &this.reader)
    }

    #[setter(_reader)]
    fn set_reader(slf: &Bound<'_, Self>, reader: Option<Any<'_>>) {
        put(slf, |this| &mut this.reader, reader);
    }

    #[getter(_loop)]
    fn event_loop<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        look(slf, |this| &this.event_loop)
    }

    #[setter(_loop)]
    fn set_event_loop(slf: &Bound<'_, Self>, event_loop: Option<Any<'_>>) {
        put(slf, |this| &mut this.event_loop, event_loop);
    }

    #[getter(_complete_fut)]
    fn complete_future<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        look(slf, |this| &this.complete_future)
    }

    #[setter(_complete_fut)]
    fn set_complete_future(slf: &Bound<'_, Self>, future: Option<Any<'_>>) {
        put(slf, |this| &mut this.complete_future, future);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.fields.traverse(&visit, |fields, visit| {
            visit.call(&fields.transport)?;
            visit.call(&fields.protocol)?;
            visit.call(&fields.reader)?;
            visit.call(&fields.event_loop)?;
            visit.call(&fields.complete_future)
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let taken = {
            let mut this = hold(slf);
            let this = &mut *this;
            [
                this.transport.take(),
                this.protocol.take(),
                this.reader.take(),
                this.event_loop.take(),
                this.complete_future.take(),
            ]
        };
        drop(taken);
    }
}

impl StreamWriter {
    fn is_drained(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let Some(classes) = CLASSES.get(py) else {
            return Ok(false);
        };
        if !slf.get_type().is(&classes.writer) {
            return Ok(false);
        }
        let reader = look(slf, |this| &this.reader);
        if !reader.is_none() {
            match reader.cast::<StreamReader>() {
                Ok(reader) if StreamReader::is_fine(reader) => {}
                _ => return Ok(false),
            }
        }
        let transport = look(slf, |this| &this.transport);
        match transport.cast_exact::<StreamTransport>() {
            Ok(transport) if !transport.get().is_closing() => {}
            _ => return Ok(false),
        }
        let protocol = look(slf, |this| &this.protocol);
        // How a derived one decides is asyncio's to ask.
        let class = protocol.get_type();
        if !classes.protocols.iter().any(|known| class.is(known)) {
            return Ok(false);
        }
        let lost = protocol.getattr(intern!(py, "_connection_lost"))?;
        let paused = protocol.getattr(intern!(py, "_paused"))?;
        Ok(!lost.is_truthy()? && !paused.is_truthy()?)
    }
}

pub(super) const DRAIN: Deed = Deed {
    qualname: "StreamWriter.drain",
    arguments: 0,
    suits: |writer| {
        let classes = CLASSES.get(writer.py());
        Ok(classes.is_some_and(|classes| writer.get_type().is(&classes.writer)))
    },
    at_once: |writer| StreamWriter::_is_drained(writer.cast()?),
    wait: None,
};
