//! `TimerHandle`, which `call_later` and `call_at` return.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, Ordering};

use oxlip_core::timers::TimerId;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyString, PyTuple};

use super::args::Args;
use super::callback::{
    Callback, HasCallback, args_of, call_of, cancel, context_of, kept_repr, remember_source, repr,
    repr_info, run, run_by, source_traceback, with_slots,
};
use super::collector::reveal;
use super::freed::Freeing;
use super::spare::{Used, refill, reuse, run_queued};
use crate::context::{Chosen, Runner};
use crate::counts::Kind;
use crate::loop_::EventLoop;
use crate::names;

/// A call scheduled for a point in time; as `asyncio.TimerHandle`.
#[pyclass(frozen, weakref, module = "oxlip")]
pub(crate) struct TimerHandle {
    callback: Callback,
    /// Seconds, as the bits of an `f64`; it changes only when the handle is used again.
    when: AtomicU64,
    timer: UnsafeCell<Option<TimerId>>,
}

// SAFETY: `timer` is touched only inside the object's critical section.
unsafe impl Sync for TimerHandle {}

impl HasCallback for TimerHandle {
    fn callback(&self) -> &Callback {
        &self.callback
    }
    fn freeing() -> &'static Freeing {
        static FREEING: Freeing = Freeing::new();
        &FREEING
    }
    #[inline]
    fn used(handle: Bound<'_, Self>) -> Used {
        // Unlike those, it does not hide from the collector.
        reveal(&handle);
        handle.get().swap_timer(&handle, None);
        Used::Timer(handle.unbind())
    }
    fn when(&self) -> Option<f64> {
        Some(self.when_secs())
    }
}

impl TimerHandle {
    pub(crate) fn new<'py>(
        event_loop: &Bound<'py, EventLoop>,
        when: f64,
        callback: Bound<'py, PyAny>,
        args: Args,
        context: Chosen,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let callback = Callback::new(
            event_loop.clone().unbind(),
            callback.unbind(),
            args,
            context,
            Kind::TimerHandle,
        );
        let handle = Bound::new(
            py,
            Self {
                callback,
                when: AtomicU64::new(when.to_bits()),
                timer: UnsafeCell::new(None),
            },
        )?;
        if event_loop.get().is_debug() {
            remember_source(&handle)?;
        }
        Ok(handle)
    }

    /// As [`super::Handle::reuse`].
    ///
    /// # Errors
    /// Those of remembering where it was scheduled, in debug mode.
    #[inline]
    pub(crate) fn reuse<'py>(
        spare: Bound<'py, Self>,
        when: f64,
        callback: Bound<'py, PyAny>,
        args: Args,
        context: Chosen,
    ) -> PyResult<Bound<'py, Self>> {
        spare.get().when.store(when.to_bits(), Ordering::Relaxed);
        reuse(spare, callback, args, context)
    }

    /// As [`TimerHandle::reuse`] outside debug mode; runs no Python code.
    #[inline]
    pub(crate) fn stand_for(
        spare: &Bound<'_, Self>,
        when: f64,
        callback: Bound<'_, PyAny>,
        args: Args,
        context: Chosen,
    ) {
        spare.get().when.store(when.to_bits(), Ordering::Relaxed);
        refill(spare, callback, args, context);
    }

    /// As [`super::Handle::run_queued`].
    ///
    /// # Errors
    /// As [`run`].
    #[inline]
    pub(crate) fn run_queued(
        handle: Bound<'_, Self>,
        runner: &mut Option<Runner>,
    ) -> PyResult<Option<Used>> {
        handle.get().swap_timer(&handle, None);
        Ok(run_queued(handle, runner)?.map(|handle| Used::Timer(handle.unbind())))
    }

    /// Runs the callback; see [`run`].
    #[inline]
    pub(crate) fn run(handle: &Bound<'_, Self>) -> PyResult<()> {
        handle.get().swap_timer(handle, None);
        run(handle)
    }

    /// Has the program's function run it: see `replaced.rs`.
    ///
    /// # Errors
    /// What the function raises.
    pub(crate) fn run_by(handle: &Bound<'_, Self>, function: &Bound<'_, PyAny>) -> PyResult<()> {
        handle.get().swap_timer(handle, None);
        run_by(handle, function)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.callback.cancelled.load(Ordering::Relaxed)
    }

    /// When it is due, in seconds on the loop's clock.
    pub(crate) fn when_secs(&self) -> f64 {
        f64::from_bits(self.when.load(Ordering::Relaxed))
    }

    /// Remembers (or forgets) the entry in the loop's timers; gives the one known before.
    pub(crate) fn swap_timer(
        &self,
        handle: &Bound<'_, Self>,
        timer: Option<TimerId>,
    ) -> Option<TimerId> {
        with_critical_section(handle.as_any(), || {
            // SAFETY: inside the object's critical section; the value is `Copy`.
            unsafe { std::mem::replace(&mut *self.timer.get(), timer) }
        })
    }
}

