//! asyncio's logger, for what asyncio's own loop logs. Its `info` and `debug` messages are those of debug mode.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::names;

/// Logs `format % arguments` as a warning.
pub(crate) fn warning<'py>(
    py: Python<'py>,
    format: &str,
    arguments: &[Bound<'py, PyAny>],
) -> PyResult<()> {
    log(py, intern!(py, "warning"), format, arguments)
}

/// As [`warning`], for information.
pub(crate) fn info<'py>(
    py: Python<'py>,
    format: &str,
    arguments: &[Bound<'py, PyAny>],
) -> PyResult<()> {
    log(py, intern!(py, "info"), format, arguments)
}

/// As [`warning`], for debugging.
pub(crate) fn debug<'py>(
    py: Python<'py>,
    format: &str,
    arguments: &[Bound<'py, PyAny>],
) -> PyResult<()> {
    log(py, intern!(py, "debug"), format, arguments)
}

/// Looks the logger up where asyncio's own loops do: a program that replaces it there means ours too.
fn log<'py>(
    py: Python<'py>,
    level: &Bound<'py, PyString>,
    format: &str,
    arguments: &[Bound<'py, PyAny>],
) -> PyResult<()> {
    let format = PyString::new(py, format).into_any();
    let arguments: Vec<_> = std::iter::once(&format).chain(arguments).collect();
    names::LOGGER
        .get(py)?
        .call_method1(level, PyTuple::new(py, arguments)?)
        .map(drop)
}
