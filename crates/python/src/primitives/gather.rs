//! `gather()`: makes futures of its arguments, counts those that are done, and collects their
//! results.
//!
//! It returns asyncio's `_GatheringFuture`, with asyncio's `cancel()`. The children may be any
//! futures; those of ours are counted without Python code.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyTuple};

use super::{Any, Slot, held, shown};
use crate::counts::{Counted, Kind};
use crate::fields::{Fields, has_fields, hold};
use crate::loop_::tasks::makes_our_tasks;
use crate::tasks::told::{self, Ended, Told};
use crate::tasks::{Task, part};
use crate::{context, ffi, names};

/// One call. The children notify it when they have ended, and it ends with them.
#[pyclass(frozen, module = "oxlip._native")]
pub(crate) struct Gathering {
    fields: Fields<GatheringFields>,
    _counted: Counted,
}

pub(crate) struct GatheringFields {
    children: Option<Py<PyList>>,
    /// None until all children are there.
    outer: Slot,
    return_exceptions: Slot,
    context: Slot,
    /// The task that waits, on releases on which asyncio records it in what it waits for.
    caller: Slot,
    /// How many different children there are.
    expected: usize,
    ended: usize,
}

has_fields!(Gathering, GatheringFields);

/// As `asyncio.gather()`.
///
/// # Errors
/// `TypeError` for an argument that cannot be awaited, `ValueError` for a future of another loop; `RuntimeError`
/// without a loop.
pub(crate) fn gather<'py>(
    awaitables: &Bound<'py, PyTuple>,
    return_exceptions: Option<Any<'py>>,
) -> PyResult<Any<'py>> {
    let py = awaitables.py();
    if awaitables.is_empty() {
        return names::STOCK_GATHER.get(py)?.call0();
    }
    let return_exceptions =
        return_exceptions.unwrap_or_else(|| PyBool::new(py, false).to_owned().into_any());
    let children = PyList::empty(py);
    let caller = part::caller(py)?;
    let context = context::copy_current(py)?;
    let fields = GatheringFields {
        children: Some(children.clone().unbind()),
        outer: None,
        return_exceptions: Some(return_exceptions.unbind()),
        context: Some(context.clone_ref(py)),
        caller: caller.as_ref().map(|it| it.clone().unbind()),
        expected: 0,
        ended: 0,
    };
    let gathering = Gathering {
        fields: Fields::new(fields),
        _counted: Counted::new(Kind::Gathering),
    };
    let gathering = Bound::new(py, gathering)?;
    let known = PyDict::new(py);
    let mut event_loop = None;
    let mut ended = Vec::new();
    for awaitable in awaitables {
        if let Some(twice) = known.get_item(&awaitable)? {
            children.append(twice)?;
            continue;
        }
        if ffi::is_coroutine(&awaitable)
            && let Some(task) = task_of(&awaitable, &mut event_loop)?
        {
            known.set_item(&awaitable, &task)?;
            hold(&gathering).expected += 1;
            if let Some(caller) = &caller {
                part::is_awaited(task.as_any(), caller)?;
            }
            let told = Told::Gather(gathering.clone().unbind());
            told::tell_of(&task, told, context.clone_ref(py))?;
            children.append(task)?;
            continue;
        }
        let child = child_of(&awaitable, event_loop.as_ref())?;
        let of_child = match told::loop_of(&child) {
            Some(of_child) if event_loop.is_none() => Some(of_child?),
            None if event_loop.is_none() => Some(names::LOOP_OF.get(py)?.call1((&child,))?),
            _ => None,
        };
        event_loop = event_loop.or(of_child);
        known.set_item(&awaitable, &child)?;
        hold(&gathering).expected += 1;
        let known_to_us = told::is_known(&child);
        if !child.is(&awaitable) {
            match child.cast_exact::<Task>() {
                Ok(task) => Task::is_inner(task),
                Err(_) => child.setattr(intern!(py, "_log_destroy_pending"), false)?,
            }
        }
        let is_done = told::is_done(&child)?;
        if !is_done && let Some(caller) = &caller {
            part::any_is_awaited(&child, caller)?;
        }
        if is_done {
            ended.push(child.clone());
        } else if known_to_us {
            let told = Told::Gather(gathering.clone().unbind());
            told::tell(&child, told, context.clone_ref(py))?;
        } else {
            let name = intern!(py, "add_done_callback");
            ffi::call_method(name, [&child, gathering.as_any()])?;
        }
        children.append(child)?;
    }
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "loop"), event_loop)?;
    let outer = names::GATHERING_FUTURE
        .get(py)?
        .call((&children,), Some(&keywords))?;
    hold(&gathering).outer = Some(outer.clone().unbind());
    for child in ended {
        Gathering::is_done(&gathering, &child)?;
    }
    Ok(outer)
}

