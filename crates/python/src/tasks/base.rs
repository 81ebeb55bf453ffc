//! The native types that stand between asyncio's `Future` and `Task` in C and ours.
//!
//! `isinstance(task, asyncio.Task)` must hold, so our classes derive from asyncio's. Nothing of
//! asyncio's part of an instance is used except what part.rs says: it stays zeroed, or None, which
//! asyncio's functions take for an object that was never initialised. To PyO3 such a type is a
//! native base of known size. It differs from asyncio's in how instances are made, which PyO3 does,
//! and in how they are finalized and freed, for the reason that transport/base.rs gives.

use std::ffi::{CStr, c_void};

use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use pyo3::{PyTypeInfo as _, ffi};

use super::core::Ours;
use super::{Future, Task, end, part};
use crate::names;
use crate::native_base::{alloc, check_size, free, instance_size, native_base, type_over};

/// Words of an instance behind its head, as the running Python's own class has them: see [`fits`].
const FUTURE_WORDS: usize = of_release(14, 11, 12);
const TASK_WORDS: usize = of_release(20, 16, 19);

/// Where among them asyncio's task has its coroutine and its context: its own methods take for granted that
/// there are some.
const TASK_OBJECTS: [usize; 2] = [of_release(15, 13, 14), of_release(17, 15, 16)];

/// That of 3.12, of 3.13, or of 3.14 and later.
const fn of_release(of_3_12: usize, of_3_13: usize, of_3_14: usize) -> usize {
    match (cfg!(Py_3_13), cfg!(Py_3_14)) {
        (_, true) => of_3_14,
        (true, false) => of_3_13,
        (false, false) => of_3_12,
    }
}

/// What an instance of `asyncio.Future` or `asyncio.Task` looks like from outside.
#[repr(C)]
pub(crate) struct Layout<const WORDS: usize> {
    object: ffi::PyObject,
    asyncios: [usize; WORDS],
}

native_base!(FutureBase, Layout<FUTURE_WORDS>, |py| {
    let size = size_of::<Layout<FUTURE_WORDS>>();
    let name = c"oxlip._native.FutureBase";
    make(py, &names::C_FUTURE, size, new, name)
});
native_base!(TaskBase, Layout<TASK_WORDS>, |py| {
    let size = size_of::<Layout<TASK_WORDS>>();
    let name = c"oxlip._native.TaskBase";
    make(py, &names::C_TASK, size, new_task, name)
});

/// Whether the running Python's classes are those that our types are made for.
///
/// # Errors
/// asyncio cannot be imported.
pub(super) fn fits(py: Python<'_>) -> PyResult<bool> {
    let future = size_of::<Layout<FUTURE_WORDS>>();
    let task = size_of::<Layout<TASK_WORDS>>();
    Ok(instance_size(names::C_FUTURE.get(py)?.cast()?) == future
        && instance_size(names::C_TASK.get(py)?.cast()?) == task)
}

fn make(
    py: Python<'_>,
    class: &'static names::Imported,
    expected: usize,
    new: ffi::newfunc,
    name: &'static CStr,
) -> PyResult<Py<PyType>> {
    let base = class.get(py)?.cast::<PyType>()?;
    check_size(base, expected)?;
    let bases = PyTuple::new(py, [base])?;
    // The traversal and `tp_clear` are inherited: asyncio's pass over what is zeroed.
    let slots = [
        (ffi::Py_tp_new, new as *mut c_void),
        (ffi::Py_tp_finalize, end::finalize as *mut c_void),
        (ffi::Py_tp_dealloc, dealloc as *mut c_void),
    ];
    let flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE;
    // SAFETY: the functions are for instances of this size, which is that of the base.
    unsafe { type_over(&bases, name, expected, flags, &slots) }
}

/// From here on nobody changes a class, or gives an instance of it another one, as with asyncio's.
pub(super) fn make_immutable<T: Ours>(py: Python<'_>) {
    // SAFETY: the class's own type object, which nobody has used yet.
    unsafe {
        let flags = &raw mut (*T::type_object_raw(py)).tp_flags;
        #[cfg(not(Py_GIL_DISABLED))]
        flags.write(flags.read() | ffi::Py_TPFLAGS_IMMUTABLETYPE);
        #[cfg(Py_GIL_DISABLED)]
        (*flags).fetch_or(
            ffi::Py_TPFLAGS_IMMUTABLETYPE,
            std::sync::atomic::Ordering::Relaxed,
        );
    }
}

/// Whether this is one of the two classes, or derived from one.
fn is_ours(py: Python<'_>, class: *mut ffi::PyTypeObject) -> bool {
    let ours = [Future::type_object_raw(py), Task::type_object_raw(py)];
    // SAFETY: three live types.
    ours.contains(&class)
        || ours
            .iter()
            .any(|ours| unsafe { ffi::PyType_IsSubtype(class, *ours) } != 0)
}

/// Makes an instance for PyO3, which then writes the Rust part. A program that finds this class gets none: it
/// would have no such part.
unsafe extern "C" fn new(
    class: *mut ffi::PyTypeObject,
    _args: *mut ffi::PyObject,
    _kwargs: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: `class` is a ready type; the interpreter is attached.
    unsafe {
        if !is_ours(Python::assume_attached(), class) {
            let message = c"only oxlip.Future and oxlip.Task can be made";
            ffi::PyErr_SetString(ffi::PyExc_TypeError, message.as_ptr());
            return std::ptr::null_mut();
        }
        alloc(class)
    }
}

/// As [`new`].
unsafe extern "C" fn new_task(
    class: *mut ffi::PyTypeObject,
    args: *mut ffi::PyObject,
    kwargs: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as in `new`; an instance has these words, which hold references that asyncio's part gives up.
    unsafe {
        let object = new(class, args, kwargs);
        if !object.is_null() {
            let words = (&raw mut (*object.cast::<Layout<TASK_WORDS>>()).asyncios).cast();
            for index in TASK_OBJECTS {
                let word: *mut *mut ffi::PyObject = words;
                word.add(index).write(ffi::Py_NewRef(ffi::Py_None()));
            }
            part::mark_as_task(object);
        }
        object
    }
}

/// Frees the instance. The deallocator in end.rs, which calls it, has untracked it, cleared the weak references
/// to it and dropped the Rust part, and releases the type afterwards.
pub(super) unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: `object` is an instance of a type over asyncio's, whose references are gone: what asyncio's part
    // holds (its `__dict__`, and more only if a program has called asyncio's `__init__` on it) is given up
    // as asyncio's deallocator does, and the memory as the type says.
    unsafe {
        asyncios_clear(object);
        free(object);
    }
}

/// `tp_clear` of asyncio's class in C that `object` is an instance of.
///
/// # Safety
/// `object` is an instance of a type over asyncio's.
unsafe fn asyncios_clear(object: *mut ffi::PyObject) {
    // SAFETY: live types, each with a base down to the one made here, whose deallocator is ours and which has
    // inherited asyncio's `tp_clear`.
    unsafe {
        let mut class = ffi::Py_TYPE(object);
        let ours = dealloc as ffi::destructor as usize;
        while (*class).tp_dealloc.map(|it| it as usize) != Some(ours) {
            class = (*class).tp_base;
        }
        if let Some(clear) = (*class).tp_clear {
            clear(object);
        }
    }
}
