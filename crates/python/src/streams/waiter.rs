//! The future of a task that waits for a reader's data.

use pyo3::intern;
use pyo3::prelude::*;

use crate::{ffi, tasks};

/// What asyncio's `_wakeup_waiter()` does with it.
///
/// # Errors
/// `InvalidStateError` if it has got a result from somebody else; what a future that is not asyncio's raises.
#[inline]
pub(super) fn wake(waiter: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = waiter.py();
    let nothing = py.None().into_bound(py);
    if let Some(woken) = tasks::wake(waiter, &nothing)
        && woken?
    {
        return Ok(());
    }
    if !ffi::call_method(intern!(py, "cancelled"), [waiter])?.is_truthy()? {
        ffi::call_method(intern!(py, "set_result"), [waiter, &nothing])?;
    }
    Ok(())
}
