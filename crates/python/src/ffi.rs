//! The few calls of the C API for which PyO3 has no safe form.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyBaseException, PyImportError, PyTypeError};
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{ffi, intern};

use crate::awaited::Next;

/// Refuses to go on in a subinterpreter: what is kept here for ever is of one interpreter.
///
/// # Errors
/// `ImportError` there.
pub(crate) fn must_be_main_interpreter(py: Python<'_>) -> PyResult<()> {
    // SAFETY: the interpreter is attached, so there is a current one.
    match unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) } {
        0 => Ok(()),
        -1 => Err(PyErr::fetch(py)),
        _ => Err(PyImportError::new_err(
            "oxlip cannot be imported in subinterpreters",
        )),
    }
}

/// `callable(*arguments)`; the last `keywords.len()` arguments are keyword arguments.
///
/// # Errors
/// What the callable raises.
#[inline]
pub(crate) fn vectorcall<'py, const N: usize>(
    callable: &Bound<'py, PyAny>,
    arguments: [&Bound<'py, PyAny>; N],
    keywords: Option<&Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    let pointers = arguments.map(Bound::as_ptr);
    let names = keywords.map_or(std::ptr::null_mut(), |names| names.as_ptr());
    let positional = N - keywords.map_or(0, PyTupleMethods::len);
    // SAFETY: `pointers` holds N live borrowed references for the time of the call, of which all
    // but the named ones are positional; the result is a new reference or NULL with an error.
    unsafe {
        let result = raw_vectorcall(callable.as_ptr(), pointers.as_ptr(), positional, names);
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

/// `PyObject_Vectorcall`. Before 3.11 that is no function of the interpreter's: PyO3 calls the object's slot itself, where
/// the linker can put no guard (`finalizing.rs`). Another one does the same, but for names of arguments.
///
/// # Safety
/// As that function's.
#[inline]
pub(crate) unsafe fn raw_vectorcall(
    callable: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as the caller says; no names are a dict of no keyword arguments, too.
    unsafe {
        if cfg!(Py_3_11) || !names.is_null() {
            ffi::PyObject_Vectorcall(callable, arguments, count, names)
        } else {
            ffi::PyObject_VectorcallDict(callable, arguments, count, names)
        }
    }
}

/// A number of seconds, as `float()` takes it of what is one.
///
/// # Errors
/// `TypeError` for what is none, `OverflowError` for what is too large.
#[inline]
pub(crate) fn seconds(object: &Bound<'_, PyAny>) -> PyResult<f64> {
    // SAFETY: live objects; what is of exactly one of these classes is what the calls expect.
    let value = unsafe {
        if ffi::PyFloat_CheckExact(object.as_ptr()) != 0 {
            return Ok(ffi::PyFloat_AS_DOUBLE(object.as_ptr()));
        }
        if ffi::PyLong_CheckExact(object.as_ptr()) == 0 {
            return object.extract();
        }
        // By `float()` it would be made a float object.
        ffi::PyLong_AsDouble(object.as_ptr())
    };
    if value == -1.0
        && let Some(error) = PyErr::take(object.py())
    {
        return Err(error);
    }
    Ok(value)
}

/// `object.name(*arguments)` without a bound method; `arguments[0]` is the object.
///
/// # Errors
/// What the method raises, `AttributeError` if there is none.
#[inline]
pub(crate) fn call_method<'py, const N: usize>(
    name: &Bound<'py, PyString>,
    arguments: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    let pointers = arguments.map(Bound::as_ptr);
    // SAFETY: as in `vectorcall`; N is at least 1, the object itself.
    unsafe {
        let result = ffi::PyObject_VectorcallMethod(
            name.as_ptr(),
            pointers.as_ptr(),
            N,
            std::ptr::null_mut(),
        );
        Bound::from_owned_ptr_or_err(name.py(), result)
    }
}

// SAFETY: as CPython declares it (cpython/object.h).
unsafe extern "C" {
    /// Where an object has its dict, or NULL. In CPython's headers, not in PyO3's.
    fn _PyObject_GetDictPtr(object: *mut ffi::PyObject) -> *mut *mut ffi::PyObject;
}

// SAFETY: as CPython declares them (cpython/classobject.h).
unsafe extern "C" {
    static mut PyMethod_Type: ffi::PyTypeObject;
    fn PyMethod_Function(method: *mut ffi::PyObject) -> *mut ffi::PyObject;
    fn PyMethod_Self(method: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

/// Function and object of a method in Python that is bound to an object.
#[inline]
pub(crate) fn bound_method<'a, 'py>(
    method: &'a Bound<'py, PyAny>,
) -> Option<(Borrowed<'a, 'py, PyAny>, Borrowed<'a, 'py, PyAny>)> {
    let (py, method) = (method.py(), method.as_ptr());
    // SAFETY: a live object of that type, which keeps its two objects as long as it lives.
    unsafe {
        if ffi::Py_TYPE(method) != &raw mut PyMethod_Type {
            return None;
        }
        let function = Borrowed::from_ptr(py, PyMethod_Function(method));
        Some((function, Borrowed::from_ptr(py, PyMethod_Self(method))))
    }
}

/// The dict of an object's own attributes (`__dict__`), which is made if they had been kept without one.
///
/// # Errors
/// `AttributeError` if such objects have none; out of memory.
#[inline]
pub(crate) fn dict_of<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: a live object; the result is a new reference to a dict, or NULL with an error.
    unsafe {
        let dict = ffi::PyObject_GenericGetDict(object.as_ptr(), std::ptr::null_mut());
        Ok(Bound::from_owned_ptr_or_err(object.py(), dict)?.cast_into_unchecked())
    }
}

/// Whether the object itself, not its class, has an attribute of this name.
///
/// # Errors
/// What comparing the name with others raises; out of memory.
pub(crate) fn has_own(object: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> PyResult<bool> {
    // SAFETY: a live object, which where it has a dict refers to it.
    let dict = unsafe {
        let place = _PyObject_GetDictPtr(object.as_ptr());
        if place.is_null() {
            return Ok(false);
        }
        Bound::from_borrowed_ptr_or_opt(object.py(), *place)
    };
    // Held for the look: a key of another class than `str` may be asked whether it is equal, and give the object
    // another dict meanwhile.
    match dict {
        Some(dict) => dict.contains(name),
        None => Ok(false),
    }
}

/// What a function does that the interpreter calls without PyO3 in between: a panic becomes an exception, as PyO3
/// makes it one, and the answer then is `failed`.
#[inline]
pub(crate) fn without_panic<R>(py: Python<'_>, failed: R, run: impl FnOnce() -> R) -> R {
    match caught(run) {
        Ok(answer) => answer,
        Err(error) => {
            error.restore(py);
            failed
        }
    }
}

/// The same of a deallocator, which has nobody to raise an exception to: the panic is printed, and what was still to
/// be freed is not (`None`).
#[inline]
pub(crate) fn dealloc_without_panic<R>(py: Python<'_>, run: impl FnOnce() -> R) -> Option<R> {
    match caught(run) {
        Ok(answer) => Some(answer),
        Err(error) => {
            beside_an_exception(py, || error.write_unraisable(py, None));
            None
        }
    }
}

#[inline]
fn caught<R>(run: impl FnOnce() -> R) -> PyResult<R> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => (*panic.downcast_ref::<&str>().unwrap_or(&"panic")).to_owned(),
        };
        PanicException::new_err((text,))
    })
}

