//! Classes of protocols that have nothing special about them, so that nothing need be asked for
//! each connection: their objects get data through `data_received()`, and have a
//! `connection_made()`.
//!
//! A class is known by its version, a number that no other class ever has, and that it loses when
//! it or one of its bases changes: so nothing here keeps a class alive. Any thread may ask; without
//! a GIL no class has a version, and none is known.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFunction, PyType};

use crate::ffi::{looks_up_as_usual, type_version};

/// Many programs have a handful; one takes the place of another.
static KNOWN: [AtomicU32; 64] = [const { AtomicU32::new(0) }; 64];

fn place(version: u32) -> &'static AtomicU32 {
    &KNOWN[version as usize % KNOWN.len()]
}

/// Whether this protocol's class is known to be such a one.
#[inline]
pub(crate) fn is_usual(protocol: &Bound<'_, PyAny>) -> bool {
    let version = type_version(&protocol.get_type());
    version != 0 && version == place(version).load(Ordering::Relaxed)
}

/// A protocol that gets its data by `data_received()`: from here on its class is known, if all of that is
/// the class's doing, and not this object's.
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
    // An object may say that it is of another class, as mocks do: isinstance() believes it.
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
    // Looking at it has given the class a version, if it had none.
    let version = type_version(&class);
    place(version).store(version, Ordering::Relaxed);
    Ok(())
}
