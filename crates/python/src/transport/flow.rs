//! The water marks of the write buffer, and telling the protocol that the buffer is above the high
//! mark, or below the low one again.

use oxlip_core::write_queue::Flow;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;

use super::flush::flush_one;
use super::link::Link;
use crate::loop_::exception_handler;

/// The low and the high mark of a new transport, in bytes.
const DEFAULT_LIMITS: (usize, usize) = (16 * 1024, 64 * 1024);

/// The low and the high mark, also after the end, and on every thread.
pub(super) fn limits(transport: Link<'_, '_>) -> (usize, usize) {
    let limits = transport.with_slots(|slots| slots.limits);
    limits.unwrap_or(DEFAULT_LIMITS)
}

/// A water mark as a program gives it. asyncio only compares it with sizes, so any number will do.
#[derive(Clone, Copy)]
pub(crate) struct Mark(isize);

impl FromPyObject<'_, '_> for Mark {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        object.extract().map(Self).or_else(|error| {
            let number: f64 = object.extract().map_err(|_| error)?;
            if !number.is_finite() {
                let message = format!("a water mark must be finite, not {number}");
                return Err(PyValueError::new_err(message));
            }
            // The greatest or the least there is, if it is greater or less.
            Ok(Self(number as isize))
        })
    }
}

impl Mark {
    /// Two of them as sizes.
    pub(crate) fn sizes(marks: [Option<Self>; 2]) -> [Option<isize>; 2] {
        marks.map(|mark| mark.map(|Self(size)| size))
    }
}

/// Sets the marks, with asyncio's rules for what is not given.
///
/// # Errors
/// `ValueError` unless `0 <= low <= high`.
pub(super) fn set_limits(
    transport: Link<'_, '_>,
    high: Option<Mark>,
    low: Option<Mark>,
) -> PyResult<()> {
    let [high, low] = Mark::sizes([high, low]);
    let high = high.unwrap_or_else(|| low.map_or(64 * 1024, |low| low.saturating_mul(4)));
    let low = low.unwrap_or(high.div_euclid(4));
    if high < low || low < 0 {
        return Err(PyValueError::new_err(format!(
            "high ({high}) must be >= low ({low}) must be >= 0"
        )));
    }
    flush_one(transport)?;
    let id = transport.get().id;
    let flow = transport.get().with_state(|state| {
        let resource = state.resources.get_mut(id)?;
        resource.set_limits(high.unsigned_abs(), low.unsigned_abs())
    })?;
    let limits = (low.unsigned_abs(), high.unsigned_abs());
    transport.with_slots(|slots| slots.limits = Some(limits));
    tell(transport, flow.flatten())
}

/// Calls `pause_writing()` or `resume_writing()`.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt`; any other exception goes to the exception handler.
pub(super) fn tell(transport: Link<'_, '_>, flow: Option<Flow>) -> PyResult<()> {
    let Some(flow) = flow else { return Ok(()) };
    let Some(protocol) = transport.protocol() else {
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
        Err(error) => exception_handler::report(
            transport.get().event_loop.bind(py),
            message,
            error,
            &[("transport", transport.as_any()), ("protocol", &protocol)],
        ),
    }
}
