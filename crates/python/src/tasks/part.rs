//! What CPython 3.14 and later read from asyncio's part of a future or a task: who waits for it
//! (`asyncio.capture_call_graph()`), its place in the list of its thread's tasks
//! (`asyncio.all_tasks()`), and a task's coroutine and name (`python -m asyncio ps`, in another
//! process).
//!
//! These are asyncio's own fields, filled in so that its functions find what they would have put
//! there. For the rest of this folder, on the thread of the future's loop. Before 3.14, and without
//! a GIL, none of this is done.

use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{ffi, intern};

use super::core::Native;
use super::{Any, Task};
use crate::names;

/// Whether asyncio keeps anything there.
pub(crate) const IS_KEPT: bool = cfg!(all(Py_3_14, not(Py_GIL_DISABLED)));

/// Words behind the head of an instance: who waits for it, one or a set of more.
const AWAITED_BY: usize = 10;
/// Bytes behind the four of the state, which is the next word: whether it is a task; whether that is a set.
const IS_TASK: usize = 4;
const IS_SET: usize = 5;
/// Words of a task.
const CORO: usize = 14;
const NAME: usize = 15;
const NODE: usize = 17;

/// A node of a list, or its head: each is linked with two others.
#[repr(C)]
struct Node {
    next: *mut Self,
    prev: *mut Self,
}

/// Where a thread's state has the running loop, with the current task behind it, and the list of its tasks; 0: unknown.
static LOOP_AT: AtomicUsize = AtomicUsize::new(0);
static LIST_AT: AtomicUsize = AtomicUsize::new(0);

/// How far from the list the running loop may be.
const NEAR: usize = 8;

/// Looks where the running Python has all this; false: not where it was in those that are known.
///
/// # Errors
/// asyncio has no such functions; out of memory.
pub(super) fn find(py: Python<'_>) -> PyResult<bool> {
    if !IS_KEPT || LIST_AT.load(Ordering::Relaxed) != 0 {
        return Ok(true);
    }
    let class = names::C_TASK.get(py)?.cast::<PyType>()?;
    let new = || class.call_method1(intern!(py, "__new__"), (class,));
    let (task, other) = (new()?, new()?);
    names::ADD_TO_AWAITED_BY.get(py)?.call1((&task, &other))?;
    // SAFETY: an instance of asyncio's class, whose size was compared, has these words.
    let kept = unsafe { *word(&task, AWAITED_BY) } == other.as_ptr();
    names::DISCARD_FROM_AWAITED_BY
        .get(py)?
        .call1((&task, &other))?;
    names::REGISTER_TASK.get(py)?.call1((&task,))?;
    // SAFETY: as above. The thread's state is live; with its address alone is counted.
    let (list, state) = unsafe {
        let node: *mut Node = word(&task, NODE).cast();
        ((*node).next, ffi::PyThreadState_Get().addr())
    };
    names::UNREGISTER_TASK.get(py)?.call1((&task,))?;
    // SAFETY: as above.
    let empty = unsafe { (*word(&task, AWAITED_BY)).is_null() && (*word(&task, NODE)).is_null() };
    let list_at = list.addr().wrapping_sub(state);
    // A state has some hundred bytes.
    if !kept || !empty || list_at > 1 << 13 || list_at <= NEAR * size_of::<usize>() {
        return Ok(false);
    }
    let Some(loop_at) = find_loop(&task, &other, list_at)? else {
        return Ok(false);
    };
    LOOP_AT.store(loop_at, Ordering::Relaxed);
    LIST_AT.store(list_at, Ordering::Relaxed);
    Ok(true)
}

/// Where the state has the running loop, or `other` while none runs, just before the current task, for a moment `task`.
fn find_loop<'py>(task: &Any<'py>, other: &Any<'py>, list_at: usize) -> PyResult<Option<usize>> {
    let py = task.py();
    let running = names::C_GET_RUNNING_LOOP.get(py)?.call0()?;
    let set_running = names::C_SET_RUNNING_LOOP.get(py)?;
    let event_loop = if running.is_none() {
        set_running.call1((other,))?;
        other
    } else {
        &running
    };
    let swap = names::SWAP_CURRENT_TASK.get(py)?;
    let swapped = swap.call1((event_loop, task)).and_then(|before| {
        // SAFETY: the words just before the list, which is in this thread's state.
        let at = unsafe {
            let state = ffi::PyThreadState_Get().cast::<*mut ffi::PyObject>();
            (2..=NEAR)
                .map(|before| list_at - before * size_of::<usize>())
                .find(|at| {
                    let place = state.byte_add(*at);
                    *place == event_loop.as_ptr() && *place.add(1) == task.as_ptr()
                })
        };
        swap.call1((event_loop, before)).map(|_| at)
    });
    if running.is_none() {
        set_running.call1((py.None(),))?;
    }
    swapped
}

