//! The edge between Rust's errors and Python's exceptions, and the way to the loop's exception
//! handler.

use std::io;

use pyo3::exceptions::{
    PyKeyboardInterrupt, PyOSError, PyRuntimeError, PySystemExit, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::loop_::EventLoop;
use crate::owner::WrongThread;

impl From<WrongThread> for PyErr {
    fn from(_: WrongThread) -> Self {
        PyRuntimeError::new_err(
            "Non-thread-safe operation invoked on an event loop other than the current one; \
             use loop.call_soon_threadsafe()",
        )
    }
}

/// The exception of a system call: the subclass of `OSError` for its error number, with the system's
/// words for it, as Python's own sockets raise it. `ValueError` for what the caller got wrong.
pub(crate) fn os_error(error: io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(number) => {
            // The text is `strerror(3)` followed by the number, which Python adds itself.
            let text = error.to_string();
            let text = text
                .split(" (os error ")
                .next()
                .unwrap_or_default()
                .to_owned();
            PyOSError::new_err((number, text))
        }
        None if error.kind() == io::ErrorKind::InvalidInput => {
            PyValueError::new_err(error.to_string())
        }
        None => error.into(),
    }
}

/// Whether an exception leaves `run_forever()` instead of going to the exception handler.
pub(crate) fn ends_the_loop(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py)
}

/// `repr(object)` as text. To format a Python object, also a string, may run a signal handler, and loses what that
/// raises.
///
/// # Errors
/// Those of `repr()`.
pub(crate) fn shown(object: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(object.repr()?.to_string_lossy().into_owned())
}

/// `loop.call_exception_handler(context)`.
///
/// # Errors
/// What the handler raises: `SystemExit` and `KeyboardInterrupt`, asyncio logs the rest.
pub(crate) fn call_exception_handler(
    event_loop: &Bound<'_, EventLoop>,
    context: &Bound<'_, PyDict>,
) -> PyResult<()> {
    let py = event_loop.py();
    event_loop
        .call_method1(pyo3::intern!(py, "call_exception_handler"), (context,))
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
    let context = PyDict::new(py);
    context.set_item("message", message)?;
    context.set_item("exception", error.into_value(py))?;
    for (key, value) in details {
        context.set_item(key, value)?;
    }
    call_exception_handler(event_loop, &context)
}

/// `asyncio`'s logger at `warning`, with the arguments of the format.
pub(crate) fn log_warning<'py>(
    py: Python<'py>,
    format: &str,
    arguments: &[Bound<'py, PyAny>],
) -> PyResult<()> {
    log(py, pyo3::intern!(py, "warning"), format, arguments)
}

/// `asyncio`'s logger at `info`, for what asyncio says only in debug mode.
pub(crate) fn log_info<'py>(
    py: Python<'py>,
    format: &str,
    arguments: &[Bound<'py, PyAny>],
) -> PyResult<()> {
    log(py, pyo3::intern!(py, "info"), format, arguments)
}

/// `asyncio`'s logger at `debug`, for what asyncio says only in debug mode.
pub(crate) fn log_debug<'py>(
    py: Python<'py>,
    format: &str,
    arguments: &[Bound<'py, PyAny>],
) -> PyResult<()> {
    log(py, pyo3::intern!(py, "debug"), format, arguments)
}

/// The logger is looked up where asyncio's own loops have it: who replaces that one means ours too.
fn log<'py>(
    py: Python<'py>,
    level: &Bound<'py, PyString>,
    format: &str,
    arguments: &[Bound<'py, PyAny>],
) -> PyResult<()> {
    let format = PyString::new(py, format).into_any();
    let arguments: Vec<_> = std::iter::once(&format).chain(arguments).collect();
    py.import("asyncio.base_events")?
        .getattr("logger")?
        .call_method1(level, PyTuple::new(py, arguments)?)
        .map(drop)
}
