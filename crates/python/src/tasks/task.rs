//! `Task`: its coroutine, its name and context, and how it is cancelled. How it goes on is in
//! `step.rs`.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::{PyRecursionError, PyRuntimeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{IntoPyObjectExt as _, ffi, intern};

use super::base::TaskBase;
use super::core::{Core, Life, Native, Ours};
use super::future::methods;
use super::{Any, part, registered, step, unlisted};
use crate::chains::End;
use crate::counts::Kind;
use crate::loop_::EventLoop;
use crate::{context, errors, names};

/// As `asyncio.Task`.
#[pyclass(extends = TaskBase, subclass, frozen, module = "oxlip")]
pub(crate) struct Task {
    pub(super) core: Core,
    slots: UnsafeCell<Slots>,
    pub(super) place: unlisted::Place,
}

/// What a task has that a future has not.
#[derive(Default)]
pub(super) struct Slots {
    /// None before it is known to be one, and after an eager start that went through.
    pub(super) coro: Option<Py<PyAny>>,
    pub(super) context: Option<Py<PyAny>>,
    name: Name,
    /// What it waits for, until it goes on. Of one that has ended: who is told so by the queue (`told.rs`).
    pub(super) waits_for: Option<Py<PyAny>>,
    pub(super) must_cancel: bool,
    log_destroy_pending: bool,
    cancels_requested: u32,
}

/// A task's name.
#[derive(Default)]
enum Name {
    #[default]
    None,
    /// It gets its text when somebody asks.
    Number(u64),
    Text(Py<PyString>),
}

// SAFETY: `slots` is reached only through `with`, inside the object's critical section, and from `traverse`,
// which the collector calls with the GIL held or every other thread stopped.
unsafe impl Sync for Task {}

impl Task {
    fn empty(core: Core) -> Self {
        Self {
            core,
            slots: UnsafeCell::default(),
            place: unlisted::Place::default(),
        }
    }