/// Where the calling thread's state has its running loop and, behind it, the current task: each a new reference or NULL.
///
/// # Safety
/// [`find`] has found it.
#[inline]
pub(super) unsafe fn running(_attached: Python<'_>) -> *mut [*mut ffi::PyObject; 2] {
    // SAFETY: see above; the interpreter is attached, so the thread has a state.
    unsafe {
        let state = ffi::PyThreadState_Get();
        state.byte_add(LOOP_AT.load(Ordering::Relaxed)).cast()
    }
}

/// The task that waits for what is called now, where asyncio notes it.
///
/// # Errors
/// Those of a function that a program has put in the place of asyncio's.
#[inline]
pub(crate) fn caller(py: Python<'_>) -> PyResult<Option<Any<'_>>> {
    if !IS_KEPT || LOOP_AT.load(Ordering::Relaxed) == 0 {
        return Ok(None);
    }
    let current_task = names::CURRENT_TASK.get(py)?;
    // SAFETY: it was found; each is a reference or NULL.
    unsafe {
        let [event_loop, task] = *running(py);
        if event_loop.is_null() {
            return Ok(None);
        }
        if current_task.is(names::C_CURRENT_TASK.get(py)?) {
            return Ok(Bound::from_borrowed_ptr_or_opt(py, task));
        }
        let event_loop = Bound::from_borrowed_ptr(py, event_loop);
        let task = current_task.call1((event_loop,))?;
        Ok(Some(task).filter(|task| !task.is_none()))
    }
}

/// # Safety
/// `object` is an instance of a class over asyncio's of the known size, and has that word.
#[inline]
unsafe fn word(object: &Any<'_>, index: usize) -> *mut *mut ffi::PyObject {
    // SAFETY: see above.
    unsafe {
        object
            .as_ptr()
            .add(1)
            .cast::<*mut ffi::PyObject>()
            .add(index)
    }
}

/// Puts an object there, and lets go what was there before.
///
/// # Safety
/// As [`word`]; the word holds a reference or NULL.
#[inline]
unsafe fn put(object: &Any<'_>, index: usize, value: Option<Any<'_>>) {
    // SAFETY: see above.
    let before = unsafe {
        let value = value.map_or(std::ptr::null_mut(), Bound::into_ptr);
        let before = word(object, index).replace(value);
        Bound::from_owned_ptr_or_opt(object.py(), before)
    };
    drop(before);
}

/// What a new instance has that is a task, beside zeros.
///
/// # Safety
/// `task` is an instance of a class over asyncio's tasks.
#[inline]
pub(super) unsafe fn mark_as_task(task: *mut ffi::PyObject) {
    if IS_KEPT {
        // SAFETY: see above.
        unsafe {
            let state = task.add(1).cast::<usize>().add(AWAITED_BY + 1);
            state.cast::<u8>().add(IS_TASK).write(1);
        }
    }
}

/// `waiter` waits for the future.
///
/// # Errors
/// Out of memory; what asyncio's function raises.
#[inline]
pub(crate) fn is_awaited(future: &Any<'_>, waiter: &Any<'_>) -> PyResult<()> {
    if !IS_KEPT || adds(future, waiter) {
        return Ok(());
    }
    let add = names::ADD_TO_AWAITED_BY.get(future.py())?;
    crate::ffi::vectorcall(add, [future, waiter], None).map(drop)
}

/// It does not any more. Nothing of the program's runs if somebody else refers to `waiter`.
///
/// # Errors
/// As [`is_awaited`].
#[inline]
pub(crate) fn is_awaited_no_more(future: &Any<'_>, waiter: &Any<'_>) -> PyResult<()> {
    if !IS_KEPT || discards(future, waiter) {
        return Ok(());
    }
    let discard = names::DISCARD_FROM_AWAITED_BY.get(future.py())?;
    crate::ffi::vectorcall(discard, [future, waiter], None).map(drop)
}

/// As [`is_awaited`] by the function of asyncio's module, for any futures.
///
/// # Errors
/// As there.
#[inline]
pub(crate) fn any_is_awaited(future: &Any<'_>, waiter: &Any<'_>) -> PyResult<()> {
    if !IS_KEPT || adds(future, waiter) {
        return Ok(());
    }
    let add = names::ANY_ADD_TO_AWAITED_BY.get(future.py())?;
    crate::ffi::vectorcall(&add, [future, waiter], None).map(drop)
}

/// As [`is_awaited_no_more`] likewise.
///
/// # Errors
/// As there.
#[inline]
pub(crate) fn any_is_awaited_no_more(future: &Any<'_>, waiter: &Any<'_>) -> PyResult<()> {
    if !IS_KEPT || discards(future, waiter) {
        return Ok(());
    }
    let discard = names::ANY_DISCARD_FROM_AWAITED_BY.get(future.py())?;
    crate::ffi::vectorcall(&discard, [future, waiter], None).map(drop)
}

/// Whether that was all: a task of ours is the first to wait for a future of ours.
#[inline]
fn adds(future: &Any<'_>, waiter: &Any<'_>) -> bool {
    if Native::exact(future).is_none() || !waiter.is_exact_instance_of::<Task>() {
        return false;
    }
    // SAFETY: an object of one of our classes.
    unsafe {
        let first = (*word(future, AWAITED_BY)).is_null();
        if first {
            put(future, AWAITED_BY, Some(waiter.clone()));
        }
        first
    }
}

/// Whether that was all: nobody else waits for a future of ours.
#[inline]
fn discards(future: &Any<'_>, waiter: &Any<'_>) -> bool {
    if Native::exact(future).is_none() {
        return false;
    }
    // SAFETY: an object of one of our classes.
    unsafe {
        let known = *word(future, AWAITED_BY);
        if known == waiter.as_ptr() {
            put(future, AWAITED_BY, None);
            return true;
        }
        known.is_null() || !*is_set(future)
    }
}

/// Nobody does, of a future that is initialised again.
pub(super) fn forget_waiters(future: &Any<'_>) {
    if IS_KEPT {
        // SAFETY: an object of one of our classes, or of one derived from them.
        unsafe {
            *is_set(future) = false;
            put(future, AWAITED_BY, None);
        }
    }
}

/// # Safety
/// As [`word`].
#[inline]
unsafe fn is_set(future: &Any<'_>) -> *mut bool {
    // SAFETY: see above; it is 0 or 1.
    unsafe { word(future, AWAITED_BY + 1).cast::<bool>().add(IS_SET) }
}

/// The coroutine of a task, as another process may read it.
#[inline]
pub(super) fn show_coro(task: &Bound<'_, Task>, coro: Option<&Any<'_>>) {
    if IS_KEPT {
        // SAFETY: a task.
        unsafe { put(task.as_any(), CORO, coro.cloned()) }
    }
}

/// Its name: a `str`, or an `int` for one that nobody has named.
#[inline]
pub(super) fn show_name(task: &Bound<'_, Task>, name: Any<'_>) {
    // SAFETY: a task.
    unsafe { put(task.as_any(), NAME, Some(name)) }
}

/// Into the list that `asyncio.all_tasks()` goes through. It holds no references: see [`delist`].
#[inline]
pub(super) fn enlist(task: &Bound<'_, Task>) {
    let at = LIST_AT.load(Ordering::Relaxed);
    // SAFETY: a task, whose node is either in a list or NULL; the list of the calling thread, which only threads that
    // hold the GIL change.
    unsafe {
        let node: *mut Node = word(task.as_any(), NODE).cast();
        if (*node).next.is_null() {
            let list: *mut Node = ffi::PyThreadState_Get().byte_add(at).cast();
            (*node).next = list;
            (*node).prev = (*list).prev;
            (*(*list).prev).next = node;
            (*list).prev = node;
        }
    }
}

/// Out of it: when the task has ended, and at the latest before its memory goes.
///
/// # Safety
/// `task` is an instance of our class of tasks, or a derived one.
#[inline]
pub(super) unsafe fn delist(task: *mut ffi::PyObject) {
    if !IS_KEPT {
        return;
    }
    // SAFETY: see above; what its node is linked with are nodes of live tasks, or a live list's head.
    unsafe {
        let node: *mut Node = task.add(1).cast::<usize>().add(NODE).cast();
        let Node { next, prev } = node.read();
        if !next.is_null() {
            (*prev).next = next;
            (*next).prev = prev;
            (*node).next = std::ptr::null_mut();
            (*node).prev = std::ptr::null_mut();
        }
    }
}
