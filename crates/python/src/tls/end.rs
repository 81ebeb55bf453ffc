//! How a TLS connection ends: `close()`, `abort()`, the peer's `close_notify` or disappearance,
//! errors, time-outs, and the loss of the lower transport.

use std::mem;

use oxlip_core::tls::{ClosePlan, EndPlan, Overdue, Shutdown};
use pyo3::exceptions::{PyConnectionAbortedError, PyConnectionResetError, PyOSError};
use pyo3::intern;
use pyo3::prelude::*;

use super::read::{self, Received};
use super::{TlsProtocol, handshake, socket, write};
use crate::loop_::exception_handler;
use crate::{errors, ffi, log, names};

/// The program is done with the connection, or the peer has sent `close_notify`.
pub(super) fn close(slf: &Bound<'_, TlsProtocol>) -> PyResult<()> {
    let this = slf.get();
    match this.with(|inner| inner.machine.close())? {
        ClosePlan::Nothing => Ok(()),
        ClosePlan::Abort => abort_lower(this, slf.py(), None),
        ClosePlan::Flush => {
            TlsProtocol::start_timer(slf, &this.shutdown_timeout)?;
            TlsProtocol::proceed(slf)
        }
    }
}

/// Ends the connection without `close_notify`, with `error` for `connection_lost`.
pub(super) fn abort(slf: &Bound<'_, TlsProtocol>, error: Option<Bound<'_, PyAny>>) -> PyResult<()> {
    let this = slf.get();
    if this.with(|inner| inner.machine.abort())? {
        return abort_lower(this, slf.py(), error);
    }
    Ok(())
}

/// Ends the lower transport at once.
pub(super) fn abort_lower(
    this: &TlsProtocol,
    py: Python<'_>,
    error: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let Some(lower) = this.lower(py) else {
        return Ok(());
    };
    // asyncio's own transports and ours have `_force_close`; `abort` takes no error.
    match lower.getattr_opt(intern!(py, "_force_close"))? {
        Some(force_close) => force_close.call1((error,)),
        None => lower.call_method0(intern!(py, "abort")),
    }
    .map(drop)
}

/// Ends the connection with an error. OpenSSL may have an alert that tells the peer what was wrong;
/// it is sent if that can be done at once.
///
/// # Errors
/// The error itself if it ends the loop.
pub(super) fn fatal(slf: &Bound<'_, TlsProtocol>, error: PyErr, message: &str) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    if errors::ends_the_loop(py, &error) {
        return Err(error);
    }
    this.with(|inner| inner.machine.abort())?;
    let lower = this.lower(py);
    if let Some(lower) = &lower
        && write::hand_over(this, py).is_ok()
    {
        // Our own transport gathers what is written, but sends it before it tells how much is left.
        let _ = lower.call_method0(intern!(py, "get_write_buffer_size"));
        let _ = this.is_blocked(py);
    }
    abort_lower(this, py, Some(error.value(py).clone().into_any()))?;
    if error.is_instance_of::<PyOSError>(py) {
        if this.event_loop.get().is_debug() {
            let what = format!("%r: {message}: %s");
            let value = error.value(py).clone().into_any();
            log::debug(py, &what, &[slf.as_any().clone(), value])?;
        }
        return Ok(());
    }
    if error.matches(py, names::CANCELLED_ERROR.get(py)?)? {
        return Ok(());
    }
    let lower = lower.into_pyobject(py)?;
    exception_handler::report(
        this.event_loop.bind(py),
        message,
        error,
        &[("transport", &lower), ("protocol", slf.as_any())],
    )
}

/// Turns an error into the end of the connection, so that it does not reach the caller.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt`.
pub(super) fn survive(slf: &Bound<'_, TlsProtocol>, result: PyResult<()>) -> PyResult<()> {
    result.or_else(|error| fatal(slf, error, "Fatal error on SSL protocol"))
}

/// Reads what has arrived, writes what is queued, then sends `close_notify`.
pub(super) fn flush(slf: &Bound<'_, TlsProtocol>) -> PyResult<()> {
    let drained = loop {
        match read::receive(slf)? {
            Received::Full => {}
            Received::All => break true,
            Received::Nothing => break false,
        }
    };
    if slf
        .get()
        .with(|inner| inner.machine.start_shutdown(drained))?
    {
        return shutdown(slf);
    }
    Ok(())
}

/// Goes on with the exchange of `close_notify`.
pub(super) fn shutdown(slf: &Bound<'_, TlsProtocol>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    match this.with(|inner| inner.machine.shutdown())? {
        Shutdown::Nothing => return Ok(()),
        Shutdown::Finish => return finish(slf, true),
        Shutdown::Unwrap => {}
    }
    if let Some(parted) = this.with(|inner| inner.parted)? {
        return finish(slf, parted); // OpenSSL must not be asked twice.
    }
    match this.with_socket(py, |codec| codec.unwrap(py))? {
        None => Ok(()),
        Some(Ok(true)) => finish(slf, true),
        Some(Ok(false)) => {
            let sent = write::send(slf);
            survive(slf, sent)
        }
        // The peer goes on sending. Nobody reads that; what was written is still sent.
        Some(Err(error)) if is_late_data(py, &error) => finish(slf, false),
        Some(Err(error)) => fatal(slf, error, "Fatal error on transport"),
    }
}

/// Whether OpenSSL found data where it expected the peer's `close_notify`.
fn is_late_data(py: Python<'_>, error: &PyErr) -> bool {
    error
        .value(py)
        .getattr(intern!(py, "reason"))
        .is_ok_and(|reason| {
            reason
                .eq("APPLICATION_DATA_AFTER_CLOSE_NOTIFY")
                .unwrap_or(false)
        })
}

