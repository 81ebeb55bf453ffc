//! Native callbacks of futures: `gather()`, `wait()` and `TaskGroup`, which usually only count.
//!
//! What they do is theirs (`primitives/`). This file says how they are called: as asyncio's
//! callbacks are; or from the queue without a handle, when a task of ours has ended in a loop of
//! ours and nothing of the program's will run. On the thread of the future's loop.

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::{ffi, intern};

use super::callbacks::Callback;
use super::core::{Life, Native};
use super::{Any, Task, current};
use crate::context::{self, Chosen};
use crate::errors;
use crate::handle::{Args, Handle};
use crate::loop_::{EventLoop, Runnable};
use crate::primitives::{Gathering, TaskGroup, Waiting};

/// Who is told.
pub(crate) enum Told {
    Gather(Py<Gathering>),
    Wait(Py<Waiting>),
    Group(Py<TaskGroup>),
}

/// How a future has ended.
pub(crate) enum Ended<'py> {
    /// Which is there already if the future is of ours.
    WithResult(Option<Any<'py>>),
    WithException(Any<'py>),
    Cancelled,
}

impl Told {
    /// As it lies in a task that has ended.
    pub(super) fn into_any(self) -> Py<PyAny> {
        match self {
            Self::Gather(gathering) => gathering.into_any(),
            Self::Wait(waiting) => waiting.into_any(),
            Self::Group(group) => group.into_any(),
        }
    }

    #[inline]
    fn of(object: Any<'_>) -> Option<Self> {
        let object = match object.cast_into_exact::<Gathering>() {
            Ok(gathering) => return Some(Self::Gather(gathering.unbind())),
            Err(other) => other.into_inner(),
        };
        let object = match object.cast_into_exact::<Waiting>() {
            Ok(waiting) => return Some(Self::Wait(waiting.unbind())),
            Err(other) => other.into_inner(),
        };
        let group = object.cast_into::<TaskGroup>().ok()?;
        Some(Self::Group(group.unbind()))
    }

    /// Out of a task that has ended.
    #[inline]
    fn taken_from(task: &Bound<'_, Task>) -> Option<Self> {
        let told = Task::with(task, |slots| slots.waits_for.take());
        Self::of(told?.into_bound(task.py()))
    }

    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Gather(gathering) => Self::Gather(gathering.clone_ref(py)),
            Self::Wait(waiting) => Self::Wait(waiting.clone_ref(py)),
            Self::Group(group) => Self::Group(group.clone_ref(py)),
        }
    }

    #[inline]
    fn as_ptr(&self) -> *mut ffi::PyObject {
        match self {
            Self::Gather(gathering) => gathering.as_ptr(),
            Self::Wait(waiting) => waiting.as_ptr(),
            Self::Group(group) => group.as_ptr(),
        }
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.as_ptr() == other.as_ptr()
    }

    /// What is called with the future, in its context.
    ///
    /// # Errors
    /// A group's method was deleted.
    pub(super) fn callable<'py>(&self, py: Python<'py>) -> PyResult<Any<'py>> {
        match self {
            Self::Gather(gathering) => Ok(gathering.bind(py).clone().into_any()),
            Self::Wait(waiting) => Ok(waiting.bind(py).clone().into_any()),
            Self::Group(group) => group.bind(py).getattr(intern!(py, "_on_task_done")),
        }
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Gather(gathering) => visit.call(gathering),
            Self::Wait(waiting) => visit.call(waiting),
            Self::Group(group) => visit.call(group),
        }
    }

    /// Whether who ends so is only counted.
    fn counts(&self, life: Life, failed: bool) -> bool {
        match self {
            Self::Gather(_) => life == Life::Finished && !failed,
            Self::Wait(_) => true,
            Self::Group(_) => !failed,
        }
    }

    /// Counts a task; false: there is more to do, and nothing is done yet. No code of the program runs.
    #[inline]
    fn count(&self, task: &Bound<'_, Task>) -> PyResult<bool> {
        let py = task.py();
        match self {
            Self::Gather(gathering) => Gathering::count(gathering.bind(py), task),
            Self::Wait(waiting) => Waiting::count(waiting.bind(py), task, has_failed(task)),
            Self::Group(group) => TaskGroup::count(group.bind(py), task.as_any()),
        }
    }

    /// Where it is called.
    fn context<'py>(&self, task: &Bound<'py, Task>) -> Any<'py> {
        let py = task.py();
        match self {
            Self::Gather(gathering) => Gathering::context(gathering.bind(py)),
            Self::Wait(waiting) => Waiting::context(waiting.bind(py)),
            // Made where the task's was.
            Self::Group(_) => task.get().context(task),
        }
    }

    fn tell(&self, task: &Any<'_>) -> PyResult<()> {
        let py = task.py();
        match self {
            Self::Gather(gathering) => Gathering::is_done(gathering.bind(py), task),
            Self::Wait(waiting) => Waiting::is_done(waiting.bind(py), task),
            Self::Group(_) => crate::ffi::vectorcall(&self.callable(py)?, [task], None).map(drop),
        }
    }
}