/// Runs something as within an `except` block: `sys.exception()` is this error there, and what is raised has it as its
/// context.
pub(crate) fn while_handling<R>(error: &Bound<'_, PyBaseException>, run: impl FnOnce() -> R) -> R {
    /// Puts back what was being handled before; also after a panic.
    struct Before([*mut ffi::PyObject; 3]);
    impl Drop for Before {
        fn drop(&mut self) {
            // SAFETY: the interpreter is attached, since `error` is alive; what was taken out is put back.
            unsafe { set_handled(self.0) };
        }
    }
    let class = error.get_type().into_ptr();
    // SAFETY: the interpreter is attached; new references to an exception, its class and its traceback are given away.
    let _before = unsafe {
        let traceback = ffi::PyException_GetTraceback(error.as_ptr());
        let mut before = handled();
        // Within a generator, what is found is its caller's, but what is set is its own.
        let nothing = [std::ptr::null_mut(); 3];
        set_handled(nothing);
        let callers = handled();
        if callers[1] == before[1] {
            before.into_iter().for_each(|given| ffi::Py_XDECREF(given));
            before = nothing;
        }
        callers.into_iter().for_each(|given| ffi::Py_XDECREF(given));
        set_handled([class, error.clone().into_ptr(), traceback]);
        Before(before)
    };
    run()
}

