//! `StreamTransport`: asyncio's transport for a connected stream socket.

use std::ops::Deref;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::base::TransportBase;
use super::body::{Body, Parts, Slots};
use super::extra::Addresses;
use super::link::Link;
use super::{end, extra, flow, read, reserve, write};
use crate::counts::Kind;
use crate::loop_::{EventLoop, Receiver};
use crate::names;

/// A connected byte stream; as `asyncio.Transport`.
#[pyclass(frozen, weakref, dict, extends = TransportBase, module = "oxlip")]
pub(crate) struct StreamTransport {
    body: Body,
    pub(super) addresses: Option<Addresses>,
}

impl Deref for StreamTransport {
    type Target = Body;
    #[inline]
    fn deref(&self) -> &Body {
        &self.body
    }
}

impl StreamTransport {
    pub(super) fn create(
        py: Python<'_>,
        parts: Parts,
        slots: Slots,
        addresses: Option<Addresses>,
    ) -> PyResult<Bound<'_, Self>> {
        let body = Body::new(parts, slots, Kind::StreamTransport);
        Bound::new(py, Self { body, addresses })
    }
}

#[pymethods]
impl StreamTransport {
    /// `loop.start_tls()` accepts it.
    #[classattr]
    #[expect(non_upper_case_globals, reason = "asyncio's name")]
    const _start_tls_compatible: bool = true;

    // Reading

    /// Whether `data_received` may be called.
    fn is_reading(&self) -> bool {
        Body::is_reading(self)
    }

    /// No data is delivered until `resume_reading()`.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        read::pause(Link::Stream(slf))
    }

    /// Ends `pause_reading()`.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        read::resume(Link::Stream(slf))
    }

    // Writing: write.rs

    /// Sends bytes, or keeps what the system does not take at once. Never blocks.
    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        write::write(Link::Stream(slf), data)
    }

    /// Sends several buffers as if they were one.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        write::writelines(Link::Stream(slf), list_of_data)
    }

    /// Sends the end of the stream after what was written. Data can still be received.
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        write::write_eof(Link::Stream(slf))
    }

    /// Whether `write_eof()` works: always.
    #[expect(clippy::unused_self, reason = "a method of asyncio's interface")]
    fn can_write_eof(&self) -> bool {
        true
    }

    /// Bytes that wait to be sent.
    fn get_write_buffer_size(slf: &Bound<'_, Self>) -> PyResult<usize> {
        write::buffered(Link::Stream(slf))
    }

    /// The low and the high mark of `set_write_buffer_limits`, in bytes.
    fn get_write_buffer_limits(slf: &Bound<'_, Self>) -> (usize, usize) {
        flow::limits(Link::Stream(slf))
    }

    /// Sets the marks between which `pause_writing` and `resume_writing` are called, in bytes.
    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<flow::Mark>,
        low: Option<flow::Mark>,
    ) -> PyResult<()> {
        flow::set_limits(Link::Stream(slf), high, low)
    }

    // Sending a file past the write buffer: reserve.rs

    /// What `loop.sendfile()` may do with the transport.
    #[getter]
    fn _sendfile_compatible<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        names::SENDFILE_MODE.get(slf.py())?.getattr("TRY_NATIVE")
    }

    fn _reserve(slf: &Bound<'_, Self>, sender: Bound<'_, PyAny>) -> PyResult<()> {
        reserve::reserve(Link::Stream(slf), sender)
    }

    fn _unreserve(slf: &Bound<'_, Self>) -> PyResult<()> {
        reserve::unreserve(Link::Stream(slf))
    }

    /// Whether the protocol was told to pause writing and not yet to resume.
    #[getter]
    fn _protocol_paused(&self) -> PyResult<bool> {
        let paused = self.with_state(|state| {
            let connection = state.resources.connection(self.id)?;
            Some(connection.stream.is_writing_paused())
        })?;
        Ok(paused.flatten().unwrap_or(false))
    }

    // Ending: end.rs

    /// Closes the connection once everything written has been sent.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        end::close(Link::Stream(slf))
    }

    /// Closes the connection at once; what was not sent is lost.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        end::abort(Link::Stream(slf), None)
    }

    /// As `abort()`, with an error for `connection_lost`. TLS on top of asyncio's transports uses it.
    #[pyo3(signature = (exc))]
    fn _force_close(slf: &Bound<'_, Self>, exc: Option<Py<PyAny>>) -> PyResult<()> {
        end::abort(Link::Stream(slf), exc)
    }

    /// Whether the connection is closing or closed.
    fn is_closing(&self) -> bool {
        Body::is_closing(self)
    }

    // What it is: extra.rs

    /// Directs the callbacks to another protocol.
    fn set_protocol(slf: &Bound<'_, Self>, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        let receiver = Receiver::of(&protocol)?;
        let id = slf.get().id;
        slf.get().with_state(|state| {
            if let Some(connection) = state.resources.connection(id) {
                connection.receiver = receiver;
            }
        })?;
        Link::Stream(slf).set_protocol(protocol);
        Ok(())
    }

    /// The protocol, `None` once the connection is lost.
    fn get_protocol<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        Link::Stream(slf).protocol()
    }

    /// Information about the connection: `socket`, `sockname`, `peername`, and what its creator has
    /// added.
    #[pyo3(signature = (name, default = None))]
    fn get_extra_info<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        extra::get(Link::Stream(slf), name, default)
    }

    /// The socket itself, as long as the connection lasts.
    #[getter]
    fn _sock<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        extra::python_socket(Link::Stream(slf))
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<EventLoop> {
        self.event_loop.clone_ref(py)
    }

    #[getter]
    fn _protocol<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        Link::Stream(slf).protocol()
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyString>> {
        extra::repr(Link::Stream(slf))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.body.traverse(&visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(Link::Stream(slf).with_slots(std::mem::take));
    }
}
