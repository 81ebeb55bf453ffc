//! From `Readable` to the protocol. Bytes are taken when the handle runs, not when the wait ends,
//! so that a `pause_reading()` earlier in the same tick is honoured.

use std::cell::Cell;
use std::sync::atomic::Ordering;

use oxlip_core::id::Id;
use oxlip_core::op::Op;
use oxlip_core::stream::Stream;
use oxlip_driver::Driver as _;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::link::{AnyTransport, Link};
use super::{direct, end, read_pipe, write_pipe};
use crate::buffer::Chunk;
use crate::errors::{self, os_error};
use crate::loop_::{EventLoop, Receiver, Runnable};
use crate::py_buffer::Buffer;
use crate::tls::TlsProtocol;
use crate::{context, ffi, log};

/// `pause_reading()`.
pub(super) fn pause(transport: Link<'_, '_>) -> PyResult<()> {
    let this = transport.get();
    let changed = this.with_state(|state| {
        let (driver, resources) = state.parts();
        let Some(connection) = resources.connection(this.id) else {
            return false;
        };
        let changed = connection.stream.pause_reading();
        if changed {
            this.paused.store(true, Ordering::Relaxed);
            let _ = driver.submit(Op::RecvStop(this.id));
        }
        changed
    })?;
    log(transport, changed, "%r pauses reading")
}

/// `resume_reading()`.
pub(super) fn resume(transport: Link<'_, '_>) -> PyResult<()> {
    let this = transport.get();
    let changed = this.with_state(|state| {
        let (driver, resources) = state.parts();
        let Some(connection) = resources.connection(this.id) else {
            return false;
        };
        if !connection.stream.resume_reading() {
            return false;
        }
        this.paused.store(false, Ordering::Relaxed);
        if connection.stream.wants_read() {
            let _ = driver.submit(Op::RecvStart(this.id));
        }
        if connection.stream.has_ended() {
            // Unlike asyncio's selector, a driver does not report an end again that has been taken.
            state.scheduler.push(Runnable::Readable(this.id));
        }
        true
    })?;
    log(transport, changed, "%r resumes reading")
}

/// Logs a change in debug mode.
fn log(transport: Link<'_, '_>, changed: Option<bool>, format: &str) -> PyResult<()> {
    if changed == Some(true) && transport.get().event_loop.get().is_debug() {
        log::debug(transport.py(), format, &[transport.as_any().clone()])?;
    }
    Ok(())
}

/// How much is read at a time with TLS: eight records. Their contents are still small enough for the C library not to
/// map memory for them.
const RECORDS_SIZE: usize = 120 * 1024;

