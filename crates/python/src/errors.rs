//! Where Rust's errors become Python's exceptions.

use std::io;

use pyo3::exceptions::{
    PyKeyboardInterrupt, PyOSError, PyRuntimeError, PySystemExit, PyValueError,
};
use pyo3::prelude::*;

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
