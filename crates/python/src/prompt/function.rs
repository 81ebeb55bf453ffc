//! The function: it makes the coroutines, and passes for the Python function that it wraps.

use std::ffi::c_ulong;
use std::ptr;

use pyo3::exceptions::{PyAttributeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{Borrowed, PyTypeInfo, ffi, intern};

use super::coroutine::Coroutine;
use super::{Deed, Wait, origin};
use crate::ffi::raw_vectorcall;
use crate::{names, primitives, streams};

/// A coroutine function. Found as an attribute of a class, it binds to the object like a method.
#[pyclass(frozen, dict, weakref, module = "oxlip._native")]
pub(crate) struct PromptFunction {
    /// The interpreter finds it by its offset in the object (PEP 590).
    call: ffi::vectorcallfunc,
    wrapped: Py<PyAny>,
    deed: Deed,
}

impl PromptFunction {
    fn of(wrapped: Py<PyAny>, deed: Deed) -> Self {
        Self {
            call: vectorcall,
            wrapped,
            deed,
        }
    }

    pub(super) fn deed(&self) -> &Deed {
        &self.deed
    }

    /// How its coroutines wait. Only for one that waits.
    pub(super) fn wait(&self) -> &'static Wait {
        self.deed.wait.expect("it waits")
    }

    /// Makes the coroutine in Python for the object and these arguments.
    ///
    /// # Errors
    /// What the function raises.
    pub(super) fn in_python<'py>(
        &self,
        object: &Bound<'py, PyAny>,
        others: Option<&Bound<'py, PyTuple>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = object.py();
        if self.deed.arguments == 0 {
            return crate::ffi::vectorcall(self.wrapped.bind(py), [object], None);
        }
        let others = match others {
            Some(others) => others.clone(),
            None => PyTuple::new(py, vec![py.None().into_bound(py); self.deed.arguments])?,
        };
        let arguments = PyTuple::new(py, [object])?.add(others)?;
        self.wrapped.bind(py).call1(arguments.cast::<PyTuple>()?)
    }
}

#[pymethods]
impl PromptFunction {
    /// Wraps a method of this library's classes.
    #[new]
    #[pyo3(signature = (function, /))]
    fn new(function: &Bound<'_, PyAny>) -> PyResult<Self> {
        let qualname: String = function
            .getattr(intern!(function.py(), "__qualname__"))?
            .extract()?;
        let mut deeds = primitives::DEEDS.iter().chain(&streams::DEEDS);
        match deeds.find(|deed| deed.qualname == qualname) {
            Some(deed) => Ok(Self::of(function.clone().unbind(), *deed)),
            None => Err(PyValueError::new_err(format!(
                "nothing is known that {qualname}() could do at once"
            ))),
        }
    }

    /// Code that asks for its class gets Python's.
    #[getter]
    fn __class__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        names::FUNCTION_TYPE.get(py).cloned()
    }

    // These two can be called by name; the interpreter uses the slots below.

    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        instance: &Bound<'py, PyAny>,
        owner: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let owner = owner.map_or(ptr::null_mut(), Bound::as_ptr);
        // SAFETY: live objects.
        unsafe {
            let bound = bind(slf.as_ptr(), instance.as_ptr(), owner);
            Bound::from_owned_ptr_or_err(slf.py(), bound)
        }
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let kwargs = kwargs.map_or(ptr::null_mut(), Bound::as_ptr);
        // SAFETY: live objects, of the types that it expects.
        unsafe {
            let answer = ffi::PyVectorcall_Call(slf.as_ptr(), args.as_ptr(), kwargs);
            Bound::from_owned_ptr_or_err(slf.py(), answer)
        }
    }

    /// Attributes that it does not have itself are the function's in Python.
    fn __getattr__<'py>(&self, name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = name.py();
        let name = name.cast::<pyo3::types::PyString>()?;
        match self.wrapped.bind(py).getattr_opt(name)? {
            Some(value) => Ok(value),
            None => Err(PyAttributeError::new_err(name.clone().unbind())),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.wrapped.bind(py).repr()?.into_any().unbind())
    }

    /// Copies and pickles refer to it by name.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.wrapped.bind(py).getattr(intern!(py, "__qualname__"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.wrapped)
    }
}

