//! The set behind `asyncio.all_tasks()`, which every task enters when it is made and leaves when it
//! is freed.
//!
//! Before Python 3.14 it is a [`WeakSet`] with methods in Python, which make up a fifth of what a
//! short task costs. The set stays asyncio's own, and so do its data; `python/oxlip/_task_set.py`
//! replaces two of its class's methods with the functions here, which do the same.
//!
//! [`WeakSet`]: https://docs.python.org/3/library/weakref.html#weakref.WeakSet

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PySet, PyWeakrefReference};

use super::Any;

/// The two functions, and what they need of their set.
#[pyclass(frozen, module = "oxlip._native")]
pub(crate) struct TaskSet {
    /// Weak references to the tasks.
    data: Py<PySet>,
    /// Those who iterate over the set at the moment: no reference may be removed meanwhile.
    iterating: Py<PySet>,
    /// The references to be removed afterwards.
    pending: Py<PyList>,
    remove: Py<PyAny>,
}

/// What a weak reference calls when its task is gone.
#[pyclass(frozen, module = "oxlip._native")]
struct Removal {
    data: Py<PySet>,
    iterating: Py<PySet>,
    pending: Py<PyList>,
}

#[pymethods]
impl TaskSet {
    /// Of a `weakref.WeakSet`.
    #[new]
    fn new(tasks: &Any<'_>) -> PyResult<Self> {
        let py = tasks.py();
        let data: Bound<'_, PySet> = tasks.getattr(intern!(py, "data"))?.cast_into()?;
        let iterating: Bound<'_, PySet> = tasks.getattr(intern!(py, "_iterating"))?.cast_into()?;
        let pending: Bound<'_, PyList> = tasks
            .getattr(intern!(py, "_pending_removals"))?
            .cast_into()?;
        let removal = Removal {
            data: data.clone().unbind(),
            iterating: iterating.clone().unbind(),
            pending: pending.clone().unbind(),
        };
        let remove = Bound::new(py, removal)?.getattr(intern!(py, "remove"))?;
        Ok(Self {
            data: data.unbind(),
            iterating: iterating.unbind(),
            pending: pending.unbind(),
            remove: remove.unbind(),
        })
    }

    /// In place of `WeakSet.add()`.
    pub(crate) fn add(&self, item: &Any<'_>) -> PyResult<()> {
        let py = item.py();
        let (data, pending) = (self.data.bind(py), self.pending.bind(py));
        // The set's own method is not used: it reads the set's data, and thereby makes the set list the tasks
        // (`tasks/unlisted.rs`).
        while !pending.is_empty() {
            data.discard(pending.call_method0(intern!(py, "pop"))?)?;
        }
        self.insert(item)
    }

    /// Replaces the callback with which the set made its references.
    #[getter]
    fn remove(&self, py: Python<'_>) -> Py<PyAny> {
        self.remove.clone_ref(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.data)?;
        visit.call(&self.iterating)?;
        visit.call(&self.pending)?;
        visit.call(&self.remove)
    }
}

impl TaskSet {
    /// As [`TaskSet::add`], but ignores the references that are to be removed, so no method of the set is called.
    pub(crate) fn insert(&self, item: &Any<'_>) -> PyResult<()> {
        let py = item.py();
        let reference = PyWeakrefReference::new_with(item, self.remove.bind(py))?;
        self.data.bind(py).add(reference)
    }
}

#[pymethods]
impl Removal {
    #[pyo3(signature = (reference, /))]
    fn remove(&self, reference: &Any<'_>) -> PyResult<()> {
        let py = reference.py();
        if self.iterating.bind(py).is_empty() {
            self.data.bind(py).discard(reference)?;
            Ok(())
        } else {
            self.pending.bind(py).append(reference)
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.data)?;
        visit.call(&self.iterating)?;
        visit.call(&self.pending)
    }
}
