//! The iterator of a future's `await`: it yields the future once, for the task above to wait for,
//! and then returns its result.

use std::cell::UnsafeCell;

use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyTraceback, PyTuple, PyType};
use pyo3::{Borrowed, PyTypeInfo, ffi};

use super::core::{Life, Native};
use super::{Any, Future, Task};
use crate::awaited::{Next, told, told_by_slot};
use crate::kept::{self, Keeps, Kept};

/// As asyncio's `FutureIter`.
#[pyclass(frozen, module = "oxlip._native")]
pub(super) struct FutureIter {
    /// None once it has given the result.
    future: UnsafeCell<Option<Py<PyAny>>>,
}

// SAFETY: `future` is reached only inside the object's critical section, which runs no Python code, and by
// the collector, which runs while no other thread is in one.
unsafe impl Sync for FutureIter {}

static KEPT: Kept<FutureIter> = Kept::new();

impl Keeps for FutureIter {
    fn kept() -> &'static Kept<Self> {
        &KEPT
    }

    #[inline]
    fn let_go(slf: &Bound<'_, Self>) -> bool {
        if let Some(future) = with_future(slf, Option::take) {
            drop(future.into_bound(slf.py()));
        }
        true
    }
}

/// `__await__()` of a future.
///
/// # Errors
/// `RuntimeError` before it was initialised; out of memory.
#[inline]
pub(super) fn iterate<'py>(native: Native<'_, 'py>) -> PyResult<Bound<'py, FutureIter>> {
    native.alive()?;
    let py = native.object.py();
    let future = native.object.clone().unbind();
    let made = match KEPT.next(py) {
        Some(made) => {
            with_future(&made, |empty| *empty = Some(future));
            made
        }
        None => {
            let future = UnsafeCell::new(Some(future));
            Bound::new(py, FutureIter { future })?
        }
    };
    crate::ffi::follow(made.as_any());
    Ok(made)
}

/// Lets the interpreter call the functions here without PyO3's in between. Before objects are made.
pub(super) fn install(py: Python<'_>) {
    kept::install::<FutureIter>(py);
    let iterator = FutureIter::type_object_raw(py);
    // SAFETY: these classes' own type objects, which nobody has used yet; heap types have a table for what is
    // awaited. The functions do what those do which are replaced.
    unsafe {
        (*iterator).tp_iternext = Some(next_of);
        for class in [Future::type_object_raw(py), Task::type_object_raw(py)] {
            (*class).tp_iter = Some(iterate_object);
            if let Some(table) = (*class).tp_as_async.as_mut() {
                table.am_await = Some(iterate_object);
            }
        }
    }
}

unsafe extern "C" fn iterate_object(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter, attached, with a live object of one of the two classes, or a derived one.
    let object = unsafe { Bound::from_borrowed_ptr(Python::assume_attached(), object) };
    crate::ffi::without_panic(object.py(), std::ptr::null_mut(), || {
        let made = Native::derived(&object)
            .ok_or_else(|| PyTypeError::new_err("a future was expected"))
            .and_then(iterate);
        match made {
            Ok(made) => made.into_ptr(),
            Err(error) => {
                error.restore(object.py());
                std::ptr::null_mut()
            }
        }
    })
}

unsafe extern "C" fn next_of(iterator: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter, attached, with a live object of this class, which has no derived ones.
    let iterator = unsafe {
        Borrowed::from_ptr(Python::assume_attached(), iterator).cast_unchecked::<FutureIter>()
    };
    let py = iterator.py();
    crate::ffi::without_panic(py, std::ptr::null_mut(), || {
        told_by_slot(py, next(&iterator))
    })
}

#[inline]
fn next<'py>(iterator: &Bound<'py, FutureIter>) -> PyResult<Next<'py>> {
    let py = iterator.py();
    let held = with_future(iterator, |future| {
        future.as_ref().map(|future| future.bind(py).clone())
    });
    let Some(future) = held else {
        return Ok(Next::Done(py.None().into_bound(py)));
    };
    let Some(native) = Native::derived(&future) else {
        return Err(PyTypeError::new_err("a future was expected"));
    };
    let (life, blocked) = native.with(|slots| {
        let blocked = slots.blocking;
        slots.blocking |= slots.life == Life::Pending;
        (slots.life, blocked)
    });
    if life == Life::Pending {
        if blocked {
            return Err(PyRuntimeError::new_err("await wasn't used with future"));
        }
        return Ok(Next::Waits(future));
    }
    let before = with_future(iterator, Option::take);
    if let Some(before) = before {
        drop(before.into_bound(py));
    }
    native.result().map(Next::Done)
}

#[inline(always)]
fn with_future<R>(
    iterator: &Bound<'_, FutureIter>,
    access: impl FnOnce(&mut Option<Py<PyAny>>) -> R,
) -> R {
    with_critical_section(iterator.as_any(), || {
        // SAFETY: inside the object's critical section; `access` runs no Python code (it only moves or
        // clones the reference).
        access(unsafe { &mut *iterator.get().future.get() })
    })
}

#[pymethods]
impl FutureIter {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        told(next(slf))
    }

    #[pyo3(signature = (value, /))]
    fn send<'py>(slf: &Bound<'py, Self>, value: &Any<'py>) -> PyResult<Any<'py>> {
        let _ = value;
        Self::__next__(slf)
    }

    /// Raises what it is given.
    #[pyo3(signature = (r#type, value=None, traceback=None, /))]
    fn throw<'py>(
        slf: &Bound<'py, Self>,
        r#type: Any<'py>,
        value: Option<Any<'py>>,
        traceback: Option<Any<'py>>,
    ) -> PyResult<Any<'py>> {
        let py = slf.py();
        if value.is_some() || traceback.is_some() {
            let category = py.get_type::<pyo3::exceptions::PyDeprecationWarning>();
            let message = c"the (type, exc, tb) signature of throw() is deprecated, \
                            use the single-arg signature instead.";
            PyErr::warn(py, &category, message, 1)?;
        }
        if traceback
            .as_ref()
            .is_some_and(|it| !it.is_instance_of::<PyTraceback>())
        {
            return Err(PyTypeError::new_err(
                "throw() third argument must be a traceback",
            ));
        }
        let error = match r#type.cast::<PyType>() {
            Ok(class) if class.is_subclass_of::<PyBaseException>()? => match value {
                None => class.call0()?,
                Some(value) if value.is_instance(class)? => value,
                Some(value) => match value.cast::<PyTuple>() {
                    Ok(arguments) => class.call1(arguments.clone())?,
                    Err(_) => class.call1((value,))?,
                },
            },
            _ if r#type.is_instance_of::<PyBaseException>() => {
                if value.is_some() {
                    return Err(PyTypeError::new_err(
                        "instance exception may not have a separate value",
                    ));
                }
                r#type
            }
            _ => {
                return Err(PyTypeError::new_err(
                    "exceptions must be classes deriving BaseException or instances of such a class",
                ));
            }
        };
        if let Some(traceback) = traceback {
            crate::ffi::set_traceback(error.cast()?, Some(&traceback))?;
        }
        drop(with_future(slf, Option::take));
        Err(PyErr::from_value(error))
    }

    fn close(slf: &Bound<'_, Self>) {
        drop(with_future(slf, Option::take));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs while no other thread is inside a critical section.
        visit.call(unsafe { &*self.future.get() })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(with_future(slf, Option::take));
    }
}
