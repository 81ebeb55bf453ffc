//! A transport whose socket is lent: while a file is sent past the write buffer, nothing else may
//! be sent.
//!
//! The sender is an object of `oxlip._sendfile`, called on the loop's thread: `begin()` once the
//! write buffer is empty, `lost(error)` when the connection ends meanwhile. What is sent in one
//! call needs no reservation ([`duplicate_if_idle`]).

use std::os::fd::OwnedFd;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use super::flush::flush_one;
use super::link::Link;
use super::{StreamTransport, write};
use crate::loop_::exception_handler;

/// Refuses writes from now on, and lets `sender` begin once everything written has been sent.
///
/// # Errors
/// `RuntimeError` if the connection is lost, or lent already.
pub(crate) fn reserve(transport: Link<'_, '_>, sender: Bound<'_, PyAny>) -> PyResult<()> {
    let this = transport.get();
    flush_one(transport)?;
    let free = this.with_state(|state| {
        let stream = &mut state.resources.connection(this.id)?.stream;
        if stream.is_lost() {
            return None;
        }
        Some((!stream.is_reserved()).then(|| stream.reserve()))
    })?;
    match free.flatten() {
        None => Err(PyRuntimeError::new_err("Transport is closing")),
        Some(None) => Err(PyRuntimeError::new_err(
            "unable to sendfile; sendfile is in progress",
        )),
        Some(Some(free)) => {
            let before = transport.with_slots(|slots| slots.sender.replace(sender.unbind()));
            drop(before);
            if free { begin(transport) } else { Ok(()) }
        }
    }
}

/// Ends `reserve`: writes are accepted again.
pub(crate) fn unreserve(transport: Link<'_, '_>) -> PyResult<()> {
    let this = transport.get();
    let sender = transport.with_slots(|slots| slots.sender.take());
    this.with_state(|state| {
        if let Some(connection) = state.resources.connection(this.id) {
            connection.stream.unreserve();
        }
    })?;
    drop(sender);
    Ok(())
}

/// A duplicate of the socket, for a caller who sends past the write buffer in the same call. `None` if something
/// waits to be sent, the socket is reserved, the connection is lost, or no descriptor is left.
pub(crate) fn duplicate_if_idle(
    transport: &Bound<'_, StreamTransport>,
) -> PyResult<Option<OwnedFd>> {
    let link = Link::Stream(transport);
    if write::buffered(link)? > 0 {
        return Ok(None);
    }
    let this = link.get();
    let found = this.with_state(|state| {
        let (driver, resources) = state.parts();
        let stream = &resources.connection(this.id)?.stream;
        if stream.buffered() > 0 || stream.is_reserved() || stream.is_lost() {
            return None;
        }
        driver.descriptor(this.id)?.try_clone_to_owned().ok()
    })?;
    Ok(found.flatten())
}

/// A duplicate of the socket, to wait for room in it. `None` if the connection is lost, or simulated.
///
/// # Errors
/// No descriptor is left for it.
pub(crate) fn duplicate(transport: &Bound<'_, StreamTransport>) -> PyResult<Option<OwnedFd>> {
    let this = Link::Stream(transport).get();
    let found = this.with_state(|state| {
        let descriptor = state.parts().0.descriptor(this.id)?;
        Some(descriptor.try_clone_to_owned())
    })?;
    Ok(found.flatten().transpose()?)
}

/// The write buffer is empty: calls the sender's `begin()`.
///
/// # Errors
/// Those of the sender, which should have none.
pub(super) fn begin(transport: Link<'_, '_>) -> PyResult<()> {
    let py = transport.py();
    let sender = transport.with_slots(|slots| slots.sender.as_ref().map(|it| it.bind(py).clone()));
    match sender {
        Some(sender) => sender.call_method0(intern!(py, "begin")).map(drop),
        None => Ok(()),
    }
}

/// The connection is over: calls the sender's `lost()`.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt`; any other exception goes to the exception handler.
pub(super) fn lost(transport: Link<'_, '_>, error: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let Some(sender) = transport.with_slots(|slots| slots.sender.take()) else {
        return Ok(());
    };
    match sender.bind(py).call_method1(intern!(py, "lost"), (error,)) {
        Ok(_) => Ok(()),
        Err(raised) => exception_handler::report(
            transport.get().event_loop.bind(py),
            "Error on ending sendfile",
            raised,
            &[("transport", transport.as_any())],
        ),
    }
}
