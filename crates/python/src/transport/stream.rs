//! `StreamTransport`: asyncio's transport for a connected stream socket.

use std::cell::UnsafeCell;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use oxlip_core::id::Id;
use oxlip_core::op::Op;
use oxlip_driver::Driver as _;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyDict, PyString};

use super::base::TransportBase;
use super::extra::{Addresses, Sockets};
use super::{end, extra, flow, write};
use crate::counts::Counted;
use crate::loop_::{EventLoop, State};
use crate::names;

/// A connected byte stream; as `asyncio.Transport`.
#[pyclass(frozen, weakref, dict, extends = TransportBase, module = "oxlip")]
pub(crate) struct StreamTransport {
    pub(super) event_loop: Py<EventLoop>,
    pub(super) id: Id,
    /// Where the protocol's callbacks run: a copy of the context in which the connection was made.
    pub(super) context: Py<PyAny>,
    /// The number under which the program knows the descriptor.
    pub(super) fd: RawFd,
    pub(super) addresses: Option<Addresses>,
    /// `connection_lost` has been called, or the loop was closed.
    pub(super) dead: AtomicBool,
    /// What `is_closing()` says, to every thread: a stream may be collected on any.
    pub(super) closing: AtomicBool,
    /// The loop was closed first.
    abandoned: AtomicBool,
    /// Writes after that.
    pub(super) late_writes: AtomicU32,
    slots: UnsafeCell<Slots>,
    pub(super) _counted: Counted,
}

/// The objects that come and go. Reached only inside the transport's critical section.
#[derive(Default)]
pub(super) struct Slots {
    pub(super) protocol: Option<Py<PyAny>>,
    pub(super) server: Option<Py<PyAny>>,
    pub(super) extra: Option<Py<PyDict>>,
    pub(super) sockets: Option<Sockets>,
    /// The write buffer's limits when the connection was lost.
    pub(super) last_limits: Option<(usize, usize)>,
}

// SAFETY: `slots` is reached only through `with_slots`, inside the object's critical section, and
// by the collector, which runs while no other thread is in one.
unsafe impl Sync for StreamTransport {}

impl StreamTransport {
    pub(super) fn create<'py>(
        py: Python<'py>,
        parts: Parts,
        slots: Slots,
    ) -> PyResult<Bound<'py, Self>> {
        let Parts {
            event_loop,
            id,
            context,
            fd,
            addresses,
        } = parts;
        let transport = Self {
            event_loop,
            id,
            context,
            fd,
            addresses,
            dead: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            late_writes: AtomicU32::new(0),
            slots: UnsafeCell::new(slots),
            _counted: Counted::new(crate::counts::Kind::StreamTransport),
        };
        Bound::new(py, transport)
    }

    /// Reads or changes the objects it refers to. `access` must not run Python code.
    #[inline]
    pub(super) fn with_slots<R>(slf: &Bound<'_, Self>, access: impl FnOnce(&mut Slots) -> R) -> R {
        with_critical_section(slf.as_any(), || {
            // SAFETY: inside the object's critical section, and `access` only moves or clones
            // references, so no second borrow can arise.
            access(unsafe { &mut *slf.get().slots.get() })
        })
    }

    /// The protocol, until the connection is lost.
    #[inline]
    pub(super) fn protocol<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        let py = slf.py();
        Self::with_slots(slf, |slots| {
            slots.protocol.as_ref().map(|it| it.bind(py).clone())
        })
    }

    /// The loop was closed under the connection: its descriptor is gone.
    pub(crate) fn abandon(slf: &Bound<'_, Self>) {
        slf.get().abandoned.store(true, Ordering::Relaxed);
        slf.get().dead.store(true, Ordering::Relaxed);
        slf.get().closing.store(true, Ordering::Relaxed);
        let sockets = Self::with_slots(slf, |slots| slots.sockets.take());
        drop(sockets);
    }

    /// `connection_lost` cannot be called any more: the loop was closed under the connection.
    ///
    /// # Errors
    /// asyncio's `RuntimeError` about a closed loop.
    pub(super) fn check_not_abandoned(&self) -> PyResult<()> {
        if self.abandoned.load(Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err("Event loop is closed"));
        }
        Ok(())
    }

    /// Whether `fd` is still this connection's number: a socket that the program kept may have been
    /// closed.
    pub(crate) fn has_number(slf: &Bound<'_, Self>, fd: RawFd) -> PyResult<bool> {
        let kept = Self::with_slots(slf, |slots| match &slots.sockets {
            Some(Sockets::Theirs { sock, .. }) => Some(sock.bind(slf.py()).clone()),
            _ => None,
        });
        match kept {
            Some(sock) => Ok(sock.call_method0("fileno")?.extract::<RawFd>()? == fd),
            None => Ok(true),
        }
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Runs `access` on the loop's state unless the connection is gone.
    pub(super) fn with_state<R>(
        &self,
        access: impl FnOnce(&mut State) -> R,
    ) -> PyResult<Option<R>> {
        if self.is_dead() {
            return Ok(None);
        }
        Ok(Some(self.event_loop.get().state.with(access)?))
    }
}

/// The low and the high mark of a new stream, in bytes; what a lost one says, too.
const DEFAULT_LIMITS: (usize, usize) = (16 * 1024, 64 * 1024);

/// What a transport is made from and never changes.
pub(super) struct Parts {
    pub(super) event_loop: Py<EventLoop>,
    pub(super) id: Id,
    pub(super) context: Py<PyAny>,
    pub(super) fd: RawFd,
    pub(super) addresses: Option<Addresses>,
}

#[pymethods]
impl StreamTransport {
    /// `loop.start_tls()` takes it.
    #[classattr]
    #[expect(non_upper_case_globals, reason = "asyncio's name")]
    const _start_tls_compatible: bool = true;

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
            .unwrap_or(DEFAULT_LIMITS))
    }

    /// Sets the marks between which `pause_writing` and `resume_writing` are called, in bytes.
    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<isize>,
        low: Option<isize>,
    ) -> PyResult<()> {
        let high = high.unwrap_or_else(|| low.map_or(64 * 1024, |low| low.saturating_mul(4)));
        let low = low.unwrap_or(high / 4);
        if high < low || low < 0 {
            return Err(PyValueError::new_err(format!(
                "high ({high}) must be >= low ({low}) must be >= 0"
            )));
        }
        write::flush_one(slf)?;
        let id = slf.get().id;
        let flow = slf.get().with_state(|state| {
            let connection = state.resources.connection(id)?;
            connection
                .stream
                .set_limits(high.unsigned_abs(), low.unsigned_abs())
        })?;
        if flow.is_none() {
            let limits = (low.unsigned_abs(), high.unsigned_abs());
            Self::with_slots(slf, |slots| slots.last_limits = Some(limits));
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

    /// As `abort()`, with an error for `connection_lost`: TLS on top of asyncio's transports.
    #[pyo3(signature = (exc))]
    fn _force_close(slf: &Bound<'_, Self>, exc: Option<Py<PyAny>>) -> PyResult<()> {
        end::abort(slf, exc)
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
        visit.call(&self.event_loop)?;
        visit.call(&self.context)?;
        // SAFETY: the collector runs while no other thread is inside a critical section.
        let slots = unsafe { &*self.slots.get() };
        visit.call(&slots.protocol)?;
        visit.call(&slots.server)?;
        visit.call(&slots.extra)?;
        slots
            .sockets
            .as_ref()
            .map_or(Ok(()), |sockets| sockets.traverse(&visit))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(Self::with_slots(slf, std::mem::take));
    }
}
