//! Calls of the interpreter that may never return.
//!
//! While the main thread ends the interpreter, other threads may be in the middle of a loop. Up to Python 3.13, one of
//! them that wants to run Python again is ended with `pthread_exit(3)`, which in glibc unwinds its stack. Frames of Rust
//! would abort the process then (<https://github.com/rust-lang/rust/issues/74990>). So the linker puts the functions
//! below in the place of those of the C API by which a program's code runs (ld's `--wrap`, see `build.rs`): a thread
//! that is to end waits in them for the end of the process, as all threads do from Python 3.14 on. PyO3 does the same
//! for the functions by which a thread attaches itself.
//!
//! What calls a slot of a type by its address (`tp_clear`; before 3.12 PyO3's calls with one argument) has no such guard,
//! nor have functions by which nothing of a program's runs but in odd cases.

use std::ffi::{c_char, c_int};
use std::mem;
use std::thread;
use std::time::Duration;

use pyo3::ffi::{Py_buffer, PyObject};

type Object = *mut PyObject;

/// Is dropped only when the thread is unwound, which ends here.
struct ToTheEnd;

impl Drop for ToTheEnd {
    fn drop(&mut self) {
        loop {
            thread::sleep(Duration::from_secs(3600));
        }
    }
}

macro_rules! guarded {
    ($($(#[$cfg:meta])* $name:ident($($argument:ident: $kind:ty),*) $(-> $result:ty)?;)*) => {
        mod real {
            use super::*;

            // SAFETY: the linker resolves `__real_X` to the C API's X, and these are CPython's declarations.
            unsafe extern "C-unwind" {
                $(
                    $(#[$cfg])*
                    #[link_name = concat!("__real_", stringify!($name))]
                    pub(super) fn $name($($argument: $kind),*) $(-> $result)?;
                )*
            }
        }

        $(
            $(#[$cfg])*
            // SAFETY: only the linker makes such names, and only for this.
            #[unsafe(export_name = concat!("__wrap_", stringify!($name)))]
            unsafe extern "C-unwind" fn $name($($argument: $kind),*) $(-> $result)? {
                let guard = ToTheEnd;
                // SAFETY: the caller vouches for the arguments.
                let result = unsafe { real::$name($($argument),*) };
                mem::forget(guard);
                result
            }
        )*
    };
}

// `build.rs` has the same names.
guarded! {
    PyObject_Call(callable: Object, args: Object, keywords: Object) -> Object;
    PyObject_CallNoArgs(callable: Object) -> Object;
    #[cfg(Py_3_12)]
    PyObject_CallOneArg(callable: Object, argument: Object) -> Object;
    #[cfg(Py_3_11)]
    PyObject_Vectorcall(callable: Object, args: *const Object, count: usize, names: Object) -> Object;
    PyObject_VectorcallDict(callable: Object, args: *const Object, count: usize, keywords: Object) -> Object;
    PyObject_VectorcallMethod(name: Object, args: *const Object, count: usize, names: Object) -> Object;
    PyIter_Send(iterator: Object, value: Object, result: *mut Object) -> c_int;
    PyIter_Next(iterator: Object) -> Object;
    PyObject_GetIter(object: Object) -> Object;
    PySequence_Tuple(object: Object) -> Object;
    PyObject_GetAttr(object: Object, name: Object) -> Object;
    #[cfg(Py_3_13)]
    PyObject_GetOptionalAttr(object: Object, name: Object, result: *mut Object) -> c_int;
    PyObject_SetAttr(object: Object, name: Object, value: Object) -> c_int;
    PyObject_GetItem(object: Object, key: Object) -> Object;
    PyObject_SetItem(object: Object, key: Object, value: Object) -> c_int;
    PyObject_DelItem(object: Object, key: Object) -> c_int;
    PyObject_GenericSetAttr(object: Object, name: Object, value: Object) -> c_int;
    PyObject_GetBuffer(object: Object, view: *mut Py_buffer, flags: c_int) -> c_int;
    PyBuffer_Release(view: *mut Py_buffer);
    PySequence_Contains(object: Object, value: Object) -> c_int;
    PyDict_Contains(dict: Object, key: Object) -> c_int;
    #[cfg(Py_3_13)]
    PyDict_GetItemRef(dict: Object, key: Object, result: *mut Object) -> c_int;
    PyDict_SetItem(dict: Object, key: Object, value: Object) -> c_int;
    PyDict_DelItem(dict: Object, key: Object) -> c_int;
    PyDict_Clear(dict: Object);
    PySet_Add(set: Object, key: Object) -> c_int;
    PySet_Discard(set: Object, key: Object) -> c_int;
    PyNumber_Index(object: Object) -> Object;
    PyFloat_AsDouble(object: Object) -> f64;
    PyObject_IsInstance(object: Object, class: Object) -> c_int;
    PyObject_IsSubclass(derived: Object, class: Object) -> c_int;
    PyObject_IsTrue(object: Object) -> c_int;
    PyObject_RichCompare(one: Object, other: Object, how: c_int) -> Object;
    PyObject_Hash(object: Object) -> isize;
    PyObject_Size(object: Object) -> isize;
    PyObject_Repr(object: Object) -> Object;
    PyObject_Str(object: Object) -> Object;
    PyImport_Import(name: Object) -> Object;
    PyErr_CheckSignals() -> c_int;
    PyErr_WarnEx(category: Object, message: *const c_char, level: isize) -> c_int;
    PyErr_SetObject(class: Object, value: Object);
    PyErr_WriteUnraisable(object: Object);
    PyErr_PrintEx(set_last: c_int);
    PyObject_CallFinalizerFromDealloc(object: Object) -> c_int;
    PyObject_ClearWeakRefs(object: Object);
    _Py_Dealloc(object: Object);
}
