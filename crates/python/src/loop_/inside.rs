//! The internals of asyncio's own loop that libraries know and use: one tick at a time, the queue
//! of ready handles, the timers.
//!
//! asyncio keeps handles in a `deque` and a heap, `_ready` and `_scheduled`. Ours are not Python
//! objects: `_ready` is a view (`oxlip/_inside.py`) over the functions here, `_scheduled` a copy.
//! Some of what is ready has no handle (a connection has something to read): whoever looks at it
//! gets a [`Pending`], which from then on takes its place in the queue.
//!
//! Runs on the loop's thread.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyIndexError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::{EventLoop, Runnable, State, lifecycle, tick};
use crate::handle::{Handle, TimerHandle, collector};
use crate::tasks::{current, step, told};
use crate::{names, transport};

/// Something to run that is no callback of the program's, as a handle.
#[pyclass(frozen, module = "oxlip._native")]
pub(crate) struct Pending {
    event_loop: Py<EventLoop>,
    /// Gone once it has run or was cancelled.
    runnable: Mutex<Option<Runnable>>,
}

impl Pending {
    fn take(&self) -> Option<Runnable> {
        self.runnable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

#[pymethods]
impl Pending {
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<&'py Bound<'py, PyAny>> {
        names::HANDLE.get(slf.py())
    }

    fn _run(&self, py: Python<'_>) -> PyResult<()> {
        match self.take() {
            Some(runnable) => tick::run(self.event_loop.bind(py), runnable),
            None => Ok(()),
        }
    }

    fn cancel(&self) {
        drop(self.take());
    }

    fn cancelled(&self) -> bool {
        let runnable = self.runnable.lock();
        runnable.unwrap_or_else(PoisonError::into_inner).is_none()
    }

    #[getter]
    fn _cancelled(&self) -> bool {
        self.cancelled()
    }

    #[getter]
    fn _callback(&self) -> Option<Py<PyAny>> {
        None
    }

    #[getter]
    fn _args(&self) -> Option<Py<PyAny>> {
        None
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(runnable) = self.runnable.try_lock()
            && let Some(runnable) = &*runnable
        {
            runnable.traverse(&visit)?;
        }
        visit.call(&self.event_loop)
    }

    fn __clear__(&self) {
        drop(self.take());
    }
}

/// `_run()` of a handle that is not ours, or of a [`Pending`].
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt`: `_run()` reports the rest.
#[cold]
pub(super) fn run_foreign(handle: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = handle.py();
    if handle
        .getattr(pyo3::intern!(py, "_cancelled"))?
        .is_truthy()?
    {
        return Ok(());
    }
    handle.call_method0(pyo3::intern!(py, "_run")).map(drop)
}

/// One tick, also inside a handle of another tick, and of a loop that does not run.
///
/// # Errors
/// As [`tick::tick`].
pub(super) fn tick(event_loop: &Bound<'_, EventLoop>, sleep: bool) -> PyResult<()> {
    let owned = lifecycle::own(event_loop)?;
    let result = tick::tick(event_loop, &owned, &mut None, sleep);
    let settled = current::settle(event_loop);
    // What was written leaves, also before an interrupt.
    result.and(settled).and(transport::flush(event_loop))
}

/// Waits, and puts into the queue what happened. Timers stay where they are.
///
/// # Errors
/// `KeyboardInterrupt`, what signal handlers raise; `OSError` if the multiplexer fails.
pub(super) fn poll(event_loop: &Bound<'_, EventLoop>, timeout: Option<f64>) -> PyResult<()> {
    let py = event_loop.py();
    let this = event_loop.get();
    let owned = lifecycle::own(event_loop)?;
    transport::flush(event_loop)?;
    this.drain_inbox(py);
    let timeout = timeout
        .map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX));
    if timeout != Some(Duration::ZERO) {
        this.forget_bursts(&owned);
        this.drop_contexts(&owned);
    }
    // See `tick`: also before a sleep.
    py.check_signals()?;
    let (gone, settled) = owned.with(|state| (state.end_kept(), state.wait(py, timeout)));
    drop(gone);
    let settled = settled?;
    tick::settle(event_loop, &owned, settled)?;
    py.check_signals()?;
    this.drain_inbox(py);
    Ok(())
}

pub(super) fn ready_len(event_loop: &Bound<'_, EventLoop>) -> PyResult<usize> {
    let this = event_loop.get();
    this.drain_inbox(event_loop.py());
    Ok(this.state.with(|state| state.scheduler.ready_len())?)
}

/// The handles in the queue, first to last.
pub(super) fn ready_items<'py>(event_loop: &Bound<'py, EventLoop>) -> PyResult<Bound<'py, PyList>> {
    let this = event_loop.get();
    this.drain_inbox(event_loop.py());
    // Out of the state, since objects are made on the way.
    let mut queue = with_ready(this, std::mem::take)?;
    let shown = queue
        .iter_mut()
        .map(|runnable| show(event_loop, runnable))
        .collect::<PyResult<Vec<_>>>();
    with_ready(this, |meanwhile| {
        queue.append(meanwhile);
        *meanwhile = queue;
    })?;
    PyList::new(event_loop.py(), shown?)
}

/// Puts these handles in the place of those that are ready.
pub(super) fn ready_replace(
    event_loop: &Bound<'_, EventLoop>,
    handles: Vec<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let queue = handles
        .into_iter()
        .map(|handle| runnable(event_loop, handle))
        .collect::<PyResult<VecDeque<_>>>()?;
    let before = with_ready(event_loop.get(), |ready| std::mem::replace(ready, queue))?;
    for runnable in before {
        if let Runnable::Call(handle) = runnable {
            collector::show(handle.bind(event_loop.py()));
        }
    }
    Ok(())
}

pub(super) fn ready_append(
    event_loop: &Bound<'_, EventLoop>,
    handle: Bound<'_, PyAny>,
) -> PyResult<()> {
    let runnable = runnable(event_loop, handle)?;
    with_ready(event_loop.get(), |ready| ready.push_back(runnable))
}

/// # Errors
/// `IndexError` if nothing is ready.
pub(super) fn ready_popleft<'py>(
    event_loop: &Bound<'py, EventLoop>,
) -> PyResult<Bound<'py, PyAny>> {
    let this = event_loop.get();
    this.drain_inbox(event_loop.py());
    let Some(mut first) = with_ready(this, VecDeque::pop_front)? else {
        return Err(PyIndexError::new_err("pop from an empty deque"));
    };
    show(event_loop, &mut first)
}

/// The handles of all timers, in no order.
pub(super) fn timers<'py>(event_loop: &Bound<'py, EventLoop>) -> PyResult<Bound<'py, PyList>> {
    let py = event_loop.py();
    let this = event_loop.get();
    this.drain_inbox(py);
    let mut found = Vec::new();
    this.state.with(|state: &mut State| {
        state.scheduler.for_each_timer(|runnable| {
            if let Runnable::Timer(handle) = runnable {
                found.push(handle.clone_ref(py));
            }
        });
    })?;
    PyList::new(py, found)
}

fn with_ready<R>(
    event_loop: &EventLoop,
    access: impl FnOnce(&mut VecDeque<Runnable>) -> R,
) -> PyResult<R> {
    Ok(event_loop
        .state
        .with(|state| access(state.scheduler.ready_mut()))?)
}

/// The handle of what lies in the queue; what has none becomes [`Pending`].
fn show<'py>(
    event_loop: &Bound<'py, EventLoop>,
    runnable: &mut Runnable,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    Ok(match runnable {
        Runnable::Call(handle) => {
            // It may leave the queue without having run.
            collector::show(handle.bind(py));
            handle.bind(py).clone().into_any()
        }
        Runnable::Timer(handle) => handle.bind(py).clone().into_any(),
        Runnable::Foreign(handle) => handle.bind(py).clone(),
        Runnable::Step(task) | Runnable::Wake(task) => {
            let task = task.bind(py).clone();
            let wakes = matches!(runnable, Runnable::Wake(_));
            let handle = step::as_handle(event_loop, &task, wakes)?;
            let before = std::mem::replace(runnable, Runnable::Call(handle.clone().unbind()));
            drop(before);
            handle.into_any()
        }
        Runnable::Tell(task) if told::is_waited_for(task.bind(py)) => {
            let task = task.bind(py).clone();
            let handle = told::into_handle(event_loop, &task)?;
            let before = std::mem::replace(runnable, Runnable::Call(handle.clone().unbind()));
            drop(before);
            handle.into_any()
        }
        _ => {
            let pending = Pending {
                event_loop: event_loop.clone().unbind(),
                runnable: Mutex::new(None),
            };
            let pending = Bound::new(py, pending)?;
            let placed = Runnable::Foreign(pending.clone().into_any().unbind());
            let original = std::mem::replace(runnable, placed);
            *pending
                .get()
                .runnable
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(original);
            pending.into_any()
        }
    })
}

/// What the queue holds for a handle. A timer that still waits does so no longer.
fn runnable(event_loop: &Bound<'_, EventLoop>, handle: Bound<'_, PyAny>) -> PyResult<Runnable> {
    let handle = match handle.cast_into_exact::<Handle>() {
        Ok(handle) => return Ok(Runnable::Call(handle.unbind())),
        Err(other) => other.into_inner(),
    };
    match handle.cast_into_exact::<TimerHandle>() {
        Ok(handle) => {
            if let Some(timer) = handle.get().swap_timer(&handle, None) {
                event_loop.get().forget_timer(timer);
            }
            Ok(Runnable::Timer(handle.unbind()))
        }
        Err(other) => {
            let handle = other.into_inner();
            if !handle.hasattr(pyo3::intern!(handle.py(), "_run"))? {
                let repr = handle.repr()?;
                return Err(PyTypeError::new_err(format!(
                    "a handle was expected, got {repr}"
                )));
            }
            Ok(Runnable::Foreign(handle.unbind()))
        }
    }
}
