//! A coroutine that waits for one future, as for a lock that is taken, and needs no Python frame for it.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::awaited::Next;
use crate::{names, tasks};

type Any<'py> = Bound<'py, PyAny>;

/// A wait that is native too, until some code asks the coroutine for more than an `await` does.
pub(crate) struct Wait {
    /// Makes a future and adds it to those that wait for the object. `None` leaves all of it to the function in
    /// Python.
    pub(crate) begin: for<'py> fn(&Any<'py>) -> PyResult<Option<Any<'py>>>,
    /// What to do once the future has a result. The arguments are the object and the future.
    pub(crate) end: for<'py> fn(&Any<'py>, &Any<'py>) -> PyResult<()>,
    /// Makes the coroutine in Python that does the same, and also what is to be done if the future has no result. The
    /// arguments are the object, the future, and what to await in the future's place.
    pub(crate) in_python: &'static names::Imported,
}

/// A wait whose future has been given to the task that runs the coroutine.
pub(super) struct Waiting {
    object: Py<PyAny>,
    future: Py<PyAny>,
}

/// What becomes of a coroutine that could not do its work at once.
pub(super) enum Begun<'py> {
    /// It waits, and its task is to wait for this future.
    Waits(Waiting, Any<'py>),
    /// The coroutine in Python is to wait.
    InPython(Any<'py>),
    /// It is left to the function in Python.
    Not,
}

/// Begins to wait.
///
/// # Errors
/// What `Wait::begin` raises.
pub(super) fn begin<'py>(wait: Option<&Wait>, object: &Any<'py>) -> PyResult<Begun<'py>> {
    let Some(wait) = wait else {
        return Ok(Begun::Not);
    };
    let Some(future) = (wait.begin)(object)? else {
        return Ok(Begun::Not);
    };
    if !tasks::give(&future) {
        // A future of asyncio's, which its own tasks wait for faster directly.
        let made = wait.in_python.get(object.py())?;
        return crate::ffi::vectorcall(made, [object, &future, &future], None).map(Begun::InPython);
    }
    let waiting = Waiting {
        object: object.clone().unbind(),
        future: future.clone().unbind(),
    };
    Ok(Begun::Waits(waiting, future))
}

impl Waiting {
    /// Whether the future has a result, and not an exception.
    #[inline]
    pub(super) fn is_over(&self, py: Python<'_>) -> bool {
        tasks::has_result(self.future.bind(py))
    }

    /// Does what follows the wait.
    ///
    /// # Errors
    /// What that raises.
    #[inline]
    pub(super) fn end(self, py: Python<'_>, wait: &Wait) -> PyResult<()> {
        let (object, future) = (self.object.into_bound(py), self.future.into_bound(py));
        (wait.end)(&object, &future)
    }

    /// The coroutine in Python, advanced to where this one is: it has given the future to its task.
    ///
    /// # Errors
    /// Out of memory; `KeyboardInterrupt`.
    #[cold]
    pub(super) fn into_python<'py>(self, py: Python<'py>, wait: &Wait) -> PyResult<Any<'py>> {
        let (object, future) = (self.object.into_bound(py), self.future.into_bound(py));
        let given = names::GIVEN.get(py)?.call1((&future,))?;
        let made = wait.in_python.get(py)?;
        let coroutine = crate::ffi::vectorcall(made, [&object, &future, &given], None)?;
        match crate::ffi::send_none(&coroutine)? {
            Next::Waits(_) => Ok(coroutine),
            Next::Done(_) => unreachable!("it awaits what gives the future first"),
        }
    }

    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)?;
        visit.call(&self.future)
    }
}
