//! Coroutine functions that are mostly done at once, as `async with lock` is, and native then.
//!
//! Behind each stands a coroutine function in Python, which means the same. It is asked where something has to be
//! waited for, by objects of derived classes, with other arguments, and by who looks closer at a coroutine than an
//! `await` does. So what can be seen of it is Python's. What is done at once knows nothing of methods that a program
//! replaces on one object (docs/primitives.md).
//!
//! All of it runs on whatever thread calls it.

mod coroutine;
mod function;
mod origin;

use pyo3::prelude::*;

pub(crate) use function::PromptFunction;

/// What is done at once.
#[derive(Clone, Copy)]
pub(crate) struct Deed {
    /// Of the coroutine function in Python.
    pub(crate) qualname: &'static str,
    /// How many arguments it has besides the object.
    pub(crate) arguments: usize,
    /// Whether it is for this object.
    pub(crate) suits: for<'py> fn(&Bound<'py, PyAny>) -> PyResult<bool>,
    /// Does it, for the result `None`; false if that is not possible now, and nothing has happened. PyO3 does not
    /// know here that the interpreter is attached, and would put off the end of a `Py`: what is dropped is a `Bound`.
    pub(crate) at_once: for<'py> fn(&Bound<'py, PyAny>) -> PyResult<bool>,
}

/// Lets the interpreter call such functions without PyO3's in between.
///
/// # Errors
/// Out of memory.
pub(crate) fn export(py: Python<'_>) -> PyResult<()> {
    function::export(py)?;
    coroutine::export(py);
    Ok(())
}