/// A task of ours for a coroutine, on the loop of the other children or on the running one, if that loop makes our
/// tasks.
#[inline]
fn task_of<'py>(
    coro: &Any<'py>,
    event_loop: &mut Option<Any<'py>>,
) -> PyResult<Option<Bound<'py, Task>>> {
    let chosen = match &*event_loop {
        Some(event_loop) => event_loop,
        None => &names::GET_RUNNING_LOOP.get(coro.py())?.call0()?,
    };
    let Some(ours) = makes_our_tasks(chosen)? else {
        return Ok(None);
    };
    let task = Task::make(ours, coro.clone(), None)?;
    Task::is_inner(&task);
    if event_loop.is_none() {
        *event_loop = Some(chosen.clone());
    }
    Ok(Some(task))
}

/// As `asyncio.ensure_future()`.
fn child_of<'py>(awaitable: &Any<'py>, event_loop: Option<&Any<'py>>) -> PyResult<Any<'py>> {
    let py = awaitable.py();
    if let Some(own) = told::loop_of(awaitable) {
        let own = own?;
        if event_loop.is_none_or(|event_loop| event_loop.is(&own)) {
            return Ok(awaitable.clone());
        }
    }
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "loop"), event_loop)?;
    let ensure_future = names::ENSURE_FUTURE.get(py)?;
    ensure_future.call((awaitable,), Some(&keywords))
}

#[pymethods]
impl Gathering {
    fn __call__(slf: &Bound<'_, Self>, future: &Any<'_>) -> PyResult<()> {
        Self::is_done(slf, future)
    }

    /// How asyncio shows it among the callbacks of a future.
    #[getter]
    fn __qualname__(&self) -> &'static str {
        "gather.<locals>._done_callback"
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.fields.traverse(&visit, |fields, visit| {
            visit.call(&fields.children)?;
            visit.call(&fields.outer)?;
            visit.call(&fields.return_exceptions)?;
            visit.call(&fields.context)?;
            visit.call(&fields.caller)
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let _taken = {
            let mut this = hold(slf);
            (
                this.children.take(),
                this.outer.take(),
                this.return_exceptions.take(),
                this.context.take(),
                this.caller.take(),
            )
        };
    }
}

impl Gathering {
    /// Counts a child that has ended with a result. Returns false, without counting, if it is the last one.
    ///
    /// # Errors
    /// Out of memory.
    #[inline]
    pub(crate) fn count(slf: &Bound<'_, Self>, child: &Any<'_>) -> PyResult<bool> {
        {
            let mut this = hold(slf);
            if this.ended + 1 >= this.expected {
                return Ok(false);
            }
            this.ended += 1;
        }
        Self::is_awaited_no_more(slf, child)?;
        Ok(true)
    }

    #[inline]
    fn is_awaited_no_more(slf: &Bound<'_, Self>, child: &Any<'_>) -> PyResult<()> {
        if !part::IS_KEPT {
            return Ok(());
        }
        let caller = held(slf.py(), &hold(slf).caller);
        caller.map_or(Ok(()), |caller| {
            part::any_is_awaited_no_more(child, &caller)
        })
    }

