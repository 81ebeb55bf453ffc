//! `call_soon`, `call_soon_threadsafe`, `call_later`, `call_at`, `time`.

use std::sync::atomic::Ordering;

use oxlip_core::time::Time;
use oxlip_core::timers::TimerId;
use oxlip_driver::{Driver as _, clock};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::{EventLoop, Runnable, replaced};
use crate::context::Chosen;
use crate::handle::{Args, Handle, TimerHandle, collector};
use crate::names;

/// The loop's clock; readable from every thread, and after the loop was closed. A simulated clock
/// belongs to the loop's thread: others see the time that was asked for last.
pub(super) fn now(event_loop: &EventLoop) -> Time {
    let now = event_loop
        .state
        .with(|state| state.driver.as_ref().map(|driver| driver.now()));
    let simulated = event_loop.driver_name == "sim";
    match now {
        Ok(Some(now)) => {
            if simulated {
                event_loop
                    .last_time
                    .store(now.as_nanos(), Ordering::Relaxed);
            }
            now
        }
        _ if simulated => Time::from_nanos(event_loop.last_time.load(Ordering::Relaxed)),
        _ => clock::monotonic(),
    }
}

#[inline]
pub(super) fn call_soon<'py>(
    event_loop: &Bound<'py, EventLoop>,
    callback: Bound<'py, PyAny>,
    args: Args,
    context: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, Handle>> {
    let this = event_loop.get();
    this.check_open()?;
    if this.is_debug() {
        check_thread(this)?;
        check_callback(&callback, "call_soon")?;
    }
    this.schedule(event_loop, callback, args, context, |_| {})
}

pub(super) fn call_soon_threadsafe<'py>(
    event_loop: &Bound<'py, EventLoop>,
    callback: Bound<'py, PyAny>,
    args: Args,
    context: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, Handle>> {
    let this = event_loop.get();
    this.check_open()?;
    if this.is_debug() {
        check_callback(&callback, "call_soon_threadsafe")?;
    }
    if this.runs_elsewhere() {
        return this.schedule_from_elsewhere(
            event_loop,
            callback,
            args,
            context,
            Handle::take_turns,
        );
    }
    // On the loop's own thread this is call_soon, so that both keep one order, as in asyncio.
    this.schedule(event_loop, callback, args, context, Handle::take_turns)
}

/// Schedules as from another thread, even on the loop's own: behind everything that is scheduled when the next
/// tick begins.
pub(super) fn call_by_inbox(
    event_loop: &Bound<'_, EventLoop>,
    callback: Bound<'_, PyAny>,
    args: Args,
) -> PyResult<()> {
    let this = event_loop.get();
    this.check_open()?;
    this.schedule_from_elsewhere(event_loop, callback, args, None, |_| {})
        .map(drop)
}

/// Has the loop's thread call a method of `object`'s class, where this thread must not, although it could with
/// asyncio's object.
///
/// # Errors
/// `RuntimeError` if the loop is closed.
pub(crate) fn pass_on(
    event_loop: &Bound<'_, EventLoop>,
    object: &Bound<'_, PyAny>,
    method: &str,
    more: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    // Not what a program has set on the object under this name, which was called already.
    let function = object.get_type().getattr(method)?;
    let args = PyTuple::new(
        event_loop.py(),
        std::iter::once(object).chain(more).collect::<Vec<_>>(),
    )?;
    call_soon_threadsafe(event_loop, function, Args::of_tuple(args), None).map(drop)
}

pub(super) fn call_later<'py>(
    event_loop: &Bound<'py, EventLoop>,
    delay: &Bound<'py, PyAny>,
    callback: Bound<'py, PyAny>,
    args: Args,
    context: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    if delay.is_none() {
        return Err(PyTypeError::new_err("delay must not be None"));
    }
    if event_loop.get().has_own_timers() {
        return replaced::call_later(event_loop, delay, callback, &args, context);
    }
    let when = now(event_loop.get()).as_secs_f64() + crate::ffi::seconds(delay)?;
    schedule_at(event_loop, when, callback, args, context).map(Bound::into_any)
}

