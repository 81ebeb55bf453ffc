//! `TlsTransport`: asyncio's transport for a TLS connection, as the program's protocol gets it.

use std::sync::atomic::Ordering;

use oxlip_core::tls::{READ_HIGH, WRITE_HIGH, limits};
use pyo3::exceptions::{PyNotImplementedError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString};

use super::{TlsProtocol, end, read, socket, write};
use crate::buffer::Data;
use crate::counts::{Counted, Kind};
use crate::loop_::EventLoop;
use crate::transport::{Mark, TransportBase};
use crate::{ffi, names};

/// An encrypted byte stream; as `asyncio.Transport`.
///
/// Python programs look for "ssl" in the name of the class, because asyncio's has it.
#[pyclass(
    name = "SSLTransport",
    frozen,
    weakref,
    dict,
    extends = TransportBase,
    module = "oxlip"
)]
pub(crate) struct TlsTransport {
    tls: Py<TlsProtocol>,
    _counted: Counted,
}

impl TlsTransport {
    pub(super) fn create(py: Python<'_>, tls: Py<TlsProtocol>) -> PyResult<Py<Self>> {
        let transport = Self {
            tls,
            _counted: Counted::new(Kind::TlsTransport),
        };
        Py::new(py, transport)
    }

    fn check_not_reserved(&self, method: &str) -> PyResult<()> {
        if self.tls.get().with(|inner| inner.reserved)? {
            let message = format!("unable to {method}; sendfile is in progress");
            return Err(PyRuntimeError::new_err(message));
        }
        Ok(())
    }
}

#[pymethods]
impl TlsTransport {
    /// `loop.start_tls()` accepts it, for TLS in TLS.
    #[classattr]
    #[expect(non_upper_case_globals, reason = "asyncio's name")]
    const _start_tls_compatible: bool = true;

    // Reading

    /// Whether `data_received` may be called.
    fn is_reading(&self) -> bool {
        !self.tls.get().paused.load(Ordering::Relaxed)
    }

    /// No data is delivered until `resume_reading()`.
    fn pause_reading(&self) -> PyResult<()> {
        let tls = self.tls.get();
        tls.with(|inner| inner.machine.pause_reading())?;
        tls.paused.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Ends `pause_reading()`.
    fn resume_reading(&self, py: Python<'_>) -> PyResult<()> {
        let tls = self.tls.bind(py);
        let resumes = tls.get().with(|inner| inner.machine.resume_reading())?;
        tls.get().paused.store(false, Ordering::Relaxed);
        if resumes {
            let step = tls.getattr(intern!(py, "_step"))?;
            tls.get().call_soon(py, &step, &[])?;
        }
        Ok(())
    }

    /// Bytes that have arrived and are not decrypted yet.
    fn get_read_buffer_size(&self, py: Python<'_>) -> PyResult<usize> {
        self.tls.get().pending_in(py)
    }

    /// The low and the high mark of `set_read_buffer_limits`, in bytes.
    fn get_read_buffer_limits(&self) -> (usize, usize) {
        self.tls.get().limits().read
    }

    /// Sets the marks between which the lower transport stops and resumes reading, in bytes.
    #[pyo3(signature = (high = None, low = None))]
    fn set_read_buffer_limits(
        &self,
        py: Python<'_>,
        high: Option<Mark>,
        low: Option<Mark>,
    ) -> PyResult<()> {
        let [high, low] = Mark::sizes([high, low]);
        let (high, low) = limits(high, low, READ_HIGH).map_err(limits_error)?;
        let tls = self.tls.bind(py);
        let _owned = tls.get().own()?;
        tls.get()
            .set_limits(|machine| machine.set_read_limits(high, low))?;
        read::hold_back(tls)
    }

    // Writing

    /// Encrypts and sends bytes, and keeps what the system does not take at once. Never blocks.
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        if !(data.is_instance_of::<PyBytes>()
            || data.is_instance_of::<PyByteArray>()
            || data.is_instance_of::<PyMemoryView>())
        {
            return Err(PyTypeError::new_err(format!(
                "data: expecting a bytes-like instance, got {}",
                data.get_type().name()?
            )));
        }
        let pieces = [(data.clone(), Data::any_buffer(data)?)];
        if pieces[0].1.as_slice().is_empty() {
            return Ok(());
        }
        let tls = self.tls.bind(data.py());
        let _owned = tls.get().own()?;
        self.check_not_reserved("write")?;
        write::write(tls, &pieces)
    }

    /// Sends several buffers as if they were one.
    fn writelines(&self, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut pieces = Vec::new();
        for item in list_of_data.try_iter()? {
            let item = item?;
            let data = Data::any_buffer(&item)?;
            if !data.as_slice().is_empty() {
                pieces.push((item, data));
            }
        }
        if pieces.is_empty() {
            return Ok(());
        }
        let tls = self.tls.bind(list_of_data.py());
        let _owned = tls.get().own()?;
        self.check_not_reserved("writelines")?;
        write::write(tls, &pieces)
    }

