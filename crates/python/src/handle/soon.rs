//! `Handle`, which `call_soon` and its kin return.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::args::Args;
use super::callback::{
    Callback, HasCallback, args_of, call_of, cancel, cancelled, context_of, kept_repr,
    remember_source, report, repr, repr_info, run, run_by, source_traceback, with_slots,
};
use super::freed::Freeing;
use super::spare::{Used, refill, reuse, run_queued};
use crate::context::{Chosen, Runner};
use crate::counts::Kind;
use crate::loop_::EventLoop;
use crate::names;

/// A scheduled call that can be cancelled; as `asyncio.Handle`.
#[pyclass(frozen, weakref, module = "oxlip")]
pub(crate) struct Handle(Callback);

impl HasCallback for Handle {
    fn callback(&self) -> &Callback {
        &self.0
    }
    fn freeing() -> &'static Freeing {
        static FREEING: Freeing = Freeing::new();
        &FREEING
    }
    #[inline]
    fn used(handle: Bound<'_, Self>) -> Used {
        Used::Handle(handle.unbind())
    }
}

impl Handle {
    #[inline]
    pub(crate) fn new<'py>(
        event_loop: &Bound<'py, EventLoop>,
        callback: Bound<'py, PyAny>,
        args: Args,
        context: Chosen,
    ) -> PyResult<Bound<'py, Self>> {
        let callback = Callback::new(
            event_loop.clone().unbind(),
            callback.unbind(),
            args,
            context,
            Kind::Handle,
        );
        let handle = Bound::new(event_loop.py(), Self(callback))?;
        if event_loop.get().is_debug() {
            remember_source(&handle)?;
        }
        Ok(handle)
    }

    /// Makes `spare`, a handle of the same loop that has run, stand for another call.
    ///
    /// # Errors
    /// Those of remembering where it was scheduled, in debug mode.
    #[inline]
    pub(crate) fn reuse<'py>(
        spare: Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        args: Args,
        context: Chosen,
    ) -> PyResult<Bound<'py, Self>> {
        reuse(spare, callback, args, context)
    }

    /// As [`Handle::reuse`] outside debug mode; runs no Python code.
    #[inline]
    pub(crate) fn stand_for(
        spare: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        args: Args,
        context: Chosen,
    ) {
        refill(spare, callback, args, context);
    }

    /// Runs a handle that the queue has given up; what may be used again comes back.
    ///
    /// # Errors
    /// As [`run`].
    #[inline]
    pub(crate) fn run_queued(
        handle: Bound<'_, Self>,
        runner: &mut Option<Runner>,
    ) -> PyResult<Option<Used>> {
        Ok(run_queued(handle, runner)?.map(Self::used))
    }

    /// Runs the callback; see [`run`].
    #[inline]
    pub(crate) fn run(handle: &Bound<'_, Self>) -> PyResult<()> {
        run(handle)
    }

    /// Has the program's function run it: see `replaced.rs`.
    ///
    /// # Errors
    /// What the function raises.
    pub(crate) fn run_by(handle: &Bound<'_, Self>, function: &Bound<'_, PyAny>) -> PyResult<()> {
        run_by(handle, function)
    }

    /// What is done when its callback has raised, here by other means than the handle.
    ///
    /// # Errors
    /// `SystemExit` and `KeyboardInterrupt`, which end the loop.
    pub(crate) fn report_for(handle: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        match call_of(handle) {
            Some((callback, args)) => report(handle, &callback, &args, error),
            None => Ok(()),
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// The handle belongs to `call_soon_threadsafe`, and is not queued yet.
    #[inline]
    pub(crate) fn take_turns(&self) {
        self.0.set_takes_turns(true);
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
        if slf.get().0.takes_turns() {
            return names::THREAD_SAFE_HANDLE.get(slf.py());
        }
        names::HANDLE.get(slf.py())
    }

    /// Prevents the callback from being run; harmless if it has run or was cancelled before. Of a
    /// handle of `call_soon_threadsafe` (since Python 3.14): if another thread is running it, waits
    /// until that is over.
    fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        cancel(slf).map(drop)
    }

    /// Whether `cancel()` was called; waits as that does.
    fn cancelled(slf: &Bound<'_, Self>) -> PyResult<bool> {
        cancelled(slf)
    }

    /// The context the callback runs in.
    fn get_context(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
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
    fn _args<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        args_of(slf)
    }

    #[getter]
    fn _context(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
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

    /// What `repr()` consists of.
    fn _repr_info(slf: &Bound<'_, Self>) -> PyResult<Vec<String>> {
        repr_info(slf)
    }

    /// What `repr()` was when this was cancelled, in debug mode.
    #[getter]
    fn _repr(slf: &Bound<'_, Self>) -> Option<Py<PyString>> {
        kept_repr(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(&visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(with_slots(slf, |slots| {
            (slots.call.take(), slots.rare.take())
        }));
    }
}
