//! Living tasks that the set behind `asyncio.all_tasks()` does not have yet: it gets them when
//! somebody looks.
//!
//! In that set each task is a weak reference with a callback, a sixth of what a short task costs,
//! and all in vain where nobody asks which tasks there are. Here it is one place in a list, which
//! the task knows. `_TaskSet` of `python/oxlip/_task_set.py` has the set filled before its data are
//! read, and before a collection.
//!
//! Only with a GIL, which every caller holds. The references are not counted: a task leaves the
//! list before it is freed, and before the callbacks of weak references to it could look for it
//! here.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::prelude::*;
use pyo3::{Borrowed, ffi};

use super::Task;
use crate::fields::Fields;

/// A task in the list.
struct Listed(NonNull<ffi::PyObject>);

// SAFETY: looked at with the GIL held only.
unsafe impl Send for Listed {}

/// Room for more is given back when all are listed.
const KEPT: usize = 1024;

static LIST: Fields<Vec<Listed>> = Fields::new(Vec::new());

/// Where in the list a task is.
#[derive(Default)]
pub(super) struct Place(AtomicUsize);

impl Place {
    /// One more than the index; 0: nowhere.
    #[inline]
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    fn set(&self, place: usize) {
        self.0.store(place, Ordering::Relaxed);
    }
}

/// Adds a task, if it is of exactly our class: the end of others may run a program while nobody refers to them.
/// False: it is not in the list.
#[inline]
pub(super) fn add(task: &Bound<'_, Task>) -> bool {
    if cfg!(Py_GIL_DISABLED) || !task.is_exact_instance_of::<Task>() {
        return false;
    }
    let place = &task.get().place;
    if place.get() == 0
        && let Some(object) = NonNull::new(task.as_ptr())
    {
        let mut list = LIST.hold(task.py());
        list.push(Listed(object));
        place.set(list.len());
    }
    true
}

/// The task is about to be freed, or cleared.
#[inline]
pub(super) fn remove(py: Python<'_>, place: &Place) {
    let at = place.get();
    if at == 0 {
        return;
    }
    place.set(0);
    let mut list = LIST.hold(py);
    list.swap_remove(at - 1);
    if let Some(moved) = list.get(at - 1) {
        moved.task(py).get().place.set(at);
    }
}

/// One of the list. [`remove`] takes it out.
pub(super) fn any(py: Python<'_>) -> Option<Bound<'_, Task>> {
    let mut list = LIST.hold(py);
    while let Some(last) = list.last() {
        let task = last.task(py);
        // SAFETY: it is in the list, so its memory is not freed. Nobody may refer to it any more: the interpreter can put off
        // the end of a task, with all that this runs, and what runs meanwhile looks here.
        if unsafe { ffi::Py_REFCNT(task.as_ptr()) } > 0 {
            return Some(task.to_owned());
        }
        task.get().place.set(0);
        list.pop();
    }
    // A burst is over.
    if list.capacity() > KEPT {
        *list = Vec::new();
    }
    None
}

impl Listed {
    #[inline]
    fn task<'py>(&self, py: Python<'py>) -> Borrowed<'_, 'py, Task> {
        // SAFETY: a live task, as it is still in the list: `add` has seen its class.
        unsafe { Borrowed::from_ptr(py, self.0.as_ptr()).cast_unchecked() }
    }
}
