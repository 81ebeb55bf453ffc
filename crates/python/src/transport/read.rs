//! From `Readable` to the protocol: bytes are taken when the handle runs, not when the wait ends,
//! so that a `pause_reading()` earlier in the same tick is honoured.

use oxlip_core::id::Id;
use oxlip_core::op::Op;
use oxlip_driver::{Driver as _, Received};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{StreamTransport, end};
use crate::errors::os_error;
use crate::loop_::EventLoop;
use crate::{context, ffi};

/// What reading came to.
enum Got<'py> {
    Data(Bound<'py, PyBytes>),
    Eof,
    /// The protocol says where the bytes go.
    IntoBuffer,
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
        let got = if connection.buffered {
            Got::IntoBuffer
        } else {
            match driver.take(id) {
                // A bytes object is not one that the cycle collector follows: making it runs no
                // Python code, so it may happen under the borrow.
                Ok(Received::Data(data)) => Got::Data(PyBytes::new(py, data)),
                Ok(Received::Eof) => Got::Eof,
                Ok(Received::Nothing) => return None,
                Err(error) => Got::Failed(error),
            }
        };
        Some((got, connection.transport.bind(py).clone()))
    })?;
    let Some((got, transport)) = taken else {
        return Ok(());
    };
    let Some(protocol) = StreamTransport::protocol(&transport) else {
        return Ok(());
    };
    // The whole of it: an end or an error that reading led to is told in the same context.
    context::run(py, &transport.get().context, || match got {
        Got::Data(data) => {
            let name = intern!(py, "data_received");
            match ffi::call_method(name, [&protocol, data.as_any()]) {
                Ok(_) => Ok(()),
                Err(error) => end::fatal(
                    &transport,
                    error,
                    "Fatal error: protocol.data_received() call failed.",
                ),
            }
        }
        Got::IntoBuffer => read_into(&transport, &protocol),
        Got::Eof => read_eof(&transport, &protocol),
        Got::Failed(error) => end::fatal(
            &transport,
            os_error(error),
            "Fatal read error on socket transport",
        ),
    })
}

/// Reads into the buffer of a `BufferedProtocol`, which is asked for it only now.
fn read_into(transport: &Bound<'_, StreamTransport>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
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
    let received = match ffi::Buffer::writable(&buffer) {
        Ok(mut view) => {
            let received = this.with_state(|state| {
                let (driver, resources) = state.parts();
                // get_buffer() may have closed or paused the connection.
                resources
                    .connection(this.id)
                    .filter(|it| it.stream.wants_read())?;
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

/// The peer has sent its end of the stream: the protocol decides whether writing goes on.
fn read_eof(transport: &Bound<'_, StreamTransport>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    if this.event_loop.get().is_debug() {
        crate::errors::log_debug(py, "%r received EOF", &[transport.clone().into_any()])?;
    }
    let keep_open = ffi::call_method(intern!(py, "eof_received"), [protocol]);
    match keep_open.and_then(|keep_open| keep_open.is_truthy()) {
        Ok(true) => {
            this.with_state(|state| {
                let (driver, resources) = state.parts();
                if let Some(connection) = resources.connection(this.id) {
                    connection.stream.end_reading();
                    let _ = driver.submit(Op::RecvStop(this.id));
                }
            })?;
            Ok(())
        }
        Ok(false) => end::close(transport),
        Err(error) => end::fatal(
            transport,
            error,
            "Fatal error: protocol.eof_received() call failed.",
        ),
    }
}