pub(super) fn call_at<'py>(
    event_loop: &Bound<'py, EventLoop>,
    when: &Bound<'py, PyAny>,
    callback: Bound<'py, PyAny>,
    args: Args,
    context: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, TimerHandle>> {
    if when.is_none() {
        return Err(PyTypeError::new_err("when cannot be None"));
    }
    schedule_at(
        event_loop,
        crate::ffi::seconds(when)?,
        callback,
        args,
        context,
    )
}

fn schedule_at<'py>(
    event_loop: &Bound<'py, EventLoop>,
    when: f64,
    callback: Bound<'py, PyAny>,
    args: Args,
    context: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, TimerHandle>> {
    let this = event_loop.get();
    this.check_open()?;
    if this.is_debug() {
        check_thread(this)?;
        check_callback(&callback, "call_at")?;
    }
    let mut call = Some((callback, args));
    if context.is_none()
        && !this.is_debug()
        && let Some(handle) = this.schedule_spare_at(event_loop.py(), when, &mut call)
    {
        return Ok(handle);
    }
    let (callback, args) = call.expect("taken only by a handle that was given back");
    let context = this.choose(context, event_loop.py())?;
    let py = event_loop.py();
    let spare = this.state.with(|state| state.spare.timer(py));
    let handle = match spare {
        Ok(Some(spare)) => {
            let spare = spare.into_bound(event_loop.py());
            TimerHandle::reuse(spare, when, callback, args, context)?
        }
        _ => TimerHandle::new(event_loop, when, callback, args, context)?,
    };
    this.set_timer(&handle);
    Ok(handle)
}

/// asyncio's debug-mode check. Outside debug mode a call from another thread is made safe instead: it is
/// scheduled as by `call_soon_threadsafe`.
fn check_thread(event_loop: &EventLoop) -> PyResult<()> {
    if event_loop.runs_elsewhere() {
        return Err(PyRuntimeError::new_err(
            "Non-thread-safe operation invoked on an event loop other than the current one",
        ));
    }
    Ok(())
}

pub(super) fn check_callback(callback: &Bound<'_, PyAny>, method: &str) -> PyResult<()> {
    let py = callback.py();
    if names::IS_COROUTINE
        .get(py)?
        .call1((callback,))?
        .is_truthy()?
        || names::IS_COROUTINE_FUNCTION
            .get(py)?
            .call1((callback,))?
            .is_truthy()?
    {
        return Err(PyTypeError::new_err(format!(
            "coroutines cannot be used with {method}()"
        )));
    }
    if !callback.is_callable() {
        let repr = callback.repr()?;
        return Err(PyTypeError::new_err(format!(
            "a callable object was expected by {method}(), got {repr}"
        )));
    }
    Ok(())
}

