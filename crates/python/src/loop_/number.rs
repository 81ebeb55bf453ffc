//! The number of a descriptor, which may be given as an integer or as an object with `fileno()`.

use std::os::fd::RawFd;

use pyo3::exceptions::{PyAttributeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyInt;

/// The number of an open descriptor behind an integer or an object with `fileno()`, as `selectors`
/// takes them.
pub(super) fn descriptor(object: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let number = number(object)?;
    if number < 0 {
        return Err(negative(number));
    }
    Ok(number)
}

/// What the object says is its number: that of a closed socket is negative.
pub(super) fn number(object: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let py = object.py();
    if let Ok(integer) = object.cast::<PyInt>() {
        return integer.extract();
    }
    let number = object
        .getattr(intern!(py, "fileno"))
        .and_then(|fileno| fileno.call0())
        .and_then(|number| py.get_type::<PyInt>().call1((number,)));
    match number {
        Ok(number) => number.extract(),
        Err(error)
            if error.is_instance_of::<PyAttributeError>(py)
                || error.is_instance_of::<PyTypeError>(py)
                || error.is_instance_of::<PyValueError>(py) =>
        {
            let text = format!("Invalid file object: {}", object.repr()?);
            Err(PyValueError::new_err(text))
        }
        // What else goes wrong in a method of the program's is no answer.
        Err(error) => Err(error),
    }
}

/// What `selectors` says of it.
pub(super) fn negative(number: RawFd) -> PyErr {
    PyValueError::new_err(format!("Invalid file descriptor: {number}"))
}
