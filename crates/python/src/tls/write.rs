//! From the program to the lower transport.

use oxlip_core::tls::WritePlan;
use oxlip_core::write_queue::Flow;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::codec::{self, Due};
use super::{TlsProtocol, end, socket};
use crate::buffer::{Chunk, Data};
use crate::loop_::exception_handler;
use crate::transport::{self, StreamTransport};
use crate::{ffi, log};

/// asyncio warns about a dropped write once this many were dropped before it.
const LATE_WRITES_BEFORE_WARNING: u32 = 5;

/// How much is encrypted before the records are handed over, in bytes: seven full records. Together with TLS's
/// overhead they are still small enough for the C library not to map memory for them.
const PART: usize = 7 * 16 * 1024;

/// Encrypts what a program writes, or keeps it until that is possible.
pub(super) fn write(
    slf: &Bound<'_, TlsProtocol>,
    pieces: &[(Bound<'_, PyAny>, Data<'_>)],
) -> PyResult<()> {
    let this = slf.get();
    let plan = this.with(|inner| {
        let plan = inner.machine.plan_write();
        match plan {
            // What already waits goes first.
            WritePlan::Encrypt if !inner.queue.is_empty() => WritePlan::Queue,
            plan => plan,
        }
    })?;
    if let WritePlan::Late(before) = plan {
        if before >= LATE_WRITES_BEFORE_WARNING {
            log::warning(slf.py(), "SSL connection is closed", &[])?;
        }
        return Ok(());
    }
    let written = pieces
        .iter()
        .try_for_each(|(object, data)| match plan {
            WritePlan::Encrypt => encrypt(slf, object, data),
            _ => queue(this, data, 0),
        })
        .and_then(|()| write_queued(slf));
    end::survive(slf, written)
}

/// Encrypts one piece, or queues it: if an earlier one had to wait, if the lower transport has become full, or if the
/// piece is to be handed over in parts. Within that a foreign transport may call the program, and what it writes then
/// has to find the rest in front of it.
fn encrypt(
    slf: &Bound<'_, TlsProtocol>,
    object: &Bound<'_, PyAny>,
    data: &Data<'_>,
) -> PyResult<()> {
    let this = slf.get();
    let size = data.as_slice().len();
    let at_once =
        this.with(|inner| size <= PART && inner.queue.is_empty() && inner.machine.may_encrypt())?;
    let written = if at_once {
        this.with_codec(|codec| codec.write(object, data))?
    } else {
        None
    };
    match written.transpose()?.flatten().unwrap_or(0) {
        done if done == size => Ok(()),
        done => queue(this, data, done),
    }
}

fn queue(this: &TlsProtocol, data: &Data<'_>, done: usize) -> PyResult<()> {
    let (chunk, skip) = data.to_chunk(done);
    this.with(|inner| {
        inner.machine.queue(chunk.as_ref().len() - skip);
        inner.queue.push_back((chunk, skip));
    })
}

/// Encrypts what is queued, as far as the lower transport has room, and sends.
pub(super) fn write_queued(slf: &Bound<'_, TlsProtocol>) -> PyResult<()> {
    encrypt_queued(slf, false)?;
    send(slf)
}

/// The same even if the lower transport has no room, because it keeps what it cannot send.
pub(super) fn write_everything(slf: &Bound<'_, TlsProtocol>) -> PyResult<()> {
    encrypt_queued(slf, true)?;
    hand_over(slf.get(), slf.py())?;
    control(slf)
}

fn encrypt_queued(slf: &Bound<'_, TlsProtocol>, everything: bool) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    while let Some((chunk, skip)) = this.with(|inner| {
        let writable = everything || inner.machine.may_encrypt();
        writable.then(|| inner.queue.pop_front()).flatten()
    })? {
        let length = chunk.as_ref().len();
        let part = &chunk.as_ref()[skip..length.min(skip + PART)];
        let written = this.with_codec(|codec| codec.write_slice(py, part))?;
        let (count, failed) = match written {
            Some(Ok(count)) => (count.unwrap_or(0), None),
            Some(Err(error)) => (0, Some(error)),
            None => (0, None),
        };
        let done = this.with(|inner| {
            inner.machine.unqueue(count);
            if skip + count == length {
                return Some(chunk);
            }
            inner.queue.push_front((chunk, skip + count));
            None
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if count == 0 {
            break; // The peer has to send something first.
        }
        drop::<Option<Chunk>>(done);
        if everything || this.with(|inner| inner.machine.may_send())? {
            hand_over(this, py)?;
        }
    }
    Ok(())
}

/// Hands the pending records to the lower transport, and pauses or resumes the program's writing.
pub(super) fn send(slf: &Bound<'_, TlsProtocol>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    if this.with(|inner| inner.machine.may_send())? {
        hand_over(this, py)?;
    }
    if this.with(|inner| inner.kernel)? {
        socket::wait_for_room(slf)?;
    }
    control(slf)
}

/// Hands the pending records to the lower transport, even if it is full.
pub(super) fn hand_over(this: &TlsProtocol, py: Python<'_>) -> PyResult<()> {
    let Some(lower) = this.lower(py) else {
        return Ok(());
    };
    let records = this.with_codec(|codec| match codec.pending_out(py)? {
        0 => Ok(None),
        _ => codec.take(py).map(Some),
    })?;
    let memory = match records.transpose()?.flatten() {
        None => return Ok(()),
        // The kernel's half may have kept all that is pending.
        Some(Due::Memory(memory)) if memory.is_empty() => return Ok(()),
        Some(Due::Memory(memory)) => memory,
        Some(Due::Bytes(records)) => {
            return ffi::call_method(intern!(py, "write"), [&lower, records.as_any()]).map(drop);
        }
    };
    let handed = match lower.cast_exact::<StreamTransport>() {
        Ok(lower) => transport::write_borrowed(lower, &memory),
        Err(_) => {
            let records = PyBytes::new(py, &memory);
            ffi::call_method(intern!(py, "write"), [&lower, records.as_any()]).map(drop)
        }
    };
    codec::give_back(memory);
    handed
}

/// Tells the protocol to pause writing, or that it may resume.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt`; any other exception goes to the exception handler.
pub(super) fn control(slf: &Bound<'_, TlsProtocol>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let pending = this.pending_out(py)?;
    let told = this.with(|inner| {
        let flow = inner.machine.write_flow(pending)?;
        let protocol = inner.protocol.as_ref()?.bind(py).clone();
        let transport = inner.transport.as_ref().map(|it| it.bind(py).clone());
        Some((flow, protocol, transport))
    })?;
    let Some((flow, protocol, transport)) = told else {
        return Ok(());
    };
    let (method, message) = match flow {
        Flow::Pause => ("pause_writing", "protocol.pause_writing() failed"),
        Flow::Resume => ("resume_writing", "protocol.resume_writing() failed"),
    };
    let Err(error) = protocol.call_method0(method) else {
        return Ok(());
    };
    let transport = transport.into_pyobject(py)?;
    exception_handler::report(
        this.event_loop.bind(py),
        message,
        error,
        &[("transport", &transport), ("protocol", slf.as_any())],
    )
}
