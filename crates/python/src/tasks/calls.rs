//! `done()`, `cancelled()` and `set_result()` in CPython's fastest calling conventions: code that
//! wakes others calls them most.
//!
//! `#[pymethods]` has them too; these replace those when the module is made, as in
//! loop_/fastcall.rs.

use std::ffi::CStr;

use pyo3::impl_::trampoline::get_trampoline_function;
use pyo3::{Borrowed, ffi, prelude::*};

use super::core::{Life, Native, Ours};
use super::{Future, Task};
use crate::methods::{Methods, method, put};

static OF_FUTURES: Methods<3> = Methods([
    method(c"done", done::<Future>, ffi::METH_NOARGS, DONE),
    method(
        c"cancelled",
        cancelled::<Future>,
        ffi::METH_NOARGS,
        CANCELLED,
    ),
    method(
        c"set_result",
        get_trampoline_function!(binaryfunc, set_result),
        ffi::METH_O,
        SET_RESULT,
    ),
]);

static OF_TASKS: Methods<2> = Methods([
    method(c"done", done::<Task>, ffi::METH_NOARGS, DONE),
    method(c"cancelled", cancelled::<Task>, ffi::METH_NOARGS, CANCELLED),
]);

const DONE: &CStr =
    c"done($self, /)\n--\n\nWhether there is a result, an exception, or it was cancelled.";
const CANCELLED: &CStr = c"cancelled($self, /)\n--\n\nWhether it was cancelled.";
const SET_RESULT: &CStr = c"set_result($self, result, /)\n--\n\nEnds the future with a result.";

/// Before objects are made.
///
/// # Errors
/// Out of memory.
pub(super) fn install(py: Python<'_>) -> PyResult<()> {
    put(&py.get_type::<Future>(), &OF_FUTURES)?;
    put(&py.get_type::<Task>(), &OF_TASKS)
}

unsafe extern "C" fn done<T: Ours>(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by a method descriptor of `T`, attached.
    unsafe { tell::<T>(object, |life| life != Life::Pending) }
}

unsafe extern "C" fn cancelled<T: Ours>(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by a method descriptor of `T`, attached.
    unsafe { tell::<T>(object, |life| life == Life::Cancelled) }
}

/// # Safety
/// `object` is a live `T`, and the interpreter attached.
#[inline]
unsafe fn tell<T: Ours>(
    object: *mut ffi::PyObject,
    is: impl FnOnce(Life) -> bool,
) -> *mut ffi::PyObject {
    // SAFETY: see above.
    unsafe {
        let py = Python::assume_attached();
        crate::ffi::without_panic(py, std::ptr::null_mut(), || {
            let object = Borrowed::from_ptr(py, object).cast_unchecked::<T>();
            let told =
                Native::of(&object).with(|slots| slots.event_loop.is_some() && is(slots.life));
            ffi::Py_NewRef(if told {
                ffi::Py_True()
            } else {
                ffi::Py_False()
            })
        })
    }
}

/// # Safety
/// Called by a method descriptor of the class with one argument.
unsafe fn set_result(
    py: Python<'_>,
    object: *mut ffi::PyObject,
    result: *mut ffi::PyObject,
) -> PyResult<*mut ffi::PyObject> {
    // SAFETY: see above.
    let (object, result) = unsafe {
        let object = Borrowed::from_ptr(py, object).cast_unchecked::<Future>();
        (object, Bound::from_borrowed_ptr(py, result))
    };
    let native = Native::of(&object);
    native.alive()?;
    native.set_result(result)?;
    Ok(py.None().into_ptr())
}
