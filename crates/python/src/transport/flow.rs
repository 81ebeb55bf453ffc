//! Telling the protocol that the write buffer is too full, or has room again.

use oxlip_core::write_queue::Flow;
use pyo3::intern;
use pyo3::prelude::*;

use super::StreamTransport;
use crate::errors;

/// Calls `pause_writing()` or `resume_writing()`.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt`; any other exception goes to the exception handler.
pub(super) fn tell(transport: &Bound<'_, StreamTransport>, flow: Option<Flow>) -> PyResult<()> {
    let Some(flow) = flow else { return Ok(()) };
    let Some(protocol) = StreamTransport::protocol(transport) else {
        return Ok(());
    };
    let py = transport.py();
    let (called, message) = match flow {
        Flow::Pause => (
            protocol.call_method0(intern!(py, "pause_writing")),
            "protocol.pause_writing() failed",
        ),
        Flow::Resume => (
            protocol.call_method0(intern!(py, "resume_writing")),
            "protocol.resume_writing() failed",
        ),
    };
    match called {
        Ok(_) => Ok(()),
        Err(error) => errors::report(
            transport.get().event_loop.bind(py),
            message,
            error,
            &[("transport", transport.as_any()), ("protocol", &protocol)],
        ),
    }
}
