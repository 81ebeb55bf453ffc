//! The socket below a connection, if the transport below is a stream of ours. It is needed when the
//! kernel encrypts: for the records that bypass the transport (`codec/kernel.rs`), for waiting
//! until the socket has room for them, and for files.
//!
//! All of this runs on the loop's thread, called by the owner of the connection.

use std::os::fd::{AsRawFd, OwnedFd};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use super::codec::Codec;
use super::{TlsProtocol, end, write};
use crate::names;
use crate::transport::{self, Link, StreamTransport};

/// OpenSSL's `SSL_OP_ENABLE_KTLS`; `ssl.OP_ENABLE_KTLS` since Python 3.12.
const ENABLE_KTLS: u64 = 1 << 3;

/// Lets the kernel encrypt if the program has asked for it and the transport below has a suitable socket.
pub(super) fn allow_kernel(this: &TlsProtocol, py: Python<'_>) -> PyResult<()> {
    let Some(context) = this.extra.bind(py).get_item("sslcontext")? else {
        return Ok(());
    };
    // Not `SSLContext.options`, which makes an object of a class of its own from the number. A context of a foreign
    // class has no options.
    let options = names::SSL_CONTEXT
        .get(py)?
        .getattr(intern!(py, "options"))
        .and_then(|options| options.call_method1(intern!(py, "__get__"), (&context,)))
        .and_then(|options| options.extract::<u64>());
    let wanted = options.is_ok_and(|options| options & ENABLE_KTLS != 0);
    if wanted && stream(this, py).is_some() {
        this.with(|inner| {
            let codec = inner.codec();
            inner.kernel = codec.is_some_and(|codec| codec.allow_kernel());
        })?;
    }
    Ok(())
}

/// Whether the kernel encrypts.
pub(super) fn is_kernel_sending(this: &TlsProtocol) -> PyResult<bool> {
    this.with(|inner| inner.kernel && inner.codec().is_some_and(Codec::is_kernel_sending))
}

impl TlsProtocol {
    /// As [`TlsProtocol::with_codec`]. The kernel's half, if there is one, gets the socket, unless something else has
    /// to be sent first.
    pub(super) fn with_socket<R>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&Codec) -> R,
    ) -> PyResult<Option<R>> {
        let socket = match stream(self, py) {
            Some(lower) if self.with(|inner| inner.kernel)? => {
                transport::duplicate_if_idle(&lower)?
            }
            _ => None,
        };
        self.with_codec(|codec| {
            let _lent = socket.and_then(|socket| codec.lend_socket(socket));
            work(codec)
        })
    }

    /// Whether a record is still kept that must go directly to the socket; sends it if that is possible now.
    pub(super) fn is_blocked(&self, py: Python<'_>) -> PyResult<bool> {
        if self.with(|inner| inner.is_blocked())? {
            self.with_socket(py, |_| ())?;
        }
        self.with(|inner| inner.is_blocked())
    }
}

/// If such a record is kept, waits until there is room for it.
///
/// # Errors
/// The reason why the kernel sends nothing any more.
pub(super) fn wait_for_room(slf: &Bound<'_, TlsProtocol>) -> PyResult<()> {
    let this = slf.get();
    if this.with(|inner| inner.reserved)? {
        return Ok(()); // This is done when the file has been sent.
    }
    let was_blocked = this.with(|inner| inner.is_blocked() || inner.room.is_some())?;
    let blocked = this.is_blocked(slf.py())?;
    if let Some(error) = this.with(|inner| inner.codec().and_then(Codec::failure))? {
        return Err(error.into());
    }
    if blocked {
        return start_to_wait(slf);
    }
    stop_waiting(this, slf.py())?;
    if was_blocked || this.with(|inner| inner.parted.is_some())? {
        // The `close_notify` may have waited for that.
        let step = slf.getattr(intern!(slf.py(), "_step"))?;
        return this.call_soon(slf.py(), &step, &[]);
    }
    Ok(())
}

/// Waits once until the socket has room; then takes the next step.
///
/// # Errors
/// No descriptor is left for it.
pub(super) fn start_to_wait(slf: &Bound<'_, TlsProtocol>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    if this.with(|inner| inner.room.is_some())? {
        return Ok(());
    }
    let Some(lower) = stream(this, py) else {
        return Ok(());
    };
    // It is not allowed to wait for a transport's own descriptor.
    let Some(socket) = transport::duplicate(&lower)? else {
        return Ok(());
    };
    let step = slf.getattr(intern!(py, "_step"))?;
    let event_loop = this.event_loop.bind(py);
    event_loop.call_method1(intern!(py, "add_writer"), (socket.as_raw_fd(), step))?;
    let before = this.with(|inner| inner.room.replace(socket))?;
    drop(before);
    Ok(())
}

/// Ends the wait, if there is one.
pub(super) fn stop_waiting(this: &TlsProtocol, py: Python<'_>) -> PyResult<()> {
    let Some(socket) = this.with(|inner| inner.room.take())? else {
        return Ok(());
    };
    let event_loop = this.event_loop.bind(py);
    let stopped = event_loop.call_method1(intern!(py, "remove_writer"), (socket.as_raw_fd(),));
    drop::<OwnedFd>(socket);
    stopped.map(drop)
}

/// Refuses writes from now on, and lets `sender` (`transport/reserve.rs`) begin once everything written has been
/// sent.
///
/// # Errors
/// `RuntimeError` if the connection is closing or a file is being sent; asyncio's `SendfileNotAvailableError` if it
/// is not the kernel that encrypts, or a record has to be sent first.
pub(super) fn reserve(slf: &Bound<'_, TlsProtocol>, sender: Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let (Some(lower), false) = (stream(this, py), this.is_closing()) else {
        return Err(PyRuntimeError::new_err("Transport is closing"));
    };
    let written = write::write_everything(slf);
    end::survive(slf, written)?;
    let ready = !this.is_blocked(py)?
        && this.with(|inner| {
            inner.queue.is_empty() && inner.codec().is_some_and(Codec::takes_files)
        })?;
    if !ready {
        let unavailable = names::SENDFILE_NOT_AVAILABLE.get(py)?;
        let error = unavailable.call1(("the kernel does not encrypt the connection now",))?;
        return Err(PyErr::from_value(error));
    }
    stop_waiting(this, py)?;
    transport::reserve(Link::Stream(&lower), sender)?;
    this.with(|inner| inner.reserved = true)
}

/// Ends [`reserve`]: writes are accepted again.
pub(super) fn unreserve(slf: &Bound<'_, TlsProtocol>) -> PyResult<()> {
    let this = slf.get();
    this.with(|inner| inner.reserved = false)?;
    let Some(lower) = stream(this, slf.py()) else {
        return Ok(());
    };
    transport::unreserve(Link::Stream(&lower))?;
    let waits = wait_for_room(slf);
    end::survive(slf, waits)
}

/// The transport below, if it is a stream of ours.
fn stream<'py>(this: &TlsProtocol, py: Python<'py>) -> Option<Bound<'py, StreamTransport>> {
    this.lower(py)?.cast_into_exact().ok()
}
