//! Reads and writes of regular files that the driver does (`oxlip._file_work` asks for them). The
//! driver owns the bytes until it answers, whatever becomes of the future.
//!
//! On the loop's thread.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::task::Poll;

use oxlip_core::file::{Transfer, Transferred, Way};
use oxlip_core::op::Op;
use oxlip_driver::Driver as _;
use oxlip_driver::files::read_now as read_file_now;
use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{EventLoop, tasks};
use crate::errors;
use crate::room::Room;

/// What is read of this size at most needs no more memory than its bytes.
const SHORT: usize = 8192;

/// Those under way.
#[derive(Default)]
pub(super) struct Transfers {
    next_key: u64,
    futures: HashMap<u64, (Way, Py<PyAny>)>,
}

impl Transfers {
    pub(super) fn traverse(
        &self,
        visit: &pyo3::gc::PyVisit<'_>,
    ) -> Result<(), pyo3::gc::PyTraverseError> {
        self.futures
            .values()
            .try_for_each(|(_, future)| visit.call(future))
    }

    pub(super) fn future(&self, py: Python<'_>, key: u64) -> Option<Py<PyAny>> {
        Some(self.futures.get(&key)?.1.clone_ref(py))
    }
}

/// A future of at most `size` bytes from `offset`, or from where the descriptor stands; `None` if the
/// driver does not read files. `MemoryError` where there is no room for them.
pub(super) fn read<'py>(
    event_loop: &Bound<'py, EventLoop>,
    descriptor: i32,
    offset: Option<u64>,
    size: usize,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mut room = Vec::new();
    room.try_reserve_exact(size)
        .map_err(|_| PyMemoryError::new_err(()))?;
    room.resize(size, 0);
    begin(event_loop, descriptor, offset, Way::Read, room)
}

/// A future of how many bytes of `data` were written to `offset`, or to where the descriptor stands;
/// `None` if the driver does not write files.
pub(super) fn write<'py>(
    event_loop: &Bound<'py, EventLoop>,
    descriptor: i32,
    offset: Option<u64>,
    data: &[u8],
) -> PyResult<Option<Bound<'py, PyAny>>> {
    begin(event_loop, descriptor, offset, Way::Write, data.to_vec())
}

/// As `os.pread(fd, size, offset)`, of what the system has in memory: perhaps less, `None` if it would have to wait.
pub(crate) fn read_now(
    py: Python<'_>,
    fd: i32,
    size: usize,
    offset: u64,
) -> PyResult<Option<Bound<'_, PyBytes>>> {
    if fd < 0 {
        return Err(PyValueError::new_err("a negative file descriptor"));
    }
    // SAFETY: it is borrowed for the calls below only. If the program has closed it meanwhile they
    // fail or read from another file, as `os.pread` would.
    let file = unsafe { BorrowedFd::borrow_raw(fd) };
    if size <= SHORT {
        let mut room = [MaybeUninit::uninit(); SHORT];
        let read = read_file_now(file, &mut room[..size], offset).map_err(errors::os_error)?;
        return Ok(read.map(|read| PyBytes::new(py, read)));
    }
    if isize::try_from(size).is_err() {
        return Err(PyOverflowError::new_err("too much"));
    }
    let mut room = Room::new(py, size)?;
    let read = read_file_now(file, room.memory(), offset).map_err(errors::os_error)?;
    let Some(count) = read.map(<[u8]>::len) else {
        return Ok(None);
    };
    // SAFETY: so many bytes have been read.
    unsafe { room.filled(count) }.map(Some)
}

fn begin<'py>(
    event_loop: &Bound<'py, EventLoop>,
    descriptor: i32,
    offset: Option<u64>,
    way: Way,
    bytes: Vec<u8>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let this = event_loop.get();
    this.check_open()?;
    let future = tasks::create_future(event_loop)?;
    let kept = future.clone().unbind();
    let refused = this.state.with(|state| {
        let key = state.transfers.next_key;
        state.transfers.next_key += 1;
        let transfer = Box::new(Transfer {
            key,
            descriptor,
            offset,
            way,
            bytes,
        });
        match state.driver().submit(Op::File(transfer)) {
            Poll::Pending => {
                state.transfers.futures.insert(key, (way, kept));
                None
            }
            // No driver that does files answers at once.
            Poll::Ready(_) => Some(kept),
        }
    })?;
    Ok(refused.is_none().then_some(future))
}

/// The future gets the outcome: bytes or a number, `None` if the driver has not begun it after all, or
/// the `OSError`.
pub(super) fn ended(event_loop: &Bound<'_, EventLoop>, ended: Transferred) -> PyResult<()> {
    let py = event_loop.py();
    let entry = event_loop
        .get()
        .state
        .with(|state| state.transfers.futures.remove(&ended.key))?;
    let Some((way, future)) = entry else {
        return Ok(());
    };
    let future = future.into_bound(py);
    if future.call_method0(intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    let set_result = intern!(py, "set_result");
    match (ended.outcome, way) {
        (Ok(count), Way::Read) => {
            let bytes = PyBytes::new(py, &ended.bytes[..count]);
            future.call_method1(set_result, (bytes,))?;
        }
        (Ok(count), Way::Write) => {
            future.call_method1(set_result, (count,))?;
        }
        (Err(error), _) if error.kind() == io::ErrorKind::Unsupported => {
            future.call_method1(set_result, (py.None(),))?;
        }
        (Err(error), _) => {
            let error = errors::os_error(error).into_value(py);
            future.call_method1(intern!(py, "set_exception"), (error,))?;
        }
    }
    Ok(())
}
