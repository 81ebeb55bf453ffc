//! From records that have arrived to the program's protocol.

use oxlip_core::write_queue::Flow;
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;

use super::codec::End;
use super::{TlsProtocol, end, write};
use crate::loop_::Receiver;

/// How far reading has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The program does not want to read, or the connection has ended.
    Nothing,
    /// A buffer of a `BufferedProtocol` is full: there may be more.
    Full,
    /// There is nothing more to read.
    All,
}

/// Passes what can be decrypted to the protocol, sends what results from that, and pauses the lower
/// transport if it delivers more than the program reads. An error ends the connection.
///
/// # Errors
/// An exception of the protocol that is no `Exception`, such as a `CancelledError`: as with asyncio it goes to the
/// caller, and the lower transport reports it and ends.
pub(super) fn receive(slf: &Bound<'_, TlsProtocol>) -> PyResult<Received> {
    let received = deliver(slf).and_then(|received| {
        write::write_queued(slf)?;
        hold_back(slf)?;
        Ok(received)
    });
    match received {
        Ok(received) => Ok(received),
        Err(error) if error.is_instance_of::<PyException>(slf.py()) => {
            end::fatal(slf, error, "Fatal error on SSL protocol")?;
            Ok(Received::Nothing)
        }
        Err(error) => Err(error),
    }
}

fn deliver(slf: &Bound<'_, TlsProtocol>) -> PyResult<Received> {
    let py = slf.py();
    let state = slf.get().with(|inner| {
        let protocol = inner.protocol.as_ref()?.bind(py).clone();
        inner
            .machine
            .wants_read()
            .then_some((protocol, inner.receiver))
    })?;
    match state {
        None => Ok(Received::Nothing),
        Some((protocol, Receiver::Buffer)) => deliver_into(slf, &protocol),
        Some((protocol, receiver)) => deliver_bytes(slf, &protocol, receiver),
    }
}

fn deliver_bytes(
    slf: &Bound<'_, TlsProtocol>,
    protocol: &Bound<'_, PyAny>,
    receiver: Receiver,
) -> PyResult<Received> {
    let py = slf.py();
    let Some(read) = slf.get().with_codec(|codec| codec.read(py))? else {
        return Ok(Received::Nothing);
    };
    if let Some(data) = read.data {
        receiver.give(protocol, &data)?;
    }
    finish(slf, read.end)
}

fn deliver_into(slf: &Bound<'_, TlsProtocol>, protocol: &Bound<'_, PyAny>) -> PyResult<Received> {
    let py = slf.py();
    let this = slf.get();
    let hint = this.pending_in(py)?;
    let buffer = protocol.call_method1(intern!(py, "get_buffer"), (hint,))?;
    if buffer.len()? == 0 {
        return Err(PyRuntimeError::new_err(
            "get_buffer() returned an empty buffer",
        ));
    }
    // get_buffer() may have closed the connection. If it has paused reading, the protocol still gets this, as with
    // asyncio.
    if !this.with(|inner| inner.machine.can_read())? {
        return Ok(Received::Nothing);
    }
    let Some(filled) = this.with_codec(|codec| codec.read_into(&buffer))? else {
        return Ok(Received::Nothing);
    };
    let filled = filled?;
    if filled.end.is_none() {
        // As in asyncio, the rest waits for the next tick.
        this.call_soon(py, &slf.getattr(intern!(py, "_step"))?, &[])?;
    }
    if filled.filled > 0 {
        protocol.call_method1(intern!(py, "buffer_updated"), (filled.filled,))?;
    }
    match filled.end {
        None => Ok(Received::Full),
        Some(end) => finish(slf, end),
    }
}

fn finish(slf: &Bound<'_, TlsProtocol>, end: End) -> PyResult<Received> {
    match end {
        End::More => Ok(Received::All),
        End::Closed => {
            end::tell_eof(slf)?;
            end::close(slf)?;
            Ok(Received::All)
        }
        End::Failed(error) => Err(error),
    }
}

/// Pauses or resumes reading on the lower transport.
pub(super) fn hold_back(slf: &Bound<'_, TlsProtocol>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let Some(lower) = this.lower(py) else {
        return Ok(());
    };
    let pending = this.pending_in(py)?;
    match this.with(|inner| inner.machine.read_flow(pending))? {
        Some(Flow::Pause) => lower.call_method0(intern!(py, "pause_reading")).map(drop),
        Some(Flow::Resume) => lower.call_method0(intern!(py, "resume_reading")).map(drop),
        None => Ok(()),
    }
}
