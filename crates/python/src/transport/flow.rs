//! Telling the protocol that the write buffer is too full, or has room again.

use oxlip_core::write_queue::Flow;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;

use super::Transport;
use crate::errors;

/// The low and the high mark of a new transport, in bytes; what a lost one says, too.
pub(super) const DEFAULT_LIMITS: (usize, usize) = (16 * 1024, 64 * 1024);

/// The high and the low mark that `set_write_buffer_limits` was asked for.
///
/// # Errors
/// `ValueError` unless `high >= low >= 0`.
pub(super) fn limits(high: Option<isize>, low: Option<isize>) -> PyResult<(usize, usize)> {
    let high = high.unwrap_or_else(|| low.map_or(64 * 1024, |low| low.saturating_mul(4)));
    let low = low.unwrap_or(high / 4);
    if high < low || low < 0 {
        return Err(PyValueError::new_err(format!(
            "high ({high}) must be >= low ({low}) must be >= 0"
        )));
    }
    Ok((high.unsigned_abs(), low.unsigned_abs()))
}

/// Calls `pause_writing()` or `resume_writing()`.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt`; any other exception goes to the exception handler.
pub(super) fn tell<T: Transport>(transport: &Bound<'_, T>, flow: Option<Flow>) -> PyResult<()> {
    let Some(flow) = flow else { return Ok(()) };
    let Some(protocol) = T::protocol(transport) else {
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
            T::ties(transport).event_loop.bind(py),
            message,
            error,
            &[("transport", transport.as_any()), ("protocol", &protocol)],
        ),
    }
}
