//! The positional arguments of a scheduled call. Most callbacks take none or one, and no tuple is
//! made for them unless somebody asks to see it.

use pyo3::Borrowed;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::chains::End;
use crate::ffi::raw_vectorcall;

/// What the callback is called with.
pub(crate) enum Args {
    None,
    One(Py<PyAny>),
    Many(Py<PyTuple>),
}

impl Args {
    /// # Errors
    /// Out of memory.
    #[inline]
    pub(crate) fn new(py: Python<'_>, args: &[Borrowed<'_, '_, PyAny>]) -> PyResult<Self> {
        Ok(match args {
            [] => Self::None,
            [one] => Self::One(Bound::clone(one).unbind()),
            many => Self::Many(PyTuple::new(py, many)?.unbind()),
        })
    }

    pub(crate) fn of_tuple(args: Bound<'_, PyTuple>) -> Self {
        Self::Many(args.unbind())
    }

    #[inline]
    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::None => Self::None,
            Self::One(one) => Self::One(one.clone_ref(py)),
            Self::Many(many) => Self::Many(many.clone_ref(py)),
        }
    }

    /// As the program sees them.
    ///
    /// # Errors
    /// Out of memory.
    pub(crate) fn tuple<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        match self {
            Self::None => Ok(PyTuple::empty(py)),
            Self::One(one) => PyTuple::new(py, [one]),
            Self::Many(many) => Ok(many.bind(py).clone()),
        }
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::None => Ok(()),
            Self::One(one) => visit.call(one),
            Self::Many(many) => visit.call(many),
        }
    }

    /// `callback(*args)` without a tuple being built or unpacked.
    ///
    /// # Errors
    /// What the callback raises.
    #[inline]
    pub(super) fn call<'py>(&self, callback: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        // A place before the first argument, which a bound method uses for its object.
        let mut inline = [std::ptr::null_mut::<ffi::PyObject>(); 2];
        let with_place = ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        // SAFETY: `items` is an array of live references, one for each that `count` says: our own
        // one, or those of the tuple, which keeps them alive and unchanged during the call.
        unsafe {
            let (items, count) = match self {
                Self::None => (inline.as_mut_ptr().add(1).cast_const(), with_place),
                Self::One(one) => {
                    inline[1] = one.as_ptr();
                    (inline.as_mut_ptr().add(1).cast_const(), 1 | with_place)
                }
                Self::Many(many) => {
                    let tuple = many.as_ptr();
                    let items = &raw const (*tuple.cast::<ffi::PyTupleObject>()).ob_item;
                    (items.cast(), ffi::PyTuple_GET_SIZE(tuple).unsigned_abs())
                }
            };
            let result = raw_vectorcall(callback.as_ptr(), items, count, std::ptr::null_mut());
            Bound::from_owned_ptr_or_err(callback.py(), result)
        }
    }

    /// Of a handle that ends.
    pub(super) fn end(self, end: &End<'_>) {
        match self {
            Self::None => {}
            Self::One(one) => end.release(one),
            Self::Many(many) => end.release(many),
        }
    }

    /// Drops them where the interpreter is attached, which `Py` would have to find out.
    #[inline]
    pub(super) fn release(self, py: Python<'_>) {
        match self {
            Self::None => {}
            Self::One(one) => drop(one.into_bound(py)),
            Self::Many(many) => drop(many.into_bound(py)),
        }
    }
}