#[pymethods]
impl TimerHandle {
    /// `isinstance(handle, asyncio.TimerHandle)` holds, without the slots of a Python class in every
    /// handle: `isinstance` asks for this where the type itself does not answer.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<&'py Bound<'py, PyAny>> {
        names::TIMER_HANDLE.get(slf.py())
    }

    /// Prevents the callback from being run; harmless if it has run or was cancelled before.
    pub(crate) fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        if !cancel(slf)? {
            return Ok(());
        }
        if let Some(timer) = slf.get().swap_timer(slf, None) {
            slf.get().callback.event_loop.get().forget_timer(timer);
        }
        Ok(())
    }

    /// Whether `cancel()` was called.
    fn cancelled(&self) -> bool {
        self.callback.cancelled.load(Ordering::Relaxed)
    }

    /// When the callback is due, in seconds on `loop.time()`'s clock.
    #[pyo3(name = "when")]
    fn py_when(&self) -> f64 {
        self.when_secs()
    }

    /// The context the callback runs in.
    fn get_context(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        context_of(slf)
    }

    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        run(slf)
    }

    #[getter]
    fn _when(&self) -> f64 {
        self.when_secs()
    }

    #[getter]
    fn _scheduled(slf: &Bound<'_, Self>) -> bool {
        let timer = slf.get().swap_timer(slf, None);
        slf.get().swap_timer(slf, timer);
        timer.is_some()
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
        self.cancelled()
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<EventLoop> {
        self.callback.event_loop.clone_ref(py)
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

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        pyo3::types::PyFloat::new(py, self.when_secs()).hash()
    }

    fn __richcmp__(
        slf: &Bound<'_, Self>,
        other: &Bound<'_, PyAny>,
        op: pyo3::basic::CompareOp,
    ) -> PyResult<Py<PyAny>> {
        use pyo3::IntoPyObjectExt as _;
        use pyo3::basic::CompareOp;
        let py = slf.py();
        let Ok(other) = other.cast::<Self>() else {
            return Ok(py.NotImplemented());
        };
        let (a, b) = (slf.get().when_secs(), other.get().when_secs());
        let same = || -> PyResult<bool> {
            Ok(a == b
                && slf.get().cancelled() == other.get().cancelled()
                && Self::_callback(slf)
                    .into_bound_py_any(py)?
                    .eq(Self::_callback(other))?
                && Self::_args(slf)?
                    .into_bound_py_any(py)?
                    .eq(Self::_args(other)?)?)
        };
        let answer = match op {
            CompareOp::Lt => a < b,
            CompareOp::Le => a < b || same()?,
            CompareOp::Gt => a > b,
            CompareOp::Ge => a > b || same()?,
            CompareOp::Eq => same()?,
            CompareOp::Ne => !same()?,
        };
        answer.into_py_any(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.callback.traverse(&visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(with_slots(slf, |slots| {
            (slots.call.take(), slots.rare.take())
        }));
    }
}
