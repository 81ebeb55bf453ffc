//! asyncio's locks, queues, timeouts and task groups with a native half: the frequent operations
//! that need no waiting, and waking those who wait.
//!
//! The native classes hold what asyncio's keep in attributes, under the same names, and are mixed
//! into subclasses of asyncio's (`_locks.py`, `_queues.py`, `_timeouts.py` and `_groups.py` of
//! `python/oxlip`), which `_switch.py` puts behind asyncio's names. What differs between the
//! releases of Python is left to asyncio's code, working on the same state; so is everything that
//! objects of derived classes do.
//!
//! All of it runs on the thread of the running loop, as asyncio's must, on any loop.

mod condition;
mod deadline;
mod event;
mod gather;
mod lock;
mod maker;
mod member;
mod queue;
mod semaphore;
mod task_group;
mod task_set;
mod wait;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::fields::{HasFields, hold};
use crate::loop_::fastcall;
use crate::prompt::Deed;
use crate::{ffi, names};

pub(crate) use condition::Condition;
pub(crate) use deadline::{Timeout, timeout};
pub(crate) use event::Event;
pub(crate) use gather::{Gathering, gather};
pub(crate) use lock::Lock;
pub(crate) use maker::Maker;
pub(crate) use queue::Queue;
pub(crate) use semaphore::Semaphore;
pub(crate) use task_group::TaskGroup;
pub(crate) use task_set::TaskSet;
pub(crate) use wait::Waiting;

/// Tells the interpreter about the fields that it can access without a call.
///
/// # Errors
/// Out of memory.
pub(crate) fn export(module: &Bound<'_, PyModule>) -> PyResult<()> {
    Condition::export(module.py())?;
    Event::export(module.py())?;
    TaskGroup::export(module.py())
}

/// What `async with` can do at once.
pub(crate) static DEEDS: [Deed; 7] = [
    condition::ENTER,
    condition::EXIT,
    lock::ENTER,
    lock::EXIT,
    semaphore::ENTER,
    semaphore::EXIT,
    deadline::EXIT,
];

type Any<'py> = Bound<'py, PyAny>;
type Slot = Option<Py<PyAny>>;

/// Whether an object is of exactly this class.
#[inline]
fn is_exactly(object: &Any<'_>, class: &'static names::Imported) -> PyResult<bool> {
    Ok(object.get_type().is(class.get(object.py())?))
}

/// Rejects arguments for a class that takes none, with the error of asyncio's `__init__`. A derived class with an
/// `__init__` of its own may take some.
#[inline]
fn no_arguments(
    cls: &Bound<'_, PyType>,
    ours: &'static names::Imported,
    stock: &'static names::Imported,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    let py = cls.py();
    let any = !args.is_empty() || kwargs.is_some_and(|kwargs| !kwargs.is_empty());
    let own_init = intern!(py, "__init__");
    if any && cls.getattr(own_init)?.is(&ours.get(py)?.getattr(own_init)?) {
        let init = stock.get(py)?.getattr(intern!(py, "__init__"))?;
        let bare = ffi::new_object(cls, &PyTuple::empty(py), None)?;
        let own = PyTuple::new(py, [bare])?.add(args)?;
        init.call(own.cast::<PyTuple>()?, kwargs)?;
    }
    Ok(())
}

/// The value of a slot, to be used when nothing is borrowed any more.
#[inline]
fn held<'py>(py: Python<'py>, slot: &Slot) -> Option<Any<'py>> {
    slot.as_ref().map(|object| object.bind(py).clone())
}

/// The same, with `None` for an empty slot, as an attribute shows it.
fn shown<'py>(py: Python<'py>, slot: &Slot) -> Any<'py> {
    held(py, slot).unwrap_or_else(|| py.None().into_bound(py))
}

/// The deque in a slot, which is made when it is first asked for.
fn deque_in<'py, T: HasFields>(
    owner: &Bound<'py, T>,
    slot: impl Fn(&mut T::Fields) -> &mut Slot,
) -> PyResult<Any<'py>> {
    let py = owner.py();
    let deque = held(py, slot(&mut hold(owner)));
    if let Some(deque) = deque {
        return Ok(deque);
    }
    let made = names::DEQUE.get(py)?.call0()?;
    // Making one may have run code that has made one too.
    let first = slot(&mut hold(owner))
        .get_or_insert_with(|| made.clone().unbind())
        .clone_ref(py);
    Ok(first.into_bound(py))
}

/// The deque of waiters, if it has any.
#[inline]
fn filled(waiters: Option<Any<'_>>) -> PyResult<Option<Any<'_>>> {
    match waiters {
        Some(waiters) if waiters.len()? > 0 => Ok(Some(waiters)),
        _ => Ok(None),
    }
}

/// asyncio's `_get_loop().create_future()`: a future of the running loop, to which the object is bound from then on.
fn new_waiter<'py>(owner: &Any<'py>, bound: Option<Any<'py>>) -> PyResult<Any<'py>> {
    let py = owner.py();
    let running = names::GET_RUNNING_LOOP.get(py)?.call0()?;
    let event_loop = match bound {
        Some(bound) if bound.is(&running) => running,
        // The object has no loop yet, or another one.
        _ => ffi::call_method(intern!(py, "_get_loop"), [owner])?,
    };
    fastcall::create_future(&event_loop)
}

/// Wakes a waiter that is neither woken nor cancelled yet.
#[inline]
fn wake<'py>(waiter: &Any<'py>, result: &Any<'py>) -> PyResult<bool> {
    let py = waiter.py();
    if let Some(woken) = crate::tasks::wake(waiter, result) {
        return woken;
    }
    // asyncio's own future raises an error if it is done.
    let says = is_exactly(waiter, &names::C_FUTURE)?;
    if !says && ffi::call_method(intern!(py, "done"), [waiter])?.is_truthy()? {
        return Ok(false);
    }
    match ffi::call_method(intern!(py, "set_result"), [waiter, result]) {
        Ok(_) => Ok(true),
        Err(error) if says && error.is_instance(py, names::INVALID_STATE_ERROR.get(py)?) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The result of a future that waits for a lock or an event. asyncio's is `True`, but nobody uses it, and an `await`
/// with a result ends with an exception.
fn nothing(py: Python<'_>) -> Any<'_> {
    py.None().into_bound(py)
}
