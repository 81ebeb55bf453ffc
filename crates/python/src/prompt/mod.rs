//! Coroutine functions that usually finish at once, as `async with lock` does, and are native then.
//!
//! Behind each is a coroutine function in Python that means the same. It is called when something
//! has to be waited for, for objects of derived classes, for other arguments, and when somebody
//! examines a coroutine more closely than `await` does. So what can be seen of it is Python's. Only
//! what finishes at once does not notice methods that a program has replaced on a single object
//! (docs/primitives.md).
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