/// Sends the last records and closes the lower transport. `parted`: the peer has sent
/// `close_notify`, or has gone.
fn finish(slf: &Bound<'_, TlsProtocol>, parted: bool) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    if this.is_blocked(py)? {
        // Our `close_notify` has not been sent yet: this is called again when it has.
        finish_later(slf, parted)?;
        let waits = socket::wait_for_room(slf);
        return survive(slf, waits);
    }
    if socket::is_kernel_sending(this)?
        && this.with(|inner| !mem::replace(&mut inner.left, true))?
    {
        // The kernel has taken the last record, but at close(2) it drops what it has not passed to TCP. Once there is
        // room again, the record has been passed on.
        finish_later(slf, parted)?;
        let sent = write::send(slf);
        let waits = sent.and_then(|()| socket::start_to_wait(slf));
        return survive(slf, waits);
    }
    if !this.with(|inner| inner.machine.finish())? {
        return Ok(());
    }
    let sent = write::send(slf);
    survive(slf, sent)?;
    if parted {
        tell_eof(slf)?;
    }
    let Some(lower) = this.lower(py) else {
        return Ok(());
    };
    // What was written is sent first. A peer that does not read can delay that for ever.
    if this.with(|inner| inner.timer.is_none())? {
        TlsProtocol::start_timer(slf, &this.shutdown_timeout)?;
    }
    let close = lower.getattr(intern!(py, "close"))?;
    if parted {
        this.call_soon(py, &close, &[])
    } else {
        close.call0().map(drop)
    }
}

/// Sees to it that [`finish`] is called again, within the time limit.
fn finish_later(slf: &Bound<'_, TlsProtocol>, parted: bool) -> PyResult<()> {
    let this = slf.get();
    this.with(|inner| inner.parted = Some(parted))?;
    if this.with(|inner| inner.timer.is_none())? {
        TlsProtocol::start_timer(slf, &this.shutdown_timeout)?;
    }
    Ok(())
}

/// Calls `eof_received()`, once in a connection's life.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt`; any other exception ends the connection.
pub(super) fn tell_eof(slf: &Bound<'_, TlsProtocol>) -> PyResult<()> {
    let py = slf.py();
    let protocol = slf.get().with(|inner| {
        let protocol = inner.protocol.as_ref()?;
        inner.machine.tell_eof().then(|| protocol.bind(py).clone())
    })?;
    let Some(protocol) = protocol else {
        return Ok(());
    };
    let keep_open = ffi::call_method(intern!(py, "eof_received"), [&protocol]);
    match keep_open.and_then(|keep_open| keep_open.is_truthy()) {
        Ok(false) => Ok(()),
        Ok(true) => log::warning(
            py,
            "returning true from eof_received() has no effect when using ssl",
            &[],
        ),
        Err(error) => fatal(slf, error, "Error calling eof_received()"),
    }
}

/// The lower stream has ended. `true`: the lower transport is to stay open.
pub(super) fn eof(slf: &Bound<'_, TlsProtocol>) -> PyResult<bool> {
    let py = slf.py();
    let this = slf.get();
    if this.event_loop.get().is_debug() {
        log::debug(py, "%r received EOF", &[slf.as_any().clone()])?;
    }
    match this.with(|inner| inner.machine.end())? {
        EndPlan::Nothing => Ok(false),
        EndPlan::Keep => Ok(true),
        EndPlan::Fail => {
            this.stop_timer(py)?;
            handshake::fail(slf, PyConnectionResetError::new_err(()))?;
            Ok(false)
        }
        EndPlan::Flush => {
            flush(slf)?;
            this.with(|inner| inner.machine.keeps_open() || inner.parted.is_some())
        }
        EndPlan::Shutdown => {
            shutdown(slf)?;
            this.with(|inner| inner.parted.is_some())
        }
    }
}

/// The handshake or the exchange of `close_notify` takes too long.
pub(super) fn timed_out(slf: &Bound<'_, TlsProtocol>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    match this.with(|inner| inner.machine.timed_out())? {
        None => Ok(()),
        Some(Overdue::Handshake) => {
            let error = PyConnectionAbortedError::new_err(format!(
                "SSL handshake is taking longer than {} seconds: aborting the connection",
                this.handshake_timeout.bind(py).str()?
            ));
            fatal(slf, error, "Fatal error on transport")
        }
        Some(Overdue::Shutdown) => {
            let error = names::TIMEOUT_ERROR
                .get(py)?
                .call1(("SSL shutdown timed out",))?;
            abort_lower(this, py, Some(error))
        }
    }
}

/// The lower transport is gone: tells the program's protocol, and lets go of everything.
pub(super) fn lost(slf: &Bound<'_, TlsProtocol>, error: Option<Bound<'_, PyAny>>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let (lost, queue, protocol) = this.with(|inner| {
        (
            inner.machine.lost(),
            std::mem::take(&mut inner.queue),
            inner.protocol.as_ref().map(|it| it.bind(py).clone()),
        )
    })?;
    drop(queue);
    this.stop_timer(py)?;
    if let Some(Ok(records)) = this.with_codec(|codec| codec.take(py))? {
        drop(records);
    }
    if lost.tell
        && let Some(protocol) = protocol
    {
        let connection_lost = protocol.getattr(intern!(py, "connection_lost"))?;
        let exc = error.clone().into_pyobject(py)?;
        this.call_soon(py, &connection_lost, &[&exc])?;
    }
    handshake::give_up(slf, error)?;
    let taken = this.with(|inner| (inner.transport.take(), inner.protocol.take()))?;
    drop((taken, this.swap_lower(None)));
    socket::stop_waiting(this, py)?;
    this.let_go(py)
}
