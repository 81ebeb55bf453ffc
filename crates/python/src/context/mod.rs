//! `contextvars.Context`: which one a handle runs in, and how to run in it without a Python frame.

mod snapshot;

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::{IntoPyObjectExt as _, ffi};

pub(crate) use self::snapshot::{Runner, Snapshot};

/// The context of a handle.
pub(crate) enum Chosen {
    /// Its own, or the one that the program has given.
    Own(Py<PyAny>),
    /// Equal to the one that was current; other handles have the same: see [`Runner`].
    Shared(Py<PyAny>),
}

impl Chosen {
    /// What the program has given, checked to be a context, or one equal to the current.
    ///
    /// # Errors
    /// `TypeError` if it is something else.
    #[inline(always)]
    pub(crate) fn new(
        given: Option<Bound<'_, PyAny>>,
        snapshot: &mut Snapshot,
        py: Python<'_>,
    ) -> PyResult<Self> {
        let Some(context) = given else {
            return snapshot.of_current(py);
        };
        // SAFETY: the pointer is a live object; the macro only compares its type.
        if unsafe { ffi::PyContext_CheckExact(context.as_ptr()) } == 0 {
            let what = context.get_type().into_py_any(py)?;
            return Err(PyTypeError::new_err(format!(
                "context must be a contextvars.Context, not {what}"
            )));
        }
        Ok(Self::Own(context.unbind()))
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Own(context) => Self::Own(context.clone_ref(py)),
            Self::Shared(context) => Self::Shared(context.clone_ref(py)),
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Own(context) | Self::Shared(context) => visit.call(context),
        }
    }
}

/// A copy of the calling thread's current context.
///
/// # Errors
/// Out of memory.
#[inline]
pub(crate) fn copy_current(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: the interpreter is attached; the call gives a new reference or NULL with an error.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()).map(Bound::unbind) }
}

/// A copy of `context`.
///
/// # Errors
/// Out of memory.
pub(crate) fn copy(py: Python<'_>, context: &Py<PyAny>) -> PyResult<Py<PyAny>> {
    // SAFETY: `context` is a Context; the call gives a new reference or NULL with an error.
    unsafe {
        Bound::from_owned_ptr_or_err(py, ffi::PyContext_Copy(context.as_ptr())).map(Bound::unbind)
    }
}

/// Runs `call` inside `context`.
///
/// # Errors
/// What `call` gives, or `RuntimeError` if the context is entered already.
#[inline(always)]
pub(crate) fn run<R>(
    py: Python<'_>,
    context: &Py<PyAny>,
    call: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    let _entered = Entered::enter(py, context)?;
    call()
}

/// As [`run`], for a context that all callbacks of a connection share. If it is entered already, since a program runs
/// the loop within one of them (as nest_asyncio does), `call` runs in a copy.
///
/// # Errors
/// What `call` gives.
#[inline(always)]
pub(crate) fn run_shared<R>(
    py: Python<'_>,
    context: &Py<PyAny>,
    call: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    match Entered::enter(py, context) {
        Ok(_entered) => call(),
        Err(_) => run_in_copy(py, context, call),
    }
}

#[cold]
fn run_in_copy<R>(
    py: Python<'_>,
    context: &Py<PyAny>,
    call: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    run(py, &copy(py, context)?, call)
}

/// A context that this thread is in until the guard is dropped.
struct Entered<'a, 'py> {
    py: Python<'py>,
    context: &'a Py<PyAny>,
}

impl<'a, 'py> Entered<'a, 'py> {
    #[inline(always)]
    fn enter(py: Python<'py>, context: &'a Py<PyAny>) -> PyResult<Self> {
        // SAFETY: the call refuses what is no Context, and the guard leaves the context again whatever
        // happens meanwhile: a panic aborts the callback at PyO3's boundary, after the guard has been dropped.
        if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(Self { py, context })
    }
}

impl Drop for Entered<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: a Context, which has been entered; one that is not the current any more is refused.
        if unsafe { ffi::PyContext_Exit(self.context.as_ptr()) } != 0 {
            // The callback left a context it had not entered: the error is about its doing.
            PyErr::fetch(self.py).write_unraisable(self.py, None);
        }
    }
}
