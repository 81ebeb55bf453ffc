//! A field that programs read and write without calling a function: the interpreter has
//! instructions for that.
//!
//! Its descriptor is that of `__slots__` (`PyMemberDef` of type `Py_T_OBJECT_EX`). Whoever holds
//! the object may change it at any time; the functions here look at it inside the object's critical
//! section.

use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::PyType;

/// The field: a reference, or NULL while the attribute does not exist.
pub(super) struct Member(AtomicPtr<ffi::PyObject>);

impl Member {
    pub(super) fn new(value: Option<Bound<'_, PyAny>>) -> Self {
        Self(AtomicPtr::new(pointer(value)))
    }

    /// The value of the field, given the object that has it.
    #[inline]
    pub(super) fn get<'py>(&self, owner: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
        with_critical_section(owner, || {
            let value = self.0.load(Ordering::Acquire);
            // SAFETY: the field has a reference to what it points to, and nobody takes it away
            // inside the critical section.
            unsafe { Bound::from_borrowed_ptr_or_opt(owner.py(), value) }
        })
    }

    /// Sets the field to another value, or to none. Returns the old value, to be dropped when nothing is borrowed.
    #[inline]
    pub(super) fn replace<'py>(
        &self,
        owner: &Bound<'py, PyAny>,
        value: Option<Bound<'py, PyAny>>,
    ) -> Option<Bound<'py, PyAny>> {
        with_critical_section(owner, || {
            let before = self.0.load(Ordering::Acquire);
            self.0.store(pointer(value), Ordering::Release);
            // SAFETY: the field had a reference to it, which is ours now.
            unsafe { Bound::from_owned_ptr_or_opt(owner.py(), before) }
        })
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs while nobody changes the field; the layout of `Option<Py>` is
        // that of a pointer, which `Py` promises.
        let value = unsafe { &*self.0.as_ptr().cast::<Option<Py<PyAny>>>() };
        visit.call(value)
    }

    /// Makes this field of `object`, and of all others of its class, the attribute `name`.
    ///
    /// # Errors
    /// Out of memory.
    ///
    /// # Safety
    /// `self` is a field of `object`, at the same place in all objects of `class`.
    pub(super) unsafe fn export(
        &self,
        object: &Bound<'_, PyAny>,
        class: &Bound<'_, PyType>,
        name: &'static CStr,
    ) -> PyResult<()> {
        let offset = ptr::from_ref(self).addr() - object.as_ptr().addr();
        // It lives for ever, as the class does.
        let definition = Box::leak(Box::new(ffi::PyMemberDef {
            name: name.as_ptr(),
            type_code: ffi::Py_T_OBJECT_EX,
            offset: offset.cast_signed(),
            flags: 0,
            doc: ptr::null(),
        }));
        // SAFETY: a complete definition that is never freed, of a field that the caller vouches for.
        let descriptor = unsafe {
            let descriptor = ffi::PyDescr_NewMember(class.as_type_ptr(), definition);
            Bound::from_owned_ptr_or_err(class.py(), descriptor)?
        };
        class.setattr(name.to_string_lossy().as_ref(), descriptor)
    }
}

/// A reference as the field holds it.
fn pointer(value: Option<Bound<'_, PyAny>>) -> *mut ffi::PyObject {
    value.map_or(ptr::null_mut(), Bound::into_ptr)
}

impl Drop for Member {
    fn drop(&mut self) {
        Python::attach(|py| {
            // SAFETY: the field's reference, which nobody else gives up.
            drop(unsafe { Bound::from_owned_ptr_or_opt(py, *self.0.get_mut()) });
        });
    }
}
