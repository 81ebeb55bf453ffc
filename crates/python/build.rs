//! Tells this crate which Python it is built for: `cfg(Py_3_13)`, `cfg(Py_GIL_DISABLED)`, `cfg(ends_threads)`; and
//! has the linker put the functions of `finalizing.rs` in the place of the C API's.

use std::env;

/// With the first minor release of Python 3 on which it is called.
const GUARDED: [(&str, u8); 46] = [
    ("PyObject_Call", 10),
    ("PyObject_CallNoArgs", 10),
    ("PyObject_CallOneArg", 12),
    ("PyObject_Vectorcall", 11),
    ("PyObject_VectorcallDict", 10),
    ("PyObject_VectorcallMethod", 10),
    ("PyIter_Send", 10),
    ("PyIter_Next", 10),
    ("PyObject_GetIter", 10),
    ("PySequence_Tuple", 10),
    ("PyObject_GetAttr", 10),
    ("PyObject_GetOptionalAttr", 13),
    ("PyObject_SetAttr", 10),
    ("PyObject_GetItem", 10),
    ("PyObject_SetItem", 10),
    ("PyObject_DelItem", 10),
    ("PyObject_GenericSetAttr", 10),
    ("PyObject_GetBuffer", 10),
    ("PyBuffer_Release", 10),
    ("PySequence_Contains", 10),
    ("PyDict_Contains", 10),
    ("PyDict_GetItemRef", 13),
    ("PyDict_SetItem", 10),
    ("PyDict_DelItem", 10),
    ("PyDict_Clear", 10),
    ("PySet_Add", 10),
    ("PySet_Discard", 10),
    ("PyNumber_Index", 10),
    ("PyFloat_AsDouble", 10),
    ("PyObject_IsInstance", 10),
    ("PyObject_IsSubclass", 10),
    ("PyObject_IsTrue", 10),
    ("PyObject_RichCompare", 10),
    ("PyObject_Hash", 10),
    ("PyObject_Size", 10),
    ("PyObject_Repr", 10),
    ("PyObject_Str", 10),
    ("PyImport_Import", 10),
    ("PyErr_CheckSignals", 10),
    ("PyErr_WarnEx", 10),
    ("PyErr_SetObject", 10),
    ("PyErr_WriteUnraisable", 10),
    ("PyErr_PrintEx", 10),
    ("PyObject_CallFinalizerFromDealloc", 10),
    ("PyObject_ClearWeakRefs", 10),
    ("_Py_Dealloc", 10),
];

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(ends_threads)");
    let minor = pyo3_build_config::get().version().minor;
    let is = |what, value| env::var(what).is_ok_and(|found| found == value);
    // Other C libraries end threads without unwinding them.
    if minor < 14 && is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo:rustc-cfg=ends_threads");
        for (name, since) in GUARDED {
            if minor >= since {
                // lld renames only what it has heard of: without this, the extension could not be loaded if a function
                // is not called any more.
                println!("cargo:rustc-link-arg-cdylib=-Wl,--undefined={name}");
                println!("cargo:rustc-link-arg-cdylib=-Wl,--wrap={name}");
            }
        }
    }
}
