//! `StreamTransport`: asyncio's transport for a connected stream socket.

use std::ops::Deref;
use std::sync::atomic::Ordering;

use oxlip_core::op::Op;
use oxlip_driver::Driver as _;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::base::TransportBase;
use super::ties::{Activity, Parts, Slots, Ties, Transport};
use super::{Beginning, Ending, end, extra, flow, write};
use crate::loop_::{EventLoop, Resource, Runnable};
use crate::names;

/// A connected byte stream; as `asyncio.Transport`.
#[pyclass(frozen, weakref, dict, extends = TransportBase, module = "oxlip")]
pub(crate) struct StreamTransport {
    ties: Ties,
}

impl Deref for StreamTransport {
    type Target = Ties;

    #[inline]
    fn deref(&self) -> &Ties {
        &self.ties
    }
}

impl StreamTransport {
    pub(super) fn create<'py>(
        py: Python<'py>,
        parts: Parts,
        slots: Slots,
    ) -> PyResult<Bound<'py, Self>> {
        let ties = Ties::new(parts, slots, crate::counts::Kind::StreamTransport);
        Bound::new(py, Self { ties })
    }
}

impl Transport for StreamTransport {
    #[inline]
    fn ties<'a>(slf: &'a Bound<'_, Self>) -> &'a Ties {
        &slf.get().ties
    }

    fn start(slf: &Bound<'_, Self>) -> PyResult<()> {
        let id = slf.get().id;
        slf.get().with_state(|state| {
            let (driver, resources) = state.parts();
            let Some(connection) = resources.connection(id) else {
                return;
            };
            connection.stream.start();
            if connection.stream.wants_read() {
                let _ = driver.submit(Op::RecvStart(id));
            }
        })?;
        Ok(())
    }

    fn abort_with(slf: &Bound<'_, Self>, error: Option<Py<PyAny>>) -> PyResult<()> {
        end::abort(slf, error)
    }

    fn activity(resource: &Resource) -> Option<Activity> {
        let Resource::Connection(connection) = resource else {
            return None;
        };
        Some(Activity {
            reading: connection.stream.wants_read(),
            buffered: connection.stream.buffered(),
            closing: connection.stream.is_closing(),
        })
    }

    fn beginning(beginning: Beginning<Self>) -> Runnable {
        Runnable::Begin(Box::new(beginning))
    }

    fn ending(ending: Ending<Self>) -> Runnable {
        Runnable::End(Box::new(ending))
    }
}

#[pymethods]
impl StreamTransport {
    // Reading

    /// Whether `data_received` may be called.
    fn is_reading(&self) -> PyResult<bool> {
        let reading = self.with_state(|state| {
            state
                .resources
                .connection(self.id)
                .is_some_and(|connection| connection.stream.is_reading())
        })?;
        Ok(reading.unwrap_or(false))
    }

    /// No data is delivered until `resume_reading()`.
    fn pause_reading(&self) -> PyResult<()> {
        self.with_state(|state| {
            let (driver, resources) = state.parts();
            let Some(connection) = resources.connection(self.id) else {
                return;
            };
            if connection.stream.pause_reading() {
                let _ = driver.submit(Op::RecvStop(self.id));
            }
        })?;
        Ok(())
    }

    /// Ends `pause_reading()`.
    fn resume_reading(&self) -> PyResult<()> {
        self.with_state(|state| {
            let (driver, resources) = state.parts();
            let Some(connection) = resources.connection(self.id) else {
                return;
            };
            if connection.stream.resume_reading() && connection.stream.wants_read() {
                let _ = driver.submit(Op::RecvStart(self.id));
            }
        })?;
        Ok(())
    }

    // Writing: write.rs

    /// Sends bytes, or keeps what the system does not take at once. Never blocks.
    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        write::write(slf, data)
    }

    /// Sends several buffers as if they were one.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        write::writelines(slf, list_of_data)
    }

    /// Sends the end of the stream after what was written. Data can still be received.
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        write::write_eof(slf)
    }

    /// Whether `write_eof()` works: always.
    #[expect(clippy::unused_self, reason = "a method of asyncio's interface")]
    fn can_write_eof(&self) -> bool {
        true
    }

    /// Bytes that wait to be sent.
    fn get_write_buffer_size(slf: &Bound<'_, Self>) -> PyResult<usize> {
        write::buffered(slf)
    }

    /// The low and the high mark of `set_write_buffer_limits`, in bytes.
    fn get_write_buffer_limits(slf: &Bound<'_, Self>) -> PyResult<(usize, usize)> {
        let this = slf.get();
        let limits = this.with_state(|state| {
            state
                .resources
                .connection(this.id)
                .map(|connection| connection.stream.limits())
        })?;
        let limits = limits.flatten();
        Ok(limits
            .or_else(|| Self::with_slots(slf, |slots| slots.last_limits))
            .unwrap_or(flow::DEFAULT_LIMITS))
    }

    /// Sets the marks between which `pause_writing` and `resume_writing` are called, in bytes.
    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<isize>,
        low: Option<isize>,
    ) -> PyResult<()> {
        let (high, low) = flow::limits(high, low)?;
        write::flush_one(slf)?;
        let id = slf.get().id;
        let flow = slf.get().with_state(|state| {
            let connection = state.resources.connection(id)?;
            connection.stream.set_limits(high, low)
        })?;
        if flow.is_none() {
            Self::with_slots(slf, |slots| slots.last_limits = Some((low, high)));
        }
        flow::tell(slf, flow.flatten())
    }

    // Ending: end.rs

    /// Closes the connection once everything written has been sent.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        end::close(slf)
    }

    /// Closes the connection at once; what was not sent is lost.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        end::abort(slf, None)
    }

    /// Whether the connection is closing or closed.
    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    // What it is: extra.rs

    /// Gives the callbacks to another protocol.
    fn set_protocol(slf: &Bound<'_, Self>, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        let buffered = protocol.is_instance(names::BUFFERED_PROTOCOL.get(slf.py())?)?;
        let id = slf.get().id;
        slf.get().with_state(|state| {
            if let Some(connection) = state.resources.connection(id) {
                connection.buffered = buffered;
            }
        })?;
        let before = Self::with_slots(slf, |slots| slots.protocol.replace(protocol.unbind()));
        drop(before);
        Ok(())
    }

    /// The protocol, `None` once the connection is lost.
    fn get_protocol<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        Self::protocol(slf)
    }

    /// What is known about the connection: `socket`, `sockname`, `peername` and what its maker
    /// added.
    #[pyo3(signature = (name, default = None))]
    fn get_extra_info<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        extra::get(slf, name, default)
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<EventLoop> {
        self.event_loop.clone_ref(py)
    }

    #[getter]
    fn _protocol<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        Self::protocol(slf)
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyString>> {
        extra::repr(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.ties.traverse(&visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(Self::with_slots(slf, std::mem::take));
    }
}
