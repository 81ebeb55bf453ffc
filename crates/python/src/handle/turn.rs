//! Running a callback while other threads must not overtake it: from Python 3.14 on, the methods of
//! a handle of `call_soon_threadsafe` exclude each other. Once `cancel()` has returned on another
//! thread, the callback is not running and never will, so what it uses can be freed.
//!
//! asyncio has a lock in each of these handles (`_ThreadSafeHandle`, with an `RLock`). Here the
//! handle notes which thread runs it, and whoever has to wait, which is rare, makes the lock. It is
//! one of Python's: signal handlers run during the wait, and Ctrl-C ends it.
//!
//! Used by the two classes of handle, on any thread.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

use super::callback::{HasCallback, Slots, with_slots};
use crate::names;
use crate::owner::thread_token;

/// What asyncio calls the class of handles that take turns.
pub(super) const NAME: &str = "_ThreadSafeHandle";

/// Somebody runs the callback.
pub(super) struct Turn {
    thread: usize,
    /// How many times over: a callback may run its own handle.
    depth: usize,
    /// A locked lock of each that waits.
    waiting: Vec<Py<PyAny>>,
}

impl Turn {
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.waiting.iter().try_for_each(|lock| visit.call(lock))
    }
}

/// Does `then` at a moment when no other thread runs the callback. Must not run Python code.
///
/// # Errors
/// What a signal handler raises while it waits; out of memory.
pub(super) fn wait<H: HasCallback, R>(
    handle: &Bound<'_, H>,
    then: impl FnOnce(&mut Slots) -> R,
) -> PyResult<R> {
    let py = handle.py();
    let me = thread_token();
    let mut then = Some(then);
    loop {
        let done = with_slots(handle, |slots| match turn_of_another(slots, me) {
            Some(_) => None,
            None => then.take().map(|then| then(slots)),
        });
        if let Some(result) = done {
            return Ok(result);
        }
        let lock = names::ALLOCATE_LOCK.get(py)?.call0()?;
        let acquire = lock.getattr(intern!(py, "acquire"))?;
        acquire.call0()?;
        let waits = with_slots(handle, |slots| {
            let turn = turn_of_another(slots, me)?;
            turn.waiting.push(lock.clone().unbind());
            Some(())
        });
        if waits.is_some() {
            acquire.call0()?; // once more: until the turn is over
        }
    }
}

fn turn_of_another(slots: &mut Slots, me: usize) -> Option<&mut Turn> {
    let turn = slots.rare.as_mut()?.turn.as_mut()?;
    (turn.thread != me).then_some(turn)
}

/// Begins to run the callback, until the guard is dropped.
///
/// # Errors
/// As [`wait`].
pub(super) fn take<'a, 'py, H: HasCallback>(
    handle: &'a Bound<'py, H>,
) -> PyResult<Taken<'a, 'py, H>> {
    let thread = thread_token();
    wait(handle, |slots| {
        let turn = &mut slots.rare.get_or_insert_default().turn;
        let turn = turn.get_or_insert_with(|| Turn {
            thread,
            depth: 0,
            waiting: Vec::new(),
        });
        turn.depth += 1;
    })?;
    Ok(Taken(handle))
}

/// The calling thread runs the callback.
pub(super) struct Taken<'a, 'py, H: HasCallback>(&'a Bound<'py, H>);

impl<H: HasCallback> Drop for Taken<'_, '_, H> {
    fn drop(&mut self) {
        let py = self.0.py();
        let over = with_slots(self.0, |slots| {
            let turn = &mut slots.rare.as_mut()?.turn;
            let taken = turn.as_mut()?;
            taken.depth -= 1;
            if taken.depth == 0 { turn.take() } else { None }
        });
        for lock in over.into_iter().flat_map(|turn| turn.waiting) {
            if let Err(error) = lock.call_method0(py, intern!(py, "release")) {
                error.write_unraisable(py, Some(lock.bind(py)));
            }
        }
    }
}
