//! `ReadPipeTransport`: asyncio's transport for the reading end of a pipe, a FIFO, a socket or a
//! character device, and its calls of the protocol.

use std::fmt::Write as _;
use std::ops::Deref;
use std::sync::atomic::Ordering;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use super::base::ReadTransportBase;
use super::body::{Body, Parts, Slots};
use super::link::Link;
use super::{end, read};
use crate::context::{self, Chosen};
use crate::counts::Kind;
use crate::handle::{Args, Handle};
use crate::loop_::{EventLoop, Runnable};
use crate::{ffi, log};

/// Bytes that come in; as `asyncio.ReadTransport`.
#[pyclass(frozen, weakref, dict, extends = ReadTransportBase, module = "oxlip")]
pub(crate) struct ReadPipeTransport(Body);

impl Deref for ReadPipeTransport {
    type Target = Body;
    fn deref(&self) -> &Body {
        &self.0
    }
}

impl ReadPipeTransport {
    pub(super) fn create(py: Python<'_>, parts: Parts, slots: Slots) -> PyResult<Bound<'_, Self>> {
        let body = Body::new(parts, slots, Kind::ReadPipeTransport);
        Bound::new(py, Self(body))
    }
}

#[pymethods]
impl ReadPipeTransport {
    /// Whether `data_received` may be called.
    fn is_reading(&self) -> bool {
        Body::is_reading(self)
    }

    /// No data is delivered until `resume_reading()`.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        read::pause(Link::ReadPipe(slf))
    }

    /// Ends `pause_reading()`.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        read::resume(Link::ReadPipe(slf))
    }

    /// Closes the pipe. What was not read is lost.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        end::close(Link::ReadPipe(slf))
    }

    /// Whether the transport is closing or closed.
    fn is_closing(&self) -> bool {
        Body::is_closing(self)
    }

    /// Directs the callbacks to another protocol.
    fn set_protocol(slf: &Bound<'_, Self>, protocol: Bound<'_, PyAny>) {
        Link::ReadPipe(slf).set_protocol(protocol);
    }

    /// The protocol, `None` once the connection is lost.
    fn get_protocol<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        Link::ReadPipe(slf).protocol()
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<EventLoop> {
        self.event_loop.clone_ref(py)
    }

    #[getter]
    fn _protocol<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        Link::ReadPipe(slf).protocol()
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyString>> {
        let this = slf.get();
        let reading = this.with_state(|state| {
            let connection = state.resources.connection(this.id);
            connection.is_some_and(|connection| connection.stream.wants_read())
        });
        let polling = |reading| if reading { "polling" } else { "idle" };
        repr(Link::ReadPipe(slf), reading.map(|it| it.map(polling)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(&visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(Link::ReadPipe(slf).with_slots(std::mem::take));
    }
}

/// The `repr()` of a pipe's transport, as in asyncio. `details`: `None` once it is over, an error
/// if another thread looks at a transport of a running loop.
pub(super) fn repr<'py>(
    transport: Link<'_, 'py>,
    details: PyResult<Option<impl std::fmt::Display>>,
) -> PyResult<Bound<'py, PyString>> {
    let this = transport.get();
    let mut text = format!("<{}", transport.as_any().get_type().name()?);
    let state = match details {
        Ok(Some(details)) => details.to_string(),
        Ok(None) if !this.is_abandoned() => {
            text.push_str(" closed");
            "closed".to_owned()
        }
        _ => "open".to_owned(),
    };
    if state != "closed" && this.is_closing() && !this.is_abandoned() {
        text.push_str(" closing");
    }
    let _ = write!(text, " fd={} {state}>", this.fd);
    Ok(PyString::new(transport.py(), &text))
}

/// Passes data to the protocol. As in asyncio, an exception is reported, and does not end the connection.
pub(super) fn received<'py>(
    transport: Link<'_, 'py>,
    protocol: &Bound<'py, PyAny>,
    data: Bound<'py, PyBytes>,
) -> PyResult<()> {
    let py = transport.py();
    let name = intern!(py, "data_received");
    match ffi::call_method(name, [protocol, data.as_any()]) {
        Ok(_) => Ok(()),
        Err(error) => {
            let event_loop = transport.get().event_loop.bind(py);
            let args = PyTuple::new(py, [data])?;
            end::report_callback(event_loop, protocol, "data_received", args, error)
        }
    }
}

/// The writer is gone: schedules `eof_received`, whose result is ignored, and then
/// `connection_lost`, both as handles of the next tick.
pub(super) fn ended<'py>(transport: Link<'_, 'py>, protocol: &Bound<'py, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    let event_loop = this.event_loop.bind(py);
    if event_loop.get().is_debug() {
        log::info(py, "%r was closed by peer", &[transport.as_any().clone()])?;
    }
    this.with_state(|state| {
        if let Some(connection) = state.resources.connection(this.id) {
            let _ = connection.stream.close();
            this.closing.store(true, Ordering::Relaxed);
        }
    })?;
    let told = match protocol.getattr(intern!(py, "eof_received")) {
        Ok(callback) => {
            let own = Chosen::Own(context::copy_current(py)?);
            let handle = Handle::new(event_loop, callback, Args::None, own)?;
            event_loop.get().push(Runnable::Call(handle.unbind()));
            Ok(())
        }
        Err(error) => {
            let args = PyTuple::empty(py);
            end::report_callback(event_loop, protocol, "eof_received", args, error)
        }
    };
    end::lose(transport, None, false).and(told)
}
