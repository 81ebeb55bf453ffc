//! Methods in CPython's fastest calling conventions. They are put on a class when the module is
//! made, in place of those that `#[pymethods]` has made, which go through PyO3's general handling
//! of arguments.

use std::ffi::CStr;

use pyo3::exceptions::PyTypeError;
use pyo3::types::{PyTuple, PyType};
use pyo3::{ffi, prelude::*};

/// Some of one class.
pub(crate) struct Methods<const N: usize>(pub(crate) [ffi::PyMethodDef; N]);

// SAFETY: never written to; the pointers in it are to static data.
unsafe impl<const N: usize> Sync for Methods<N> {}

/// One without arguments (`METH_NOARGS`) or with one by position (`METH_O`).
pub(crate) const fn method(
    name: &'static CStr,
    function: ffi::PyCFunction,
    flags: std::ffi::c_int,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunction: function,
        },
        ml_flags: flags,
        ml_doc: doc.as_ptr(),
    }
}

/// One with arguments as the interpreter has laid them out.
pub(crate) const fn fast_method(
    name: &'static CStr,
    function: ffi::PyCFunctionFastWithKeywords,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: function,
        },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: doc.as_ptr(),
    }
}

/// Puts them on the class that they are for. Before there are objects.
///
/// # Errors
/// Out of memory.
pub(crate) fn put<const N: usize>(
    class: &Bound<'_, PyType>,
    methods: &'static Methods<N>,
) -> PyResult<()> {
    for method in &methods.0 {
        // SAFETY: the definition is complete and static; `class` is the type object that the functions expect
        // their `self` to be of, which the descriptor checks at each call; `ml_name` is a static C string.
        let (descriptor, name) = unsafe {
            let definition = std::ptr::from_ref(method).cast_mut();
            let made = ffi::PyDescr_NewMethod(class.as_ptr().cast(), definition);
            let made = Bound::from_owned_ptr_or_err(class.py(), made)?;
            (made, CStr::from_ptr(method.ml_name))
        };
        class.setattr(name.to_string_lossy().as_ref(), descriptor)?;
    }
    Ok(())
}

/// The only argument of a call, by position or by its name; `method` is for errors.
///
/// # Errors
/// `TypeError` if it is missing or not the only one.
///
/// # Safety
/// `arguments`, `count` and `names` are what a method gets by `METH_FASTCALL | METH_KEYWORDS`.
#[inline(always)]
pub(crate) unsafe fn only<'py>(
    py: Python<'py>,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    (method, name): (&str, &str),
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: see above; one is there in the first case, and in the second if there is a name.
    unsafe {
        if count == 1 && names.is_null() {
            return Ok(Bound::from_borrowed_ptr(py, *arguments));
        }
        let names = Bound::from_borrowed_ptr_or_opt(py, names);
        let names = names.map(|names| names.cast_into_unchecked::<PyTuple>());
        refuse_others(count.unsigned_abs(), names.as_ref(), (method, name))?;
        Ok(Bound::from_borrowed_ptr(py, *arguments))
    }
}

#[cold]
fn refuse_others(
    positional: usize,
    names: Option<&Bound<'_, PyTuple>>,
    (method, name): (&str, &str),
) -> PyResult<()> {
    let named = names.map_or(0, PyTupleMethods::len);
    for given in names.into_iter().flatten() {
        if !given.eq(name)? {
            let message = format!("{method}() got an unexpected keyword argument '{given}'");
            return Err(PyTypeError::new_err(message));
        }
    }
    let message = match (positional, named) {
        (1, 0) | (0, 1) => return Ok(()),
        (0, 0) => format!("{method}() missing 1 required positional argument: '{name}'"),
        (1, 1) => format!("{method}() got multiple values for argument '{name}'"),
        _ => format!("{method}() takes 1 positional argument but {positional} were given"),
    };
    Err(PyTypeError::new_err(message))
}
