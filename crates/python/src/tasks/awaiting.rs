//! What `await` iterates: it gives the future once, which the task above takes, and then its result.

use std::cell::UnsafeCell;

use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyTraceback, PyTuple, PyType};
use pyo3::{Borrowed, PyTypeInfo, ffi};

use super::core::{Life, Native};
use super::{Any, Future, Task};

/// As asyncio's `FutureIter`. Many short lives: their memory is kept for the next.
#[pyclass(frozen, freelist = 256, module = "oxlip._native")]
pub(super) struct FutureIter {
    /// None once it has given the result.
    future: UnsafeCell<Option<Py<PyAny>>>,
}

// SAFETY: `future` is reached only inside the object's critical section, which runs no Python code, and by
// the collector, which runs while no other thread is in one.
unsafe impl Sync for FutureIter {}

/// What comes of going on.
enum Next<'py> {
    Waits(Any<'py>),
    Done(Any<'py>),
}

/// `__await__()` of a future.
///
/// # Errors
/// `RuntimeError` before it was initialised; out of memory.
#[inline]
pub(super) fn iterate<'py>(native: Native<'_, 'py>) -> PyResult<Bound<'py, FutureIter>> {
    native.alive()?;
    let future = UnsafeCell::new(Some(native.object.clone().unbind()));
    let made = Bound::new(native.object.py(), FutureIter { future })?;
    // One from the kept memory is not known to the collector.
    // SAFETY: a live, complete object of a type that the collector follows.
    unsafe {
        if ffi::PyObject_GC_IsTracked(made.as_ptr()) == 0 {
            ffi::PyObject_GC_Track(made.as_ptr().cast());
        }
    }
    Ok(made)
}

/// Lets the interpreter call the functions here without PyO3's in between. Before objects are made.
pub(super) fn install(py: Python<'_>) {
    let iterator = FutureIter::type_object_raw(py);
    // SAFETY: these classes' own type objects, which nobody has used yet; heap types have a table for what is
    // awaited. The functions do what those do which are replaced.
    unsafe {
        (*iterator).tp_iternext = Some(next_of);
        (*iterator).tp_dealloc = Some(dealloc);
        for class in [Future::type_object_raw(py), Task::type_object_raw(py)] {
            (*class).tp_iter = Some(iterate_object);
            if let Some(table) = (*class).tp_as_async.as_mut() {
                table.am_await = Some(iterate_object);
            }
        }
    }
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: called by the interpreter, attached, with an object of this class that nobody refers to. Its Rust
    // part is one reference, which is taken out; the memory goes back the way it came, and an instance of a
    // heap type refers to it.
    unsafe {
        let py = Python::assume_attached();
        ffi::PyObject_GC_UnTrack(object.cast());
        let class = ffi::Py_TYPE(object);
        let iterator = Borrowed::from_ptr(py, object).cast_unchecked::<FutureIter>();
        if let Some(future) = with_future(&iterator, Option::take) {
            drop(future.into_bound(py));
        }
        let free = (*class).tp_free.expect("a ready type has tp_free");
        free(object.cast());
        ffi::Py_DECREF(class.cast());
    }
}

unsafe extern "C" fn iterate_object(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter, attached, with a live object of one of the two classes, or a derived one.
    let object = unsafe { Bound::from_borrowed_ptr(Python::assume_attached(), object) };
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
}

unsafe extern "C" fn next_of(iterator: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter, attached, with a live object of this class, which has no derived ones.
    let iterator = unsafe {
        Borrowed::from_ptr(Python::assume_attached(), iterator).cast_unchecked::<FutureIter>()
    };
    let error = match next(&iterator) {
        Ok(Next::Waits(future)) => return future.into_ptr(),
        // The end of an iterator, without an exception: that stands for None.
        Ok(Next::Done(result)) if result.is_none() => return std::ptr::null_mut(),
        Ok(Next::Done(result)) => match stop_at_once(result) {
            Ok(()) => return std::ptr::null_mut(),
            Err(error) => error,
        },
        Err(error) => error,
    };
    error.restore(iterator.py());
    std::ptr::null_mut()
}

/// Raises the end of an iterator that has a value.
#[inline]
fn stop_at_once(result: Any<'_>) -> PyResult<()> {
    // These two would not be the only argument of the exception that the interpreter makes.
    if result.is_instance_of::<PyTuple>() || result.is_instance_of::<PyBaseException>() {
        return Err(stop(result));
    }
    // SAFETY: two live objects; the interpreter is attached.
    unsafe { ffi::PyErr_SetObject(ffi::PyExc_StopIteration, result.as_ptr()) };
    Ok(())
}

/// The end of an iterator that has a value, or None.
fn stop(result: Any<'_>) -> PyErr {
    if result.is_none() {
        return PyStopIteration::new_err(());
    }
    // A tuple as the only argument, not as all of them.
    match PyTuple::new(result.py(), [result]) {
        Ok(arguments) => PyStopIteration::new_err(arguments.unbind()),
        Err(error) => error,
    }
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
        match next(slf)? {
            Next::Waits(future) => Ok(future),
            Next::Done(result) => Err(stop(result)),
        }
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
