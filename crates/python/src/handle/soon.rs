//! `Handle`, the result of `call_soon` and its kin.

use std::sync::atomic::Ordering;

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::callback::{
    Callback, HasCallback, call_of, cancel, context_of, remember_source, repr, run,
    source_traceback, with_slots,
};
use crate::counts::Kind;
use crate::loop_::EventLoop;
use crate::{context, names};

/// A scheduled call that can be cancelled; as `asyncio.Handle`.
#[pyclass(frozen, weakref, module = "oxlip")]
pub(crate) struct Handle(Callback);

impl HasCallback for Handle {
    fn callback(&self) -> &Callback {
        &self.0
    }
}

impl Handle {
    #[inline]
    pub(crate) fn new<'py>(
        event_loop: &Bound<'py, EventLoop>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let context = context::given_or_copied(context, py)?;
        let callback = Callback::new(
            event_loop.clone().unbind(),
            callback.unbind(),
            args.unbind(),
            context,
            Kind::Handle,
        );
        let handle = Bound::new(py, Self(callback))?;
        if event_loop.get().is_debug() {
            remember_source(&handle)?;
        }
        Ok(handle)
    }

    /// Makes `spare`, a handle of the same loop from [`Handle::recycle`], stand for another call.
    ///
    /// # Errors
    /// `TypeError` if `context` is not a context.
    #[inline]
    pub(crate) fn reuse<'py>(
        spare: Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let context = context::given_or_copied(context, spare.py())?;
        with_slots(&spare, |slots| {
            slots.call = Some((callback.unbind(), args.unbind()));
            slots.context = Some(context);
        });
        if spare.get().0.event_loop.get().is_debug() {
            remember_source(&spare)?;
        }
        Ok(spare)
    }

    /// Empties a handle that has run and that nobody else refers to, for [`Handle::reuse`]: most
    /// handles are never looked at by who scheduled them, and an object that the collector knows
    /// already is cheaper than a new one.
    #[cfg(not(Py_GIL_DISABLED))]
    #[inline]
    pub(crate) fn recycle(handle: Py<Self>, py: Python<'_>) -> Option<Py<Self>> {
        // SAFETY: a live object, read with the GIL held; the type has a list of weak references
        // (`weakref` above), whose offset says where its head is.
        let shared = unsafe {
            let object = handle.as_ptr();
            let weak_references = (*ffi::Py_TYPE(object)).tp_weaklistoffset;
            let head = object
                .byte_offset(weak_references)
                .cast::<*mut ffi::PyObject>();
            ffi::Py_REFCNT(object) != 1 || !(*head).is_null()
        };
        if shared {
            return None;
        }
        let used = with_slots(handle.bind(py), |slots| {
            (slots.call.take(), slots.context.take(), slots.debug.take())
        });
        drop(used);
        handle.get().0.cancelled.store(false, Ordering::Relaxed);
        Some(handle)
    }

    /// Without a GIL a count of one is no proof that nobody else is about to take a reference.
    #[cfg(Py_GIL_DISABLED)]
    pub(crate) fn recycle(_handle: Py<Self>, _py: Python<'_>) -> Option<Py<Self>> {
        None
    }

    /// Runs the callback; see [`run`].
    #[inline]
    pub(crate) fn run(handle: &Bound<'_, Self>) -> PyResult<()> {
        run(handle)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn cancel_now(handle: &Bound<'_, Self>) -> PyResult<()> {
        cancel(handle).map(drop)
    }
}

#[pymethods]
impl Handle {
    /// `isinstance(handle, asyncio.Handle)` holds, without the slots of a Python class in every
    /// handle: `isinstance` asks for this where the type itself does not answer.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<&'py Bound<'py, PyAny>> {
        names::HANDLE.get(slf.py())
    }

    /// Prevents the callback from being run; harmless if it has run or was cancelled before.
    fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        cancel(slf).map(drop)
    }

    /// Whether `cancel()` was called.
    fn cancelled(&self) -> bool {
        self.is_cancelled()
    }

    /// The context the callback runs in.
    fn get_context(slf: &Bound<'_, Self>) -> Option<Py<PyAny>> {
        context_of(slf)
    }

    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        run(slf)
    }

    #[getter]
    fn _callback<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        call_of(slf).map(|(callback, _)| callback)
    }

    #[getter]
    fn _args<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyTuple>> {
        call_of(slf).map(|(_, args)| args)
    }

    #[getter]
    fn _context(slf: &Bound<'_, Self>) -> Option<Py<PyAny>> {
        context_of(slf)
    }

    #[getter]
    fn _cancelled(&self) -> bool {
        self.is_cancelled()
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<EventLoop> {
        self.0.event_loop.clone_ref(py)
    }

    #[getter]
    fn _source_traceback(slf: &Bound<'_, Self>) -> Option<Py<PyAny>> {
        source_traceback(slf)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<Py<PyString>> {
        repr(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(&visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(with_slots(slf, |slots| {
            (slots.call.take(), slots.debug.take())
        }));
    }
}
