//! `DatagramTransport`: asyncio's transport for a datagram socket.
//!
//! `oxlip_core::datagram` decides what comes next. Addresses of Internet and Unix sockets are
//! passed to the driver directly. Everything else that Python's sockets accept (host names, other
//! families) goes through the socket object, one datagram at a time.

mod begin;
mod end;
mod receive;
mod send;
mod senders;

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::Ordering;

use oxlip_core::address::Address;
use oxlip_core::datagram;
use oxlip_core::op::Op;
use oxlip_driver::Driver as _;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

pub(crate) use self::begin::open;
pub(super) use self::end::abort;
pub(crate) use self::receive::receive;
pub(crate) use self::send::sendable;
use self::senders::Senders;
use super::address::Family;
use super::base::DatagramTransportBase;
use super::body::Body;
use super::link::Link;
use super::{extra, flow};
use crate::buffer::Chunk;
use crate::loop_::{EventLoop, Runnable};

/// A datagram socket; as `asyncio.DatagramTransport`.
#[pyclass(frozen, weakref, dict, extends = DatagramTransportBase, module = "oxlip")]
pub(crate) struct DatagramTransport {
    body: Body,
    family: Family,
    /// The `remote_addr` with which it was made; no other is allowed.
    remote: Option<Py<PyAny>>,
    peer: Peer,
}

/// Whether the socket is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    None,
    /// To a socket without a name: an address that is given is used.
    Unnamed,
    /// Every datagram goes there, whatever address is given.
    Named,
}

/// The loop's part of it.
pub(crate) struct Endpoint {
    pub(crate) transport: Py<DatagramTransport>,
    pub(crate) machine: datagram::Endpoint<Chunk, Target>,
    /// Datagrams taken from the driver and not yet passed to the protocol.
    received: VecDeque<(Py<PyBytes>, Option<Address>)>,
    senders: Senders,
    /// The protocol has `datagrams_received`.
    batched: bool,
}

impl Endpoint {
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.transport)?;
        for (_, target) in self.machine.queued() {
            if let Target::Object(address) = target {
                visit.call(address)?;
            }
        }
        self.senders.traverse(visit)
    }
}

/// Where a datagram goes.
pub(crate) enum Target {
    /// The address to which the socket is connected.
    Peer,
    To(Address),
    /// An address that only Python's own socket understands. Not to be dropped under a borrow.
    Object(Py<PyAny>),
}

impl Deref for DatagramTransport {
    type Target = Body;
    #[inline]
    fn deref(&self) -> &Body {
        &self.body
    }
}

impl DatagramTransport {
    /// Reads or changes the state machine; `None` once the connection is gone.
    fn with_machine<R>(
        &self,
        access: impl FnOnce(&mut datagram::Endpoint<Chunk, Target>) -> R,
    ) -> PyResult<Option<R>> {
        let answer = self.with_state(|state| {
            let endpoint = state.resources.endpoint(self.id)?;
            Some(access(&mut endpoint.machine))
        })?;
        Ok(answer.flatten())
    }
}

/// Whether the protocol takes several datagrams in one call. Its class says so: an attribute of the object may be
/// anything, a counter for instance, and a mock has them all.
fn is_batched(protocol: &Bound<'_, PyAny>) -> PyResult<bool> {
    let method = intern!(protocol.py(), "datagrams_received");
    Ok(protocol
        .get_type()
        .getattr_opt(method)?
        .is_some_and(|method| method.is_callable()))
}

#[pymethods]
impl DatagramTransport {
    // Receiving: receive.rs

    /// Whether datagrams may be delivered.
    fn is_reading(&self) -> bool {
        Body::is_reading(self)
    }

    /// No datagram is delivered until `resume_reading()`.
    fn pause_reading(&self) -> PyResult<()> {
        self.with_state(|state| {
            let (driver, resources) = state.parts();
            let Some(endpoint) = resources.endpoint(self.id) else {
                return;
            };
            if endpoint.machine.pause_reading() {
                self.paused.store(true, Ordering::Relaxed);
                let _ = driver.submit(Op::RecvStop(self.id));
            }
        })?;
        Ok(())
    }

    /// Ends `pause_reading()`.
    fn resume_reading(&self) -> PyResult<()> {
        let waiting = self.with_state(|state| {
            let (driver, resources) = state.parts();
            let Some(endpoint) = resources.endpoint(self.id) else {
                return false;
            };
            if !endpoint.machine.resume_reading() {
                return false;
            }
            self.paused.store(false, Ordering::Relaxed);
            let resumes = endpoint.machine.wants_read();
            if resumes {
                let _ = driver.submit(Op::RecvStart(self.id));
            }
            resumes && !endpoint.received.is_empty()
        })?;
        if waiting == Some(true) {
            self.event_loop.get().push(Runnable::Receivable(self.id));
        }
        Ok(())
    }

    // Sending: send.rs

    /// Sends a datagram, or keeps it if there is no room. Blocks only to look up a host name.
    #[pyo3(signature = (data, addr = None))]
    fn sendto(
        slf: &Bound<'_, Self>,
        data: &Bound<'_, PyAny>,
        addr: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        send::sendto(slf, data, addr)
    }

    /// The size of what waits to be sent: bytes and headers.
    fn get_write_buffer_size(&self) -> PyResult<usize> {
        Ok(self
            .with_machine(|machine| machine.buffered())?
            .unwrap_or(0))
    }

    /// The low and the high mark of `set_write_buffer_limits`, in bytes.
    fn get_write_buffer_limits(slf: &Bound<'_, Self>) -> (usize, usize) {
        flow::limits(Link::Datagram(slf))
    }

    /// Sets the marks between which `pause_writing` and `resume_writing` are called, in bytes.
    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<flow::Mark>,
        low: Option<flow::Mark>,
    ) -> PyResult<()> {
        flow::set_limits(Link::Datagram(slf), high, low)
    }

    // Ending: end.rs

    /// Closes the socket once everything has been sent.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        end::close(slf)
    }

    /// Closes the socket at once; what was not sent is lost.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        end::abort(slf, None)
    }

    /// Whether the transport is closing or closed.
    fn is_closing(&self) -> bool {
        Body::is_closing(self)
    }

    // What it is: ../extra.rs

    /// Directs the callbacks to another protocol.
    fn set_protocol(slf: &Bound<'_, Self>, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        let batched = is_batched(&protocol)?;
        let id = slf.get().id;
        slf.get().with_state(|state| {
            if let Some(endpoint) = state.resources.endpoint(id) {
                endpoint.batched = batched;
            }
        })?;
        Link::Datagram(slf).set_protocol(protocol);
        Ok(())
    }

    /// The protocol, `None` once the connection is lost.
    fn get_protocol<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        Link::Datagram(slf).protocol()
    }

    /// Information about the socket: `socket`, `sockname`, `peername`.
    #[pyo3(signature = (name, default = None))]
    fn get_extra_info<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        extra::get(Link::Datagram(slf), name, default)
    }

    /// The socket itself, as long as it is open.
    #[getter]
    fn _sock<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        extra::python_socket(Link::Datagram(slf))
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<EventLoop> {
        self.event_loop.clone_ref(py)
    }

    #[getter]
    fn _protocol<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        Link::Datagram(slf).protocol()
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyString>> {
        extra::repr(Link::Datagram(slf))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.remote)?;
        self.body.traverse(&visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(Link::Datagram(slf).with_slots(std::mem::take));
    }
}
