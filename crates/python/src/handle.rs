//! `Handle` and `TimerHandle`: what `call_soon` and `call_later` give back, and what a tick runs.
//!
//! The fields that `cancel()` clears are behind the object's critical section, which is the GIL
//! where there is one and a lock of the object's own where there is not. Nothing inside such a
//! section runs Python code.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

use oxlip_core::timers::TimerId;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyClass, ffi};

use crate::counts::{Counted, Kind};
use crate::loop_::EventLoop;
use crate::{context, names};

/// The callback a handle stands for, and what is known about it.
struct Callback {
    cancelled: AtomicBool,
    slots: UnsafeCell<Slots>,
    event_loop: Py<EventLoop>,
    _counted: Counted,
}

struct Slots {
    call: Option<(Py<PyAny>, Py<PyTuple>)>,
    /// Gone only while the handle waits to be used again.
    context: Option<Py<PyAny>>,
    /// Only in debug mode.
    debug: Option<Box<Debug>>,
}

#[derive(Default)]
struct Debug {
    source_traceback: Option<Py<PyAny>>,
    /// What the handle looked like before it was cancelled.
    repr: Option<Py<PyString>>,
}

// SAFETY: `slots` is reached only through `with_slots`, inside the object's critical section, and
// from `traverse`, which the collector calls with every other thread stopped or without the GIL.
unsafe impl Sync for Callback {}

/// What `Handle` and `TimerHandle` have in common: a place for their callback.
trait HasCallback: PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync {
    fn callback(&self) -> &Callback;
    fn when(&self) -> Option<f64> {
        None
    }
}

/// A scheduled call that can be cancelled; as `asyncio.Handle`.
#[pyclass(frozen, weakref, module = "oxlip")]
pub(crate) struct Handle(Callback);

/// A call scheduled for a point in time; as `asyncio.TimerHandle`.
#[pyclass(frozen, weakref, module = "oxlip")]
pub(crate) struct TimerHandle {
    callback: Callback,
    when: f64,
    timer: UnsafeCell<Option<TimerId>>,
}

// SAFETY: `timer` is touched only inside the object's critical section.
unsafe impl Sync for TimerHandle {}

impl HasCallback for Handle {
    fn callback(&self) -> &Callback {
        &self.0
    }
}

impl HasCallback for TimerHandle {
    fn callback(&self) -> &Callback {
        &self.callback
    }
    fn when(&self) -> Option<f64> {
        Some(self.when)
    }
}

impl Callback {
    fn new(
        event_loop: Py<EventLoop>,
        callback: Py<PyAny>,
        args: Py<PyTuple>,
        context: Py<PyAny>,
        kind: Kind,
    ) -> Self {
        Self {
            cancelled: AtomicBool::new(false),
            slots: UnsafeCell::new(Slots {
                call: Some((callback, args)),
                context: Some(context),
                debug: None,
            }),
            event_loop,
            _counted: Counted::new(kind),
        }
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs while no other thread is inside a critical section: under the
        // GIL it holds the GIL, without one it has stopped the world.
        let slots = unsafe { &*self.slots.get() };
        if let Some((callback, args)) = &slots.call {
            visit.call(callback)?;
            visit.call(args)?;
        }
        if let Some(debug) = &slots.debug {
            visit.call(&debug.source_traceback)?;
        }
        visit.call(&slots.context)?;
        visit.call(&self.event_loop)
    }
}

fn with_slots<H: HasCallback, R>(handle: &Bound<'_, H>, access: impl FnOnce(&mut Slots) -> R) -> R {
    with_critical_section(handle.as_any(), || {
        // SAFETY: inside the object's critical section, and `access` runs no Python code (every
        // caller in this file only moves or clones references).
        access(unsafe { &mut *handle.get().callback().slots.get() })
    })
}