    /// For a loop that is not in debug mode; scheduled.
    ///
    /// # Errors
    /// `TypeError` if it is no coroutine; what `call_soon()` raises.
    #[inline]
    pub(crate) fn make<'py>(
        event_loop: &Bound<'py, EventLoop>,
        coro: Any<'py>,
        name: Option<&Any<'py>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let owner = event_loop.clone().into_any().unbind();
        let task = Self::empty(Core::new(Some(owner), Kind::Task));
        let task = Bound::new(py, task)?;
        Self::begin(&task, coro, name, None)?;
        step::queue_first(event_loop.as_any(), &task)?;
        registered::add(&task)?;
        Ok(task)
    }

    /// Sets what a task is made from.
    #[inline]
    fn begin<'py>(
        slf: &Bound<'py, Self>,
        coro: Any<'py>,
        name: Option<&Any<'py>>,
        context: Option<Any<'py>>,
    ) -> PyResult<()> {
        let py = slf.py();
        // SAFETY: a live object; the macro only compares its type.
        let native = unsafe { ffi::PyCoro_CheckExact(coro.as_ptr()) } != 0;
        if !native && !names::IS_COROUTINE.get(py)?.call1((&coro,))?.is_truthy()? {
            return Err(PyTypeError::new_err(format!(
                "a coroutine was expected, got {}",
                errors::shown(&coro)?
            )));
        }
        let context = match context {
            Some(context) => checked(context)?.unbind(),
            None => context::copy_current(py)?,
        };
        let name = match name {
            Some(name) if !name.is_none() => Name::Text(as_text(name)?),
            _ => Name::Number(next_number(py)),
        };
        Self::show(slf, &coro, &name)?;
        let fresh = Slots {
            coro: Some(coro.unbind()),
            context: Some(context),
            name,
            log_destroy_pending: true,
            ..Slots::default()
        };
        let before = Self::with(slf, |slots| std::mem::replace(slots, fresh));
        drop(before);
        Ok(())
    }

    /// What another process may read of it.
    #[inline]
    fn show(slf: &Bound<'_, Self>, coro: &Any<'_>, name: &Name) -> PyResult<()> {
        if part::IS_KEPT {
            let py = slf.py();
            part::show_coro(slf, Some(coro));
            match name {
                Name::None => {}
                Name::Number(number) => part::show_name(slf, (*number).into_bound_py_any(py)?),
                Name::Text(text) => part::show_name(slf, text.bind(py).clone().into_any()),
            }
        }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn with<R>(slf: &Bound<'_, Self>, access: impl FnOnce(&mut Slots) -> R) -> R {
        with_critical_section(slf.as_any(), || {
            // SAFETY: inside the object's critical section, and `access` runs no Python code (every
            // caller in this folder only moves, counts or clones references).
            access(unsafe { &mut *slf.get().slots.get() })
        })
    }

    /// Its context, or None.
    pub(super) fn context<'py>(&self, slf: &Bound<'py, Self>) -> Any<'py> {
        let py = slf.py();
        let context = Self::with(slf, |slots| {
            slots.context.as_ref().map(|it| it.bind(py).clone())
        });
        context.unwrap_or_else(|| py.None().into_bound(py))
    }

    /// Nobody outside knows it: its end is not worth a word, if it comes early.
    #[inline]
    pub(crate) fn is_inner(slf: &Bound<'_, Self>) {
        Self::with(slf, |slots| slots.log_destroy_pending = false);
    }

    /// Whether its end is worth a word.
    pub(super) fn was_destroyed_pending(&self, slf: &Bound<'_, Self>) -> bool {
        Native::of(slf).with(|slots| slots.life == Life::Pending)
            && Self::with(slf, |slots| slots.log_destroy_pending)
    }

    /// `cancel()`: what the task waits for is cancelled, down a chain of tasks to its end.
    ///
    /// # Errors
    /// What cancelling raises that which it waits for; `RecursionError` of tasks that wait for each other.
    pub(super) fn request_cancel<'py>(
        slf: &Bound<'py, Self>,
        message: Option<Any<'py>>,
    ) -> PyResult<bool> {
        let py = slf.py();
        let mut task = slf.clone();
        let mut above: Option<Bound<'py, Self>> = None;
        // A task that comes again after twice as many steps as last time shows a circle.
        let (mut mark, mut steps, mut limit) = (slf.clone(), 0, 1);
        loop {
            let done = Native::of(&task).with(|slots| {
                slots.logs = false;
                slots.life != Life::Pending
            });
            if done {
                let Some(above) = above else {
                    return Ok(false);
                };
                return Ok(above.get().will_cancel(&above, message));
            }
            let waits_for = Self::with(&task, |slots| {
                slots.cancels_requested += 1;
                slots.waits_for.as_ref().map(|it| it.bind(py).clone())
            });
            let Some(waits_for) = waits_for else {
                return Ok(task.get().will_cancel(&task, message));
            };
            let next = match waits_for.cast_into::<Self>() {
                Ok(next) if Self::cancels_natively(&next)? => next,
                Ok(other) => return Self::cancel_or_will(&task, other.as_any(), message),
                Err(other) => return Self::cancel_or_will(&task, &other.into_inner(), message),
            };
            if next.is(&mark) {
                return Err(PyRecursionError::new_err(
                    "maximum recursion depth exceeded",
                ));
            }
            steps += 1;
            if steps == limit {
                (mark, steps, limit) = (next.clone(), 0, limit * 2);
            }
            above = Some(std::mem::replace(&mut task, next));
        }
    }

    /// Cancels what the task waits for; if that is done already, the task is thrown an error when it goes on.
    fn cancel_or_will<'py>(
        task: &Bound<'py, Self>,
        waits_for: &Any<'py>,
        message: Option<Any<'py>>,
    ) -> PyResult<bool> {
        Ok(step::cancel_future(waits_for, message.as_ref())?
            || task.get().will_cancel(task, message))
    }

    fn will_cancel<'py>(&self, slf: &Bound<'py, Self>, message: Option<Any<'py>>) -> bool {
        Self::with(slf, |slots| slots.must_cancel = true);
        Native::of(slf).set_cancel_message(message);
        true
    }

    /// Whether it has this `cancel()`, neither its class's nor its own.
    fn cancels_natively(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let name = intern!(slf.py(), "cancel");
        if crate::ffi::has_own(slf.as_any(), name)? {
            return Ok(false);
        }
        if slf.is_exact_instance_of::<Self>() {
            return Ok(true);
        }
        let ours = slf.py().get_type::<Self>().getattr(name)?;
        Ok(slf.get_type().getattr(name)?.is(&ours))
    }

    /// Runs the first step at once.
    fn start_eagerly(slf: &Bound<'_, Self>, event_loop: &Any<'_>) -> PyResult<()> {
        let py = slf.py();
        let swap = names::SWAP_CURRENT_TASK.get(py)?;
        let before = swap.call1((event_loop, slf))?;
        let unregister = names::UNREGISTER_EAGER_TASK.get(py)?;
        let registered = names::REGISTER_EAGER_TASK
            .get(py)
            .and_then(|register| register.call1((slf,)));
        let context = slf.get().context(slf).unbind();
        let ran = registered
            .and_then(|_| context::run(py, &context, || step::go_on(slf, event_loop, None)));
        let unregistered = unregister.call1((slf,));
        let swapped = swap.call1((event_loop, before));
        if Native::of(slf).with(|slots| slots.life != Life::Pending) {
            let coro = Self::with(slf, |slots| slots.coro.take());
            drop(coro);
            part::show_coro(slf, None);
        } else {
            registered::add(slf)?;
        }
        ran?;
        unregistered?;
        swapped.map(drop)
    }
}

