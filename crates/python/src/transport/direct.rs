//! Receiving: a large piece goes directly into the `bytes` that the protocol gets, a small one
//! through the driver's buffer. `oxlip_core::bulk` guesses which it is going to be.
//!
//! Called while the loop's state is borrowed: the cycle collector does not follow `bytes` objects,
//! so making and dropping one runs no Python code.

use std::io;

use oxlip_core::bulk::{Bulk, ROOM};
use oxlip_core::id::Id;
use oxlip_driver::{AnyDriver, Driver as _, Received, Taken};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::io::Errno;

use crate::room::Room;

/// What has arrived: empty at the end of the stream, None if there is nothing.
///
/// # Errors
/// Those of recv(2), out of memory.
#[inline(always)]
pub(super) fn receive<'py>(
    py: Python<'py>,
    driver: &mut AnyDriver,
    id: Id,
    bulk: &mut Bulk,
) -> io::Result<Option<Bound<'py, PyBytes>>> {
    let received = if bulk.is_likely() {
        receive_large(py, driver, id)?
    } else {
        copied(py, &driver.take(id)?)
    };
    if let Some(data) = &received {
        bulk.note(data.as_bytes().len());
    }
    Ok(received)
}

#[inline(always)]
fn copied<'py>(py: Python<'py>, received: &Received<'_>) -> Option<Bound<'py, PyBytes>> {
    match received {
        Received::Data(data) => Some(PyBytes::new(py, data)),
        Received::Eof => Some(PyBytes::new(py, b"")),
        Received::Nothing => None,
    }
}

fn receive_large<'py>(
    py: Python<'py>,
    driver: &mut AnyDriver,
    id: Id,
) -> io::Result<Option<Bound<'py, PyBytes>>> {
    let no_memory = |_| io::Error::from(Errno::NOMEM);
    let mut room = Room::new(py, ROOM).map_err(no_memory)?;
    match driver.take_or_fill(id, room.memory())? {
        // SAFETY: the driver says that it has filled that many bytes.
        Taken::Filled(count) => unsafe { room.filled(count) }.map(Some).map_err(no_memory),
        Taken::Lent(received) => Ok(copied(py, &received)),
    }
}
