//! The `__new__` that `oxlip.install()` gives asyncio's classes: it makes an object of ours.
//!
//! It runs on any thread, whenever a program makes a lock, a queue or another of these.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::Any;
use crate::ffi;

/// Makes an object of our class for asyncio's, as long as nobody has replaced a method of asyncio's
/// class, because ours would not call it.
#[pyclass(frozen, module = "oxlip._native")]
pub(crate) struct Maker {
    stock: Py<PyType>,
    ours: Py<PyType>,
    /// A function that tells whether asyncio's class still has all its own methods.
    is_asyncios: Py<PyAny>,
    /// The `__new__` of anything else: a class that derives from asyncio's, or one that was changed.
    others: Py<PyAny>,
    /// The object is made with the arguments; otherwise asyncio's `__init__` gets them.
    takes_arguments: bool,
    /// The version of asyncio's class when its methods were its own. Comparing it saves comparing the methods. 0:
    /// unknown.
    version: AtomicU32,
    /// What `inspect` shows.
    #[pyo3(get)]
    __signature__: Py<PyAny>,
}

#[pymethods]
impl Maker {
    #[new]
    fn new(
        stock: Py<PyType>,
        ours: Py<PyType>,
        is_asyncios: Py<PyAny>,
        others: Py<PyAny>,
        takes_arguments: bool,
        signature: Py<PyAny>,
    ) -> Self {
        Self {
            stock,
            ours,
            is_asyncios,
            others,
            takes_arguments,
            version: AtomicU32::new(0),
            __signature__: signature,
        }
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Any<'py>> {
        let py = args.py();
        let Ok(class) = args.get_borrowed_item(0) else {
            return Err(PyTypeError::new_err("__new__() wants a class"));
        };
        if !class.is(&self.stock) || !self.is_asyncios(py)? {
            return self.others.bind(py).call(args, kwargs);
        }
        let ours = self.ours.bind(py);
        if self.takes_arguments {
            ffi::new_object(ours, &args.get_slice(1, args.len()), kwargs)
        } else {
            ffi::new_object(ours, &PyTuple::empty(py), None)
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.stock)?;
        visit.call(&self.ours)?;
        visit.call(&self.is_asyncios)?;
        visit.call(&self.others)?;
        visit.call(&self.__signature__)
    }
}

impl Maker {
    #[inline]
    fn is_asyncios(&self, py: Python<'_>) -> PyResult<bool> {
        let stock = self.stock.bind(py);
        let version = ffi::type_version(stock);
        if version != 0 && version == self.version.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let is_asyncios = self.is_asyncios.bind(py).call0()?.is_truthy()?;
        if is_asyncios {
            // Looking up the methods has given the class a version, if it had none.
            self.version
                .store(ffi::type_version(stock), Ordering::Relaxed);
        }
        Ok(is_asyncios)
    }
}