/// Class, exception and traceback of what is being handled: new references or NULL. Since 3.11 the exception says all.
///
/// # Safety
/// The interpreter is attached.
#[cfg(Py_3_11)]
unsafe fn handled() -> [*mut ffi::PyObject; 3] {
    let nothing = std::ptr::null_mut();
    // SAFETY: as the caller says.
    [
        nothing,
        unsafe { ffi::PyErr_GetHandledException() },
        nothing,
    ]
}

/// # Safety
/// The interpreter is attached; the references are given away.
#[cfg(Py_3_11)]
unsafe fn set_handled([class, exception, traceback]: [*mut ffi::PyObject; 3]) {
    // SAFETY: as the caller says; the call takes a reference of its own.
    unsafe {
        ffi::PyErr_SetHandledException(exception);
        for given in [class, exception, traceback] {
            ffi::Py_XDECREF(given);
        }
    }
}

/// The same.
#[cfg(not(Py_3_11))]
unsafe fn handled() -> [*mut ffi::PyObject; 3] {
    let mut found = [std::ptr::null_mut(); 3];
    let [class, exception, traceback] = &mut found;
    // SAFETY: as the caller says; three places for new references.
    unsafe { ffi::PyErr_GetExcInfo(class, exception, traceback) };
    found
}

/// The same.
#[cfg(not(Py_3_11))]
unsafe fn set_handled([class, exception, traceback]: [*mut ffi::PyObject; 3]) {
    // SAFETY: as the caller says; the call takes the references.
    unsafe { ffi::PyErr_SetExcInfo(class, exception, traceback) };
}

/// Runs something while an exception may be on its way, which goes on afterwards.
#[cfg(Py_3_12)]
pub(crate) fn beside_an_exception<R>(_py: Python<'_>, run: impl FnOnce() -> R) -> R {
    // SAFETY: the interpreter is attached; the exception, or NULL, is taken out and put back.
    unsafe {
        let raised = ffi::PyErr_GetRaisedException();
        let answer = run();
        ffi::PyErr_SetRaisedException(raised);
        answer
    }
}

/// The same.
#[cfg(not(Py_3_12))]
pub(crate) fn beside_an_exception<R>(_py: Python<'_>, run: impl FnOnce() -> R) -> R {
    use std::ptr::null_mut;
    let (mut class, mut value, mut traceback) = (null_mut(), null_mut(), null_mut());
    // SAFETY: as above.
    unsafe {
        ffi::PyErr_Fetch(&raw mut class, &raw mut value, &raw mut traceback);
        let answer = run();
        ffi::PyErr_Restore(class, value, traceback);
        answer
    }
}

