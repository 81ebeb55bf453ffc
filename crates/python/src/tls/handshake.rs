//! From the lower transport's `connection_made` to the program's.

use oxlip_core::tls::Begin;
use pyo3::exceptions::{PyConnectionAbortedError, PyException};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat};

use super::{TlsProtocol, end, socket, write};
use crate::loop_::exception_handler;
use crate::{ffi, log, names};

pub(super) fn begin(slf: &Bound<'_, TlsProtocol>, lower: Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    drop(this.swap_lower(Some(lower.unbind())));
    match this.with(|inner| inner.machine.begin())? {
        Begin::Handshake => {
            socket::allow_kernel(this, py)?;
            if this.event_loop.get().is_debug() {
                log::debug(py, "%r starts SSL handshake", &[slf.as_any().clone()])?;
                let now = now(this, py)?;
                this.with(|inner| inner.began = Some(now))?;
            }
            TlsProtocol::start_timer(slf, &this.handshake_timeout)?;
            advance(slf)
        }
        Begin::Abort => end::abort_lower(this, py, None),
        Begin::Nothing => Ok(()),
    }
}

/// Goes on with what has arrived.
pub(super) fn advance(slf: &Bound<'_, TlsProtocol>) -> PyResult<()> {
    let py = slf.py();
    match slf.get().with_socket(py, |codec| codec.handshake(py))? {
        None => Ok(()),
        Some(Ok(true)) => complete(slf),
        Some(Ok(false)) => {
            let sent = write::send(slf);
            end::survive(slf, sent)
        }
        Some(Err(error)) => fail(slf, error),
    }
}

fn complete(slf: &Bound<'_, TlsProtocol>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    if !this.with(|inner| inner.machine.shaken())? {
        return Ok(()); // A callback of the context has aborted the connection.
    }
    this.stop_timer(py)?;
    if let Err(error) = describe(this, py) {
        return fail(slf, error);
    }
    if let Some(began) = this.with(|inner| inner.began.take())? {
        let took = (now(this, py)? - began) * 1000.0;
        let took = PyFloat::new(py, took).into_any();
        let shown = slf.as_any().clone();
        log::debug(py, "%r: SSL handshake took %.1f ms", &[shown, took])?;
    }
    let (protocol, transport) = this.with(|inner| {
        let tell = inner.machine.tell_made();
        let transport = inner.transport.as_ref().map(|it| it.clone_ref(py));
        let protocol = inner.protocol.as_ref().filter(|_| tell);
        (protocol.map(|it| it.bind(py).clone()), transport)
    })?;
    if let Some(protocol) = protocol {
        let transport = transport.into_pyobject(py)?;
        let made = ffi::call_method(intern!(py, "connection_made"), [&protocol, &transport]);
        if let Err(error) = made {
            if !error.is_instance_of::<PyException>(py) {
                return Err(error); // As in `read::receive`.
            }
            return end::fatal(
                slf,
                error,
                "Fatal error: protocol.connection_made() call failed.",
            );
        }
        // The protocol is looked up again: connection_made() may have changed it.
        if let Some(protocol) = this.protocol(py)? {
            this.set_protocol(&protocol)?;
        }
    }
    wake(slf, None)?;
    // Records may have arrived with the last ones of the handshake.
    TlsProtocol::step(slf)
}

/// Sets what `get_extra_info` returns from now on.
fn describe(this: &TlsProtocol, py: Python<'_>) -> PyResult<()> {
    let extra = this.extra.bind(py);
    let Some(sslobj) = this.with_codec(|codec| codec.sslobj().bind(py).clone())? else {
        return Ok(());
    };
    extra.set_item("peercert", sslobj.call_method0("getpeercert")?)?;
    extra.set_item("cipher", sslobj.call_method0("cipher")?)?;
    extra.set_item("compression", sslobj.call_method0("compression")?)?;
    if socket::is_kernel_sending(this)? {
        extra.set_item("kernel_tls", true)?;
    }
    extra.set_item("ssl_object", sslobj)
}

/// The handshake has failed: the connection ends with `error`.
pub(super) fn fail(slf: &Bound<'_, TlsProtocol>, error: PyErr) -> PyResult<()> {
    let py = slf.py();
    slf.get().with(|inner| inner.machine.abort())?;
    let message = if error.matches(py, names::CERTIFICATE_ERROR.get(py)?)? {
        "SSL handshake failed on verifying the certificate"
    } else {
        "SSL handshake failed"
    };
    let value = error.value(py).clone().into_any();
    end::fatal(slf, error, message)?;
    wake(slf, Some(value))
}

/// The connection was lost. If somebody still waits for the handshake, it was lost before the handshake ended.
pub(super) fn give_up(
    slf: &Bound<'_, TlsProtocol>,
    error: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = slf.py();
    if error.is_none() && slf.get().with(|inner| inner.waiter.is_some())? {
        let aborted =
            PyConnectionAbortedError::new_err("the connection was closed in the handshake");
        return wake(slf, Some(aborted.into_value(py).into_bound(py).into_any()));
    }
    wake(slf, error)
}

/// Wakes the one who waits for the handshake. For an accepted connection nobody does; as in
/// asyncio, a failure is reported in debug mode.
fn wake(slf: &Bound<'_, TlsProtocol>, error: Option<Bound<'_, PyAny>>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let (waiter, accepted) = this.with(|inner| {
        let accepted = std::mem::take(&mut inner.accepted);
        (inner.waiter.take(), accepted)
    })?;
    let Some(waiter) = waiter else {
        return match error {
            Some(error) if accepted && this.event_loop.get().is_debug() => {
                report_accepted(slf, error)
            }
            _ => Ok(()),
        };
    };
    let waiter = waiter.bind(py);
    if waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    match error {
        Some(error) => waiter.call_method1(intern!(py, "set_exception"), (error,)),
        None => waiter.call_method1(intern!(py, "set_result"), (py.None(),)),
    }
    .map(drop)
}

fn report_accepted(slf: &Bound<'_, TlsProtocol>, error: Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let (protocol, transport) = this.with(|inner| {
        (
            inner.protocol.as_ref().map(|it| it.bind(py).clone()),
            inner.transport.as_ref().map(|it| it.bind(py).clone()),
        )
    })?;
    let context = PyDict::new(py);
    context.set_item(
        "message",
        "Error on transport creation for incoming connection",
    )?;
    context.set_item("exception", error)?;
    if let Some(protocol) = protocol {
        context.set_item("protocol", protocol)?;
    }
    if let Some(transport) = transport {
        context.set_item("transport", transport)?;
    }
    exception_handler::call(this.event_loop.bind(py), &context)
}

fn now(this: &TlsProtocol, py: Python<'_>) -> PyResult<f64> {
    this.event_loop
        .bind(py)
        .call_method0(intern!(py, "time"))?
        .extract()
}
