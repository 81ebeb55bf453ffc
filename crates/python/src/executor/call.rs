//! One call in the default executor.
//!
//! Made on the loop's thread, run on one of the pool's, and called on the loop's to hand over the
//! outcome, as `asyncio.wrap_future` and `concurrent.futures.Future` do it together.

use oxlip_driver::Waker;
use pyo3::exceptions::{PyAssertionError, PyBaseException};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::WorkQueue;
use crate::counts::{Counted, Kind};
use crate::fields::{Fields, has_fields, hold};
use crate::loop_::{EventLoop, call_soon_unwoken};
use crate::{ffi, names};

#[pyclass(frozen, module = "oxlip._native")]
pub(crate) struct ExecutorCall {
    queue: Py<WorkQueue>,
    fields: Fields<CallFields>,
    _counted: Counted,
}

/// None of them is left while the thread waits for more, since it keeps the call it has done meanwhile.
pub(crate) struct CallFields {
    /// Until it is told.
    event_loop: Option<Py<EventLoop>>,
    /// Until it has its outcome, or was cancelled first.
    future: Option<Py<PyAny>>,
    /// Until it begins or is cancelled.
    work: Option<(Py<PyAny>, Py<PyTuple>)>,
    /// Until the future has it.
    outcome: Option<Outcome>,
}

has_fields!(ExecutorCall, CallFields);

enum Outcome {
    Result(Py<PyAny>),
    Error(Py<PyBaseException>),
    Cancelled,
}

#[pymethods]
impl ExecutorCall {
    /// On a thread of the pool: does the work, and waits there for more. From Python 3.14 on the pool gives it
    /// what it has prepared for its threads, which is nothing.
    #[pyo3(signature = (*_context))]
    fn run(slf: &Bound<'_, Self>, _context: &Bound<'_, PyTuple>) {
        let waker = Self::work(slf);
        WorkQueue::wait(slf.get().queue.bind(slf.py()), waker);
    }

    /// What `shutdown(cancel_futures=True)` calls `cancel()` of.
    #[getter]
    fn future<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }

    /// On any thread: the work is not done, if it has not begun.
    fn cancel(slf: &Bound<'_, Self>) {
        let work = hold(slf).work.take();
        if work.is_none() {
            return;
        }
        drop(work);
        if let Some(waker) = Self::tell(slf, Outcome::Cancelled) {
            waker.wake();
        }
    }

    /// On the loop's thread: gives the future its outcome.
    fn __call__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let (future, outcome) = {
            let mut this = hold(slf);
            (this.future.take(), this.outcome.take())
        };
        let (Some(future), Some(outcome)) = (future, outcome) else {
            return Ok(());
        };
        let future = future.into_bound(py);
        if ask(&future, intern!(py, "cancelled"))? {
            return Ok(());
        }
        if ask(&future, intern!(py, "done"))? {
            // By hand. As in asyncio, which asserts that it is not.
            return Err(PyAssertionError::new_err(()));
        }
        match outcome {
            Outcome::Result(result) => {
                ffi::call_method(intern!(py, "set_result"), [&future, result.bind(py)])
            }
            Outcome::Error(error) => {
                let error = names::ASYNCIOS_ERROR.get(py)?.call1((error,))?;
                ffi::call_method(intern!(py, "set_exception"), [&future, &error])
            }
            Outcome::Cancelled => ffi::call_method(intern!(py, "cancel"), [&future]),
        }
        .map(drop)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.queue)?;
        self.fields.traverse(&visit, |this, visit| {
            visit.call(&this.event_loop)?;
            visit.call(&this.future)?;
            if let Some((function, args)) = &this.work {
                visit.call(function)?;
                visit.call(args)?;
            }
            match &this.outcome {
                Some(Outcome::Result(result)) => visit.call(result),
                Some(Outcome::Error(error)) => visit.call(error),
                Some(Outcome::Cancelled) | None => Ok(()),
            }
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let held = {
            let mut this = hold(slf);
            (
                this.event_loop.take(),
                this.future.take(),
                this.work.take(),
                this.outcome.take(),
            )
        };
        drop(held);
    }
}

impl ExecutorCall {
    pub(super) fn new(
        queue: &Bound<'_, WorkQueue>,
        event_loop: Bound<'_, EventLoop>,
        future: Bound<'_, PyAny>,
        function: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> Self {
        Self {
            queue: queue.clone().unbind(),
            fields: Fields::new(CallFields {
                event_loop: Some(event_loop.unbind()),
                future: Some(future.unbind()),
                work: Some((function.unbind(), args.unbind())),
                outcome: None,
            }),
            _counted: Counted::new(Kind::ExecutorCall),
        }
    }

    /// Does the work unless its future was cancelled, and lets go of all that belongs to it. Then the loop is
    /// told; it has to be woken if there is a waker.
    fn work(slf: &Bound<'_, Self>) -> Option<Waker> {
        let py = slf.py();
        let (future, work) = {
            let mut this = hold(slf);
            (
                this.future.as_ref().map(|it| it.clone_ref(py)),
                this.work.take(),
            )
        };
        let (future, (function, args)) = (future?.into_bound(py), work?);
        let (function, args) = (function.into_bound(py), args.into_bound(py));
        let done = match ask(&future, intern!(py, "cancelled")) {
            Ok(true) => None,
            Ok(false) => Some(function.call1(&args)),
            Err(error) => Some(Err(error)),
        };
        // Before the outcome is told: whoever waits for it may rely on it.
        drop((function, args, future));
        let outcome = match done {
            Some(Ok(result)) => Outcome::Result(result.unbind()),
            Some(Err(error)) => Outcome::Error(error.into_value(py)),
            None => {
                Self::__clear__(slf);
                return None;
            }
        };
        Self::tell(slf, outcome)
    }

    /// Has the loop call this object. A loop that is closed meanwhile is told nothing.
    fn tell(slf: &Bound<'_, Self>, outcome: Outcome) -> Option<Waker> {
        let py = slf.py();
        let event_loop = hold(slf).event_loop.take()?.into_bound(py);
        if event_loop.get().check_open().is_err() {
            drop(outcome);
            Self::__clear__(slf);
            return None;
        }
        hold(slf).outcome = Some(outcome);
        call_soon_unwoken(&event_loop, slf.clone().into_any()).unwrap_or_else(|error| {
            error.write_unraisable(py, Some(slf));
            None
        })
    }
}

/// What the future says when it is asked this.
fn ask(future: &Bound<'_, PyAny>, question: &Bound<'_, PyString>) -> PyResult<bool> {
    ffi::call_method(question, [future])?.is_truthy()
}
