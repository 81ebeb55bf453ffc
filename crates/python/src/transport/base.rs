//! The native types that stand between `asyncio.Transport` and `ReadTransport` and our transport
//! classes.
//!
//! `isinstance(transport, asyncio.Transport)` must hold, but a `#[pyclass]` cannot extend a class
//! written in Python: the deallocator and the traversal of such a class (`subtype_dealloc`,
//! `subtype_traverse` in CPython's typeobject.c) look for the next base below `type(self)` and
//! would find ours, which calls them, and so on for ever. So there is one more type in between,
//! made from a `PyType_Spec`, which adds nothing but a `tp_new`, a deallocator, a traversal and a
//! `tp_clear` of its own. To PyO3 it is a native base type of known layout.

use std::ffi::{CStr, c_int, c_void};

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use crate::names;

/// What an instance of `asyncio.Transport` and its kin looks like: `BaseTransport` has
/// `__slots__ = ("_extra",)`, the classes derived from it have none. Checked when a type is made.
#[repr(C)]
pub(crate) struct Layout {
    object: ffi::PyObject,
    extra: *mut ffi::PyObject,
}

/// A marker for the type over one class of asyncio's, or several.
macro_rules! base {
    ($marker:ident, [$($class:expr),+], $name:expr) => {
        /// There are no values of it.
        pub(crate) struct $marker(());

        // SAFETY: `make` gives a type whose instances begin with `Layout` (it checks the size).
        unsafe impl pyo3::PyTypeInfo for $marker {
            fn type_object_raw(py: Python<'_>) -> *mut ffi::PyTypeObject {
                static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
                let made = TYPE.get_or_try_init(py, || make(py, &[$(&$class),+], $name));
                made.expect("asyncio can be imported and its transports have the known layout")
                    .as_ptr()
                    .cast()
            }
        }

        // SAFETY: see `Layout`.
        unsafe impl pyo3::type_object::PyLayout<$marker> for Layout {}
        impl pyo3::type_object::PySizedLayout<$marker> for Layout {}

        impl pyo3::impl_::pyclass::PyClassBaseType for $marker {
            type LayoutAsBase = pyo3::impl_::pycell::PyClassObjectBase<Layout>;
            type BaseNativeType = Self;
            type Initializer = pyo3::impl_::pyclass_init::PyNativeTypeInitializer<Self>;
            type PyClassMutability =
                <PyAny as pyo3::impl_::pyclass::PyClassBaseType>::PyClassMutability;
            type Layout<T: pyo3::impl_::pyclass::PyClassImpl> =
                pyo3::impl_::pycell::PyStaticClassObject<T>;
        }
    };
}

base!(
    TransportBase,
    [names::TRANSPORT],
    c"oxlip._native.TransportBase"
);
base!(
    ReadTransportBase,
    [names::READ_TRANSPORT],
    c"oxlip._native.ReadTransportBase"
);
// asyncio's own class is both.
base!(
    DatagramTransportBase,
    [names::TRANSPORT, names::DATAGRAM_TRANSPORT],
    c"oxlip._native.DatagramTransportBase"
);

fn make(
    py: Python<'_>,
    classes: &[&'static names::Imported],
    name: &'static CStr,
) -> PyResult<Py<PyType>> {
    let mut bases = Vec::with_capacity(classes.len());
    for class in classes {
        let base = class.get(py)?.cast::<PyType>()?;
        // SAFETY: the pointer is a live type object; `tp_basicsize` is set since the type is ready.
        let size = unsafe { (*base.as_type_ptr()).tp_basicsize };
        if usize::try_from(size) != Ok(size_of::<Layout>()) {
            return Err(PyTypeError::new_err(format!(
                "{base} has instances of {size} bytes, {} were expected: \
                 this Python is newer than this build of oxlip",
                size_of::<Layout>()
            )));
        }
        bases.push(base);
    }
    let bases = PyTuple::new(py, bases)?;
    let slots = [
        (ffi::Py_tp_new, new as *mut c_void),
        (ffi::Py_tp_dealloc, dealloc as *mut c_void),
        (ffi::Py_tp_traverse, traverse as *mut c_void),
        (ffi::Py_tp_clear, clear as *mut c_void),
    ];
    let flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE | ffi::Py_TPFLAGS_HAVE_GC;
    // SAFETY: the functions below are for instances of this layout, which is that of the bases.
    unsafe { crate::ffi::type_over(&bases, name, size_of::<Layout>(), flags, &slots) }
}

/// Makes an instance for PyO3, the only caller, which then writes the Rust part.
///
/// Not `object.__new__`: Python 3.11's allocates the instance's dict when the instance is already known
/// to the cycle collector, and a collection that this begins would look at a Rust part that is not
/// there yet.
unsafe extern "C" fn new(
    class: *mut ffi::PyTypeObject,
    _args: *mut ffi::PyObject,
    _kwargs: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: `class` is a ready type, which has a `tp_alloc`; it gives zeroed memory, and with it an
    // empty slot, or NULL with an error.
    unsafe {
        let alloc = (*class).tp_alloc.expect("a ready type has tp_alloc");
        alloc(class, 0)
    }
}

/// Frees the instance. PyO3's deallocator, the only caller, has untracked it, dropped the Rust part
/// and releases the type afterwards.
unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: `object` is an instance of a type of this layout whose references are gone, so the
    // slot may be cleared and the memory given back through the type's own `tp_free`.
    unsafe {
        clear(object);
        let free = (*ffi::Py_TYPE(object))
            .tp_free
            .expect("a ready type has tp_free");
        free(object.cast());
    }
}

unsafe extern "C" fn traverse(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: `object` has this layout; the collector keeps it alive during the call. A heap type
    // visits its instances' type: https://docs.python.org/3/howto/isolating-extensions.html
    unsafe {
        let result = visit(ffi::Py_TYPE(object).cast(), arg);
        let extra = (*object.cast::<Layout>()).extra;
        if result != 0 || extra.is_null() {
            result
        } else {
            visit(extra, arg)
        }
    }
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: `object` has this layout; the slot is emptied before its reference is given up, so
    // that code run by that finds it empty.
    unsafe {
        let extra = std::mem::replace(&mut (*object.cast::<Layout>()).extra, std::ptr::null_mut());
        ffi::Py_XDECREF(extra);
    }
    0
}