/// Makes the interpreter treat the class as one of functions that can be methods. To be called before objects are
/// made.
pub(super) fn export(py: Python<'_>) -> PyResult<()> {
    let deed = primitives::DEEDS[0];
    let sample = Bound::new(py, PromptFunction::of(py.None(), deed))?;
    let place = ptr::from_ref(&sample.get().call).addr() - sample.as_ptr().addr();
    let class = PromptFunction::type_object_raw(py);
    // SAFETY: the class's own type object, which nobody has used yet. Objects have a function of the kind that PEP
    // 590 asks for at that offset. `__get__` binds what is found in a class to the object, as a Python function's
    // does, which is what the flag for methods promises.
    unsafe {
        (*class).tp_vectorcall_offset = place.cast_signed();
        (*class).tp_call = Some(ffi::PyVectorcall_Call);
        (*class).tp_descr_get = Some(bind);
        add_flags(
            class,
            ffi::Py_TPFLAGS_HAVE_VECTORCALL | ffi::Py_TPFLAGS_METHOD_DESCRIPTOR,
        );
        ffi::PyType_Modified(class);
    }
    Ok(())
}

/// # Safety
/// A live type object that nobody else uses.
unsafe fn add_flags(class: *mut ffi::PyTypeObject, flags: c_ulong) {
    // SAFETY: see above.
    unsafe {
        #[cfg(not(Py_GIL_DISABLED))]
        {
            (*class).tp_flags |= flags;
        }
        #[cfg(Py_GIL_DISABLED)]
        (*class)
            .tp_flags
            .fetch_or(flags, std::sync::atomic::Ordering::Relaxed);
    }
}

// SAFETY: as CPython declares it (cpython/classobject.h). PyO3 does not declare it.
unsafe extern "C" {
    fn PyMethod_New(function: *mut ffi::PyObject, object: *mut ffi::PyObject)
    -> *mut ffi::PyObject;
}

/// `__get__` of a Python function.
unsafe extern "C" fn bind(
    function: *mut ffi::PyObject,
    object: *mut ffi::PyObject,
    _class: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter, attached, with live objects, or NULL or None for none.
    unsafe {
        if object.is_null() || object == ffi::Py_None() {
            return ffi::Py_NewRef(function);
        }
        PyMethod_New(function, object)
    }
}

unsafe extern "C" fn vectorcall(
    function: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter, attached, with an object of this class, which has no derived ones, and as
    // many live arguments as `count` says, and `names`.
    unsafe {
        let py = Python::assume_attached();
        let function = Borrowed::from_ptr(py, function).cast_unchecked::<PromptFunction>();
        let this = function.get();
        let given = ffi::PyVectorcall_NARGS(count).unsigned_abs();
        if given != 1 + this.deed.arguments || !names.is_null() {
            return raw_vectorcall(this.wrapped.as_ptr(), arguments, count, names);
        }
        let object = Borrowed::from_ptr(py, *arguments);
        let make = || -> PyResult<*mut ffi::PyObject> {
            if !(this.deed.suits)(&object)? || origin::is_tracked(py)? {
                return Ok(raw_vectorcall(
                    this.wrapped.as_ptr(),
                    arguments,
                    count,
                    names,
                ));
            }
            let others = others(py, std::slice::from_raw_parts(arguments, given))?;
            Ok(Coroutine::make(&function, &object, others)?.into_ptr())
        };
        crate::ffi::without_panic(py, ptr::null_mut(), || {
            make().unwrap_or_else(|error| {
                error.restore(py);
                ptr::null_mut()
            })
        })
    }
}

/// The arguments after the object; none if all of them are `None`.
///
/// # Safety
/// They are live objects.
#[inline]
unsafe fn others<'py>(
    py: Python<'py>,
    arguments: &[*mut ffi::PyObject],
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let others = &arguments[1..];
    // SAFETY: see above.
    unsafe {
        if others.iter().all(|other| *other == ffi::Py_None()) {
            return Ok(None);
        }
        PyTuple::new(
            py,
            others.iter().map(|other| Borrowed::from_ptr(py, *other)),
        )
        .map(Some)
    }
}
