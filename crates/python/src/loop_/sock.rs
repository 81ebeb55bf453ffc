//! One attempt on a socket that the program owns: the coroutines `sock_recv` and its kin try, wait
//! (`watch.rs`) and try again.
//!
//! The socket object is asked for its descriptor at every attempt: a number that was kept over a
//! wait might by then be somebody else's.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::EventLoop;
use crate::buffer::Data;
use crate::errors::os_error;
use crate::ffi::Buffer;

/// One read is at most this long, in bytes: stream sockets seldom hold more, and may always give
/// less than was asked for.
const LONGEST_READ: usize = 256 * 1024;

/// Reads of at most this many bytes need no buffer of the loop's.
const SHORT_READ: usize = 4096;

/// As `sock.recv(n)`; `None` if it would block.
pub(super) fn recv<'py>(
    event_loop: &Bound<'py, EventLoop>,
    sock: &Bound<'py, PyAny>,
    n: isize,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = event_loop.py();
    let Ok(n) = usize::try_from(n) else {
        return Err(PyValueError::new_err("negative buffersize in recv"));
    };
    let fd = number(sock)?;
    let into_bytes = |received: &[u8]| PyBytes::new(py, received).into_any();
    if n <= SHORT_READ {
        let mut buffer = [0; SHORT_READ];
        let received = receive(fd, &mut buffer[..n])?;
        return Ok(received.map(|received| into_bytes(&buffer[..received])));
    }
    let mut buffer = event_loop
        .get()
        .state
        .with(|state| std::mem::take(&mut state.scratch))?;
    buffer.resize(LONGEST_READ, 0);
    let received = receive(fd, &mut buffer[..n.min(LONGEST_READ)]);
    let bytes = received.map(|received| received.map(|received| into_bytes(&buffer[..received])));
    event_loop
        .get()
        .state
        .with(|state| state.scratch = buffer)?;
    bytes
}

/// As `sock.recv_into(buf)`; `None` if it would block.
pub(super) fn recv_into(
    _event_loop: &Bound<'_, EventLoop>,
    sock: &Bound<'_, PyAny>,
    buffer: &Bound<'_, PyAny>,
) -> PyResult<Option<usize>> {
    let fd = number(sock)?;
    receive(fd, Buffer::writable(buffer)?.as_mut_slice())
}

/// As `sock.send(data)`; `None` if it would block.
pub(super) fn send(
    _event_loop: &Bound<'_, EventLoop>,
    sock: &Bound<'_, PyAny>,
    data: &Bound<'_, PyAny>,
) -> PyResult<Option<usize>> {
    let fd = number(sock)?;
    let data = Data::any_buffer(data)?;
    let sent = rustix::net::send(
        borrow(fd),
        data.as_slice(),
        SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    );
    answer(sent)
}

fn receive(fd: RawFd, buffer: &mut [u8]) -> PyResult<Option<usize>> {
    let received = rustix::net::recv(borrow(fd), buffer, RecvFlags::DONTWAIT);
    answer(received.map(|(count, _)| count))
}

fn answer(result: Result<usize, Errno>) -> PyResult<Option<usize>> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(errno) => Err(os_error(errno.into())),
    }
}

/// The socket's descriptor; a closed socket has none.
fn number(sock: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let number: RawFd = sock.call_method0(intern!(sock.py(), "fileno"))?.extract()?;
    if number < 0 {
        return Err(os_error(io::Error::from_raw_os_error(
            Errno::BADF.raw_os_error(),
        )));
    }
    Ok(number)
}

fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: not -1 (`number` has checked). It is used for one system call while the socket
    // object that owns it is alive; a number that another thread has closed meanwhile is answered
    // with EBADF.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