impl Ours for Task {
    fn release(&mut self, end: &End<'_>) {
        self.core.release(end);
        let slots = self.slots.get_mut();
        for held in [&mut slots.coro, &mut slots.context, &mut slots.waits_for] {
            if let Some(held) = held.take() {
                end.release(held);
            }
        }
        if let Name::Text(text) = std::mem::take(&mut slots.name) {
            end.release(text);
        }
    }

    fn core(&self) -> &Core {
        &self.core
    }

    #[inline]
    fn is_gone(&self, py: Python<'_>) {
        unlisted::remove(py, &self.place);
    }

    #[inline]
    unsafe fn is_no_more(object: *mut ffi::PyObject) {
        // SAFETY: a task, as the caller says.
        unsafe { part::delist(object) }
    }

    fn speaks(object: &Bound<'_, Self>) -> bool {
        Native::of(object).with(|slots| slots.logs || slots.life == Life::Pending)
    }
}

static NUMBER: AtomicU64 = AtomicU64::new(1);

/// The number of a task without a name of its own.
#[inline]
fn next_number(_attached: Python<'_>) -> u64 {
    if cfg!(Py_GIL_DISABLED) {
        return NUMBER.fetch_add(1, Ordering::Relaxed);
    }
    // The GIL keeps others out, without an atomic instruction.
    let number = NUMBER.load(Ordering::Relaxed);
    NUMBER.store(number + 1, Ordering::Relaxed);
    number
}

