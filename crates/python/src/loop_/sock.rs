//! One attempt on a socket that the program owns. The coroutines `sock_recv` and its kin try, wait
//! (`watch.rs`) and try again. An attempt that would block returns what to wait for: a future, and
//! the key of its watch.
//!
//! The socket object is asked for its descriptor at every attempt: a number that was kept over a
//! wait might by then be somebody else's.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PySlice};
use pyo3::{IntoPyObjectExt as _, intern};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType};

use super::watch::Side;
use super::{EventLoop, watch};
use crate::buffer::Data;
use crate::errors::os_error;
use crate::names;
use crate::py_buffer::Buffer;

/// One read of a stream is at most this long, in bytes: it seldom holds more, and may always give less
/// than was asked for.
const LONGEST_READ: usize = 256 * 1024;

/// Reads of at most this many bytes need no buffer of the loop's.
const SHORT_READ: usize = 4096;

/// What has not been sent yet, a future to wait for, and what its watch is known by.
pub(super) type Left<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, u64);

/// As `sock.recv(n)`, or what to wait for.
pub(super) fn recv<'py>(
    event_loop: &Bound<'py, EventLoop>,
    sock: &Bound<'py, PyAny>,
    n: isize,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    check(event_loop, sock)?;
    if !is_plain(sock)? {
        let received = sock.call_method1(intern!(py, "recv"), (n,));
        return or_wait(event_loop, sock, received);
    }
    let Ok(n) = usize::try_from(n) else {
        return Err(PyValueError::new_err("negative buffersize in recv"));
    };
    let fd = number(sock)?;
    if n > LONGEST_READ && !is_stream(fd) {
        // What does not fit is lost.
        let received = sock.call_method1(intern!(py, "recv"), (n,));
        return or_wait(event_loop, sock, received);
    }
    let into_bytes = |received: &[u8]| PyBytes::new(py, received).into_any();
    if n <= SHORT_READ {
        let mut buffer = [0; SHORT_READ];
        return match receive(fd, &mut buffer[..n])? {
            Some(received) => Ok(into_bytes(&buffer[..received])),
            None => would_block(event_loop, fd, Side::Read),
        };
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
    match bytes? {
        Some(bytes) => Ok(bytes),
        None => would_block(event_loop, fd, Side::Read),
    }
}

/// As `sock.recv_into(buf)`, or what to wait for.
pub(super) fn recv_into<'py>(
    event_loop: &Bound<'py, EventLoop>,
    sock: &Bound<'py, PyAny>,
    buffer: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    check(event_loop, sock)?;
    if !is_plain(sock)? {
        let received = sock.call_method1(intern!(sock.py(), "recv_into"), (buffer,));
        return or_wait(event_loop, sock, received);
    }
    let fd = number(sock)?;
    // The buffer is let go before anything else is done.
    let received = receive(
        fd,
        Buffer::writable(buffer, "recv_into() argument 1")?.as_mut_slice(),
    )?;
    match received {
        Some(received) => received.into_bound_py_any(event_loop.py()),
        None => would_block(event_loop, fd, Side::Read),
    }
}

/// As `sock.send(data)`: `None` if all of it went, else what is left, and what to wait for.
pub(super) fn send<'py>(
    event_loop: &Bound<'py, EventLoop>,
    sock: &Bound<'py, PyAny>,
    data: &Bound<'py, PyAny>,
) -> PyResult<Option<Left<'py>>> {
    let py = event_loop.py();
    check(event_loop, sock)?;
    let sent: usize = if is_plain(sock)? {
        let fd = number(sock)?;
        let bytes = Data::any_buffer(data)?;
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = answer(rustix::net::send(borrow(fd), bytes.as_slice(), flags))?.unwrap_or(0);
        if sent == bytes.as_slice().len() {
            return Ok(None);
        }
        sent
    } else {
        let sent = unless_it_blocks(py, sock.call_method1(intern!(py, "send"), (data,)))?;
        let sent = sent.map_or(Ok(0), |sent| sent.extract())?;
        if sent >= Data::any_buffer(data)?.as_slice().len() {
            return Ok(None);
        }
        sent
    };
    let fd = number(sock)?;
    // Not copied: the program must not change it until it has gone.
    let whole = PyMemoryView::from(data)?.call_method1(intern!(py, "cast"), ("B",))?;
    let left = whole.get_item(PySlice::new(py, sent.cast_signed(), isize::MAX, 1))?;
    let (ready, watch) = watch::wait_for(event_loop, fd, Side::Write)?;
    Ok(Some((left, ready, watch)))
}

/// What a method of the program's gives, or what to wait for.
fn or_wait<'py>(
    event_loop: &Bound<'py, EventLoop>,
    sock: &Bound<'py, PyAny>,
    outcome: PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    match unless_it_blocks(event_loop.py(), outcome)? {
        Some(received) => Ok(received),
        None => would_block(event_loop, number(sock)?, Side::Read),
    }
}

fn unless_it_blocks<T>(py: Python<'_>, outcome: PyResult<T>) -> PyResult<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if error.is_instance_of::<PyBlockingIOError>(py)
                || error.is_instance_of::<PyInterruptedError>(py) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn would_block<'py>(
    event_loop: &Bound<'py, EventLoop>,
    fd: RawFd,
    side: Side,
) -> PyResult<Bound<'py, PyAny>> {
    watch::wait_for(event_loop, fd, side)?.into_bound_py_any(event_loop.py())
}

/// asyncio's checks, which nearly all sockets pass by their class.
///
/// # Errors
/// `TypeError` for a socket of the `ssl` module; in debug mode `ValueError` for one that blocks.
#[inline]
fn check(event_loop: &Bound<'_, EventLoop>, sock: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = event_loop.py();
    if is_plain(sock)? && !event_loop.get().is_debug() {
        return Ok(());
    }
    event_loop
        .call_method1(intern!(py, "_check_socket"), (sock,))
        .map(drop)
}

/// Whether it is a `socket.socket`. A class of the program's may have methods of its own, which are
/// called then.
#[inline]
fn is_plain(sock: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(sock.get_type().is(names::SOCKET.get(sock.py())?))
}

/// Whether what one read leaves is there for the next one.
fn is_stream(fd: RawFd) -> bool {
    rustix::net::sockopt::socket_type(borrow(fd)) == Ok(SocketType::STREAM)
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