fn has_failed(task: &Bound<'_, Task>) -> bool {
    Native::of(task).with(|slots| slots.life == Life::Finished && slots.result.is_none())
}

/// Whether this is a future of exactly our classes, initialised.
pub(crate) fn is_known(future: &Any<'_>) -> bool {
    Native::exact(future).is_some_and(|native| native.alive().is_ok())
}

/// Whether `future` is done, as asyncio asks it.
///
/// # Errors
/// What `done()` raises.
#[inline]
pub(crate) fn is_done(future: &Any<'_>) -> PyResult<bool> {
    match Native::exact(future) {
        Some(native) => Ok(native.with(|slots| slots.life != Life::Pending)),
        None => crate::ffi::call_method(intern!(future.py(), "done"), [future])?.is_truthy(),
    }
}

/// How a future has ended that is done, whose exception nobody needs to hear of any more.
///
/// # Errors
/// What `cancelled()` and `exception()` raise.
#[inline]
pub(crate) fn how_ended<'py>(future: &Any<'py>) -> PyResult<Ended<'py>> {
    let py = future.py();
    let exception = match Native::exact(future) {
        Some(native) => {
            let (life, result) = native.with(|slots| {
                let result = slots.result.as_ref();
                (slots.life, result.map(|it| it.bind(py).clone()))
            });
            if life == Life::Cancelled {
                return Ok(Ended::Cancelled);
            }
            if life == Life::Finished && result.is_some() {
                return Ok(Ended::WithResult(result));
            }
            native.exception()?
        }
        None => {
            let cancelled = crate::ffi::call_method(intern!(py, "cancelled"), [future])?;
            if cancelled.is_truthy()? {
                return Ok(Ended::Cancelled);
            }
            let exception = crate::ffi::call_method(intern!(py, "exception"), [future])?;
            Some(exception).filter(|exception| !exception.is_none())
        }
    };
    Ok(exception.map_or(Ended::WithResult(None), Ended::WithException))
}

/// The loop of a future of exactly our classes. None: it is another.
///
/// # Errors
/// `RuntimeError` before it was initialised.
#[inline]
pub(crate) fn loop_of<'py>(future: &Any<'py>) -> Option<PyResult<Any<'py>>> {
    Native::exact(future).map(Native::event_loop)
}

/// Has a future of exactly our classes tell when it is done.
///
/// # Errors
/// What `call_soon()` raises.
#[inline]
pub(crate) fn tell(future: &Any<'_>, told: Told, context: Py<PyAny>) -> PyResult<()> {
    match Native::exact(future) {
        Some(native) => native.add(Callback::Tell(told, context)),
        None => Err(PyRuntimeError::new_err("a future of oxlip was expected")),
    }
}

/// The same of a task.
///
/// # Errors
/// As [`tell`].
#[inline]
pub(crate) fn tell_of(task: &Bound<'_, Task>, told: Told, context: Py<PyAny>) -> PyResult<()> {
    Native::of(task).add(Callback::Tell(told, context))
}

/// It tells no more.
pub(crate) fn tell_no_more(future: &Any<'_>, told: &Told) {
    let Some(native) = Native::exact(future) else {
        return;
    };
    let is_it = |callback: &mut Callback| matches!(callback, Callback::Tell(it, _) if it.is(told));
    let removed = native.with(|slots| {
        let first = slots.first.take_if(is_it);
        let rest: Vec<_> = slots.rest.extract_if(.., is_it).collect();
        (first, rest)
    });
    drop(removed);
}

