//! What is said when a future is freed although nobody has looked at its exception, or a task
//! although it was still pending.
//!
//! PyO3 knows no finalizers. Our class over asyncio's has one, which the others inherit. For
//! objects of derived classes the interpreter calls it; for those of exactly our class our
//! deallocator does, if there is anything to say.

use pyo3::impl_::trampoline::get_trampoline_function;
use pyo3::types::PyDict;
use pyo3::{Borrowed, ffi, intern, prelude::*};

use super::core::{Native, Ours};
use super::{Task, base};
use crate::chains::End;
use crate::ffi::dealloc_without_panic;

/// Before objects are made.
pub(super) fn install<T: Ours>(py: Python<'_>) {
    let class = T::type_object_raw(py);
    // SAFETY: the class's own type object, which nobody has used yet; ours does what PyO3's does, and more.
    unsafe { (*class).tp_dealloc = Some(dealloc::<T>) };
}

unsafe extern "C" fn dealloc<T: Ours>(object: *mut ffi::PyObject) {
    // SAFETY: called by the interpreter, attached, with an object of `T` or a derived class that nobody refers
    // to; only for the former nobody has called the finalizer. It may bring the object back to life, which the
    // call tells. Otherwise the Rust part is dropped once, where it lies, and the memory given back by the
    // class below; an instance of a heap type refers to it.
    unsafe {
        let py = Python::assume_attached();
        let is_over = dealloc_without_panic(py, || {
            let rust = {
                let borrowed = Borrowed::from_ptr(py, object).cast_unchecked::<T>();
                if ffi::Py_TYPE(object) == T::type_object_raw(py)
                    && T::speaks(&borrowed)
                    && ffi::PyObject_CallFinalizerFromDealloc(object) < 0
                {
                    return false;
                }
                // Not before: who hears of its end finds it, as asyncio's, and may keep it.
                borrowed.get().is_gone(py);
                T::is_no_more(object);
                // Where it lies, through the pointer that may write there.
                let offset = std::ptr::from_ref(borrowed.get()).addr() - object.addr();
                object.byte_add(offset).cast::<T>()
            };
            ffi::PyObject_GC_UnTrack(object.cast());
            // Before anything that it holds is gone.
            ffi::PyObject_ClearWeakRefs(object);
            (*rust).release(&End::begin(py));
            std::ptr::drop_in_place(rust);
            true
        });
        if is_over == Some(true) {
            let class = ffi::Py_TYPE(object);
            // Its attributes may be a long chain, which the interpreter bounds by thousands (`dict_dealloc`): so this is
            // not within the frames of the rest.
            base::dealloc(object);
            ffi::Py_DECREF(class.cast());
        }
    }
}

/// `tp_finalize` of the classes over asyncio's.
pub(super) unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    let speak = get_trampoline_function!(unaryfunc, speak);
    // SAFETY: called by the interpreter, attached, with a live object, also when it is about to end. Only a
    // panic comes out of it as an exception.
    unsafe {
        if speak(object).is_null() {
            ffi::PyErr_WriteUnraisable(object);
        }
    }
}

/// # Safety
/// `object` is live.
unsafe fn speak(py: Python<'_>, object: *mut ffi::PyObject) -> PyResult<*mut ffi::PyObject> {
    // SAFETY: see above.
    let speaker = unsafe { Bound::from_borrowed_ptr(py, object) };
    // What is on its way stays so.
    let raised = PyErr::take(py);
    if let Err(error) = last_words(&speaker) {
        error.write_unraisable(py, Some(&speaker));
    }
    if let Some(raised) = raised {
        raised.restore(py);
    }
    // Not a new reference: only whether it is NULL is looked at.
    Ok(object)
}

fn last_words(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    let Some(native) = Native::derived(object) else {
        return Ok(());
    };
    if let Ok(task) = object.cast::<Task>()
        && task.get().was_destroyed_pending(task)
    {
        let context = PyDict::new(py);
        context.set_item(intern!(py, "task"), object)?;
        let message = "Task was destroyed but it is pending!";
        context.set_item(intern!(py, "message"), message)?;
        report(native, &context)?;
    }
    let unseen = native.with(|slots| {
        let unseen = std::mem::replace(&mut slots.logs, false);
        let exception = slots.rare.as_ref()?.exception.as_ref()?;
        unseen.then(|| exception.bind(py).as_any().clone())
    });
    if let Some(exception) = unseen {
        let class = object.get_type().name()?;
        let context = PyDict::new(py);
        let class = class.to_string_lossy();
        let message = format!("{class} exception was never retrieved");
        context.set_item(intern!(py, "message"), message)?;
        context.set_item(intern!(py, "exception"), exception)?;
        context.set_item(intern!(py, "future"), object)?;
        report(native, &context)?;
    }
    Ok(())
}

/// Tells the loop, if it listens.
fn report<'py>(native: Native<'_, 'py>, context: &Bound<'py, PyDict>) -> PyResult<()> {
    let py = native.object.py();
    if let Some(source) = native.rare(|rare| &mut rare.source_traceback) {
        context.set_item(intern!(py, "source_traceback"), source)?;
    }
    let handler = intern!(py, "call_exception_handler");
    if let Ok(handler) = native.event_loop()?.getattr(handler)
        && let Err(error) = handler.call1((context,))
    {
        write_unraisable(error, &handler);
    }
    Ok(())
}

/// Tells the interpreter what a handler has raised, in the words of the release.
#[cfg(not(Py_3_14))]
fn write_unraisable(error: PyErr, handler: &Bound<'_, PyAny>) {
    error.write_unraisable(handler.py(), Some(handler));
}

#[cfg(Py_3_14)]
fn write_unraisable(error: PyErr, handler: &Bound<'_, PyAny>) {
    // SAFETY: as CPython declares it, since 3.13.
    unsafe extern "C" {
        fn PyErr_FormatUnraisable(format: *const std::ffi::c_char, ...);
    }
    error.restore(handler.py());
    let format = c"Exception ignored while calling asyncio function %R";
    // SAFETY: attached, with an exception set; the format asks for one object, which lives.
    unsafe { PyErr_FormatUnraisable(format.as_ptr(), handler.as_ptr()) }
}