/// What a coroutine, or another iterator, does when it goes on.
///
/// # Errors
/// What it raises.
#[inline]
pub(crate) fn send_none<'py>(coroutine: &Bound<'py, PyAny>) -> PyResult<Next<'py>> {
    let py = coroutine.py();
    let mut result = std::ptr::null_mut();
    // SAFETY: live objects; `result` gets a new reference unless an error is raised.
    unsafe {
        match ffi::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &raw mut result) {
            ffi::PySendResult::PYGEN_NEXT => Ok(Next::Waits(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_RETURN => Ok(Next::Done(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
        }
    }
}

/// Makes a new object known to the cycle collector, which it is not if its memory is from PyO3's `freelist`.
#[inline]
pub(crate) fn follow(made: &Bound<'_, PyAny>) {
    // SAFETY: a live object.
    unsafe {
        if ffi::PyObject_IS_GC(made.as_ptr()) != 0 && ffi::PyObject_GC_IsTracked(made.as_ptr()) == 0
        {
            ffi::PyObject_GC_Track(made.as_ptr().cast());
        }
    }
}

/// The exception as one that is raised here: what is being handled becomes its context, as `raise` does it.
/// `PyErr::from_value` alone leaves that out.
#[cold]
pub(crate) fn raise(exception: &Bound<'_, PyAny>) -> PyErr {
    // SAFETY: a live object, and its class; what is no exception is refused with another one.
    unsafe { ffi::PyErr_SetObject(ffi::Py_TYPE(exception.as_ptr()).cast(), exception.as_ptr()) };
    PyErr::fetch(exception.py())
}

/// The traceback that an exception has, whatever its class makes of the attribute.
#[inline]
pub(crate) fn traceback<'py>(exception: &Bound<'py, PyBaseException>) -> Option<Bound<'py, PyAny>> {
    // SAFETY: a live exception; the result is a new reference, or NULL for none.
    unsafe {
        let traceback = ffi::PyException_GetTraceback(exception.as_ptr());
        Bound::from_owned_ptr_or_opt(exception.py(), traceback)
    }
}

/// Sets it likewise: to a traceback, or to none.
///
/// # Errors
/// `TypeError` for anything else.
#[inline]
pub(crate) fn set_traceback(
    exception: &Bound<'_, PyBaseException>,
    traceback: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    // SAFETY: two live objects, of which the first is an exception.
    let set = unsafe {
        let traceback = traceback.map_or_else(|| ffi::Py_None(), Bound::as_ptr);
        ffi::PyException_SetTraceback(exception.as_ptr(), traceback)
    };
    match set {
        0 => Ok(()),
        _ => Err(PyErr::fetch(exception.py())),
    }
}

/// What `object.__setattr__` and `object.__delattr__` (no value) do.
///
/// # Errors
/// `AttributeError`, and what a descriptor raises.
pub(crate) fn generic_set_attribute(
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let value = value.map_or(std::ptr::null_mut(), Bound::as_ptr);
    // SAFETY: live objects, or NULL for the value; errors are reported as Python does.
    if unsafe { ffi::PyObject_GenericSetAttr(object.as_ptr(), name.as_ptr(), value) } != 0 {
        return Err(PyErr::fetch(object.py()));
    }
    Ok(())
}