/// Clears the callback and remembers that it was cancelled; false if it was before.
fn cancel<H: HasCallback>(handle: &Bound<'_, H>) -> PyResult<bool> {
    if handle.get().callback().cancelled.load(Ordering::Relaxed) {
        return Ok(false);
    }
    let repr = if handle.get().callback().event_loop.get().is_debug() {
        Some(repr(handle)?)
    } else {
        None
    };
    handle
        .get()
        .callback()
        .cancelled
        .store(true, Ordering::Relaxed);
    let cleared = with_slots(handle, |slots| {
        if let Some(repr) = repr {
            slots.debug.get_or_insert_default().repr = Some(repr);
        }
        slots.call.take()
    });
    drop(cleared);
    Ok(true)
}

/// `(callback, args)` as new references, unless cancelled.
#[inline]
fn call_of<'py, H: HasCallback>(
    handle: &Bound<'py, H>,
) -> Option<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
    let py = handle.py();
    with_slots(handle, |slots| {
        let (callback, args) = slots.call.as_ref()?;
        Some((callback.bind(py).clone(), args.bind(py).clone()))
    })
}

fn source_traceback<H: HasCallback>(handle: &Bound<'_, H>) -> Option<Py<PyAny>> {
    let py = handle.py();
    with_slots(handle, |slots| {
        slots
            .debug
            .as_ref()?
            .source_traceback
            .as_ref()
            .map(|stack| stack.clone_ref(py))
    })
}

/// Runs the callback in its context. An exception goes to the loop's exception handler.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt`, which end the loop.
#[inline]
fn run<H: HasCallback>(handle: &Bound<'_, H>) -> PyResult<()> {
    let py = handle.py();
    let parts = with_slots(handle, |slots| {
        let (callback, args) = slots.call.as_ref()?;
        let context = slots.context.as_ref()?.clone_ref(py);
        Some((callback.bind(py).clone(), args.bind(py).clone(), context))
    });
    let Some((callback, args, context)) = parts else {
        return Ok(());
    };
    match context::run(py, &context, || call(&callback, &args)) {
        Ok(_) => Ok(()),
        Err(error) => report(handle, &callback, &args, error),
    }
}

fn context_of<H: HasCallback>(handle: &Bound<'_, H>) -> Option<Py<PyAny>> {
    let py = handle.py();
    with_slots(handle, |slots| {
        slots.context.as_ref().map(|context| context.clone_ref(py))
    })
}

/// `callback(*args)` without a tuple being built or unpacked.
#[inline]
fn call<'py>(
    callback: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the tuple's items are `len` live references in one array, which the tuple keeps
    // alive and unchanged for the time of the call.
    unsafe {
        let items = (&raw mut (*args.as_ptr().cast::<ffi::PyTupleObject>()).ob_item).cast();
        let result =
            ffi::PyObject_Vectorcall(callback.as_ptr(), items, args.len(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(callback.py(), result)
    }
}

#[cold]
fn report<H: HasCallback>(
    handle: &Bound<'_, H>,
    callback: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    error: PyErr,
) -> PyResult<()> {
    let py = handle.py();
    if crate::errors::ends_the_loop(py, &error) {
        return Err(error);
    }
    let event_loop = handle.get().callback().event_loop.bind(py);
    let source = format_source(event_loop.get(), callback, args)?;
    let context = PyDict::new(py);
    context.set_item("message", format!("Exception in callback {source}"))?;
    context.set_item("exception", error.into_value(py))?;
    context.set_item("handle", handle)?;
    if let Some(stack) = source_traceback(handle) {
        context.set_item("source_traceback", stack)?;
    }
    crate::errors::call_exception_handler(event_loop, &context)
}

/// The callback as asyncio shows it, with its source line; its arguments only in debug mode where
/// the running Python hides them otherwise.
pub(crate) fn format_source<'py>(
    event_loop: &EventLoop,
    callback: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = callback.py();
    let format = names::FORMAT_SOURCE.get(py)?;
    // `debug=` came with CPython 3.12.8 and 3.13.1: https://github.com/python/cpython/issues/126019
    let options = PyDict::new(py);
    options.set_item("debug", event_loop.is_debug())?;
    match format.call((callback, args), Some(&options)) {
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyTypeError>(py) => {
            format.call1((callback, args))
        }
        result => result,
    }
}

