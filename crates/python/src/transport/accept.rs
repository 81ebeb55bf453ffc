//! Listening sockets: connections are accepted natively, and the program's factory makes their
//! protocols.

use std::os::fd::RawFd;
use std::task::Poll;

use oxlip_core::id::Id;
use oxlip_core::listener::{AcceptOutcome, AcceptStep, Listener};
use oxlip_core::op::{Completion, Op};
use oxlip_driver::{AnySocket, Driver as _, Role, is_shortage};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::net::SocketType;

use super::Server;
use super::begin::{self, Origin};
use super::extra::{self, Addresses, Sockets};
use crate::errors::{self, os_error};
use crate::loop_::replaced::clock;
use crate::loop_::{EventLoop, Resource, Runnable, exception_handler};
use crate::{context, log, names};

/// A listening socket, and what its connections are made with.
pub(crate) struct Accepting {
    listener: Listener,
    factory: Py<PyAny>,
    server: Py<Server>,
    sock: Py<PyAny>,
    family: Py<PyAny>,
    proto: Py<PyAny>,
    /// The context in which serving began: every connection begins in a copy of it.
    context: Py<PyAny>,
}

impl Accepting {
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.factory)?;
        visit.call(&self.server)?;
        visit.call(&self.context)?;
        visit.call(&self.sock)
    }
}

/// `loop._listen(…)`: starts accepting on a bound, listening, non-blocking socket, of which the
/// driver gets a duplicate. `role`: that of a listener.
///
/// # Errors
/// `OSError` if the socket is closed or cannot be duplicated or adopted.
pub(crate) fn listen(
    event_loop: &Bound<'_, EventLoop>,
    sock: &Bound<'_, PyAny>,
    factory: Bound<'_, PyAny>,
    server: Bound<'_, Server>,
    backlog: usize,
    role: Role,
) -> PyResult<u64> {
    let py = event_loop.py();
    event_loop.get().check_open()?;
    let fd: RawFd = sock.call_method0(intern!(py, "fileno"))?.extract()?;
    let descriptor = begin::duplicate(fd)?;
    // On Linux accepted sockets inherit the option (inet_csk_clone_lock copies the socket), which
    // saves one system call for each.
    begin::set_nodelay(sock, &descriptor)?;
    let accepting = Accepting {
        listener: Listener::new(backlog),
        factory: factory.unbind(),
        server: server.unbind(),
        sock: sock.clone().unbind(),
        family: sock.getattr("family")?.unbind(),
        proto: sock.getattr("proto")?.unbind(),
        context: context::copy_current(py)?,
    };
    event_loop
        .get()
        .state
        .with(|state| {
            let id = state.driver().adopt(AnySocket::Os(descriptor), role)?;
            state
                .resources
                .insert(id, Resource::Listener(Box::new(accepting)));
            match state.driver().submit(Op::AcceptStart(id)) {
                Poll::Ready(Completion::Failed(_, error)) => Err(error),
                _ => Ok(id.to_u64()),
            }
        })?
        .map_err(os_error)
}

/// `loop._unlisten(key)`: stops accepting; nothing if it has stopped before.
pub(crate) fn unlisten(event_loop: &Bound<'_, EventLoop>, key: u64) -> PyResult<()> {
    let id = Id::from_u64(key);
    let forgotten = event_loop.get().state.with(|state| {
        let forgotten = state.resources.remove(id);
        if forgotten.is_some() {
            let _ = state.driver().submit(Op::Close(id));
        }
        forgotten
    })?;
    drop(forgotten);
    Ok(())
}

/// Accepts a bounded number of the connections that wait.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` of a protocol factory; what a program's own `time()` raises.
pub(crate) fn accept(event_loop: &Bound<'_, EventLoop>, id: Id) -> PyResult<()> {
    let this = event_loop.get();
    let mut step = this.state.with(|state| {
        state
            .resources
            .listener(id)
            .map_or(AcceptStep::Closed, |it| it.listener.hint())
    })?;
    while step == AcceptStep::Accept {
        let accepted = this.state.with(|state| state.driver().accept(id))?;
        let outcome = match accepted {
            Ok(Some((socket, peer))) => {
                welcome(event_loop, id, socket, peer)?;
                AcceptOutcome::Accepted
            }
            Ok(None) => AcceptOutcome::Empty,
            Err(error) if is_shortage(&error) => {
                report_shortage(event_loop, id, error)?;
                AcceptOutcome::Exhausted
            }
            Err(error) => {
                exception_handler::report(
                    event_loop,
                    "socket.accept() failed",
                    os_error(error),
                    &[],
                )?;
                AcceptOutcome::Failed
            }
        };
        step = this.state.with(|state| {
            let Some(accepting) = state.resources.listener(id) else {
                return AcceptStep::Closed;
            };
            let step = accepting.listener.next(outcome);
            if let AcceptStep::Rest(_) = step {
                let _ = state.driver().submit(Op::AcceptStop(id));
            }
            step
        })?;
    }
    if let AcceptStep::Rest(delay) = step {
        let again = clock(event_loop)?.after(delay);
        this.state.with(|state| {
            state.scheduler.push_at(again, Runnable::AcceptAgain(id));
        })?;
    }
    Ok(())
}