/// Queues it without a handle, if who is told only counts; else it is given back.
#[inline]
pub(super) fn queue<'py>(
    event_loop: &Bound<'py, EventLoop>,
    future: &Any<'py>,
    told: Told,
) -> PyResult<Option<Told>> {
    let Ok(task) = future.cast_exact::<Task>() else {
        return Ok(Some(told));
    };
    let life = Native::of(task).with(|slots| slots.life);
    if !told.counts(life, has_failed(task)) {
        return Ok(Some(told));
    }
    if let Told::Group(group) = &told
        && !TaskGroup::only_counts(group.bind(task.py()))
    {
        return Ok(Some(told));
    }
    if Task::with(task, |slots| slots.waits_for.is_some()) {
        // Another one is told before.
        return Ok(Some(told));
    }
    let told = told.into_any();
    // Nothing was there.
    let _before = Task::with(task, |slots| slots.waits_for.replace(told));
    let runnable = Runnable::Tell(task.clone().unbind());
    event_loop.get().queue(runnable).map(|()| None)
}

/// What the loop runs for a [`Runnable::Tell`].
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt`, which end the loop.
#[inline]
pub(crate) fn run(event_loop: &Bound<'_, EventLoop>, task: &Bound<'_, Task>) -> PyResult<()> {
    let py = task.py();
    let Some(told) = Told::taken_from(task) else {
        return Ok(());
    };
    let counted = match told.count(task) {
        Ok(true) => Ok(()),
        Ok(false) => {
            current::settle(event_loop)?;
            let context = told.context(task);
            context::run(py, context.as_unbound(), || told.tell(task.as_any()))
        }
        Err(error) => Err(error),
    };
    if let Err(error) = counted {
        current::settle(event_loop)?;
        if errors::ends_the_loop(py, &error) {
            return Err(error);
        }
        Handle::report_for(&handle_of(event_loop, task, &told)?, error)?;
    }
    // Freeing one of the two may run the program's code.
    // SAFETY: live objects.
    let last = unsafe { ffi::Py_REFCNT(told.as_ptr()) == 1 || ffi::Py_REFCNT(task.as_ptr()) == 1 };
    if last {
        current::settle(event_loop)?;
    }
    drop(told.into_any().into_bound(py));
    Ok(())
}

/// Whether there is somebody to be told of a [`Runnable::Tell`]: not if the task was initialised again.
#[cold]
pub(crate) fn is_waited_for(task: &Bound<'_, Task>) -> bool {
    Task::with(task, |slots| slots.waits_for.is_some())
}

/// The handle that asyncio's loop would have for a [`Runnable::Tell`].
///
/// # Errors
/// Out of memory.
#[cold]
pub(crate) fn as_handle<'py>(
    event_loop: &Bound<'py, EventLoop>,
    task: &Bound<'py, Task>,
) -> PyResult<Bound<'py, Handle>> {
    let py = task.py();
    let told = Task::with(task, |slots| {
        let told = slots.waits_for.as_ref();
        told.map(|told| told.bind(py).clone())
    });
    // Only the collector takes it away.
    let told = told
        .and_then(Told::of)
        .ok_or_else(|| PyRuntimeError::new_err("nobody waits for this task"))?;
    handle_of(event_loop, task, &told)
}

/// The same, to lie in the queue in its place.
///
/// # Errors
/// As [`as_handle`].
#[cold]
pub(crate) fn into_handle<'py>(
    event_loop: &Bound<'py, EventLoop>,
    task: &Bound<'py, Task>,
) -> PyResult<Bound<'py, Handle>> {
    let handle = as_handle(event_loop, task)?;
    drop(Told::taken_from(task));
    Ok(handle)
}

fn handle_of<'py>(
    event_loop: &Bound<'py, EventLoop>,
    task: &Bound<'py, Task>,
    told: &Told,
) -> PyResult<Bound<'py, Handle>> {
    let py = task.py();
    let args = Args::One(task.clone().into_any().unbind());
    let context = Chosen::Own(told.context(task).unbind());
    Handle::new(event_loop, told.callable(py)?, args, context)
}