fn repr<H: HasCallback>(handle: &Bound<'_, H>) -> PyResult<Py<PyString>> {
    let py = handle.py();
    let kept = with_slots(handle, |slots| {
        slots
            .debug
            .as_ref()?
            .repr
            .as_ref()
            .map(|repr| repr.clone_ref(py))
    });
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let mut text = format!("<{}", <H as PyClass>::NAME);
    if handle.get().callback().cancelled.load(Ordering::Relaxed) {
        text.push_str(" cancelled");
    }
    if let Some(when) = handle.get().when() {
        text.push_str(&format!(
            " when={}",
            pyo3::types::PyFloat::new(py, when).str()?
        ));
    }
    if let Some((callback, args)) = call_of(handle) {
        let source = format_source(handle.get().callback().event_loop.get(), &callback, &args)?;
        text.push_str(&format!(" {source}"));
    }
    if let Some(stack) = source_traceback(handle) {
        let frame = stack.bind(py).get_item(-1)?;
        let (file, line) = (frame.get_item(0)?, frame.get_item(1)?);
        text.push_str(&format!(" created at {file}:{line}"));
    }
    text.push('>');
    Ok(PyString::new(py, &text).unbind())
}

/// Remembers where the program scheduled the handle (debug mode).
fn remember_source<H: HasCallback>(handle: &Bound<'_, H>) -> PyResult<()> {
    let py = handle.py();
    // No Python frame belongs to this extension: the caller's frame is the current one.
    let frame = names::GETFRAME.get(py)?.call1((0,))?;
    let stack = names::EXTRACT_STACK.get(py)?.call1((frame,))?.unbind();
    let before = with_slots(handle, |slots| {
        slots
            .debug
            .get_or_insert_default()
            .source_traceback
            .replace(stack)
    });
    drop(before);
    Ok(())
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

impl TimerHandle {
    pub(crate) fn new<'py>(
        event_loop: &Bound<'py, EventLoop>,
        when: f64,
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
            Kind::TimerHandle,
        );
        let handle = Bound::new(
            py,
            Self {
                callback,
                when,
                timer: UnsafeCell::new(None),
            },
        )?;
        if event_loop.get().is_debug() {
            remember_source(&handle)?;
        }
        Ok(handle)
    }

    /// Runs the callback; see [`run`].
    #[inline]
    pub(crate) fn run(handle: &Bound<'_, Self>) -> PyResult<()> {
        handle.get().swap_timer(handle, None);
        run(handle)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.callback.cancelled.load(Ordering::Relaxed)
    }

    /// When it is due, in seconds on the loop's clock.
    pub(crate) fn when_secs(&self) -> f64 {
        self.when
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

#[pymethods]
impl TimerHandle {
    /// `isinstance(handle, asyncio.TimerHandle)` holds, without the slots of a Python class in every
    /// handle: `isinstance` asks for this where the type itself does not answer.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<&'py Bound<'py, PyAny>> {
        names::TIMER_HANDLE.get(slf.py())
    }

    /// Prevents the callback from being run; harmless if it has run or was cancelled before.
    fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
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
        self.when
    }

    /// The context the callback runs in.
    fn get_context(slf: &Bound<'_, Self>) -> Option<Py<PyAny>> {
        context_of(slf)
    }

    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        run(slf)
    }

    #[getter]
    fn _when(&self) -> f64 {
        self.when
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
    fn _args<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyTuple>> {
        call_of(slf).map(|(_, args)| args)
    }

    #[getter]
    fn _context(slf: &Bound<'_, Self>) -> Option<Py<PyAny>> {
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

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        pyo3::types::PyFloat::new(py, self.when).hash()
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
        let (a, b) = (slf.get().when, other.get().when);
        let same = || -> PyResult<bool> {
            Ok(a == b
                && slf.get().cancelled() == other.get().cancelled()
                && Self::_callback(slf)
                    .into_bound_py_any(py)?
                    .eq(Self::_callback(other))?
                && Self::_args(slf)
                    .into_bound_py_any(py)?
                    .eq(Self::_args(other))?)
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
            (slots.call.take(), slots.debug.take())
        }));
    }
}