/// The pause after a shortage is over.
///
/// # Errors
/// None, except for a loop that another thread has taken.
pub(crate) fn accept_again(event_loop: &Bound<'_, EventLoop>, id: Id) -> PyResult<()> {
    event_loop.get().state.with(|state| {
        let resumed = state
            .resources
            .listener(id)
            .is_some_and(|it| it.listener.resume());
        if resumed {
            let _ = state.driver().submit(Op::AcceptStart(id));
        }
    })?;
    Ok(())
}

/// Makes protocol and transport of an accepted connection. As in asyncio, a factory that fails
/// affects this connection only, and is reported in debug mode.
fn welcome(
    event_loop: &Bound<'_, EventLoop>,
    id: Id,
    socket: AnySocket,
    peer: Option<std::net::SocketAddr>,
) -> PyResult<()> {
    let py = event_loop.py();
    let parts = event_loop.get().state.with(|state| {
        state.resources.listener(id).map(|it| {
            (
                it.factory.clone_ref(py),
                it.server.clone_ref(py),
                it.family.clone_ref(py),
                it.proto.clone_ref(py),
                it.context.clone_ref(py),
            )
        })
    })?;
    let Some((factory, server, family, proto, context)) = parts else {
        return Ok(());
    };
    if event_loop.get().is_debug() {
        log(server.bind(py), family.bind(py), proto.bind(py), &socket)?;
    }
    let context = context::copy(py, &context)?;
    let mut protocol = None;
    let make = || {
        let made = factory.bind(py).call0()?;
        protocol = Some(made.clone());
        let addresses = Addresses::of(&socket, peer);
        let extra = match addresses {
            Some(_) => None,
            None => extra::unix_addresses(py, &socket)?,
        };
        let origin = Origin {
            fd: begin::number(&socket),
            addresses,
            socket,
            extra,
            sockets: Some(Sockets::Ours {
                family,
                kind: SocketType::STREAM,
                proto,
                made: None,
            }),
            role: Role::Accepted(id),
            server: Some(server.into_bound(py)),
            waiter: None,
            context: cfg!(Py_3_15).then(|| context.clone_ref(py)),
        };
        begin::connect(event_loop, origin, made)
    };
    match context::run(py, &context, make) {
        Ok(_) => Ok(()),
        Err(error) if errors::ends_the_loop(py, &error) => Err(error),
        Err(error) if event_loop.get().is_debug() => {
            let message = "Error on transport creation for incoming connection";
            match &protocol {
                Some(protocol) => {
                    exception_handler::report(event_loop, message, error, &[("protocol", protocol)])
                }
                None => exception_handler::report(event_loop, message, error, &[]),
            }
        }
        Err(_) => Ok(()),
    }
}

/// Debug mode's log entry for a connection.
fn log(
    server: &Bound<'_, Server>,
    family: &Bound<'_, PyAny>,
    proto: &Bound<'_, PyAny>,
    socket: &AnySocket,
) -> PyResult<()> {
    let py = server.py();
    let fd = begin::number(socket);
    if fd < 0 {
        return Ok(()); // A simulated one.
    }
    let sock = extra::borrow(family, SocketType::STREAM, proto, fd)?;
    let peer = sock.call_method0("getpeername");
    let peer = peer.unwrap_or_else(|_| py.None().into_bound(py));
    // The text, not the object: a kept log record would keep an object with a number that soon belongs to another
    // socket.
    let shown = sock.repr()?.into_any();
    sock.call_method0("close")?;
    let what = [server.clone().into_any(), peer, shown];
    log::debug(py, "%r got a new connection from %r: %s", &what)
}

fn report_shortage(
    event_loop: &Bound<'_, EventLoop>,
    id: Id,
    error: std::io::Error,
) -> PyResult<()> {
    let py = event_loop.py();
    let sock = event_loop
        .get()
        .state
        .with(|state| state.resources.listener(id).map(|it| it.sock.clone_ref(py)))?;
    let context = PyDict::new(py);
    context.set_item("message", "socket.accept() out of system resource")?;
    context.set_item("exception", os_error(error).into_value(py))?;
    context.set_item("socket", names::TRANSPORT_SOCKET.get(py)?.call1((sock,))?)?;
    exception_handler::call(event_loop, &context)
}
