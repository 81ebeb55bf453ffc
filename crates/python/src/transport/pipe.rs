//! How the transport of a pipe begins: `loop._read_pipe(…)` and `loop._write_pipe(…)`.

use std::fs::File;
use std::os::fd::RawFd;
use std::os::unix::fs::FileTypeExt as _;

use oxlip_core::bulk::Bulk;
use oxlip_core::stream::Stream;
use oxlip_driver::{AnySocket, Role};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::begin::{self, Start};
use super::body::Slots;
use super::extra::Sockets;
use super::link::AnyTransport;
use super::{ReadPipeTransport, WritePipeTransport};
use crate::errors::os_error;
use crate::loop_::{Connection, EventLoop, Receiver, Resource};

/// Which end of the pipe it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// A transport over a file object's descriptor, which is made non-blocking. The driver works on a
/// duplicate; the file object is closed when the transport ends.
///
/// # Errors
/// `ValueError` if it is no pipe, socket or character device; `OSError` if the file is closed or
/// cannot be duplicated or adopted.
pub(crate) fn wrap<'py>(
    event_loop: &Bound<'py, EventLoop>,
    pipe: &Bound<'py, PyAny>,
    protocol: Bound<'py, PyAny>,
    waiter: Option<Bound<'py, PyAny>>,
    direction: Direction,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    event_loop.get().check_open()?;
    let fd: RawFd = pipe.call_method0(intern!(py, "fileno"))?.extract()?;
    begin::check_protocol(&protocol)?;
    let file = File::from(begin::duplicate(fd)?);
    let kind = file.metadata().map_err(os_error)?.file_type();
    if !(kind.is_fifo() || kind.is_socket() || kind.is_char_device()) {
        return Err(PyValueError::new_err(match direction {
            Direction::Read => "Pipe transport is for pipes/sockets only.",
            Direction::Write => "Pipe transport is only for pipes, sockets and character devices",
        }));
    }
    rustix::io::ioctl_fionbio(&file, true).map_err(|errno| os_error(errno.into()))?;
    let start = Start {
        socket: AnySocket::Os(file.into()),
        role: Role::Pipe,
        fd,
        slots: Slots {
            protocol: Some(protocol.unbind()),
            sockets: Some(Sockets::File(pipe.clone().unbind())),
            ..Slots::default()
        },
        waiter,
        context: None,
    };
    // A writer watches whether its reader leaves, which only pipes and sockets can report.
    let reads = direction == Direction::Read || !kind.is_char_device();
    let transport = begin::start(event_loop, start, |parts, slots| {
        let transport = match direction {
            Direction::Read => {
                AnyTransport::ReadPipe(ReadPipeTransport::create(py, parts, slots)?.unbind())
            }
            Direction::Write => {
                AnyTransport::WritePipe(WritePipeTransport::create(py, parts, slots)?.unbind())
            }
        };
        let made = transport.bind(py).as_any().clone();
        let mut stream = Stream::new();
        if !reads {
            stream.end_reading();
        }
        let connection = Connection {
            transport,
            stream,
            receiver: Receiver::Protocol,
            bulk: Bulk::default(),
        };
        Ok((made, Resource::Connection(Box::new(connection))))
    })?;
    let extra = PyDict::new(py);
    extra.set_item("pipe", pipe)?;
    transport.setattr(intern!(py, "_extra"), extra)?;
    Ok(transport)
}
