//! Protocol classes that are known to be ordinary, so that they need not be examined for each
//! connection: their objects get data through `data_received()`, and have a `connection_made()`.
//!
//! A class is identified by its version, a number that no other class ever has, and that it loses
//! when it or one of its bases changes. So nothing here keeps a class alive. Any thread may ask;
//! without a GIL no class has a version, so none is known.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFunction, PyType};

use crate::ffi::{looks_up_as_usual, type_version};

/// Most programs have a handful of such classes; on a collision one replaces another.
static KNOWN: [AtomicU32; 64] = [const { AtomicU32::new(0) }; 64];

fn place(version: u32) -> &'static AtomicU32 {
    &KNOWN[version as usize % KNOWN.len()]
}

/// Whether this protocol's class is known to be ordinary.
#[inline]
pub(crate) fn is_usual(protocol: &Bound<'_, PyAny>) -> bool {
    let version = type_version(&protocol.get_type());
    version != 0 && version == place(version).load(Ordering::Relaxed)
}

/// Learns the class of a protocol that gets its data by `data_received()`, if this is determined by the class alone
/// and not by the object.
///
/// # Errors
/// Out of memory.
pub(crate) fn learn(protocol: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = protocol.py();
    let class = protocol.get_type();
    if !looks_up_as_usual(&class) || class.hasattr(intern!(py, "_stream_reader"))? {
        return Ok(());
    }
    let made = class.getattr_opt(intern!(py, "connection_made"))?;
    if !made.is_some_and(|made| made.is_exact_instance_of::<PyFunction>()) {
        return Ok(());
    }
    // An object may claim to be of another class, as mocks do, and isinstance() believes it.
    for base in class.mro().iter() {
        let base = base.cast_into::<PyType>()?;
        let is_object = base.is(py.get_type::<PyAny>());
        if !is_object
            && base
                .getattr("__dict__")?
                .contains(intern!(py, "__class__"))?
        {
            return Ok(());
        }
    }
    // The look-ups have given the class a version, if it had none.
    let version = type_version(&class);
    place(version).store(version, Ordering::Relaxed);
    Ok(())
}
