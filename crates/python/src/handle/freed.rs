//! A handle that is freed goes back to its loop, empty, rather than to the allocator.
//!
//! Handles that have run, and that nobody kept, come back by `spare.rs`. This file is for the
//! others: a program cancels most of its timers, and drops its references to them before or after
//! that, so only the end of the last reference tells that one can be reused.
//!
//! On any thread; only that of a running loop keeps anything.

use std::sync::OnceLock;

use pyo3::ffi;
use pyo3::prelude::*;

use super::callback::HasCallback;

/// The deallocator that PyO3 has made for a class of handles.
pub(super) type Freeing = OnceLock<ffi::destructor>;

/// Puts another deallocator before PyO3's. Before there are handles.
pub(super) fn install<H: HasCallback>(py: Python<'_>) {
    #[cfg(not(Py_GIL_DISABLED))]
    {
        let class = H::type_object_raw(py);
        // SAFETY: the class's own type object, which nobody has used yet.
        unsafe {
            if let Some(freeing) = (*class).tp_dealloc
                && H::freeing().set(freeing).is_ok()
            {
                (*class).tp_dealloc = Some(with_gil::dealloc::<H>);
            }
        }
    }
    // Without a GIL a count of references that this thread sees proves nothing.
    #[cfg(Py_GIL_DISABLED)]
    let _ = (py, H::freeing());
}

#[cfg(not(Py_GIL_DISABLED))]
mod with_gil {
    use std::sync::atomic::Ordering;

    use pyo3::{Borrowed, ffi, prelude::*};

    use super::super::callback::{HasCallback, with_slots};
    use super::super::collector::is_alone;
    use crate::chains::End;
    use crate::context::Chosen;
    use crate::ffi::dealloc_without_panic;

    pub(super) unsafe extern "C" fn dealloc<H: HasCallback>(object: *mut ffi::PyObject) {
        // SAFETY: called by the interpreter, attached, with an object of the class, which has no derived ones, that
        // nobody refers to. Either PyO3's deallocator frees it, or it gets a reference, ours: then it lives on, and
        // no list of a collection that is under way has it.
        unsafe {
            let py = Python::assume_attached();
            dealloc_without_panic(py, || {
                let handle = Borrowed::from_ptr(py, object).cast_unchecked::<H>();
                if may_go_back(&handle) {
                    ffi::PyObject_GC_UnTrack(object.cast());
                    ffi::Py_INCREF(object);
                    go_back(Bound::from_owned_ptr(py, object).cast_into_unchecked::<H>());
                } else if let Some(free) = H::freeing().get() {
                    free(object);
                }
            });
        }
    }

    /// Once at most, as afterwards it has no context.
    #[inline]
    fn may_go_back<H: HasCallback>(handle: &Bound<'_, H>) -> bool {
        // SAFETY: a live object of a class whose `tp_weaklistoffset` says where its weak references are.
        let unseen = unsafe {
            let object = handle.as_ptr();
            let weak_references = (*ffi::Py_TYPE(object)).tp_weaklistoffset;
            (*object
                .byte_offset(weak_references)
                .cast::<*mut ffi::PyObject>())
            .is_null()
        };
        // A build with such a list of all objects has taken it out for ever.
        unseen
            && !cfg!(py_sys_config = "Py_TRACE_REFS")
            && handle.get().callback().event_loop.get().runs()
            && with_slots(handle, |slots| {
                slots.rare.is_none() && slots.context.is_some()
            })
    }

    #[inline]
    fn go_back<H: HasCallback>(handle: Bound<'_, H>) {
        let py = handle.py();
        let (call, context) =
            with_slots(&handle, |slots| (slots.call.take(), slots.context.take()));
        // What it holds may be the next of a long chain.
        let end = End::begin(py);
        if let Some((callback, args)) = call {
            end.release(callback);
            args.end(&end);
        }
        if let Some(Chosen::Own(context) | Chosen::Shared(context)) = context {
            end.release(context);
        }
        drop(end);
        // That may have run a program, which finds no object that the collector does not show.
        debug_assert!(is_alone(&handle), "somebody has found a freed handle");
        let event_loop = handle.get().callback().event_loop.clone_ref(py);
        let event_loop = event_loop.into_bound(py);
        handle
            .get()
            .callback()
            .cancelled
            .store(false, Ordering::Relaxed);
        let mut used = Some(H::used(handle));
        // Elsewhere, or with too many, it comes back, to be freed.
        event_loop.get().keep_used(&mut used);
        drop(used.map(|used| used.into_bound(py)));
    }
}