/// What is given as a context: from Python 3.15 on it must be one.
fn checked(context: Any<'_>) -> PyResult<Any<'_>> {
    // SAFETY: a live object; the macro only compares its type.
    if cfg!(Py_3_15) && unsafe { ffi::PyContext_CheckExact(context.as_ptr()) } == 0 {
        return Err(PyTypeError::new_err(format!(
            "a contextvars.Context was expected, got {}",
            context.get_type().name()?
        )));
    }
    Ok(context)
}

fn as_text(name: &Any<'_>) -> PyResult<Py<PyString>> {
    match name.cast_exact::<PyString>() {
        Ok(text) => Ok(text.clone().unbind()),
        Err(_) => name.str().map(Bound::unbind),
    }
}

methods!(#[pymethods] Task {
    #[new]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(coro, *, loop=None, name=None, context=None, eager_start=False)"
    )]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::empty(Core::new(None, Kind::Task))
    }

    #[pyo3(signature = (coro, *, r#loop=None, name=None, context=None, eager_start=None))]
    fn __init__<'py>(
        slf: &Bound<'py, Self>,
        coro: Any<'py>,
        r#loop: Option<Any<'py>>,
        name: Option<&Any<'py>>,
        context: Option<Any<'py>>,
        eager_start: Option<Any<'py>>,
    ) -> PyResult<()> {
        let eager_start = eager_start.map_or(Ok(false), |it| it.is_truthy())?;
        let native = Native::of(slf);
        native.init(r#loop)?;
        let before = Self::with(slf, std::mem::take);
        drop(before);
        let event_loop = native.event_loop()?;
        Self::begin(slf, coro, name, context)?;
        if eager_start
            && event_loop
                .call_method0(intern!(slf.py(), "is_running"))?
                .is_truthy()?
        {
            let started = Self::start_eagerly(slf, &event_loop);
            if cfg!(Py_3_15) && started.is_err() {
                // Who wanted it knows.
                Self::is_inner(slf);
            }
            return started;
        }
        step::queue_first(&event_loop, slf)?;
        registered::add(slf)
    }

    #[pyo3(signature = (result, /))]
    fn set_result(&self, result: &Any<'_>) -> PyResult<()> {
        let _ = result;
        Err(PyRuntimeError::new_err("Task does not support set_result operation"))
    }

    #[pyo3(signature = (exception, /))]
    fn set_exception(&self, exception: &Any<'_>) -> PyResult<()> {
        let _ = exception;
        Err(PyRuntimeError::new_err("Task does not support set_exception operation"))
    }

    /// Has the coroutine be thrown a `CancelledError`; false if the task is done.
    #[pyo3(signature = (msg=None))]
    fn cancel<'py>(slf: &Bound<'py, Self>, msg: Option<Any<'py>>) -> PyResult<bool> {
        Self::request_cancel(slf, msg)
    }

    /// How often `cancel()` was called and not taken back.
    pub(crate) fn cancelling(slf: &Bound<'_, Self>) -> u32 {
        Self::with(slf, |slots| slots.cancels_requested)
    }

    /// Takes one back; returns how many are left.
    fn uncancel(slf: &Bound<'_, Self>) -> u32 {
        Self::with(slf, |slots| {
            if slots.cancels_requested > 0 {
                slots.cancels_requested -= 1;
                // https://github.com/python/cpython/issues/117407
                if slots.cancels_requested == 0 && cfg!(Py_3_13) {
                    slots.must_cancel = false;
                }
            }
            slots.cancels_requested
        })
    }

    fn get_coro<'py>(slf: &Bound<'py, Self>) -> Option<Any<'py>> {
        let py = slf.py();
        Self::with(slf, |slots| slots.coro.as_ref().map(|it| it.bind(py).clone()))
    }

    fn get_context<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        slf.get().context(slf)
    }

    fn get_name(slf: &Bound<'_, Self>) -> Option<Py<PyString>> {
        let py = slf.py();
        let number = Self::with(slf, |slots| match &slots.name {
            Name::None => Err(None),
            Name::Text(text) => Err(Some(text.clone_ref(py))),
            Name::Number(number) => Ok(*number),
        });
        match number {
            Err(text) => text,
            Ok(number) => {
                let text = PyString::new(py, &format!("Task-{number}")).unbind();
                let kept = Name::Text(text.clone_ref(py));
                let before = Self::with(slf, |slots| std::mem::replace(&mut slots.name, kept));
                drop(before);
                Some(text)
            }
        }
    }

    #[pyo3(signature = (value, /))]
    fn set_name(slf: &Bound<'_, Self>, value: &Any<'_>) -> PyResult<()> {
        let text = as_text(value)?;
        if part::IS_KEPT {
            part::show_name(slf, text.bind(slf.py()).clone().into_any());
        }
        let name = Name::Text(text);
        let before = Self::with(slf, |slots| std::mem::replace(&mut slots.name, name));
        drop(before);
        Ok(())
    }

    /// The frames of the coroutine, as asyncio finds them.
    #[pyo3(signature = (*, limit=None))]
    fn get_stack<'py>(slf: &Bound<'py, Self>, limit: Option<Any<'py>>) -> PyResult<Any<'py>> {
        names::TASK_GET_STACK.get(slf.py())?.call1((slf, limit))
    }

    /// Prints them.
    #[pyo3(signature = (*, limit=None, file=None))]
    fn print_stack<'py>(
        slf: &Bound<'py, Self>,
        limit: Option<Any<'py>>,
        file: Option<Any<'py>>,
    ) -> PyResult<Any<'py>> {
        names::TASK_PRINT_STACK.get(slf.py())?.call1((slf, limit, file))
    }

    #[getter]
    fn _coro<'py>(slf: &Bound<'py, Self>) -> Option<Any<'py>> {
        Self::get_coro(slf)
    }

    #[getter]
    fn _fut_waiter<'py>(slf: &Bound<'py, Self>) -> Option<Any<'py>> {
        let py = slf.py();
        if Native::of(slf).with(|slots| slots.life != Life::Pending) {
            return None;
        }
        Self::with(slf, |slots| slots.waits_for.as_ref().map(|it| it.bind(py).clone()))
    }

    #[getter]
    fn _must_cancel(slf: &Bound<'_, Self>) -> bool {
        Self::with(slf, |slots| slots.must_cancel)
    }

    #[getter]
    fn _log_destroy_pending(slf: &Bound<'_, Self>) -> bool {
        Self::with(slf, |slots| slots.log_destroy_pending)
    }

    #[setter(_log_destroy_pending)]
    fn set_log_destroy_pending(slf: &Bound<'_, Self>, logs: &Any<'_>) -> PyResult<()> {
        let logs = logs.is_truthy()?;
        Self::with(slf, |slots| slots.log_destroy_pending = logs);
        Ok(())
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        Native::of(slf).alive()?;
        names::TASK_REPR.get(slf.py())?.call1((slf,))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.core.traverse(&visit)?;
        // SAFETY: the collector runs while no other thread is inside a critical section.
        let slots = unsafe { &*self.slots.get() };
        visit.call(&slots.coro)?;
        visit.call(&slots.context)?;
        if let Name::Text(text) = &slots.name {
            visit.call(text)?;
        }
        visit.call(&slots.waits_for)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        slf.get().is_gone(slf.py());
        // SAFETY: a live task.
        unsafe { Self::is_no_more(slf.as_ptr()) };
        Native::of(slf).clear();
        let before = Self::with(slf, std::mem::take);
        drop(before);
    }
});
