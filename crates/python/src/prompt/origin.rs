//! Whether coroutines are to record where they were made, which asyncio's debug mode asks for.
//!
//! `sys.get_coroutine_origin_tracking_depth()` tells, but costs a tenth of an `async with`. The
//! number is a field of the thread's state, at an offset that differs between releases. The offset
//! is found by setting the depth to two numbers in turn and looking for them. Where that fails, the
//! function is called.

use std::sync::atomic::{AtomicI32, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::names;

/// How many bytes of a thread's state are searched. The smallest state of any release has 280 bytes (3.10).
const SEARCHED: usize = 256;

/// Numbers that no other field is likely to have.
const MARKS: [i32; 2] = [0x5a17_3c21, 0x21c3_71a5];

static PLACE: PyOnceLock<Option<usize>> = PyOnceLock::new();

/// # Errors
/// Out of memory.
#[inline]
pub(super) fn is_tracked(py: Python<'_>) -> PyResult<bool> {
    match PLACE.get_or_init(py, || find(py).unwrap_or_default()) {
        Some(place) => Ok(number_at(py, *place) != 0),
        None => depth(py)?.is_truthy(),
    }
}

fn depth(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    names::GET_ORIGIN_DEPTH.get(py)?.call0()
}

fn find(py: Python<'_>) -> PyResult<Option<usize>> {
    let set = names::SET_ORIGIN_DEPTH.get(py)?;
    let before = depth(py)?;
    let [first, second] = MARKS;
    set.call1((first,))?;
    let place = (0..SEARCHED)
        .step_by(size_of::<i32>())
        .find(|&place| number_at(py, place) == first);
    set.call1((second,))?;
    let place = place.filter(|&place| number_at(py, place) == second);
    set.call1((before,))?;
    Ok(place)
}

/// The number at `place`, below [`SEARCHED`], of this thread's state.
#[inline]
fn number_at(_attached: Python<'_>, place: usize) -> i32 {
    // SAFETY: a thread that is attached has a state, and `place` is a multiple of a number's size inside it. Other
    // threads write to some of the fields that `find` looks through, such as those of the list of all threads, so the
    // load is atomic.
    unsafe {
        let number = ffi::PyThreadState_Get().byte_add(place).cast();
        AtomicI32::from_ptr(number).load(Ordering::Relaxed)
    }
}
