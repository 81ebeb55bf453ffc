//! Handles and the cycle collector: a handle that only the running loop refers to need not be
//! visited.
//!
//! A handle that waits in a running loop is alive, and so is all it refers to. When other threads
//! schedule, thousands of them wait, and the collector would visit them again and again. So the
//! loop hides its handles from the collector when they are scheduled. It reveals a handle that
//! somebody else refers to as soon as it has run, and all that still wait when it stops running. A
//! cycle through a handle is therefore found once the loop has let go of the handle, which is when
//! it can be collected at all.
//!
//! Without a GIL nothing is hidden: there, the reference count that this thread sees proves
//! nothing.

use pyo3::prelude::*;

use super::Handle;
use super::callback::HasCallback;

/// Whether the caller's reference is the only one to the handle, of one of the two classes, and no weak one
/// can become another.
#[cfg(not(Py_GIL_DISABLED))]
#[inline]
pub(super) fn is_alone<H: HasCallback>(handle: &Bound<'_, H>) -> bool {
    use pyo3::ffi;

    // SAFETY: a live object, read with the GIL held; the type has a list of weak references
    // (`weakref` of its class), whose offset says where its head is.
    unsafe {
        let object = handle.as_ptr();
        let weak_references = (*ffi::Py_TYPE(object)).tp_weaklistoffset;
        let head = object
            .byte_offset(weak_references)
            .cast::<*mut ffi::PyObject>();
        ffi::Py_REFCNT(object) == 1 && (*head).is_null()
    }
}

/// The collector passes the handle by until it is shown. Only for a handle that a running loop gets.
#[cfg(not(Py_GIL_DISABLED))]
#[inline]
pub(crate) fn hide(handle: &Bound<'_, Handle>) {
    // SAFETY: a live object of a type that the collector follows; harmless if it is hidden already.
    unsafe { pyo3::ffi::PyObject_GC_UnTrack(handle.as_ptr().cast()) };
}

/// The collector sees the handle (again).
pub(crate) fn show(handle: &Bound<'_, Handle>) {
    reveal(handle);
}

/// As [`show`], of either class.
#[cfg(not(Py_GIL_DISABLED))]
pub(super) fn reveal<H: HasCallback>(handle: &Bound<'_, H>) {
    // SAFETY: a live, complete object of a type that the collector follows, and hidden.
    unsafe {
        if pyo3::ffi::PyObject_GC_IsTracked(handle.as_ptr()) == 0 {
            pyo3::ffi::PyObject_GC_Track(handle.as_ptr().cast());
        }
    }
}

#[cfg(Py_GIL_DISABLED)]
pub(super) fn is_alone<H: HasCallback>(_handle: &Bound<'_, H>) -> bool {
    false
}

#[cfg(Py_GIL_DISABLED)]
pub(crate) fn hide(_handle: &Bound<'_, Handle>) {}

#[cfg(Py_GIL_DISABLED)]
pub(super) fn reveal<H: HasCallback>(_handle: &Bound<'_, H>) {}
