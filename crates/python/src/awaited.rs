//! How native code answers the `await` that iterates it: with what the task above has to wait for,
//! or with its result.

use pyo3::exceptions::{PyBaseException, PyStopIteration};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// What comes of going on.
pub(crate) enum Next<'py> {
    Waits(Bound<'py, PyAny>),
    Done(Bound<'py, PyAny>),
}

/// The answer of `__next__`, `send` and `throw`.
///
/// # Errors
/// `StopIteration` with the result at the end; the given one.
pub(crate) fn told<'py>(next: PyResult<Next<'py>>) -> PyResult<Bound<'py, PyAny>> {
    match next? {
        Next::Waits(future) => Ok(future),
        Next::Done(result) => Err(stop(result)),
    }
}

/// The answer of the slot `tp_iternext`: a new reference; or NULL, with an exception unless the end has given
/// `None`.
#[inline]
pub(crate) fn told_by_slot(py: Python<'_>, next: PyResult<Next<'_>>) -> *mut ffi::PyObject {
    let error = match next {
        Ok(Next::Waits(future)) => return future.into_ptr(),
        // The end of an iterator, without an exception: that stands for None.
        Ok(Next::Done(result)) if result.is_none() => return std::ptr::null_mut(),
        Ok(Next::Done(result)) => match stop_at_once(result) {
            Ok(()) => return std::ptr::null_mut(),
            Err(error) => error,
        },
        Err(error) => error,
    };
    error.restore(py);
    std::ptr::null_mut()
}

/// Raises the end of an iterator that has a value.
#[inline]
fn stop_at_once(result: Bound<'_, PyAny>) -> PyResult<()> {
    // These two would not be the only argument of the exception that the interpreter makes.
    if result.is_instance_of::<PyTuple>() || result.is_instance_of::<PyBaseException>() {
        return Err(stop(result));
    }
    // SAFETY: two live objects; the interpreter is attached.
    unsafe { ffi::PyErr_SetObject(ffi::PyExc_StopIteration, result.as_ptr()) };
    Ok(())
}

/// The end of an iterator that has a value, or None.
fn stop(result: Bound<'_, PyAny>) -> PyErr {
    if result.is_none() {
        return PyStopIteration::new_err(());
    }
    // A tuple as the only argument, not as all of them.
    match PyTuple::new(result.py(), [result]) {
        Ok(arguments) => PyStopIteration::new_err(arguments.unbind()),
        Err(error) => error,
    }
}
