//! `TaskGroup`: makes a task, and notes that it has ended without an exception. The rest is
//! asyncio's code, on the same attributes.

use std::ffi::CStr;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PySet, PyTuple};

use super::member::Member;
use super::{Any, is_exactly, wake};
use crate::counts::{Counted, Kind};
use crate::loop_::tasks::makes_our_tasks;
use crate::tasks::told::{self, Told};
use crate::tasks::{Task, part};
use crate::{context, names};

/// The native half of the class that derives from asyncio's. asyncio's `__init__()` fills it.
#[pyclass(frozen, subclass, module = "oxlip._native")]
pub(crate) struct TaskGroup {
    entered: Member,
    exiting: Member,
    aborting: Member,
    event_loop: Member,
    tasks: Member,
    /// The future that the end of the group waits for.
    completed: Member,
    /// The task that waits for it.
    parent: Member,
    _counted: Counted,
}

#[pymethods]
impl TaskGroup {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::empty(_args.py())
    }

    /// A task of the group that runs the coroutine.
    #[pyo3(signature = (coro, **options))]
    fn create_task<'py>(
        slf: &Bound<'py, Self>,
        coro: Any<'py>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Any<'py>> {
        let py = slf.py();
        if let Some(name) = only_name(options)?
            && is_exactly(slf, &names::OUR_TASK_GROUP)?
            && let Some((tasks, event_loop)) = Self::takes(slf)?
            && let Some(event_loop) = makes_our_tasks(&event_loop)?
        {
            let task = Task::make(event_loop, coro, name.as_ref())?;
            if part::IS_KEPT
                && let Some(parent) = slf.get().parent.get(slf)
            {
                part::is_awaited(task.as_any(), &parent)?;
            }
            tasks.add(&task)?;
            let told = Told::Group(slf.clone().unbind());
            told::tell_of(&task, told, context::copy_current(py)?)?;
            return Ok(task.into_any());
        }
        names::STOCK_TASK_GROUP
            .get(py)?
            .getattr(intern!(py, "create_task"))?
            .call((slf, coro), options)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for (member, _) in self.members() {
            member.traverse(&visit)?;
        }
        Ok(())
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let taken: Vec<_> = {
            let this = slf.get();
            this.members()
                .map(|(member, _)| member.replace(slf, None))
                .into()
        };
        drop(taken);
    }
}

impl TaskGroup {
    /// Lets the interpreter read and write asyncio's attributes.
    ///
    /// # Errors
    /// Out of memory.
    pub(super) fn export(py: Python<'_>) -> PyResult<()> {
        let group = Bound::new(py, Self::empty(py))?;
        let this = group.get();
        for (member, name) in this.members() {
            // SAFETY: fields of this object of this class.
            unsafe { member.export(&group, &group.get_type(), name)? };
        }
        Ok(())
    }

    fn empty(py: Python<'_>) -> Self {
        let nothing = || Member::new(Some(py.None().into_bound(py)));
        Self {
            entered: nothing(),
            exiting: nothing(),
            aborting: nothing(),
            event_loop: nothing(),
            tasks: nothing(),
            completed: nothing(),
            parent: nothing(),
            _counted: Counted::new(Kind::TaskGroup),
        }
    }

    fn members(&self) -> [(&Member, &'static CStr); 7] {
        [
            (&self.entered, c"_entered"),
            (&self.exiting, c"_exiting"),
            (&self.aborting, c"_aborting"),
            (&self.event_loop, c"_loop"),
            (&self.tasks, c"_tasks"),
            (&self.completed, c"_on_completed_fut"),
            (&self.parent, c"_parent_task"),
        ]
    }

    /// The set of its tasks and its loop, if it accepts new tasks. If not, asyncio's code says why.
    #[inline]
    fn takes<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<(Bound<'py, PySet>, Any<'py>)>> {
        let (entered, exiting, aborting, event_loop, tasks) = {
            let this = slf.get();
            (
                this.entered.get(slf),
                this.exiting.get(slf),
                this.aborting.get(slf),
                this.event_loop.get(slf),
                this.tasks.get(slf),
            )
        };
        let (Some(event_loop), Some(tasks)) = (event_loop, tasks) else {
            return Ok(None);
        };
        let Ok(tasks) = tasks.cast_into_exact::<PySet>() else {
            return Ok(None);
        };
        let takes = is(entered.as_ref(), true)
            && is(aborting.as_ref(), false)
            && (is(exiting.as_ref(), false) || !tasks.is_empty());
        Ok(takes.then_some((tasks, event_loop)))
    }

    /// Counts a task that has ended without an exception, or was cancelled. Returns false if nothing was done and
    /// asyncio's code has to handle it.
    ///
    /// # Errors
    /// What the future raises for which the group's end waits.
    #[inline]
    pub(crate) fn count(slf: &Bound<'_, Self>, task: &Any<'_>) -> PyResult<bool> {
        let Some((tasks, completed)) = Self::counting(slf) else {
            return Ok(false);
        };
        tasks.discard(task)?;
        if part::IS_KEPT
            && let Some(parent) = slf.get().parent.get(slf)
        {
            part::is_awaited_no_more(task, &parent)?;
        }
        if let Some(completed) = completed
            && tasks.is_empty()
        {
            wake(&completed, PyBool::new(slf.py(), true).as_any())?;
        }
        Ok(true)
    }

    /// Whether [`count`](Self::count) would do.
    #[inline]
    pub(crate) fn only_counts(slf: &Bound<'_, Self>) -> bool {
        Self::counting(slf).is_some()
    }

    /// The set of its tasks, and the future that its end waits for. None if a program has put something of its own
    /// there.
    #[inline]
    fn counting<'py>(slf: &Bound<'py, Self>) -> Option<(Bound<'py, PySet>, Option<Any<'py>>)> {
        let this = slf.get();
        let tasks = this.tasks.get(slf)?.cast_into_exact::<PySet>().ok()?;
        let completed = this.completed.get(slf).filter(|it| !it.is_none());
        let known = completed.as_ref().is_none_or(told::is_known);
        known.then_some((tasks, completed))
    }
}

/// The name among a task's options, if there is one. The outer `Option` is None if there are other options.
#[inline]
fn only_name<'py>(options: Option<&Bound<'py, PyDict>>) -> PyResult<Option<Option<Any<'py>>>> {
    let Some(options) = options else {
        return Ok(Some(None));
    };
    let py = options.py();
    let name = options.get_item(intern!(py, "name"))?;
    let context = options.get_item(intern!(py, "context"))?;
    let known = usize::from(name.is_some()) + usize::from(context.is_some());
    let nothing_else = known == options.len() && context.is_none_or(|context| context.is_none());
    Ok(nothing_else.then_some(name))
}

/// Whether the value is exactly this `bool`.
#[inline]
fn is(value: Option<&Any<'_>>, expected: bool) -> bool {
    value.is_some_and(|value| value.is(&*PyBool::new(value.py(), expected)))
}
