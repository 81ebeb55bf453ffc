//! `write()` of a connection, the method that programs call most, in CPython's fastest calling
//! convention.

use pyo3::impl_::trampoline::get_trampoline_function;
use pyo3::{Borrowed, ffi, prelude::*};

use super::link::Link;
use super::{StreamTransport, write};
use crate::methods::{self, Methods, fast_method};

static OF_STREAMS: Methods<1> = Methods([fast_method(
    c"write",
    get_trampoline_function!(fastcall_cfunction_with_keywords, write_method),
    c"write($self, /, data)\n--\n\nSends bytes, or keeps what the system does not take at once. Never blocks.",
)]);

/// Installs it. To be called before transports are made.
///
/// # Errors
/// Out of memory.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    methods::put(&py.get_type::<StreamTransport>(), &OF_STREAMS)
}

unsafe fn write_method(
    py: Python<'_>,
    transport: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> PyResult<*mut ffi::PyObject> {
    // SAFETY: called by a method descriptor of the class, which lays the rest out as its flags say.
    let (transport, data) = unsafe {
        let transport = Borrowed::from_ptr(py, transport).cast_unchecked::<StreamTransport>();
        let data = methods::only(py, arguments, count, names, ("write", "data"))?;
        (transport, data)
    };
    write::write(Link::Stream(&transport), &data)?;
    Ok(py.None().into_ptr())
}