thread_local! {
    /// The memory into which records are received; it is taken out while in use.
    static RECORDS: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The outcome of one read.
enum Got<'py> {
    Data(Bound<'py, PyBytes>),
    Eof,
    /// The protocol provides the buffer.
    IntoBuffer,
    /// The bytes are TLS records.
    IntoRecords,
    /// The reader of the pipe that is written to has left.
    ReaderLeft,
    Failed(std::io::Error),
}

/// A connection has something to read.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` of the protocol.
#[inline(always)]
pub(crate) fn read(event_loop: &Bound<'_, EventLoop>, id: Id) -> PyResult<()> {
    let py = event_loop.py();
    let taken = event_loop.get().state.with(|state| {
        let (driver, resources) = state.parts();
        let connection = resources.connection(id)?;
        if !connection.stream.wants_read() {
            return None;
        }
        let receiver = connection.receiver;
        let got = if receiver == Receiver::Buffer {
            Got::IntoBuffer
        } else if let AnyTransport::WritePipe(_) = connection.transport {
            Got::ReaderLeft
        } else if receiver == Receiver::Tls {
            Got::IntoRecords
        } else {
            match direct::receive(py, driver, id, &mut connection.bulk) {
                Ok(Some(data)) if data.as_bytes().is_empty() => Got::Eof,
                Ok(Some(data)) => Got::Data(data),
                Ok(None) => return None,
                Err(error) => Got::Failed(error),
            }
        };
        Some((got, receiver, connection.transport.clone_ref(py)))
    })?;
    let Some((got, receiver, transport)) = taken else {
        return Ok(());
    };
    let transport = transport.bind(py);
    let Some(protocol) = transport.protocol() else {
        return Ok(());
    };
    // All of this runs in one context: an end or an error that reading led to is reported in it too.
    context::run_shared(py, &transport.get().context, || match got {
        Got::Data(data) if matches!(transport, Link::ReadPipe(_)) => {
            read_pipe::received(transport, &protocol, data)
        }
        Got::Data(data) => match receiver.give(&protocol, &data) {
            Ok(()) => Ok(()),
            Err(error) => end::fatal(
                transport,
                error,
                "Fatal error: protocol.data_received() call failed.",
            ),
        },
        Got::IntoBuffer => read_into(transport, &protocol),
        Got::IntoRecords => read_records(transport, &protocol),
        Got::Eof if matches!(transport, Link::ReadPipe(_)) => {
            read_pipe::ended(transport, &protocol)
        }
        Got::Eof => read_eof(transport, &protocol),
        Got::ReaderLeft => write_pipe::reader_left(transport),
        Got::Failed(error) => end::fatal(transport, os_error(error), transport.read_failure()),
    })
}

/// Reads into the buffer of a `BufferedProtocol`, which is only asked for it now.
fn read_into(transport: Link<'_, '_>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    let buffer = protocol
        .call_method1(intern!(py, "get_buffer"), (-1,))
        .and_then(|buffer| match buffer.len()? {
            0 => Err(PyRuntimeError::new_err(
                "get_buffer() returned an empty buffer",
            )),
            _ => Ok(buffer),
        });
    let buffer = match buffer {
        Ok(buffer) => buffer,
        Err(error) => {
            return end::fatal(
                transport,
                error,
                "Fatal error: protocol.get_buffer() call failed.",
            );
        }
    };
    let received = match Buffer::writable(&buffer, "recv_into() argument 1") {
        Ok(mut view) => {
            let received = this.with_state(|state| {
                let (driver, resources) = state.parts();
                // If get_buffer() has paused or closed the connection, the protocol still gets these bytes, as with
                // asyncio.
                resources.connection(this.id)?;
                Some(driver.take_into(this.id, view.as_mut_slice()))
            })?;
            match received.flatten() {
                None | Some(Ok(None)) => return Ok(()),
                Some(Ok(Some(n))) => Ok(n),
                Some(Err(error)) => Err(os_error(error)),
            }
        }
        Err(error) => Err(error),
    };
    match received {
        Ok(0) => read_eof(transport, protocol),
        Ok(n) => match protocol.call_method1(intern!(py, "buffer_updated"), (n,)) {
            Ok(_) => Ok(()),
            Err(error) => end::fatal(
                transport,
                error,
                "Fatal error: protocol.buffer_updated() call failed.",
            ),
        },
        Err(error) => end::fatal(transport, error, "Fatal read error on socket transport"),
    }
}

/// Reads records, which a TLS connection decrypts from where they are. That may run the program's code, so the memory
/// is neither the driver's nor accessible to another read.
fn read_records(transport: Link<'_, '_>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = transport.get();
    let mut records = RECORDS.take();
    records.resize(RECORDS_SIZE, 0);
    let received = this.with_state(|state| {
        let (driver, resources) = state.parts();
        resources.connection(this.id)?;
        Some(driver.take_into(this.id, &mut records))
    })?;
    let outcome = match received.flatten() {
        None | Some(Ok(None)) => Ok(()),
        Some(Ok(Some(0))) => read_eof(transport, protocol),
        Some(Ok(Some(n))) => match protocol.cast_exact::<TlsProtocol>() {
            Ok(tls) => TlsProtocol::receive(tls, &records[..n]),
            // Another protocol has been set meanwhile.
            Err(_) => {
                let data = PyBytes::new(transport.py(), &records[..n]);
                Receiver::Protocol.give(protocol, &data)
            }
        }
        .or_else(|error| {
            end::fatal(
                transport,
                error,
                "Fatal error: protocol.data_received() call failed.",
            )
        }),
        Some(Err(error)) => end::fatal(transport, os_error(error), transport.read_failure()),
    };
    RECORDS.set(records);
    outcome
}

/// The peer has sent its end of the stream: the protocol decides whether writing goes on.
fn read_eof(transport: Link<'_, '_>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    if this.event_loop.get().is_debug() {
        log::debug(py, "%r received EOF", &[transport.as_any().clone()])?;
    }
    let with_stream = |change: fn(&mut Stream<Chunk>)| {
        this.with_state(|state| {
            if let Some(connection) = state.resources.connection(this.id) {
                change(&mut connection.stream);
            }
        })
    };
    with_stream(Stream::peer_ended)?;
    let keep_open = ffi::call_method(intern!(py, "eof_received"), [protocol]);
    match keep_open.and_then(|keep_open| keep_open.is_truthy()) {
        Ok(true) => {
            // The driver need not be told, because it does not report an end that has been taken.
            with_stream(Stream::end_reading)?;
            Ok(())
        }
        Ok(false) => end::close(transport),
        Err(error) => {
            if errors::ends_the_loop(py, &error) {
                // If the loop goes on after all, the end is there once more, as asyncio's selector reports it again.
                let event_loop = this.event_loop.get();
                event_loop.push(Runnable::Readable(this.id));
            }
            end::fatal(
                transport,
                error,
                "Fatal error: protocol.eof_received() call failed.",
            )
        }
    }
}
