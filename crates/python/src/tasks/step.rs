//! How a task goes on: it runs its coroutine up to the next future, and waits for that.
//!
//! In a loop of ours a step is queued as itself, without a handle or a callable. In debug mode, and
//! where the program may have put something in between, it goes through `call_soon()`, as asyncio's
//! does.

use std::cell::Cell;
use std::ffi::CStr;

use pyo3::exceptions::{PyRecursionError, PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::impl_::trampoline::get_trampoline_function;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{ffi, intern, prelude::*};

use super::callbacks::Callback;
use super::core::{Life, Native, Outcome, invalid_state};
use super::{Any, Task, current, part};
use crate::awaited::Next;
use crate::context::{self, Chosen};
use crate::errors::{self, shown};
use crate::handle::{Args, Handle};
use crate::loop_::{EventLoop, Runnable, fastcall};
use crate::names;

/// Schedules the first step of a task, or the one after a bare `yield`.
///
/// # Errors
/// What `call_soon()` raises.
#[inline]
pub(super) fn queue_first(event_loop: &Any<'_>, task: &Bound<'_, Task>) -> PyResult<()> {
    if let Some(direct) = fastcall::direct(event_loop) {
        return direct.get().queue(Runnable::Step(task.clone().unbind()));
    }
    let step = step_of(task)?;
    fastcall::soon(event_loop, step, None, task.get().context(task))
}

/// Schedules the step of a task after what it waits for is done.
///
/// # Errors
/// What `call_soon()` raises.
#[inline]
pub(super) fn queue_wake(
    event_loop: &Any<'_>,
    task: Bound<'_, Task>,
    future: &Any<'_>,
) -> PyResult<()> {
    if let Some(direct) = fastcall::direct(event_loop) {
        return direct.get().queue(Runnable::Wake(task.unbind()));
    }
    let context = task.get().context(&task);
    fastcall::soon(event_loop, wakeup_of(&task)?, Some(future), context)
}

/// Schedules a step that throws an exception into the coroutine.
#[cold]
fn queue_error(event_loop: &Any<'_>, task: &Bound<'_, Task>, message: String) -> PyResult<()> {
    let py = task.py();
    let error = PyRuntimeError::new_err(message).into_value(py);
    let step = step_of(task)?;
    let context = task.get().context(task);
    fastcall::soon(event_loop, step, Some(error.bind(py)), context)
}

/// The callback that a future has for a task which waits for it.
///
/// # Errors
/// Out of memory.
pub(super) fn wakeup_of<'py>(task: &Bound<'py, Task>) -> PyResult<Any<'py>> {
    of_task(task, &WAKEUP)
}

/// The callable that is scheduled where a step cannot be queued as itself.
fn step_of<'py>(task: &Bound<'py, Task>) -> PyResult<Any<'py>> {
    of_task(task, &STEP)
}

/// Two C functions, as asyncio has them: those bound to the same task are equal, and their `repr` shows the task.
struct Function(ffi::PyMethodDef);

// SAFETY: never written to; the pointers in it are to static data.
unsafe impl Sync for Function {}

static WAKEUP: Function = function(
    c"task_wakeup",
    get_trampoline_function!(fastcall_cfunction_with_keywords, task_wakeup),
);
static STEP: Function = function(
    c"task_step",
    get_trampoline_function!(fastcall_cfunction_with_keywords, task_step),
);

const fn function(name: &'static CStr, function: ffi::PyCFunctionFastWithKeywords) -> Function {
    Function(ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: function,
        },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: std::ptr::null(),
    })
}

