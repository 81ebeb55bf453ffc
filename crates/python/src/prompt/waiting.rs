//! A coroutine that waits for one future, as that of a taken lock does, and needs no frame for it.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::awaited::Next;
use crate::{names, tasks};

type Any<'py> = Bound<'py, PyAny>;

/// A wait that is native too, while nobody looks closer.
pub(crate) struct Wait {
    /// A future of which the object knows that somebody waits for it; `None` leaves it all to the function in Python.
    pub(crate) begin: for<'py> fn(&Any<'py>) -> PyResult<Option<Any<'py>>>,
    /// What follows once the future has a result: object, future.
    pub(crate) end: for<'py> fn(&Any<'py>, &Any<'py>) -> PyResult<()>,
    /// Makes the coroutine in Python that does the same, and what is to be done if the future has none: of object,
    /// future, and what it awaits in its place.
    pub(crate) in_python: &'static names::Imported,
}

/// Whose future has been given to the task above.
pub(super) struct Waiting {
    object: Py<PyAny>,
    future: Py<PyAny>,
}

/// What has become of a coroutine that could not do it at once.
pub(super) enum Begun<'py> {
    /// It waits, and the task above is to wait for this.
    Waits(Waiting, Any<'py>),
    /// The coroutine in Python waits, or will.
    InPython(Any<'py>),
    /// It is a matter of the function in Python.
    Not,
}

/// Begins to wait.
///
/// # Errors
/// What lining up raises.
pub(super) fn begin<'py>(wait: Option<&Wait>, object: &Any<'py>) -> PyResult<Begun<'py>> {
    let Some(wait) = wait else {
        return Ok(Begun::Not);
    };
    let Some(future) = (wait.begin)(object)? else {
        return Ok(Begun::Not);
    };
    if !tasks::give(&future) {
        // asyncio's, which its own tasks wait for faster as they are.
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

    /// Does what follows on its wait.
    ///
    /// # Errors
    /// What that raises.
    #[inline]
    pub(super) fn end(self, py: Python<'_>, wait: &Wait) -> PyResult<()> {
        let (object, future) = (self.object.into_bound(py), self.future.into_bound(py));
        (wait.end)(&object, &future)
    }

    /// The coroutine in Python, as far as this one has come: the future has been given.
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
