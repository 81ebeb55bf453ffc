//! `WritePipeTransport`: asyncio's transport for the writing end of a pipe, a FIFO, a socket or a
//! character device.
//!
//! Writes are not gathered but sent inside `write()`. The one who waits for them may not be a
//! client of the loop but, for example, the same program at the other end.

use std::ops::Deref;

use pyo3::exceptions::{PyAssertionError, PyBrokenPipeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString};

use super::base::TransportBase;
use super::body::{Body, Parts, Slots};
use super::link::Link;
use super::{end, flow, read_pipe, write};
use crate::buffer::Data;
use crate::counts::Kind;
use crate::log;
use crate::loop_::EventLoop;

/// Outgoing bytes; as `asyncio.WriteTransport`. It is also an `asyncio.Transport`, since asyncio's is.
#[pyclass(frozen, weakref, dict, extends = TransportBase, module = "oxlip")]
pub(crate) struct WritePipeTransport(Body);

impl Deref for WritePipeTransport {
    type Target = Body;
    fn deref(&self) -> &Body {
        &self.0
    }
}

impl WritePipeTransport {
    pub(super) fn create(py: Python<'_>, parts: Parts, slots: Slots) -> PyResult<Bound<'_, Self>> {
        let body = Body::new(parts, slots, Kind::WritePipeTransport);
        Bound::new(py, Self(body))
    }
}

#[pymethods]
impl WritePipeTransport {
    /// Writes bytes, or keeps what the system does not take at once. Never blocks.
    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let fits = data.is_instance_of::<PyBytes>()
            || data.is_instance_of::<PyByteArray>()
            || data.is_instance_of::<PyMemoryView>();
        if !fits {
            return Err(PyAssertionError::new_err(data.repr()?.unbind()));
        }
        write::write_at_once(Link::WritePipe(slf), &Data::any_buffer(data)?)
    }

    /// Closes the pipe once everything has been written: the stream of a pipe cannot be ended in another way.
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        end::close(Link::WritePipe(slf))
    }

    /// Whether `write_eof()` works: always.
    #[expect(clippy::unused_self, reason = "a method of asyncio's interface")]
    fn can_write_eof(&self) -> bool {
        true
    }

    /// Bytes that wait to be written.
    fn get_write_buffer_size(slf: &Bound<'_, Self>) -> PyResult<usize> {
        write::buffered(Link::WritePipe(slf))
    }

    /// The low and the high mark of `set_write_buffer_limits`, in bytes.
    fn get_write_buffer_limits(slf: &Bound<'_, Self>) -> (usize, usize) {
        flow::limits(Link::WritePipe(slf))
    }

    /// Sets the marks between which `pause_writing` and `resume_writing` are called, in bytes.
    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<flow::Mark>,
        low: Option<flow::Mark>,
    ) -> PyResult<()> {
        flow::set_limits(Link::WritePipe(slf), high, low)
    }

    /// Closes the pipe once everything has been written.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        end::close(Link::WritePipe(slf))
    }

    /// Closes the pipe at once; what was not written is lost.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        end::abort(Link::WritePipe(slf), None)
    }

    /// Whether the transport is closing or closed.
    fn is_closing(&self) -> bool {
        Body::is_closing(self)
    }

    /// Directs the callbacks to another protocol.
    fn set_protocol(slf: &Bound<'_, Self>, protocol: Bound<'_, PyAny>) {
        Link::WritePipe(slf).set_protocol(protocol);
    }

    /// The protocol, `None` once the connection is lost.
    fn get_protocol<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        Link::WritePipe(slf).protocol()
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<EventLoop> {
        self.event_loop.clone_ref(py)
    }

    #[getter]
    fn _protocol<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        Link::WritePipe(slf).protocol()
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyString>> {
        let this = slf.get();
        let shown = this.with_state(|state| {
            let connection = state.resources.connection(this.id);
            let size = connection.map_or(0, |connection| connection.stream.buffered());
            let polling = if size > 0 { "polling" } else { "idle" };
            format!("{polling} bufsize={size}")
        });
        read_pipe::repr(Link::WritePipe(slf), shown)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(&visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(Link::WritePipe(slf).with_slots(std::mem::take));
    }
}

/// The reader has closed its end.
pub(super) fn reader_left(transport: Link<'_, '_>) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    if this.event_loop.get().is_debug() {
        log::info(py, "%r was closed by peer", &[transport.as_any().clone()])?;
    }
    let unsent = write::buffered(transport)?;
    let error = (unsent > 0).then(|| PyBrokenPipeError::new_err(()).into_value(py).into_any());
    end::abort(transport, error)
}
