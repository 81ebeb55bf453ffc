//! The native types that stand between `asyncio.Transport` and `ReadTransport` and our transport
//! classes.
//!
//! `isinstance(transport, asyncio.Transport)` must hold, but a `#[pyclass]` cannot extend a class
//! written in Python: the deallocator and the traversal of such a class (`subtype_dealloc`,
//! `subtype_traverse` in CPython's typeobject.c) look for the next base below `type(self)`. They
//! would find ours, which calls them, and so on for ever. So there is one more type in between,
//! made from a `PyType_Spec`, which adds nothing but a `tp_new`, a deallocator, a traversal and a
//! `tp_clear` of its own. To PyO3 it is a native base type of known layout.

use std::ffi::{CStr, c_int, c_void};

use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use pyo3::{PyTypeInfo as _, ffi};

use super::{DatagramTransport, ReadPipeTransport, StreamTransport, WritePipeTransport};
use crate::names;
use crate::native_base::{alloc, check_size, free, native_base, type_over};
use crate::tls::TlsTransport;

/// What an instance of `asyncio.Transport` and its kin looks like: `BaseTransport` has
/// `__slots__ = ("_extra",)`, the classes derived from it have none. Checked when a type is made.
#[repr(C)]
pub(crate) struct Layout {
    object: ffi::PyObject,
    extra: *mut ffi::PyObject,
}

native_base!(TransportBase, Layout, |py| {
    make(py, &[&names::TRANSPORT], c"oxlip._native.TransportBase")
});
native_base!(ReadTransportBase, Layout, |py| {
    let name = c"oxlip._native.ReadTransportBase";
    make(py, &[&names::READ_TRANSPORT], name)
});
// asyncio's own class is both.
native_base!(DatagramTransportBase, Layout, |py| {
    let classes = [&names::TRANSPORT, &names::DATAGRAM_TRANSPORT];
    make(py, &classes, c"oxlip._native.DatagramTransportBase")
});

fn make(
    py: Python<'_>,
    classes: &[&'static names::Imported],
    name: &'static CStr,
) -> PyResult<Py<PyType>> {
    let mut bases = Vec::with_capacity(classes.len());
    for class in classes {
        let base = class.get(py)?.cast::<PyType>()?;
        check_size(base, size_of::<Layout>())?;
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
    unsafe { type_over(&bases, name, size_of::<Layout>(), flags, &slots) }
}

/// Whether this is one of the classes that derive from those made here. Nothing derives from them.
fn is_ours(py: Python<'_>, class: *mut ffi::PyTypeObject) -> bool {
    [
        StreamTransport::type_object_raw(py),
        TlsTransport::type_object_raw(py),
        DatagramTransport::type_object_raw(py),
        ReadPipeTransport::type_object_raw(py),
        WritePipeTransport::type_object_raw(py),
    ]
    .contains(&class)
}

/// Makes an instance for PyO3, which then writes the Rust part. A program that finds this class cannot make one: it
/// would have no Rust part, and would not be freed by PyO3's deallocator, on which [`dealloc`] relies.
///
/// Not `object.__new__`: Python 3.11's allocates the instance's dict when the instance is already known
/// to the cycle collector, and a collection that this begins would look at a Rust part that is not
/// there yet.
unsafe extern "C" fn new(
    class: *mut ffi::PyTypeObject,
    _args: *mut ffi::PyObject,
    _kwargs: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter is attached; `class` is a ready type, which has a `tp_alloc`; it gives zeroed memory,
    // and with it an empty slot, or NULL with an error.
    unsafe {
        if !is_ours(Python::assume_attached(), class) {
            let message = c"transports are made by event loops only";
            ffi::PyErr_SetString(ffi::PyExc_TypeError, message.as_ptr());
            return std::ptr::null_mut();
        }
        alloc(class)
    }
}

/// Frees the instance. PyO3's deallocator, the only caller, has untracked it, dropped the Rust part
/// and releases the type afterwards.
unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: `object` is an instance of a type of this layout whose references are gone, so the
    // slot may be cleared and the memory given back through the type's own `tp_free`.
    unsafe {
        clear(object);
        free(object);
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
