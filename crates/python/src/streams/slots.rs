//! Attributes with asyncio's names, which a program may set: how they are read and written.
//!
//! None is borrowed while Python code runs.

use pyo3::prelude::*;

use crate::fields::{HasFields, hold};

pub(super) type Slot = Option<Py<PyAny>>;

/// What is there, or Python's `None`.
#[inline]
pub(super) fn look<'py, T: HasFields>(
    slf: &Bound<'py, T>,
    slot: impl FnOnce(&T::Fields) -> &Slot,
) -> Bound<'py, PyAny> {
    let py = slf.py();
    let value = slot(&hold(slf)).as_ref().map(|it| it.clone_ref(py));
    value.map_or_else(|| py.None().into_bound(py), |it| it.into_bound(py))
}

/// What was there is dropped outside of the borrow: its end may run Python code.
#[inline]
pub(super) fn put<T: HasFields>(
    slf: &Bound<'_, T>,
    slot: impl FnOnce(&mut T::Fields) -> &mut Slot,
    value: Option<Bound<'_, PyAny>>,
) {
    let value = value.map(Bound::unbind);
    let before = std::mem::replace(slot(&mut hold(slf)), value);
    drop(before);
}
