//! The few calls of the C API that PyO3 offers no safe form of.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple};
use pyo3::{ffi, intern};

/// `callable(*arguments)`; the last `keywords.len()` arguments are keyword arguments.
///
/// # Errors
/// What the callable raises.
#[inline]
pub(crate) fn vectorcall<'py, const N: usize>(
    callable: &Bound<'py, PyAny>,
    arguments: [&Bound<'py, PyAny>; N],
    keywords: Option<&Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    let pointers = arguments.map(Bound::as_ptr);
    let names = keywords.map_or(std::ptr::null_mut(), |names| names.as_ptr());
    let positional = N - keywords.map_or(0, PyTupleMethods::len);
    // SAFETY: `pointers` holds N live borrowed references for the time of the call, of which all
    // but the named ones are positional; the result is a new reference or NULL with an error.
    unsafe {
        let result =
            ffi::PyObject_Vectorcall(callable.as_ptr(), pointers.as_ptr(), positional, names);
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

/// `object.name(*arguments)` without a bound method; `arguments[0]` is the object.
///
/// # Errors
/// What the method raises, `AttributeError` if there is none.
#[inline]
pub(crate) fn call_method<'py, const N: usize>(
    name: &Bound<'py, PyString>,
    arguments: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    let pointers = arguments.map(Bound::as_ptr);
    // SAFETY: as in `vectorcall`; N is at least 1, the object itself.
    unsafe {
        let result = ffi::PyObject_VectorcallMethod(
            name.as_ptr(),
            pointers.as_ptr(),
            N,
            std::ptr::null_mut(),
        );
        Bound::from_owned_ptr_or_err(name.py(), result)
    }
}

/// The tuple `("loop",)`.
///
/// # Errors
/// Out of memory.
pub(crate) fn loop_keyword<'py>(py: Python<'py>) -> PyResult<&'py Bound<'py, PyTuple>> {
    static KEYWORD: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
    let names = KEYWORD.get_or_try_init(py, || {
        PyTuple::new(py, [intern!(py, "loop")]).map(Bound::unbind)
    })?;
    Ok(names.bind(py))
}
