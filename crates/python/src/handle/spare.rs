//! Handles that have run and are reused: whoever scheduled them mostly never looks at them, and an
//! object that is there already is cheaper than a new one.
//!
//! On the thread of the loop, which keeps them, and lends other threads as many as their bursts of
//! calls need.

use std::sync::atomic::Ordering;

use oxlip_core::bursts::{self, Bursts};
use oxlip_core::time::Time;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::args::Args;
use super::callback::{HasCallback, remember_source, report, run, with_slots};
use super::collector::{self, is_alone};
use super::{Handle, TimerHandle};
use crate::context::{self, Chosen, Runner};

/// Those of one loop, empty.
#[derive(Default)]
pub(crate) struct Spare {
    handles: Vec<Py<Handle>>,
    timers: Vec<Py<TimerHandle>>,
    /// So many handles have come from other threads, and none has gone back for them yet.
    owed: usize,
    bursts: Bursts,
}

/// Handles that other threads may use again. Not the loop's thread alone has them, so a lock must be around.
#[derive(Default)]
pub(crate) struct Lent(Vec<Py<Handle>>);

impl Lent {
    /// The next, as [`Spare::handle`].
    #[inline]
    pub(crate) fn handle(&mut self, py: Python<'_>) -> Option<Py<Handle>> {
        next(py, &mut self.0)
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.iter().try_for_each(|it| visit.call(it))
    }
}

/// So many handles go back at once although the loop does not sleep.
const MANY: usize = 64;

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
            Used::Handle(handle) if self.handles.len() < bursts::ALWAYS + self.owed => {
                self.handles.push(handle);
            }
            Used::Timer(timer) if self.timers.len() < bursts::ALWAYS => self.timers.push(timer),
            used => return Some(used),
        }
        None
    }

    /// So many handles have come at once from other threads; true if that is more than was expected. Whether the
    /// next such burst finds them all is said by `follow`: then [`Spare::pass`] must be called from time to time.
    #[inline]
    pub(crate) fn came(&mut self, count: usize, follow: bool) -> bool {
        let before = self.bursts.limit();
        if follow {
            self.bursts.arrived(count);
        }
        self.owed = (self.owed + count).min(self.bursts.limit());
        self.bursts.limit() > before
    }

    /// How many other threads may schedule at once and find used handles.
    pub(crate) fn limit(&self) -> usize {
        self.bursts.limit()
    }

    /// Whether other threads should get theirs soon, or less is to be kept.
    #[inline]
    pub(crate) fn is_left_by_bursts(&self) -> bool {
        self.owed >= MANY || self.is_raised()
    }

    /// Lends as many as other threads have brought. Of theirs at most `queued` are still to run: what has run and is not
    /// here does not come back.
    #[inline]
    pub(crate) fn lend(&mut self, lent: &mut Lent, queued: usize) {
        let wanted = self.bursts.limit().saturating_sub(lent.0.len());
        self.owed = self.owed.min(wanted);
        let left = self.handles.len().saturating_sub(self.owed);
        self.owed -= self.handles.len() - left;
        lent.0.extend(self.handles.drain(left..));
        self.owed = self.owed.min(queued);
    }

    /// Whether more is kept than always, which is to end.
    #[inline]
    pub(crate) fn is_raised(&self) -> bool {
        self.bursts.is_raised()
    }

    /// Whether less is kept from now on: then [`Spare::trim`] finds some.
    pub(crate) fn pass(&mut self, now: Time) -> bool {
        self.bursts.pass(now)
    }

    /// Less is kept from now on: as [`Spare::pass`], where nobody would call that again.
    pub(crate) fn forget_bursts(&mut self) {
        self.bursts.end();
    }

    /// Takes out what is too much, to be dropped where Python code may run.
    #[must_use]
    pub(crate) fn trim(&mut self, lent: &mut Lent) -> Vec<Py<Handle>> {
        let limit = self.bursts.limit();
        self.owed = self.owed.min(limit);
        let mut over = take_over(&mut lent.0, limit);
        over.extend(take_over(&mut self.handles, bursts::ALWAYS + self.owed));
        over
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.handles.iter().try_for_each(|it| visit.call(it))?;
        self.timers.iter().try_for_each(|it| visit.call(it))
    }
}

fn take_over(kept: &mut Vec<Py<Handle>>, limit: usize) -> Vec<Py<Handle>> {
    let over = kept.split_off(limit.min(kept.len()));
    kept.shrink_to(limit);
    over
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

impl Used {
    /// To be dropped where the interpreter is known to be attached.
    #[cfg(not(Py_GIL_DISABLED))]
    pub(super) fn into_bound(self, py: Python<'_>) -> Bound<'_, PyAny> {
        match self {
            Self::Handle(handle) => handle.into_bound(py).into_any(),
            Self::Timer(timer) => timer.into_bound(py).into_any(),
        }
    }
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