    /// asyncio does not support half-closed TLS connections.
    #[expect(clippy::unused_self, reason = "a method of asyncio's interface")]
    fn write_eof(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(()))
    }

    /// Whether `write_eof()` works: never.
    #[expect(clippy::unused_self, reason = "a method of asyncio's interface")]
    fn can_write_eof(&self) -> bool {
        false
    }

    /// Bytes that the lower transport has not got yet.
    fn get_write_buffer_size(&self, py: Python<'_>) -> PyResult<usize> {
        let tls = self.tls.get();
        let pending = tls.pending_out(py)?;
        tls.with(|inner| inner.machine.unsent(pending))
    }

    /// The low and the high mark of `set_write_buffer_limits`, in bytes.
    fn get_write_buffer_limits(&self) -> (usize, usize) {
        self.tls.get().limits().write
    }

    /// Sets the marks between which `pause_writing` and `resume_writing` are called, in bytes.
    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        &self,
        py: Python<'_>,
        high: Option<Mark>,
        low: Option<Mark>,
    ) -> PyResult<()> {
        let [high, low] = Mark::sizes([high, low]);
        let (high, low) = limits(high, low, WRITE_HIGH).map_err(limits_error)?;
        let tls = self.tls.bind(py);
        let _owned = tls.get().own()?;
        tls.get()
            .set_limits(|machine| machine.set_write_limits(high, low))?;
        write::control(tls)
    }

    /// asyncio's `sendfile()` reads it before it waits for room.
    #[getter]
    fn _protocol_paused(&self) -> PyResult<bool> {
        self.tls
            .get()
            .with(|inner| inner.machine.is_writing_paused())
    }

    // Sending a file past the connection: socket.rs

    /// What `loop.sendfile()` may do: leave the file to the kernel if that encrypts, otherwise read and write.
    #[getter]
    fn _sendfile_compatible<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let mode = match socket::is_kernel_sending(self.tls.get())? {
            true => "TRY_NATIVE",
            false => "FALLBACK",
        };
        names::SENDFILE_MODE.get(py)?.getattr(mode)
    }

    fn _reserve(&self, py: Python<'_>, sender: Bound<'_, PyAny>) -> PyResult<()> {
        let tls = self.tls.bind(py);
        let _owned = tls.get().own()?;
        socket::reserve(tls, sender)
    }

    fn _unreserve(&self, py: Python<'_>) -> PyResult<()> {
        let tls = self.tls.bind(py);
        let _owned = tls.get().own()?;
        socket::unreserve(tls)
    }

    // Ending

    /// Sends `close_notify` once everything written has been sent, then closes.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let tls = slf.get().tls.bind(py);
        let Some(_owned) = tls.get().own_to_end(slf, "close", None)? else {
            return Ok(());
        };
        if tls.get().with(|inner| inner.machine.is_closing())? {
            tls.get().be_done_with(py)?;
        }
        end::close(tls)
    }

    /// Closes the connection at once; what was not sent is lost.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        let tls = slf.get().tls.bind(slf.py());
        match tls.get().own_to_end(slf, "abort", None)? {
            Some(_owned) => end::abort(tls, None),
            None => Ok(()),
        }
    }

    #[pyo3(signature = (exc))]
    fn _force_close(slf: &Bound<'_, Self>, exc: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let tls = slf.get().tls.bind(py);
        let shown = exc.clone().into_pyobject(py)?;
        match tls.get().own_to_end(slf, "_force_close", Some(&shown))? {
            Some(_owned) => end::abort(tls, exc),
            None => Ok(()),
        }
    }

    /// Whether the connection, or the transport below it, is closing or closed.
    fn is_closing(&self, py: Python<'_>) -> PyResult<bool> {
        let tls = self.tls.get();
        match tls.lower(py) {
            // This one learns of it later.
            Some(lower) if !tls.is_closing() => {
                ffi::call_method(intern!(py, "is_closing"), [&lower])?.is_truthy()
            }
            _ => Ok(tls.is_closing()),
        }
    }

    // What it is

    /// Directs the callbacks to another protocol.
    fn set_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        self.tls.get().set_protocol(protocol)
    }

    /// The protocol, `None` once the connection is lost.
    fn get_protocol<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.tls.get().protocol(py)
    }

    /// `sslcontext`; after the handshake `ssl_object`, `peercert`, `cipher`, `compression`; and
    /// what the lower transport has.
    #[pyo3(signature = (name, default = None))]
    fn get_extra_info<'py>(
        &self,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = name.py();
        let tls = self.tls.get();
        if let Some(value) = tls.extra.bind(py).get_item(name)? {
            return Ok(Some(value));
        }
        match tls.lower(py) {
            Some(lower) => lower
                .call_method1(intern!(py, "get_extra_info"), (name, default))
                .map(Some),
            None => Ok(default),
        }
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<EventLoop> {
        self.tls.get().event_loop.clone_ref(py)
    }

    #[getter]
    fn _ssl_protocol(&self, py: Python<'_>) -> Py<TlsProtocol> {
        self.tls.clone_ref(py)
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyString>> {
        let py = slf.py();
        let tls = slf.get().tls.get();
        let closing = if tls.is_closing() { " closing" } else { "" };
        let over = match tls.lower(py) {
            Some(lower) => format!(" over {}", lower.repr()?),
            None => String::new(),
        };
        let name = slf.get_type().name()?;
        Ok(PyString::new(py, &format!("<{name}{closing}{over}>")))
    }

    // There is no __clear__: every cycle through this object also goes through the protocol, which has one.

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.tls)
    }
}

fn limits_error((high, low): (isize, isize)) -> PyErr {
    PyValueError::new_err(format!("high ({high}) must be >= low ({low}) must be >= 0"))
}
