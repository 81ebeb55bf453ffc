//! Where errors go that no caller waits for: the loop's exception handler.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::EventLoop;
use crate::errors::ends_the_loop;
use crate::ffi;

/// `loop.call_exception_handler(context)`.
///
/// # Errors
/// What the handler raises: `SystemExit` and `KeyboardInterrupt`, asyncio logs the rest.
pub(crate) fn call(event_loop: &Bound<'_, EventLoop>, context: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = event_loop.py();
    event_loop
        .call_method1(intern!(py, "call_exception_handler"), (context,))
        .map(drop)
}

/// Reports an error that no caller waits for.
///
/// # Errors
/// The error itself if it ends the loop; what the handler raises.
pub(crate) fn report(
    event_loop: &Bound<'_, EventLoop>,
    message: &str,
    error: PyErr,
    details: &[(&str, &Bound<'_, PyAny>)],
) -> PyResult<()> {
    let py = event_loop.py();
    if ends_the_loop(py, &error) {
        return Err(error);
    }
    let error = error.into_value(py);
    let context = PyDict::new(py);
    context.set_item("message", message)?;
    context.set_item("exception", &error)?;
    for (key, value) in details {
        context.set_item(key, value)?;
    }
    ffi::while_handling(error.bind(py), || call(event_loop, &context))
}