impl EventLoop {
    /// Makes a handle, or takes a spare one, calls `prepare` with it, and queues it. `prepare` must not run Python
    /// code.
    #[inline]
    fn schedule<'py>(
        &self,
        event_loop: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        args: Args,
        context: Option<Bound<'py, PyAny>>,
        prepare: impl Fn(&Handle),
    ) -> PyResult<Bound<'py, Handle>> {
        let mut call = Some((callback, args));
        if context.is_none()
            && !self.is_debug()
            && let Some(handle) = self.schedule_spare(event_loop.py(), &mut call, &prepare)
        {
            return Ok(handle);
        }
        let (callback, args) = call.expect("taken only by a handle that was given back");
        self.schedule_other(event_loop, callback, args, context, prepare)
    }

    /// The usual case of [`EventLoop::schedule`]: a spare handle, and the context that others have.
    /// Nothing is made or freed, so no Python code runs, and the state is borrowed once.
    #[inline]
    fn schedule_spare<'py>(
        &self,
        py: Python<'py>,
        call: &mut Option<(Bound<'py, PyAny>, Args)>,
        prepare: impl Fn(&Handle),
    ) -> Option<Bound<'py, Handle>> {
        let scheduled = self.state.with(|state| {
            let context = state.snapshot.if_current(py)?;
            let spare = state.spare.handle(py)?.into_bound(py);
            let (callback, args) = call.take()?;
            Handle::stand_for(&spare, callback, args, context);
            prepare(spare.get());
            state.scheduler.push(Runnable::Call(spare.clone().unbind()));
            Some(spare)
        });
        scheduled.ok().flatten()
    }

    /// The usual case of [`schedule_at`], as [`EventLoop::schedule_spare`].
    #[inline]
    fn schedule_spare_at<'py>(
        &self,
        py: Python<'py>,
        when: f64,
        call: &mut Option<(Bound<'py, PyAny>, Args)>,
    ) -> Option<Bound<'py, TimerHandle>> {
        let scheduled = self.state.with(|state| {
            let context = state.snapshot.if_current(py)?;
            let spare = state.spare.timer(py)?.into_bound(py);
            let (callback, args) = call.take()?;
            TimerHandle::stand_for(&spare, when, callback, args, context);
            let timer = Runnable::Timer(spare.clone().unbind());
            let timer = state.scheduler.push_at(Time::from_secs_f64(when), timer);
            spare.get().swap_timer(&spare, Some(timer));
            Some(spare)
        });
        scheduled.ok().flatten()
    }

    /// As [`EventLoop::schedule`], where something has to be made, or this thread does not own the
    /// state.
    fn schedule_other<'py>(
        &self,
        event_loop: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        args: Args,
        context: Option<Bound<'py, PyAny>>,
        prepare: impl Fn(&Handle),
    ) -> PyResult<Bound<'py, Handle>> {
        let py = event_loop.py();
        let lent = self
            .state
            .with(|state| (state.spare.handle(py), state.snapshot.take()));
        let Ok((spare, mut snapshot)) = lent else {
            return self.schedule_from_elsewhere(event_loop, callback, args, context, prepare);
        };
        let context = Chosen::new(context, &mut snapshot, py)?;
        let handle = match spare {
            Some(spare) => Handle::reuse(spare.into_bound(py), callback, args, context)?,
            None => {
                let handle = Handle::new(event_loop, callback, args, context)?;
                if self.runs() {
                    collector::hide(&handle);
                }
                handle
            }
        };
        prepare(handle.get());
        let mut queued = Some((Runnable::Call(handle.clone().unbind()), snapshot));
        let replaced = self.state.with(|state| {
            queued.take().map(|(runnable, snapshot)| {
                state.scheduler.push(runnable);
                std::mem::replace(&mut state.snapshot, snapshot)
            })
        });
        drop(replaced);
        if let Some((runnable, _)) = queued {
            self.send(runnable);
        }
        Ok(handle)
    }

    /// As [`EventLoop::schedule`], on a thread that does not own the state.
    #[inline]
    fn schedule_from_elsewhere<'py>(
        &self,
        event_loop: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        args: Args,
        context: Option<Bound<'py, PyAny>>,
        prepare: impl Fn(&Handle),
    ) -> PyResult<Bound<'py, Handle>> {
        let mut call = Some((callback, args));
        let mut chosen = None;
        if context.is_none()
            && !self.is_debug()
            && let Some(handle) =
                self.schedule_lent(event_loop.py(), &mut call, &mut chosen, &prepare)
        {
            return Ok(handle);
        }
        let (callback, args) = call.expect("taken only by a handle that was given back");
        let chosen = match chosen {
            Some(chosen) => chosen,
            None => self.choose_elsewhere(context, event_loop.py())?,
        };
        self.schedule_new_elsewhere(event_loop, callback, args, chosen, prepare)
    }

    /// The usual case of [`EventLoop::schedule_from_elsewhere`], as [`EventLoop::schedule_spare`] is
    /// that of the loop's own thread: the inbox is locked once, and no Python code runs meanwhile. If only
    /// the handle is missing, its context is chosen.
    #[inline]
    fn schedule_lent<'py>(
        &self,
        py: Python<'py>,
        call: &mut Option<(Bound<'py, PyAny>, Args)>,
        chosen: &mut Option<Chosen>,
        prepare: impl Fn(&Handle),
    ) -> Option<Bound<'py, Handle>> {
        let mut scheduled = None;
        let wakes = self.inbox.push_made(|for_others| {
            let context = for_others.snapshot.if_current(py)?;
            let Some(spare) = for_others.lent.handle(py) else {
                *chosen = Some(context);
                return None;
            };
            let spare = spare.into_bound(py);
            let (callback, args) = call.take()?;
            Handle::stand_for(&spare, callback, args, context);
            prepare(spare.get());
            scheduled = Some(spare.clone());
            Some(Runnable::Call(spare.unbind()))
        });
        if wakes {
            self.wake();
        }
        scheduled
    }

    /// As [`EventLoop::schedule_from_elsewhere`], where something has to be made.
    #[inline(never)]
    fn schedule_new_elsewhere<'py>(
        &self,
        event_loop: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        args: Args,
        context: Chosen,
        prepare: impl Fn(&Handle),
    ) -> PyResult<Bound<'py, Handle>> {
        let handle = Handle::new(event_loop, callback, args, context)?;
        if self.runs() {
            collector::hide(&handle);
        }
        prepare(handle.get());
        self.send(Runnable::Call(handle.clone().unbind()));
        Ok(handle)
    }

    /// The context of a handle that is scheduled now.
    fn choose(&self, given: Option<Bound<'_, PyAny>>, py: Python<'_>) -> PyResult<Chosen> {
        let Ok(mut snapshot) = self.state.with(|state| state.snapshot.take()) else {
            return self.choose_elsewhere(given, py);
        };
        let chosen = Chosen::new(given, &mut snapshot, py);
        let replaced = self
            .state
            .with(|state| std::mem::replace(&mut state.snapshot, snapshot));
        drop(replaced);
        chosen
    }

    /// As [`EventLoop::choose`], on a thread that does not own the state.
    fn choose_elsewhere(
        &self,
        given: Option<Bound<'_, PyAny>>,
        py: Python<'_>,
    ) -> PyResult<Chosen> {
        // Copying a context may run the collector, and so any code, which may schedule in turn: so it is not done
        // with the lock held. Threads that come meanwhile do without the shared copy.
        let mut snapshot = self.inbox.lend(|for_others| for_others.snapshot.take());
        let chosen = Chosen::new(given, &mut snapshot, py);
        let replaced = self
            .inbox
            .lend(|for_others| std::mem::replace(&mut for_others.snapshot, snapshot));
        drop(replaced);
        chosen
    }

    /// As `call_soon()`, for something that has no handle.
    ///
    /// # Errors
    /// `RuntimeError` if the loop is closed.
    #[inline]
    pub(crate) fn queue(&self, runnable: Runnable) -> PyResult<()> {
        self.check_open()?;
        self.push(runnable);
        Ok(())
    }

    /// Runs `runnable` in the next tick.
    #[inline]
    pub(crate) fn push(&self, runnable: Runnable) {
        let mut runnable = Some(runnable);
        let pushed = self
            .state
            .with(|state| runnable.take().map(|it| state.scheduler.push(it)));
        if pushed.is_err()
            && let Some(runnable) = runnable
        {
            self.send(runnable);
        }
    }

    /// As [`EventLoop::push`], from any thread: wakes the loop if it sleeps.
    pub(crate) fn send(&self, runnable: Runnable) {
        if self.inbox.push(runnable) {
            self.wake();
        }
    }

    /// Keeps a used handle, if this is the loop's thread and there are not enough.
    #[cfg(not(Py_GIL_DISABLED))]
    #[inline]
    pub(crate) fn keep_used(&self, used: &mut Option<crate::handle::Used>) {
        self.state.try_with(|state| {
            if state.driver.is_some() {
                *used = used.take().and_then(|it| state.spare.keep(it));
            }
        });
    }

    /// Sets the timer, or asks the loop's thread to do so.
    pub(super) fn set_timer(&self, handle: &Bound<'_, TimerHandle>) {
        if handle.get().is_cancelled() {
            return;
        }
        let when = Time::from_secs_f64(handle.get().when_secs());
        let entry = handle.clone().unbind();
        let mut entry = Some(entry);
        let set = self.state.with(|state| {
            entry
                .take()
                .map(|entry| state.scheduler.push_at(when, Runnable::Timer(entry)))
        });
        match set {
            Ok(timer) => {
                handle.get().swap_timer(handle, timer);
            }
            Err(_) => {
                if let Some(entry) = entry {
                    self.send(Runnable::Timer(entry));
                }
            }
        }
    }

    /// Takes a cancelled timer out. From another thread it stays until it is due, and is skipped.
    pub(crate) fn forget_timer(&self, timer: TimerId) {
        let cancelled = self.state.with(|state| state.scheduler.cancel_timer(timer));
        drop(cancelled);
    }
}