fn of_task<'py>(task: &Bound<'py, Task>, function: &'static Function) -> PyResult<Any<'py>> {
    // SAFETY: the definition is complete and static; the function refers to the task from then on.
    unsafe {
        let definition = (&raw const function.0).cast_mut();
        let made = ffi::PyCFunction_NewEx(definition, task.as_ptr(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(task.py(), made)
    }
}

/// Defines one of them, given what it does with the task and the argument.
macro_rules! entry {
    ($name:ident, $body:expr) => {
        unsafe fn $name(
            py: Python<'_>,
            task: *mut ffi::PyObject,
            arguments: *const *mut ffi::PyObject,
            count: ffi::Py_ssize_t,
            names: *mut ffi::PyObject,
        ) -> PyResult<*mut ffi::PyObject> {
            // SAFETY: called by what `of_task` has made, which lays the rest out as its flags say.
            unsafe { called(py, task, arguments, count, names, $body) }
        }
    };
}

entry!(task_wakeup, |task, future| {
    let missing = || PyTypeError::new_err("task_wakeup() takes exactly one argument (0 given)");
    wakeup(task, future.ok_or_else(missing)?, None)
});

entry!(task_step, |task, error| step(task, error, None));

/// Runs a body with the task and the argument.
///
/// # Errors
/// `TypeError` for more than one; those of the body.
///
/// # Safety
/// `task` is what [`of_task`] got; the rest is what `METH_FASTCALL | METH_KEYWORDS` gets.
unsafe fn called<'py>(
    py: Python<'py>,
    task: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    body: impl FnOnce(&Bound<'py, Task>, Option<Any<'py>>) -> PyResult<()>,
) -> PyResult<*mut ffi::PyObject> {
    // SAFETY: see above; the names are a tuple or NULL.
    let (task, argument) = unsafe {
        if count > 1 || (!names.is_null() && ffi::PyTuple_Size(names) > 0) {
            let message = "at most one argument was expected, without a name";
            return Err(PyTypeError::new_err(message));
        }
        let argument = (count > 0).then(|| Bound::from_borrowed_ptr(py, *arguments));
        let task = Bound::from_borrowed_ptr(py, task).cast_into_unchecked::<Task>();
        (task, argument)
    };
    body(&task, argument)?;
    Ok(py.None().into_ptr())
}

/// What the loop runs for a [`Runnable::Step`] or a [`Runnable::Wake`] (`wakes`).
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt`, which end the loop.
#[inline]
pub(crate) fn run(
    event_loop: &Bound<'_, EventLoop>,
    task: &Bound<'_, Task>,
    wakes: bool,
) -> PyResult<()> {
    let py = task.py();
    let wakes = wakes && Native::of(task).with(|slots| slots.life == Life::Pending);
    let (context, waits_for) = Task::with(task, |slots| {
        let context = slots.context.as_ref().map(|it| it.bind(py).clone());
        let waits_for = slots.waits_for.as_ref().filter(|_| wakes);
        (context, waits_for.map(|it| it.bind(py).clone()))
    });
    // It is `None` only after the collector has cleared it.
    let Some(context) = context else {
        return Ok(());
    };
    let result = context::run(py, context.as_unbound(), || match waits_for {
        Some(future) => wakeup(task, future, Some(event_loop)),
        None => step(task, None, Some(event_loop)),
    });
    match result {
        // Freeing the task runs the program's code.
        // SAFETY: a live object.
        Ok(()) if unsafe { ffi::Py_REFCNT(task.as_ptr()) } == 1 => current::settle(event_loop),
        Ok(()) => Ok(()),
        Err(error) => report(event_loop, task, wakes, error),
    }
}

/// Reports an error as a handle does whose callback has raised.
#[cold]
fn report(
    event_loop: &Bound<'_, EventLoop>,
    task: &Bound<'_, Task>,
    wakes: bool,
    error: PyErr,
) -> PyResult<()> {
    current::settle(event_loop)?;
    if errors::ends_the_loop(task.py(), &error) {
        return Err(error);
    }
    Handle::report_for(&as_handle(event_loop, task, wakes)?, error)
}

/// The handle that asyncio's loop would have for a step.
///
/// # Errors
/// Out of memory.
#[cold]
pub(crate) fn as_handle<'py>(
    event_loop: &Bound<'py, EventLoop>,
    task: &Bound<'py, Task>,
    wakes: bool,
) -> PyResult<Bound<'py, Handle>> {
    let py = task.py();
    let wakes = wakes && Native::of(task).with(|slots| slots.life == Life::Pending);
    let future = wakes.then(|| {
        Task::with(task, |slots| {
            slots.waits_for.as_ref().map(|it| it.clone_ref(py))
        })
    });
    let (callable, args) = match future.flatten() {
        Some(future) => (wakeup_of(task)?, Args::One(future)),
        None => (step_of(task)?, Args::None),
    };
    let context = Chosen::Own(task.get().context(task).unbind());
    Handle::new(event_loop, callable, args, context)
}

/// Goes on after a future that is done: with its exception, if it has one.
///
/// # Errors
/// Those of [`step`].
#[inline]
fn wakeup<'py>(
    task: &Bound<'py, Task>,
    future: Any<'py>,
    queue: Option<&Bound<'py, EventLoop>>,
) -> PyResult<()> {
    part::is_awaited_no_more(&future, task.as_any())?;
    let outcome = match Native::exact(&future) {
        Some(native) => native.outcome(),
        None => {
            let result = future.call_method0(intern!(future.py(), "result"));
            result.map(Outcome::Result)
        }
    };
    let error = match outcome {
        Ok(Outcome::Result(result)) => {
            drop(result);
            None
        }
        Ok(Outcome::Exception(exception)) => Some(exception.into_any()),
        Err(error) => Some(error.into_value(task.py()).into_bound(task.py()).into_any()),
    };
    // The result and the future are dropped before the step: freeing them may run code of the program, which must
    // not happen after it and before `current::settle`.
    drop(future);
    step(task, error, queue)
}

/// As asyncio calls it.
const STEP_NAME: &str = if cfg!(Py_3_14) { "__step" } else { "_step" };

/// Runs the coroutine up to its next future, or its end. `queue` is the task's loop, if the step was queued there
/// as itself.
///
/// # Errors
/// `InvalidStateError` if the task is done, `RuntimeError` if another one runs; `SystemExit` and
/// `KeyboardInterrupt` of the coroutine; what `call_soon()` raises.
#[inline]
pub(super) fn step<'py>(
    task: &Bound<'py, Task>,
    error: Option<Any<'py>>,
    queue: Option<&Bound<'py, EventLoop>>,
) -> PyResult<()> {
    let py = task.py();
    let native = Native::of(task);
    if native.with(|slots| slots.life != Life::Pending) {
        let error = error.unwrap_or_else(|| py.None().into_bound(py));
        let message = format!(
            "{STEP_NAME}(): already done: {} {}",
            shown(task)?,
            shown(&error)?
        );
        return Err(invalid_state(py, &message));
    }
    if let Some(queue) = queue {
        current::enter_next(queue, task.as_any())?;
        let result = go_on(task, queue.as_any(), error);
        let left = current::leave_for_next(queue, task.as_any());
        return result.and(left);
    }
    let event_loop = native.event_loop()?;
    current::enter(&event_loop, task.as_any())?;
    let result = go_on(task, &event_loop, error);
    let left = current::leave(&event_loop, task.as_any());
    result.and(left)
}

/// The step itself, once the task is the current one.
///
/// # Errors
/// As [`step`].
#[inline]
pub(super) fn go_on<'py>(
    task: &Bound<'py, Task>,
    event_loop: &Any<'py>,
    error: Option<Any<'py>>,
) -> PyResult<()> {
    let py = task.py();
    let (coro, waited_for, must_cancel) = Task::with(task, |slots| {
        let coro = slots.coro.as_ref().map(|it| it.bind(py).clone());
        let must_cancel = std::mem::take(&mut slots.must_cancel);
        (coro, slots.waits_for.take(), must_cancel)
    });
    if let Some(future) = waited_for {
        drop(future.into_bound(py));
    }
    let mut error = error;
    if must_cancel {
        let cancelled = names::CANCELLED_ERROR.get(py)?;
        let is_one = match &error {
            Some(error) => error.get_type().is_subclass(cancelled)?,
            None => false,
        };
        if !is_one {
            error = Some(Native::of(task).make_cancelled_error()?);
        }
    }
    let Some(coro) = coro else {
        return Err(PyRuntimeError::new_err("uninitialized Task object"));
    };
    let sent = resume(&coro, error);
    if !matches!(sent, Sent::Yielded(_)) {
        // SAFETY: a task.
        unsafe { part::delist(task.as_ptr()) }
    }
    match sent {
        Sent::Yielded(result) => wait_for(task, event_loop, &result),
        Sent::Returned(value) => {
            if Task::with(task, |slots| std::mem::take(&mut slots.must_cancel)) {
                // Cancelled just before its end.
                let native = Native::of(task);
                let message = native.rare(|rare| &mut rare.cancel_message);
                return native.cancel(message).map(drop);
            }
            Native::of(task).set_result(value)
        }
        Sent::Raised(error) => raised(task, error),
    }
}

/// What a step of a coroutine has led to.
enum Sent<'py> {
    Yielded(Any<'py>),
    Returned(Any<'py>),
    Raised(PyErr),
}

#[inline]
fn resume<'py>(coro: &Any<'py>, error: Option<Any<'py>>) -> Sent<'py> {
    let py = coro.py();
    let Some(error) = error else {
        return match crate::ffi::send_none(coro) {
            Ok(Next::Waits(result)) => Sent::Yielded(result),
            Ok(Next::Done(value)) => Sent::Returned(value),
            Err(error) => Sent::Raised(error),
        };
    };
    match crate::ffi::call_method(intern!(py, "throw"), [coro, &error]) {
        Ok(result) => Sent::Yielded(result),
        Err(raised) if raised.is_instance_of::<PyStopIteration>(py) => {
            match raised.value(py).getattr(intern!(py, "value")) {
                Ok(value) => Sent::Returned(value),
                Err(error) => Sent::Raised(error),
            }
        }
        Err(raised) => Sent::Raised(raised),
    }
}

/// The coroutine has ended with an exception.
fn raised(task: &Bound<'_, Task>, error: PyErr) -> PyResult<()> {
    let py = task.py();
    let native = Native::of(task);
    let ends_the_loop = errors::ends_the_loop(py, &error);
    let error = error.into_value(py).into_bound(py).into_any();
    // By its type, whatever its `__class__` says.
    if error
        .get_type()
        .is_subclass(names::CANCELLED_ERROR.get(py)?)?
    {
        // The same object is raised for those who wait.
        let error = error.unbind();
        let before = native.with(|slots| slots.rare().cancelled_error.replace(error));
        drop(before);
        return native.cancel(None).map(drop);
    }
    native.set_exception(error.clone())?;
    if ends_the_loop {
        return Err(PyErr::from_value(error));
    }
    Ok(())
}

/// Waits for what the coroutine has yielded.
#[inline]
fn wait_for<'py>(
    task: &Bound<'py, Task>,
    event_loop: &Any<'py>,
    result: &Any<'py>,
) -> PyResult<()> {
    if result.is_none() {
        return queue_first(event_loop, task);
    }
    let Some(native) = Native::exact(result) else {
        return wait_for_other(task, event_loop, result);
    };
    let (ours, blocking) = native.with(|slots| {
        let ours = slots
            .event_loop
            .as_ref()
            .is_some_and(|it| it.is(event_loop));
        (ours, slots.blocking)
    });
    if !ours || !blocking || result.is(task) {
        return refuse(task, event_loop, result, ours);
    }
    part::is_awaited(result, task.as_any())?;
    native.with(|slots| slots.blocking = false);
    native.add(Callback::Wake(task.clone().unbind()))?;
    now_waits_for(task, result)
}

/// Waits for a future that is not of our classes.
fn wait_for_other<'py>(
    task: &Bound<'py, Task>,
    event_loop: &Any<'py>,
    result: &Any<'py>,
) -> PyResult<()> {
    let py = task.py();
    let blocking = result.getattr_opt(intern!(py, "_asyncio_future_blocking"))?;
    let Some(blocking) = blocking.filter(|blocking| !blocking.is_none()) else {
        let generator = names::IS_GENERATOR.get(py)?.call1((result,))?;
        let message = if generator.is_truthy()? {
            format!(
                "yield was used instead of yield from for generator in task {} with {}",
                shown(task)?,
                shown(result)?
            )
        } else {
            format!("Task got bad yield: {}", shown(result)?)
        };
        return queue_error(event_loop, task, message);
    };
    let ours = match result.getattr_opt(intern!(py, "get_loop"))? {
        Some(get_loop) => get_loop.call0()?,
        None => result.getattr(intern!(py, "_loop"))?,
    };
    let ours = ours.is(event_loop);
    if !ours || !blocking.is_truthy()? || result.is(task) {
        return refuse(task, event_loop, result, ours);
    }
    part::is_awaited(result, task.as_any())?;
    result.setattr(intern!(py, "_asyncio_future_blocking"), false)?;
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "context"), task.get().context(task))?;
    let arguments = PyTuple::new(py, [wakeup_of(task)?])?;
    result
        .getattr(intern!(py, "add_done_callback"))?
        .call(arguments, Some(&keywords))?;
    now_waits_for(task, result)
}

/// Notes what the task waits for; if the task was cancelled meanwhile, cancels that.
#[inline]
fn now_waits_for<'py>(task: &Bound<'py, Task>, future: &Any<'py>) -> PyResult<()> {
    let kept = future.clone().unbind();
    let (before, must_cancel) = Task::with(task, |slots| {
        (slots.waits_for.replace(kept), slots.must_cancel)
    });
    drop(before);
    if must_cancel {
        let message = Native::of(task).rare(|rare| &mut rare.cancel_message);
        if cancel_future(future, message.as_ref())? {
            Task::with(task, |slots| slots.must_cancel = false);
        }
    }
    Ok(())
}

/// `future.cancel(message)`.
///
/// # Errors
/// What that raises.
pub(super) fn cancel_future(future: &Any<'_>, message: Option<&Any<'_>>) -> PyResult<bool> {
    let py = future.py();
    if let Some(native) = Native::exact(future)
        && !crate::ffi::has_own(future, intern!(py, "cancel"))?
    {
        return match future.cast_exact::<Task>() {
            Ok(task) => Task::request_cancel(task, message.cloned()),
            Err(_) => native.cancel(message.cloned()),
        };
    }
    // By position, as asyncio's C code does: a class of the program's may name it differently.
    let nothing = py.None().into_bound(py);
    let message = message.unwrap_or(&nothing);
    deeper(|| crate::ffi::call_method(intern!(py, "cancel"), [future, message])?.is_truthy())
}

/// The most tasks of ours that wait for each other by way of futures that are not.
const DEEPEST: usize = 400;

/// Goes on in a `cancel()` that is not ours, and may come back to a task of ours: asyncio's tasks in C and ours may wait
/// for each other in turns, even in a circle. CPython itself allows so many calls of C that the stack would not suffice; these do with 512 KiB.
///
/// # Errors
/// `RecursionError`; what `call` gives.
fn deeper<R>(call: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    thread_local!(static DEPTH: Cell<usize> = const { Cell::new(0) });
    struct Level;
    impl Drop for Level {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
        }
    }
    if DEPTH.get() >= DEEPEST {
        let message = "maximum recursion depth exceeded";
        return Err(PyRecursionError::new_err(message));
    }
    DEPTH.set(DEPTH.get() + 1);
    let _level = Level;
    call()
}

/// The error for something a coroutine has yielded that cannot be waited for.
#[cold]
fn refuse<'py>(
    task: &Bound<'py, Task>,
    event_loop: &Any<'py>,
    result: &Any<'py>,
    ours: bool,
) -> PyResult<()> {
    let name = shown(task)?;
    let message = if result.is(task) {
        format!("Task cannot await on itself: {name}")
    } else if !ours {
        format!(
            "Task {name} got Future {} attached to a different loop",
            shown(result)?
        )
    } else {
        format!(
            "yield was used instead of yield from in task {name} with {}",
            shown(result)?
        )
    };
    queue_error(event_loop, task, message)
}
