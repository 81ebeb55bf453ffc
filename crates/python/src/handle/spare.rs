//! Handles that have run and are used again: most are never looked at by who scheduled them, and an
//! object that is there is cheaper than a new one.
//!
//! On the thread of the loop, which keeps them.

use std::sync::atomic::Ordering;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::args::Args;
use super::callback::{HasCallback, remember_source, report, run, with_slots};
use super::collector::{self, is_alone};
use super::{Handle, TimerHandle};
use crate::context::{self, Chosen, Runner};

/// More than this many of a kind are not kept: a burst must not hold its memory for ever.
const AT_MOST: usize = 1024;

/// Those of one loop, empty.
#[derive(Default)]
pub(crate) struct Spare {
    handles: Vec<Py<Handle>>,
    timers: Vec<Py<TimerHandle>>,
}

impl Spare {
    #[inline]
    pub(crate) fn handle(&mut self, py: Python<'_>) -> Option<Py<Handle>> {
        next(py, &mut self.handles)
    }

    #[inline]
    pub(crate) fn timer(&mut self, py: Python<'_>) -> Option<Py<TimerHandle>> {
        next(py, &mut self.timers)
    }

    /// Keeps a handle that has run, unless there are enough: then it comes back.
    #[inline]
    pub(crate) fn keep(&mut self, used: Used) -> Option<Used> {
        match used {
            Used::Handle(handle) if self.handles.len() < AT_MOST => self.handles.push(handle),
            Used::Timer(timer) if self.timers.len() < AT_MOST => self.timers.push(timer),
            used => return Some(used),
        }
        None
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.handles.iter().try_for_each(|it| visit.call(it))?;
        self.timers.iter().try_for_each(|it| visit.call(it))
    }
}

/// The next, unless a program has found it meanwhile, while it ran or here: the collector shows its objects to
/// who asks for them. Such a one stays, since its end may run Python code, and is not looked at soon again.
#[inline]
fn next<H: HasCallback>(py: Python<'_>, kept: &mut Vec<Py<H>>) -> Option<Py<H>> {
    let handle = kept.last()?.bind(py);
    if is_alone(handle) && !handle.get().callback().is_cancelled() {
        return kept.pop();
    }
    let last = kept.len() - 1;
    kept.swap(0, last);
    None
}

/// A handle that has run, is empty, and that nobody else refers to.
pub(crate) enum Used {
    Handle(Py<Handle>),
    Timer(Py<TimerHandle>),
}

/// Runs a handle that the queue has given up. If nobody else refers to it, it comes back empty.
///
/// # Errors
/// As [`run`].
#[inline]
pub(super) fn run_queued<'py, H: HasCallback>(
    handle: Bound<'py, H>,
    runner: &mut Option<Runner>,
) -> PyResult<Option<Bound<'py, H>>> {
    let watched = with_slots(&handle, |slots| slots.rare.is_some());
    if watched || !is_alone(&handle) {
        collector::reveal(&handle);
        run(&handle)?;
        return Ok(None);
    }
    let py = handle.py();
    let (due, context) = with_slots(&handle, |slots| (slots.call.take(), slots.context.take()));
    let (Some((callback, args)), Some(context)) = (due, context) else {
        handle
            .get()
            .callback()
            .cancelled
            .store(false, Ordering::Relaxed);
        return Ok(Some(handle));
    };
    let callback = callback.into_bound(py);
    let (result, own) = match context {
        Chosen::Own(own) => {
            let own = own.into_bound(py);
            let result = context::run(py, own.as_unbound(), || args.call(&callback));
            (result, own)
        }
        Chosen::Shared(snapshot) => {
            let mine = Runner::for_snapshot(runner.take(), snapshot.into_bound(py))?;
            let result = context::run(py, &mine.context, || args.call(&callback));
            match result {
                Ok(_) => {
                    args.release(py);
                    *runner = mine.unchanged(py);
                    return Ok(Some(handle));
                }
                result => (result, mine.context.into_bound(py)),
            }
        }
    };
    match result {
        Ok(_) => {
            args.release(py);
            Ok(Some(handle))
        }
        Err(error) => {
            let put = (callback.clone().unbind(), args.clone_ref(py));
            with_slots(&handle, |slots| {
                slots.call = Some(put);
                slots.context = Some(Chosen::Own(own.unbind()));
            });
            collector::reveal(&handle);
            report(&handle, &callback, &args, error)?;
            Ok(None)
        }
    }
}

/// Makes a spare handle, one of the same loop, stand for another call; runs no Python code.
#[inline]
pub(super) fn refill<H: HasCallback>(
    spare: &Bound<'_, H>,
    callback: Bound<'_, PyAny>,
    args: Args,
    context: Chosen,
) {
    spare.get().callback().set_takes_turns(false);
    with_slots(spare, |slots| {
        slots.call = Some((callback.unbind(), args));
        slots.context = Some(context);
    });
}

/// The same, also in debug mode.
///
/// # Errors
/// Those of remembering where it was scheduled.
#[inline]
pub(super) fn reuse<'py, H: HasCallback>(
    spare: Bound<'py, H>,
    callback: Bound<'py, PyAny>,
    args: Args,
    context: Chosen,
) -> PyResult<Bound<'py, H>> {
    refill(&spare, callback, args, context);
    if spare.get().callback().event_loop.get().is_debug() {
        remember_source(&spare)?;
    }
    Ok(spare)
}
