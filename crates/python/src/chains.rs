//! Freeing objects that hold each other in a long chain, without overflowing the stack.
//!
//! An object that is freed gives up what it holds, which is freed in turn, and so on: a future
//! whose callback holds the next one, a handle whose argument is another handle. Tens of thousands
//! of those would overflow the stack. CPython's remedy (its "trashcan") differs from release to
//! release: up to 3.12 it is for deallocators, which are PyO3's here; from 3.14 on it is for all
//! objects. So here references wait instead of objects, in every release, once a few ends are
//! nested.
//!
//! This happens on whatever thread an object is freed, for each thread separately. A program may
//! switch stacks in the middle of it (greenlets) and never come back: what that has counted is
//! forgotten by the loop's next tick.

use std::cell::{Cell, RefCell};

use pyo3::prelude::*;

/// So many ends may lie in each other, as in CPython.
const DEEPEST: u32 = 50;

/// Set beside the depth when something waits.
const WAITS: u32 = 1 << 31;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static WAITING: RefCell<Vec<Py<PyAny>>> = const { RefCell::new(Vec::new()) };
}

/// While an object gives up what it holds.
pub(crate) struct End<'py> {
    py: Python<'py>,
    is_deep: bool,
}

impl<'py> End<'py> {
    #[inline]
    pub(crate) fn begin(py: Python<'py>) -> Self {
        let depth = DEPTH.get();
        DEPTH.set(depth + 1);
        let is_deep = depth & !WAITS >= DEEPEST;
        Self { py, is_deep }
    }

    /// Gives one up: now, or as soon as the outermost of those that end has given up the rest.
    #[inline]
    pub(crate) fn release<T>(&self, held: Py<T>) {
        let held = held.into_bound(self.py);
        if self.is_deep {
            wait(held.into_any());
        }
    }
}

impl Drop for End<'_> {
    #[inline]
    fn drop(&mut self) {
        if count_down() == WAITS {
            release_waiting(self.py);
        }
    }
}

/// One less, unless [`forget_left`] has forgotten it.
#[inline]
fn count_down() -> u32 {
    let depth = DEPTH.get();
    let depth = depth - u32::from(depth & !WAITS > 0);
    DEPTH.set(depth);
    depth
}

/// Whether ends are under way on this thread.
#[inline]
pub(crate) fn are_under_way() -> bool {
    DEPTH.get() != 0
}

/// Where no end can be under way but those that a program has left, or one within which it runs a loop: from here as many
/// more may lie in each other. May run Python code.
#[cold]
pub(crate) fn forget_left(py: Python<'_>) {
    DEPTH.set(0);
    release_waiting(py);
}

#[cold]
fn wait(held: Bound<'_, PyAny>) {
    let held = held.unbind();
    // At the thread's end there is no list any more: then `held` is given up with the closure.
    let waits = WAITING.try_with(|waiting| waiting.borrow_mut().push(held));
    if waits.is_ok() {
        DEPTH.set(DEPTH.get() | WAITS);
    }
}

#[cold]
fn release_waiting(py: Python<'_>) {
    let next = || WAITING.try_with(|waiting| waiting.borrow_mut().pop());
    // What ends by it is not the outermost, and may add to the list. Counted up and down, not set: a program that
    // changes stacks (greenlets) may be in another end, too.
    DEPTH.set((DEPTH.get() & !WAITS) + 1);
    while let Ok(Some(held)) = next() {
        drop(held.into_bound(py));
    }
    DEPTH.set(DEPTH.get() & !WAITS);
    count_down();
    // None is left: the memory goes, too.
    let list = WAITING.try_with(RefCell::take);
    drop(list);
}
