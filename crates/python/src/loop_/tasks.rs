//! `create_future`, `create_task` and task factories, which use asyncio's own C classes unless told
//! otherwise.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::EventLoop;
use crate::names;
use crate::tasks::{Future, Task, current};

pub(super) fn create_future<'py>(
    event_loop: &Bound<'py, EventLoop>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let class = names::FUTURE.get(py)?;
    let is_asyncios = class.is(names::C_FUTURE.get(py)?);
    // A task of asyncio's, such as a library makes by itself, waits faster for a future of asyncio's.
    if is_asyncios && makes_ours(event_loop) && !current::is_asyncios(event_loop)? {
        return Future::make(event_loop).map(Bound::into_any);
    }
    if is_asyncios && let Some(keywords) = kept_keywords(event_loop)? {
        return crate::ffi::call_keywords(&class, &PyTuple::empty(py), &keywords);
    }
    call_with_loop(&class, None, event_loop)
}

/// Whether this loop makes our classes where it would make asyncio's in C. In debug mode it does not: they
/// say where they were made.
#[inline]
fn makes_ours(event_loop: &Bound<'_, EventLoop>) -> bool {
    crate::tasks::switched() && !event_loop.get().is_debug()
}

/// Whether `create_task(coro)` of any loop would make a task of ours: neither debug mode nor a factory, nor the
/// program, is in the way.
///
/// # Errors
/// asyncio has no class of tasks.
#[inline]
pub(crate) fn makes_our_tasks<'a, 'py>(
    event_loop: &'a Bound<'py, PyAny>,
) -> PyResult<Option<&'a Bound<'py, EventLoop>>> {
    let known = match super::fastcall::known(event_loop) {
        Some(known) => known,
        None => match event_loop.cast::<EventLoop>() {
            Ok(derived) => derived,
            Err(_) => return Ok(None),
        },
    };
    let this = known.get();
    if !makes_ours(known)
        || this.has_own_tasks()
        || this.check_open().is_err()
        || this.task_factory.hold(event_loop.py()).is_some()
    {
        return Ok(None);
    }
    let py = event_loop.py();
    let is_asyncios = names::TASK.get(py)?.is(names::C_TASK.get(py)?);
    Ok(is_asyncios.then_some(known))
}

/// `{"loop": event_loop}`, always the same one, on the thread of a running loop. For classes that neither
/// keep nor change it.
fn kept_keywords<'py>(event_loop: &Bound<'py, EventLoop>) -> PyResult<Option<Bound<'py, PyDict>>> {
    let py = event_loop.py();
    let this = event_loop.get();
    if !this.runs() {
        return Ok(None);
    }
    let keywords = this.state.with(|state| {
        let keywords = state.future_keywords.as_ref();
        keywords.map(|keywords| keywords.clone_ref(py))
    });
    match keywords {
        Ok(Some(keywords)) => Ok(Some(keywords.into_bound(py))),
        Ok(None) => {
            let keywords = PyDict::new(py);
            keywords.set_item(intern!(py, "loop"), event_loop)?;
            let kept = Some(keywords.clone().unbind());
            let _ = this.state.with(|state| state.future_keywords = kept);
            Ok(Some(keywords))
        }
        // On another thread.
        Err(_) => Ok(None),
    }
}

/// The option `name` of a task. asyncio's functions give it as `None` rather than not at all, which is
/// the same to a task, and only a factory is told.
pub(super) enum Name<'py> {
    Missing,
    Given(Bound<'py, PyAny>),
}

/// `create_task(coro, **options)`: the options are those of the running Python's `asyncio.Task`.
pub(super) fn create_task<'py>(
    event_loop: &Bound<'py, EventLoop>,
    coro: Bound<'py, PyAny>,
    name: Name<'py>,
    mut options: Option<Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    event_loop.get().check_open()?;
    let factory = factory(event_loop.get(), py);
    if let Name::Given(name) = name
        && !(name.is_none() && factory.is_none())
    {
        let options = options.get_or_insert_with(|| PyDict::new(py));
        options.set_item(intern!(py, "name"), name)?;
    }
    let Some(factory) = factory else {
        let Some(options) = options else {
            let class = names::TASK.get(py)?;
            let is_asyncios = class.is(names::C_TASK.get(py)?);
            if is_asyncios && makes_ours(event_loop) {
                return Task::make(event_loop, coro, None).map(Bound::into_any);
            }
            if is_asyncios && let Some(keywords) = kept_keywords(event_loop)? {
                return crate::ffi::call_keywords(&class, &PyTuple::new(py, [coro])?, &keywords);
            }
            return call_with_loop(&class, Some(&coro), event_loop);
        };
        options.set_item(intern!(py, "loop"), event_loop)?;
        let mut class = names::TASK.get(py)?;
        if class.is(names::C_TASK.get(py)?) && makes_ours(event_loop) {
            class = py.get_type::<Task>().into_any();
        }
        return class.call((coro,), Some(&options));
    };
    let Some(options) = options else {
        return factory.call1((event_loop, coro));
    };
    if py.version_info() >= (3, 13, 3) {
        return factory.call((event_loop, coro), Some(&options));
    }
    // Before CPython 3.13.3 a factory took the context only if there was one, and the loop named
    // the task: https://github.com/python/cpython/issues/128307
    let name = options
        .get_item(intern!(py, "name"))?
        .filter(|name| !name.is_none());
    if options.contains(intern!(py, "name"))? {
        options.del_item(intern!(py, "name"))?;
    }
    if options
        .get_item(intern!(py, "context"))?
        .is_some_and(|context| context.is_none())
    {
        options.del_item(intern!(py, "context"))?;
    }
    let task = factory.call((event_loop, coro), Some(&options))?;
    if let Some(name) = name {
        task.call_method1(intern!(py, "set_name"), (name,))?;
    }
    Ok(task)
}

pub(super) fn set_factory(
    py: Python<'_>,
    event_loop: &EventLoop,
    factory: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    if factory
        .as_ref()
        .is_some_and(|factory| !factory.is_callable())
    {
        return Err(PyTypeError::new_err(
            "task factory must be a callable or None",
        ));
    }
    let factory = factory.map(Bound::unbind);
    let before = std::mem::replace(&mut *event_loop.task_factory.hold(py), factory);
    drop(before);
    Ok(())
}

pub(super) fn factory<'py>(event_loop: &EventLoop, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
    let factory = event_loop.task_factory.hold(py);
    factory.as_ref().map(|factory| factory.bind(py).clone())
}

/// `class(argument, loop=event_loop)` without a dict or tuple.
fn call_with_loop<'py>(
    class: &Bound<'py, PyAny>,
    argument: Option<&Bound<'py, PyAny>>,
    event_loop: &Bound<'py, EventLoop>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let names = crate::ffi::loop_keyword(py)?;
    match argument {
        Some(argument) => {
            crate::ffi::vectorcall(class, [argument, event_loop.as_any()], Some(names))
        }
        None => crate::ffi::vectorcall(class, [event_loop.as_any()], Some(names)),
    }
}