    /// Does what asyncio does, from some release on, when the call ends before all its children.
    fn none_is_awaited(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if !part::IS_KEPT {
            return Ok(());
        }
        let tasks = names::TASKS_MODULE.get(py)?;
        if let Some(discard) = tasks.getattr_opt(intern!(py, "_discard_awaited_by"))? {
            let (children, caller) = {
                let this = hold(slf);
                let children = this.children.as_ref().map(|it| it.bind(py).clone());
                (children, held(py, &this.caller))
            };
            discard.call1((children, caller))?;
        }
        Ok(())
    }

    pub(crate) fn context<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        shown(slf.py(), &hold(slf).context)
    }

    /// A child has ended. If it is the last one or has failed, the call ends too.
    ///
    /// # Errors
    /// What the futures raise.
    pub(crate) fn is_done<'py>(slf: &Bound<'py, Self>, child: &Any<'py>) -> PyResult<()> {
        let py = slf.py();
        let (outer, is_last) = {
            let mut this = hold(slf);
            this.ended += 1;
            (held(py, &this.outer), this.ended == this.expected)
        };
        Self::is_awaited_no_more(slf, child)?;
        let outer = match outer {
            Some(outer) if !ffi::call_method(intern!(py, "done"), [&outer])?.is_truthy()? => outer,
            // The call has ended, and nobody will read this child's result any more.
            _ => return told::how_ended(child).map(drop),
        };
        let return_exceptions = held(py, &hold(slf).return_exceptions);
        let collects = match return_exceptions {
            Some(return_exceptions) => return_exceptions.is_truthy()?,
            None => false,
        };
        if !collects {
            let error = match told::how_ended(child)? {
                Ended::WithResult(_) => None,
                Ended::WithException(error) => Some(error),
                Ended::Cancelled => Some(cancelled_error(child)?),
            };
            if let Some(error) = error {
                Self::none_is_awaited(slf)?;
                let name = intern!(py, "set_exception");
                return ffi::call_method(name, [&outer, &error]).map(drop);
            }
        }
        if is_last {
            return Self::end(slf, &outer, child);
        }
        Ok(())
    }

    /// All children have ended.
    fn end<'py>(slf: &Bound<'py, Self>, outer: &Any<'py>, child: &Any<'py>) -> PyResult<()> {
        let py = slf.py();
        let children = hold(slf).children.as_ref().map(|it| it.bind(py).clone());
        let Some(children) = children else {
            return Ok(());
        };
        let results = PyList::empty(py);
        let mut last = child.clone();
        for child in &children {
            last.clone_from(&child);
            let result = match told::how_ended(&child)? {
                Ended::WithResult(Some(result)) => result,
                Ended::WithResult(None) => ffi::call_method(intern!(py, "result"), [&child])?,
                Ended::WithException(error) => error,
                Ended::Cancelled => {
                    let message = child.getattr(intern!(py, "_cancel_message"))?;
                    let class = names::CANCELLED_ERROR.get(py)?;
                    if message.is_none() {
                        class.call1(("",))?
                    } else {
                        class.call1((message,))?
                    }
                }
            };
            results.append(result)?;
        }
        let cancelled = outer.getattr(intern!(py, "_cancel_requested"))?;
        if cancelled.is_truthy()? {
            // Whatever `return_exceptions` says: https://github.com/python/cpython/issues/76865
            let error = cancelled_error(&last)?;
            return ffi::call_method(intern!(py, "set_exception"), [outer, &error]).map(drop);
        }
        let results = results.into_any();
        ffi::call_method(intern!(py, "set_result"), [outer, &results]).map(drop)
    }
}

fn cancelled_error<'py>(child: &Any<'py>) -> PyResult<Any<'py>> {
    ffi::call_method(intern!(child.py(), "_make_cancelled_error"), [child])
}
