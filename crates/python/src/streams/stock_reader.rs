//! Data for asyncio's own reader, without a call of its `feed_data()`.
//!
//! That method appends the data and wakes who waits for them. Where it is asyncio's own, in the class and in the
//! object, and nothing else is to be done, the same is done here, with the attributes in the reader's dict. All else,
//! such as pausing the transport, is left to the method.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyString, PyType};

use super::{bytes, waiter};
use crate::ffi;

type Any<'py> = Bound<'py, PyAny>;

/// asyncio's `StreamReader`, and what it does with data.
pub(super) struct StockReader {
    class: Py<PyType>,
    feed_data: Py<PyAny>,
    wakeup_waiter: Py<PyAny>,
    /// That of the class when its methods were last seen to be these; 0 before.
    version: AtomicU32,
}

impl StockReader {
    /// `class` has its own methods now.
    ///
    /// # Errors
    /// `AttributeError` if it lacks what it has had since Python 3.4.
    pub(super) fn new(class: &Bound<'_, PyType>) -> PyResult<Self> {
        let py = class.py();
        Ok(Self {
            class: class.clone().unbind(),
            feed_data: class.getattr(intern!(py, "feed_data"))?.unbind(),
            wakeup_waiter: class.getattr(intern!(py, "_wakeup_waiter"))?.unbind(),
            version: AtomicU32::new(0),
        })
    }

    /// Does what `reader.feed_data(data)` would. False: nothing was done, and the method is to be called.
    ///
    /// # Errors
    /// `BufferError` if the reader's buffer is exported; what the future that waits raises.
    #[inline]
    pub(super) fn feed<'py>(
        &self,
        reader: &Any<'py>,
        data: &Bound<'py, PyBytes>,
    ) -> PyResult<bool> {
        let py = reader.py();
        if !reader.get_type().is(&self.class) || !self.has_its_methods(py)? {
            return Ok(false);
        }
        let attributes = ffi::dict_of(reader)?;
        let Some((buffer, waiter)) = usual(&attributes, data)? else {
            return Ok(false);
        };
        bytes::append(&buffer, data.as_bytes())?;
        if !waiter.is_none() {
            reader.setattr(intern!(py, "_waiter"), py.None())?;
            waiter::wake(&waiter)?;
        }
        Ok(true)
    }

    /// Whether objects of the class that have no such attributes of their own use the methods that it had.
    #[inline]
    fn has_its_methods(&self, py: Python<'_>) -> PyResult<bool> {
        let class = self.class.bind(py);
        let version = ffi::type_version(class);
        if version != 0 && version == self.version.load(Ordering::Relaxed) {
            return Ok(true);
        }
        self.look_again(class)
    }

    #[cold]
    fn look_again(&self, class: &Bound<'_, PyType>) -> PyResult<bool> {
        let py = class.py();
        let has = |name: &Bound<'_, PyString>, method: &Py<PyAny>| -> PyResult<bool> {
            Ok(class.getattr_opt(name)?.is_some_and(|now| now.is(method)))
        };
        if !ffi::looks_up_as_usual(class)
            || !has(intern!(py, "feed_data"), &self.feed_data)?
            || !has(intern!(py, "_wakeup_waiter"), &self.wakeup_waiter)?
        {
            return Ok(false);
        }
        for name in ATTRIBUTES {
            if class.getattr_opt(name)?.is_some() {
                return Ok(false);
            }
        }
        // The look-ups have given the class a version, if it had none. Without a GIL there is none, and the
        // method is called.
        let version = ffi::type_version(class);
        self.version.store(version, Ordering::Relaxed);
        Ok(version != 0)
    }
}

/// What is read in the object: in its class a program may have put a property of that name.
const ATTRIBUTES: [&str; 6] = [
    "_eof",
    "_buffer",
    "_waiter",
    "_transport",
    "_paused",
    "_limit",
];

/// The buffer, and the future that waits or None, of a reader that only has to take these data.
#[inline]
fn usual<'py>(
    attributes: &Bound<'py, PyDict>,
    data: &Bound<'py, PyBytes>,
) -> PyResult<Option<(Bound<'py, PyByteArray>, Any<'py>)>> {
    let py = attributes.py();
    if attributes.contains(intern!(py, "feed_data"))?
        || attributes.contains(intern!(py, "_wakeup_waiter"))?
    {
        return Ok(None);
    }
    let (Some(eof), Some(buffer), Some(waiter), Some(transport)) = (
        attributes.get_item(intern!(py, "_eof"))?,
        attributes.get_item(intern!(py, "_buffer"))?,
        attributes.get_item(intern!(py, "_waiter"))?,
        attributes.get_item(intern!(py, "_transport"))?,
    ) else {
        return Ok(None);
    };
    let Ok(buffer) = buffer.cast_into_exact::<PyByteArray>() else {
        return Ok(None);
    };
    let length = data.as_bytes().len();
    if !eof.is(PyBool::new(py, false)) || length == 0 {
        return Ok(None);
    }
    if !transport.is_none() {
        let (Some(paused), Some(limit)) = (
            attributes.get_item(intern!(py, "_paused"))?,
            attributes.get_item(intern!(py, "_limit"))?,
        ) else {
            return Ok(None);
        };
        let room = limit.extract::<usize>().unwrap_or(0).saturating_mul(2);
        if !paused.is(PyBool::new(py, false)) || buffer.len() + length > room {
            return Ok(None);
        }
    }
    Ok(Some((buffer, waiter)))
}