/// `callable(*arguments, **keywords)`, with this very dict where that is a class in C: for one that does
/// not keep it.
///
/// # Errors
/// What the callable raises.
#[inline]
pub(crate) fn call_keywords<'py>(
    callable: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
    keywords: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: three live objects of the types that it wants; the result is a new reference or NULL
    // with an error.
    unsafe {
        let result = ffi::PyObject_Call(callable.as_ptr(), arguments.as_ptr(), keywords.as_ptr());
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

/// A number that the class has until it or one of its bases changes, after which it gets another; 0
/// if it has none, or other threads might be changing it just now.
#[inline]
pub(crate) fn type_version(class: &Bound<'_, PyType>) -> u32 {
    if cfg!(Py_GIL_DISABLED) {
        return 0;
    }
    // SAFETY: a live type object, whose fields only threads with the GIL write.
    unsafe { (*class.as_type_ptr()).tp_version_tag }
}

/// Whether no code of a program's looks up the attributes of its objects (`__getattr__`, `__getattribute__`).
pub(crate) fn looks_up_as_usual(class: &Bound<'_, PyType>) -> bool {
    // SAFETY: a live type object, which is ready.
    let lookup = unsafe { (*class.as_type_ptr()).tp_getattro };
    let usual = ffi::PyObject_GenericGetAttr as ffi::getattrofunc;
    lookup.is_some_and(|lookup| std::ptr::fn_addr_eq(lookup, usual))
}

/// A number that no other state of this dict or of another one has; 0 where dicts have none, since Python 3.14, or
/// other threads might be changing it just now.
#[inline]
pub(crate) fn dict_version(dict: &Bound<'_, PyDict>) -> u64 {
    #[cfg(any(Py_3_14, Py_GIL_DISABLED))]
    {
        let _ = dict;
        0
    }
    #[cfg(not(any(Py_3_14, Py_GIL_DISABLED)))]
    {
        #[allow(deprecated, reason = "which says that newer releases have none")]
        // SAFETY: a live dict, whose fields only threads with the GIL write.
        unsafe {
            (*dict.as_ptr().cast::<ffi::PyDictObject>()).ma_version_tag
        }
    }
}

/// What the class's `__new__` makes of these arguments, by its slot. `__init__` is not called.
///
/// # Errors
/// What it raises; `TypeError` if nobody can make such objects.
#[inline]
pub(crate) fn new_object<'py>(
    class: &Bound<'py, PyType>,
    arguments: &Bound<'py, PyTuple>,
    keywords: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let type_ = class.as_type_ptr();
    let keywords = keywords.map_or(std::ptr::null_mut(), Bound::as_ptr);
    // SAFETY: a live type, whose slot gets live objects of the types that it wants, or no keywords,
    // and gives a new reference or NULL with an error.
    unsafe {
        let Some(new) = (*type_).tp_new else {
            let message = format!("cannot create {} instances", class.qualname()?);
            return Err(PyTypeError::new_err(message));
        };
        Bound::from_owned_ptr_or_err(py, new(type_, arguments.as_ptr(), keywords))
    }
}

/// Gives `class` the native methods of `base`, from which it derives, as its own: the interpreter calls
/// a method fastest on an object of exactly the class whose it is. What has been replaced on the way stays so.
///
/// # Errors
/// `TypeError` if it does not derive from `base`; out of memory.
pub(crate) fn adopt_methods(class: &Bound<'_, PyType>, base: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    // SAFETY: two live types. Not `issubclass()`, which a metaclass may answer.
    if unsafe { ffi::PyType_IsSubtype(class.as_type_ptr(), base.as_type_ptr()) } == 0 {
        let message = format!("{} does not derive from {}", class.repr()?, base.repr()?);
        return Err(PyTypeError::new_err(message));
    }
    for item in base
        .getattr("__dict__")?
        .call_method0("items")?
        .try_iter()?
    {
        let (name, method): (Bound<'_, PyString>, Bound<'_, PyAny>) = item?.extract()?;
        // SAFETY: live objects; of that type, the second part is looked at.
        let is_method = unsafe {
            ffi::Py_TYPE(method.as_ptr()) == &raw mut ffi::PyMethodDescr_Type
                && (*method.as_ptr().cast::<ffi::PyMethodDescrObject>())
                    .d_common
                    .d_type
                    == base.as_type_ptr()
        };
        if !is_method || !class.getattr(&name)?.is(&method) {
            continue;
        }
        // SAFETY: a descriptor of that type, whose definition outlives `base`, which `class` refers to;
        // its function expects objects of `base`, of which those of `class` are.
        let adopted = unsafe {
            let definition = (*method.as_ptr().cast::<ffi::PyMethodDescrObject>()).d_method;
            let adopted = ffi::PyDescr_NewMethod(class.as_type_ptr(), definition);
            Bound::from_owned_ptr_or_err(py, adopted)?
        };
        class.setattr(name, adopted)?;
    }
    Ok(())
}

/// Whether this is what an `async def` function returns.
#[inline]
pub(crate) fn is_coroutine(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object; the macro only compares its type.
    unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) != 0 }
}

/// The tuple `("loop",)`.
///
/// # Errors
/// Out of memory.
pub(crate) fn loop_keyword<'py>(py: Python<'py>) -> PyResult<&'py Bound<'py, PyTuple>> {
    static KEYWORD: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
    let names = KEYWORD.get_or_try_init(py, || {
        PyTuple::new(py, [intern!(py, "loop")]).map(Bound::unbind)
    })?;
    Ok(names.bind(py))
}
