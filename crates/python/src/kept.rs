//! Reusing objects that are short-lived and frequent: when one is freed, it is kept, empty, for the
//! next.
//!
//! PyO3's `freelist` keeps memory behind a lock, whose atomic instructions cost more than the
//! allocator. Where the GIL keeps other threads out, no lock is needed; where there is no GIL,
//! nothing is kept.

use std::cell::UnsafeCell;

use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::{PyClass, ffi};

use crate::ffi::dealloc_without_panic;

/// More than this many are not kept.
const AT_MOST: usize = 256;

/// Those of one class.
pub(crate) struct Kept<T>(UnsafeCell<Vec<Py<T>>>);

// SAFETY: the list is reached only by who is attached to an interpreter with a GIL, for a moment in which no Python
// code runs; of interpreters there is one (`Once` in lib.rs).
unsafe impl<T> Sync for Kept<T> {}

/// A class whose objects are kept. Instances have no dict, and nobody derives from it.
pub(crate) trait Keeps: PyClass<Frozen = True> + Sync {
    /// Where.
    fn kept() -> &'static Kept<Self>;

    /// Lets go of all that it refers to: then there is nothing in it to be dropped. PyO3 does not know that the
    /// interpreter is attached, and would put off the end of a `Py`: what is dropped is a `Bound`.
    ///
    /// False if it has had its finalizer called: the collector would never call that again.
    fn let_go(slf: &Bound<'_, Self>) -> bool;
}

impl<T: Keeps> Kept<T> {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(Vec::new()))
    }

    /// An empty object, if there is one. Once it is filled it has to be shown to the collector, by
    /// [`ffi::follow`](crate::ffi::follow).
    #[inline]
    pub(crate) fn next<'py>(&self, py: Python<'py>) -> Option<Bound<'py, T>> {
        if cfg!(Py_GIL_DISABLED) {
            return None;
        }
        // SAFETY: see `Sync`.
        unsafe { &mut *self.0.get() }
            .pop()
            .map(|kept| kept.into_bound(py))
    }

    /// Takes it, unless there are enough.
    #[inline]
    fn keep<'py>(&self, object: Bound<'py, T>, is_fresh: bool) -> Option<Bound<'py, T>> {
        if !is_fresh || cfg!(py_sys_config = "Py_TRACE_REFS") {
            // Such a build has a list of all objects, which this one has left for ever.
            return Some(object);
        }
        // SAFETY: see `Sync`.
        let list = unsafe { &mut *self.0.get() };
        if list.len() >= AT_MOST {
            return Some(object);
        }
        list.push(object.unbind());
        None
    }
}

/// Has the objects of a class kept when they end. Before there are any.
pub(crate) fn install<T: Keeps>(py: Python<'_>) {
    if cfg!(Py_GIL_DISABLED) {
        return;
    }
    // SAFETY: the class's own type object, which nobody has used yet.
    unsafe { (*T::type_object_raw(py)).tp_dealloc = Some(dealloc::<T>) };
}

unsafe extern "C" fn dealloc<T: Keeps>(object: *mut ffi::PyObject) {
    // SAFETY: called by the interpreter, attached, with an object of the class that nobody refers to. It gets a
    // reference, which is ours, and the collector does not show it to anybody any more; so it is alone again
    // after `let_go`. Its memory goes back the way it came: there is nothing in it to be dropped, nobody looks at its
    // count again, and an instance of a heap type refers to it.
    unsafe {
        let py = Python::assume_attached();
        dealloc_without_panic(py, || {
            ffi::PyObject_GC_UnTrack(object.cast());
            if (*ffi::Py_TYPE(object)).tp_weaklistoffset > 0 {
                ffi::PyObject_ClearWeakRefs(object);
            }
            ffi::Py_INCREF(object);
            let alone = Bound::from_owned_ptr(py, object).cast_into_unchecked::<T>();
            let is_fresh = T::let_go(&alone);
            if let Some(alone) = T::kept().keep(alone, is_fresh) {
                let object = alone.into_ptr();
                let class = ffi::Py_TYPE(object);
                let free = (*class).tp_free.expect("a ready type has tp_free");
                free(object.cast());
                ffi::Py_DECREF(class.cast());
            }
        });
    }
}
