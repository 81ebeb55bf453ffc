//! Coroutine functions that usually finish at once, as `async with lock` does, and are native then.
//!
//! Behind each stands a coroutine function in Python that does the same. It is called where more has to be waited for
//! than one future (which is native too, as for a lock that is taken: `waiting.rs`), for objects of derived classes,
//! with other arguments, and when code asks a coroutine for more than an `await` does. So all that can be seen of the
//! coroutine is Python's. What is done at once ignores methods that a program replaces on one object
//! (docs/primitives.md).
//!
//! All of this runs on whatever thread calls it.

mod coroutine;
mod function;
mod origin;
mod waiting;

use pyo3::prelude::*;

pub(crate) use function::PromptFunction;
pub(crate) use waiting::Wait;

/// The native implementation of one coroutine function.
#[derive(Clone, Copy)]
pub(crate) struct Deed {
    /// The qualified name of the coroutine function in Python.
    pub(crate) qualname: &'static str,
    /// How many arguments it has besides the object.
    pub(crate) arguments: usize,
    /// Whether it can be used for this object.
    pub(crate) suits: for<'py> fn(&Bound<'py, PyAny>) -> PyResult<bool>,
    /// Does the work, whose result is `None`. Returns false if that is not possible now and nothing has happened.
    /// PyO3 does not know here that the thread is attached to the interpreter, and would put off the release of a
    /// `Py`, so only `Bound`s are to be dropped.
    pub(crate) at_once: for<'py> fn(&Bound<'py, PyAny>) -> PyResult<bool>,
    /// What to do if that was not possible. None leaves it to the function in Python.
    pub(crate) wait: Option<&'static Wait>,
}

/// Lets the interpreter call such functions without PyO3's functions in between.
///
/// # Errors
/// Out of memory.
pub(crate) fn export(py: Python<'_>) -> PyResult<()> {
    function::export(py)?;
    coroutine::export(py);
    Ok(())
}
