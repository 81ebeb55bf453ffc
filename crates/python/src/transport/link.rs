//! Any transport, where its kind does not matter: owned ([`AnyTransport`]) or borrowed ([`Link`]),
//! and the few texts in which the kinds differ.

use std::os::fd::RawFd;

use pyo3::exceptions::PyOSError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::body::{Body, Slots};
use super::extra::Sockets;
use super::{DatagramTransport, ReadPipeTransport, StreamTransport, WritePipeTransport};

/// A transport that the loop refers to.
pub(crate) enum AnyTransport {
    Stream(Py<StreamTransport>),
    ReadPipe(Py<ReadPipeTransport>),
    WritePipe(Py<WritePipeTransport>),
    Datagram(Py<DatagramTransport>),
}

/// A transport, for the duration of a call.
#[derive(Clone, Copy)]
pub(crate) enum Link<'a, 'py> {
    Stream(&'a Bound<'py, StreamTransport>),
    ReadPipe(&'a Bound<'py, ReadPipeTransport>),
    WritePipe(&'a Bound<'py, WritePipeTransport>),
    Datagram(&'a Bound<'py, DatagramTransport>),
}

impl AnyTransport {
    #[inline]
    pub(crate) fn bind<'a, 'py>(&'a self, py: Python<'py>) -> Link<'a, 'py> {
        match self {
            Self::Stream(transport) => Link::Stream(transport.bind(py)),
            Self::ReadPipe(transport) => Link::ReadPipe(transport.bind(py)),
            Self::WritePipe(transport) => Link::WritePipe(transport.bind(py)),
            Self::Datagram(transport) => Link::Datagram(transport.bind(py)),
        }
    }

    #[inline]
    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Stream(transport) => Self::Stream(transport.clone_ref(py)),
            Self::ReadPipe(transport) => Self::ReadPipe(transport.clone_ref(py)),
            Self::WritePipe(transport) => Self::WritePipe(transport.clone_ref(py)),
            Self::Datagram(transport) => Self::Datagram(transport.clone_ref(py)),
        }
    }

    pub(crate) fn into_any(self) -> Py<PyAny> {
        match self {
            Self::Stream(transport) => transport.into_any(),
            Self::ReadPipe(transport) => transport.into_any(),
            Self::WritePipe(transport) => transport.into_any(),
            Self::Datagram(transport) => transport.into_any(),
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Stream(transport) => visit.call(transport),
            Self::ReadPipe(transport) => visit.call(transport),
            Self::WritePipe(transport) => visit.call(transport),
            Self::Datagram(transport) => visit.call(transport),
        }
    }
}

impl<'a, 'py> Link<'a, 'py> {
    #[inline]
    pub(super) fn get(self) -> &'a Body {
        match self {
            Self::Stream(transport) => transport.get(),
            Self::ReadPipe(transport) => transport.get(),
            Self::WritePipe(transport) => transport.get(),
            Self::Datagram(transport) => transport.get(),
        }
    }

    #[inline]
    pub(crate) fn as_any(self) -> &'a Bound<'py, PyAny> {
        match self {
            Self::Stream(transport) => transport.as_any(),
            Self::ReadPipe(transport) => transport.as_any(),
            Self::WritePipe(transport) => transport.as_any(),
            Self::Datagram(transport) => transport.as_any(),
        }
    }

    #[inline]
    pub(crate) fn py(self) -> Python<'py> {
        self.as_any().py()
    }

    pub(super) fn to_owned(self) -> AnyTransport {
        match self {
            Self::Stream(transport) => AnyTransport::Stream(transport.clone().unbind()),
            Self::ReadPipe(transport) => AnyTransport::ReadPipe(transport.clone().unbind()),
            Self::WritePipe(transport) => AnyTransport::WritePipe(transport.clone().unbind()),
            Self::Datagram(transport) => AnyTransport::Datagram(transport.clone().unbind()),
        }
    }

    pub(crate) fn repr(self) -> PyResult<Bound<'py, PyString>> {
        self.as_any().repr()
    }

    /// As [`Body::with_slots`].
    #[inline]
    pub(super) fn with_slots<R>(self, access: impl FnOnce(&mut Slots) -> R) -> R {
        self.get().with_slots(self.as_any(), access)
    }

    /// The protocol, until the connection is lost.
    #[inline]
    pub(super) fn protocol(self) -> Option<Bound<'py, PyAny>> {
        let py = self.py();
        self.with_slots(|slots| slots.protocol.as_ref().map(|it| it.bind(py).clone()))
    }

    /// Directs the callbacks to another protocol.
    pub(super) fn set_protocol(self, protocol: Bound<'_, PyAny>) {
        let before = self.with_slots(|slots| slots.protocol.replace(protocol.unbind()));
        drop(before);
    }

    /// The loop was closed under the connection: its descriptor is gone.
    pub(crate) fn abandon(self) {
        self.get().set_abandoned();
        let sockets = self.with_slots(|slots| slots.sockets.take());
        drop(sockets);
    }

    /// Whether `fd` is still this connection's number: a socket that the program kept may have been
    /// closed.
    pub(crate) fn has_number(self, fd: RawFd) -> PyResult<bool> {
        let kept = self.with_slots(|slots| match &slots.sockets {
            Some(Sockets::Theirs { sock, .. }) => Some(sock.bind(self.py()).clone()),
            _ => None,
        });
        match kept {
            Some(sock) => Ok(sock.call_method0("fileno")?.extract::<RawFd>()? == fd),
            None => Ok(true),
        }
    }

    // asyncio's texts for each kind.

    pub(super) fn read_failure(self) -> &'static str {
        match self {
            Self::Stream(_) => "Fatal read error on socket transport",
            Self::ReadPipe(_) => "Fatal read error on pipe transport",
            Self::WritePipe(_) => self.write_failure(),
            Self::Datagram(_) => "Fatal read error on datagram transport",
        }
    }

    pub(super) fn write_failure(self) -> &'static str {
        match self {
            Self::Stream(_) => "Fatal write error on socket transport",
            Self::ReadPipe(_) | Self::WritePipe(_) => "Fatal write error on pipe transport",
            Self::Datagram(_) => "Fatal write error on datagram transport",
        }
    }

    pub(super) fn late_write_warning(self) -> &'static str {
        match self {
            Self::Stream(_) | Self::Datagram(_) => "socket.send() raised exception.",
            Self::ReadPipe(_) | Self::WritePipe(_) => {
                "pipe closed by peer or os.write(pipe, data) raised exception."
            }
        }
    }

    /// Whether an error that ends the connection is a common one, which is only reported in debug mode.
    pub(super) fn is_usual(self, error: &PyErr) -> PyResult<bool> {
        let py = self.py();
        if !error.is_instance_of::<PyOSError>(py) {
            return Ok(false);
        }
        match self {
            // A terminal's error when its other side is closed. Others are reported.
            Self::ReadPipe(_) => error
                .value(py)
                .getattr("errno")?
                .eq(rustix::io::Errno::IO.raw_os_error()),
            Self::Stream(_) | Self::WritePipe(_) | Self::Datagram(_) => Ok(true),
        }
    }
}
