//! The native types that stand between asyncio's classes and those of ours that derive from them.
//!
//! PyO3 lets a `#[pyclass]` extend a class of another library only if it knows the class's type
//! object and the size of its instances. So there is one more type in between, made from a
//! `PyType_Spec`, which says how instances are made and freed; [`native_base!`] tells PyO3 about
//! it. Its only users, transport/base.rs and tasks/base.rs, say why it must be there. PyO3's traits
//! for this are not public (ADR 4).

use std::ffi::{CStr, c_int, c_ulong, c_void};

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

/// A marker for such a type: `$make` gets the interpreter and gives the type, whose instances begin with
/// `$layout`, or an error.
macro_rules! native_base {
    ($marker:ident, $layout:ty, $make:expr) => {
        /// There are no values of it.
        pub(crate) struct $marker(());

        // SAFETY: `$make` gives a type whose instances begin with `$layout`: it has compared the sizes.
        unsafe impl pyo3::PyTypeInfo for $marker {
            fn type_object_raw(py: pyo3::Python<'_>) -> *mut pyo3::ffi::PyTypeObject {
                static TYPE: pyo3::sync::PyOnceLock<pyo3::Py<pyo3::types::PyType>> =
                    pyo3::sync::PyOnceLock::new();
                let make: fn(pyo3::Python<'_>) -> _ = $make;
                let made = TYPE.get_or_try_init(py, || make(py));
                made.expect("asyncio can be imported, and its instances have the known size")
                    .as_ptr()
                    .cast()
            }
        }

        // SAFETY: see above.
        unsafe impl pyo3::type_object::PyLayout<$marker> for $layout {}
        impl pyo3::type_object::PySizedLayout<$marker> for $layout {}

        impl pyo3::impl_::pyclass::PyClassBaseType for $marker {
            type LayoutAsBase = pyo3::impl_::pycell::PyClassObjectBase<$layout>;
            type BaseNativeType = Self;
            type Initializer = pyo3::impl_::pyclass_init::PyNativeTypeInitializer<Self>;
            type PyClassMutability =
                <pyo3::PyAny as pyo3::impl_::pyclass::PyClassBaseType>::PyClassMutability;
            type Layout<T: pyo3::impl_::pyclass::PyClassImpl> =
                pyo3::impl_::pycell::PyStaticClassObject<T>;
        }
    };
}

pub(crate) use native_base;

/// How large a class's instances are.
pub(crate) fn instance_size(class: &Bound<'_, PyType>) -> usize {
    // SAFETY: the pointer is a live type object; `tp_basicsize` is set since the type is ready.
    unsafe { (*class.as_type_ptr()).tp_basicsize }.unsigned_abs()
}

/// # Errors
/// `TypeError` if instances have another size.
pub(crate) fn check_size(class: &Bound<'_, PyType>, expected: usize) -> PyResult<()> {
    let size = instance_size(class);
    if size == expected {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!(
        "{class} has instances of {size} bytes, {expected} were expected: this Python is newer than this build of oxlip"
    )))
}

/// A class in C over others, whose instances have `size` bytes.
///
/// # Errors
/// `TypeError` if the bases do not go together; out of memory.
///
/// # Safety
/// The slots hold functions for what they say, which know instances of this size; it is not less than that
/// of the bases.
pub(crate) unsafe fn type_over(
    bases: &Bound<'_, PyTuple>,
    name: &'static CStr,
    size: usize,
    flags: c_ulong,
    slots: &[(c_int, *mut c_void)],
) -> PyResult<Py<PyType>> {
    let end = (0, std::ptr::null_mut());
    let slots = slots.iter().chain([&end]);
    let mut slots: Vec<_> = slots
        .map(|&(slot, pfunc)| ffi::PyType_Slot { slot, pfunc })
        .collect();
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr(),
        basicsize: c_int::try_from(size).expect("some words"),
        itemsize: 0,
        flags: flags.try_into().expect("type flags fit the field"),
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: `spec` and `slots` are complete and live through the call, which copies what it
    // keeps (the name has static life); the rest is the caller's.
    unsafe {
        let made = ffi::PyType_FromSpecWithBases(&raw mut spec, bases.as_ptr());
        Ok(Bound::from_owned_ptr_or_err(bases.py(), made)?
            .cast_into_unchecked::<PyType>()
            .unbind())
    }
}

/// Memory for an instance, which PyO3 then writes the Rust part of: zeroed, or NULL with an error.
///
/// # Safety
/// `class` is a ready type; the interpreter is attached.
#[inline]
pub(crate) unsafe fn alloc(class: *mut ffi::PyTypeObject) -> *mut ffi::PyObject {
    // SAFETY: see above.
    unsafe {
        let alloc = (*class).tp_alloc.expect("a ready type has tp_alloc");
        alloc(class, 0)
    }
}

/// Gives it back, the way the instance's own type says.
///
/// # Safety
/// Nobody refers to `object`, and it refers to nothing but its type.
#[inline]
pub(crate) unsafe fn free(object: *mut ffi::PyObject) {
    // SAFETY: see above.
    unsafe {
        let free = (*ffi::Py_TYPE(object)).tp_free;
        free.expect("a ready type has tp_free")(object.cast());
    }
}
