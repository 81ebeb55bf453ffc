//! What is called when a future is done: asyncio's list of callables with their contexts, and among
//! them, without a callable, the tasks of ours that wait for it.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::core::{Life, Native};
use super::told::{self, Told};
use super::{Any, Task, step};
use crate::chains::End;
use crate::context;
use crate::loop_::fastcall;

/// What is to be done when the future is.
pub(super) enum Callback {
    /// A callable, and the context it is called in.
    Call(Py<PyAny>, Py<PyAny>),
    /// A task of ours that waits goes on.
    Wake(Py<Task>),
    /// Who counts what ends is told, in this context if more is to be done.
    Tell(Told, Py<PyAny>),
}

impl<'py> Native<'_, 'py> {
    /// `add_done_callback()`.
    ///
    /// # Errors
    /// What `call_soon()` raises.
    pub(super) fn add_done_callback(
        self,
        callable: Any<'py>,
        context: Option<Any<'py>>,
    ) -> PyResult<()> {
        let context = match context {
            Some(context) => context.unbind(),
            None => context::copy_current(self.object.py())?,
        };
        self.add(Callback::Call(callable.unbind(), context))
    }

    /// Adds a callback, or schedules it if the future is done.
    ///
    /// # Errors
    /// What `call_soon()` raises.
    #[inline]
    pub(super) fn add(self, callback: Callback) -> PyResult<()> {
        let late = self.with(|slots| {
            if slots.life != Life::Pending {
                return Some(callback);
            }
            if slots.first.is_none() && slots.rest.is_empty() {
                slots.first = Some(callback);
            } else {
                slots.rest.push(callback);
            }
            None
        });
        match late {
            Some(callback) => self.schedule(&self.event_loop()?, callback),
            None => Ok(()),
        }
    }

    /// The callables and their contexts, as asyncio shows them.
    ///
    /// # Errors
    /// Out of memory.
    fn shown_callbacks(self) -> PyResult<Vec<(Any<'py>, Any<'py>)>> {
        let py = self.object.py();
        let callbacks: Vec<_> = self.with(|slots| {
            let all = slots.first.iter().chain(&slots.rest);
            all.map(|callback| callback.clone_ref(py)).collect()
        });
        callbacks.into_iter().map(|it| it.shown(py)).collect()
    }

    /// `_callbacks`.
    ///
    /// # Errors
    /// Out of memory.
    pub(super) fn callbacks(self) -> PyResult<Option<Bound<'py, PyList>>> {
        let shown = self.shown_callbacks()?;
        if shown.is_empty() {
            return Ok(None);
        }
        PyList::new(self.object.py(), shown).map(Some)
    }

    /// `remove_done_callback()`: how many there were.
    ///
    /// # Errors
    /// What comparing them raises.
    pub(super) fn remove_done_callback(self, callable: &Any<'py>) -> PyResult<usize> {
        let py = self.object.py();
        // Comparing runs the program's code, which may add more, take some away, or end the future.
        let equals = |callback: &Callback| {
            let (shown, _) = callback.clone_ref(py).shown(py)?;
            Ok::<_, PyErr>(shown.is(callable) || shown.eq(callable)?)
        };
        let mut count = 0;
        if let Some(first) = self.with(|slots| Some(slots.first.as_ref()?.clone_ref(py)))
            && equals(&first)?
        {
            let is_first = |it: &mut Callback| it.is(&first);
            let removed = self.with(|slots| slots.first.take_if(is_first));
            drop(removed);
            count += 1;
        }
        let mut equal = Vec::new();
        let mut index = 0;
        let at = |index: usize| self.with(|slots| Some(slots.rest.get(index)?.clone_ref(py)));
        while let Some(callback) = at(index) {
            if equals(&callback)? {
                equal.push(callback);
            }
            index += 1;
        }
        let removed: Vec<_> = self.with(|slots| {
            let is_equal = |it: &mut Callback| equal.iter().any(|equal| equal.is(it));
            slots.rest.extract_if(.., is_equal).collect()
        });
        Ok(count + removed.len())
    }

    /// Has the loop call what was added, in its order.
    ///
    /// # Errors
    /// What `call_soon()` raises.
    #[inline]
    pub(super) fn schedule_callbacks(self) -> PyResult<()> {
        let py = self.object.py();
        let (first, rest, event_loop) = self.with(|slots| {
            if slots.first.is_none() && slots.rest.is_empty() {
                return (None, Vec::new(), None);
            }
            let event_loop = slots.event_loop.as_ref();
            (
                slots.first.take(),
                std::mem::take(&mut slots.rest),
                event_loop.map(|it| it.bind(py).clone()),
            )
        });
        let Some(event_loop) = event_loop else {
            return Ok(());
        };
        for callback in first.into_iter().chain(rest) {
            self.schedule(&event_loop, callback)?;
        }
        Ok(())
    }

    #[inline]
    fn schedule(self, event_loop: &Any<'py>, callback: Callback) -> PyResult<()> {
        let py = self.object.py();
        match callback {
            Callback::Call(callable, context) => {
                let context = context.into_bound(py);
                fastcall::soon(
                    event_loop,
                    callable.into_bound(py),
                    Some(self.object),
                    context,
                )
            }
            Callback::Wake(task) => step::queue_wake(event_loop, task.into_bound(py), self.object),
            Callback::Tell(told, context) => {
                let context = context.into_bound(py);
                let told = match fastcall::direct(event_loop) {
                    Some(direct) => told::queue(direct, self.object, told)?,
                    None => Some(told),
                };
                match told {
                    Some(told) => {
                        let callable = told.callable(py)?;
                        fastcall::soon(event_loop, callable, Some(self.object), context)
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

impl Callback {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Call(callable, context) => {
                Self::Call(callable.clone_ref(py), context.clone_ref(py))
            }
            Self::Wake(task) => Self::Wake(task.clone_ref(py)),
            Self::Tell(told, context) => Self::Tell(told.clone_ref(py), context.clone_ref(py)),
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Call(callable, context), Self::Call(other, others)) => {
                callable.is(other) && context.is(others)
            }
            (Self::Wake(task), Self::Wake(other)) => task.is(other),
            (Self::Tell(told, context), Self::Tell(other, others)) => {
                told.is(other) && context.is(others)
            }
            _ => false,
        }
    }

    /// As asyncio shows it: a callable and its context.
    fn shown(self, py: Python<'_>) -> PyResult<(Any<'_>, Any<'_>)> {
        Ok(match self {
            Self::Call(callable, context) => (callable.into_bound(py), context.into_bound(py)),
            Self::Wake(task) => {
                let task = task.into_bound(py);
                let context = task.get().context(&task);
                (step::wakeup_of(&task)?, context)
            }
            Self::Tell(told, context) => (told.callable(py)?, context.into_bound(py)),
        })
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Call(callable, context) => {
                visit.call(callable)?;
                visit.call(context)
            }
            Self::Wake(task) => visit.call(task),
            Self::Tell(told, context) => {
                told.traverse(visit)?;
                visit.call(context)
            }
        }
    }

    /// Of a future that ends.
    pub(super) fn release(self, end: &End<'_>) {
        match self {
            Self::Call(callable, context) => {
                end.release(callable);
                end.release(context);
            }
            Self::Wake(task) => end.release(task),
            Self::Tell(told, context) => {
                end.release(told.into_any());
                end.release(context);
            }
        }
    }
}
