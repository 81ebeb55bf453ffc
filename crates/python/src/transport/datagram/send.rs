//! From the program to the driver: a datagram is sent at once, or kept if others already wait for
//! room.

use std::io;
use std::task::Poll;

use oxlip_core::address::Outgoing;
use oxlip_core::datagram::{Flow, SendPlan};
use oxlip_core::id::Id;
use oxlip_core::op::{Completion, MAX_DATAGRAMS, Op};
use oxlip_driver::Driver as _;
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::receive::tell_error;
use super::{DatagramTransport, Peer, Target};
use crate::buffer::{Chunk, Data};
use crate::errors::os_error;
use crate::loop_::{EventLoop, State};
use crate::transport::body::LATE_WRITES_BEFORE_WARNING;
use crate::transport::link::Link;
use crate::transport::{address, end, extra, flow};
use crate::{context, ffi, log};

/// What became of a datagram in the loop's state, to be acted on outside the borrow.
enum Outcome {
    Nothing,
    Tell(Flow),
    Refused(io::Error),
    /// Only Python's own socket understands the address.
    BySocket,
    /// The transport is lost.
    Late,
}

pub(super) fn sendto(
    transport: &Bound<'_, DatagramTransport>,
    data: &Bound<'_, PyAny>,
    addr: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    let bytes = Data::extract(data)?;
    // asyncio sends empty datagrams since Python 3.13.
    if cfg!(not(Py_3_13)) && bytes.as_slice().is_empty() {
        return Ok(());
    }
    let remote = this.remote.as_ref().map(|remote| remote.bind(py));
    if let (Some(remote), Some(addr)) = (remote, addr)
        && !addr.is(remote)
        && !addr.eq(remote)?
    {
        let message = format!("Invalid address: must be None or {remote}");
        return Err(PyValueError::new_err(message));
    }
    let mut target = Some(this.target(py, remote.or(addr))?);
    let outcome = this.with_state(|state| state.send(this, &bytes, &mut target))?;
    match outcome.unwrap_or(Outcome::Late) {
        Outcome::Nothing => Ok(()),
        Outcome::Tell(told) => flow::tell(Link::Datagram(transport), Some(told)),
        // What error_received() raises goes to the caller, as with asyncio.
        Outcome::Refused(error) => refused(transport, os_error(error)),
        Outcome::BySocket => match target {
            Some(Target::Object(addr)) => send_by_socket(transport, data, &bytes, addr),
            _ => Ok(()),
        },
        Outcome::Late => {
            if this.count_late_write() >= LATE_WRITES_BEFORE_WARNING {
                log::warning(py, Link::Datagram(transport).late_write_warning(), &[])?;
            }
            Ok(())
        }
    }
}

impl DatagramTransport {
    fn target(&self, py: Python<'_>, addr: Option<&Bound<'_, PyAny>>) -> PyResult<Target> {
        let addr = match (self.peer, addr) {
            (Peer::Named, _) | (Peer::Unnamed, None) => return Ok(Target::Peer),
            (_, None) => return Ok(Target::Object(py.None())),
            (_, Some(addr)) => addr,
        };
        // Mostly an answer.
        let known = self.with_state(|state| {
            let endpoint = state.resources.endpoint(self.id)?;
            endpoint.senders.address_of(addr).cloned()
        })?;
        let address = known
            .flatten()
            .or_else(|| address::from_python(self.family, addr));
        Ok(match address {
            Some(address) => Target::To(address),
            None => Target::Object(addr.clone().unbind()),
        })
    }
}

impl State {
    /// Sends a datagram or queues it. `target` is still there if it was not queued.
    fn send(
        &mut self,
        transport: &DatagramTransport,
        bytes: &Data<'_>,
        target: &mut Option<Target>,
    ) -> Outcome {
        let id = transport.id;
        let (driver, resources) = self.parts();
        let Some(endpoint) = resources.endpoint(id) else {
            return Outcome::Late;
        };
        let machine = &mut endpoint.machine;
        let plan = machine.plan_send();
        if plan == SendPlan::Lost && transport.remote.is_some() {
            return Outcome::Late;
        }
        if plan != SendPlan::Later {
            let to = match target {
                Some(Target::To(address)) => Some(&*address),
                Some(Target::Peer) | None => None,
                Some(Target::Object(_)) => return Outcome::BySocket,
            };
            let datagrams = &[Outgoing {
                bytes: bytes.as_slice(),
                to,
            }];
            match driver.submit(Op::SendDatagrams { id, datagrams }) {
                Poll::Ready(Completion::Sent(_, Ok(_))) => return Outcome::Nothing,
                Poll::Ready(Completion::Sent(_, Err(error)) | Completion::Failed(_, error)) => {
                    return Outcome::Refused(error);
                }
                // The end is scheduled, so nobody will wait for room.
                _ if plan == SendPlan::Lost => return Outcome::Nothing,
                _ => machine.blocked(),
            }
        }
        let told = target
            .take()
            .and_then(|target| machine.push(bytes.to_chunk(0).0, target));
        told.map_or(Outcome::Nothing, Outcome::Tell)
    }

    /// Python's socket had no room for a datagram: queues it, at the end or again at the front, and
    /// waits.
    fn keep(&mut self, id: Id, chunk: Chunk, target: Target, first: bool) -> Kept {
        let (driver, resources) = self.parts();
        match resources.endpoint(id) {
            Some(endpoint) if endpoint.machine.plan_send() != SendPlan::Lost => {
                endpoint.machine.blocked();
                let _ = driver.submit(Op::AwaitRoom(id));
                if first {
                    endpoint.machine.unpop(chunk, target);
                    return Kept::Queued(None);
                }
                Kept::Queued(endpoint.machine.push(chunk, target))
            }
            _ => Kept::Dropped(target),
        }
    }
}

/// What became of a datagram for which there was no room.
#[must_use]
enum Kept {
    Queued(Option<Flow>),
    /// The transport has been lost. To be dropped outside the borrow.
    Dropped(#[expect(dead_code, reason = "only to be dropped")] Target),
}

/// The outcome of an attempt with Python's socket, other than an exception for the caller.
enum Attempt {
    Sent,
    Full,
    Over,
}

/// One `socket.sendto()`, which may look up a host name and block meanwhile, as with asyncio.
fn attempt(
    transport: &Bound<'_, DatagramTransport>,
    data: &Bound<'_, PyAny>,
    addr: &Py<PyAny>,
    tell: impl FnOnce(&Bound<'_, DatagramTransport>, PyErr) -> PyResult<()>,
) -> PyResult<Attempt> {
    let py = transport.py();
    let Some(sock) = extra::python_socket(Link::Datagram(transport))? else {
        return Ok(Attempt::Over);
    };
    let Err(error) = sock.call_method1(intern!(py, "sendto"), (data, addr)) else {
        return Ok(Attempt::Sent);
    };
    if error.is_instance_of::<PyBlockingIOError>(py)
        || error.is_instance_of::<PyInterruptedError>(py)
    {
        return Ok(Attempt::Full);
    }
    if error.is_instance_of::<PyOSError>(py) {
        tell(transport, error)?;
    } else {
        {
            let transport = Link::Datagram(transport);
            end::fatal(transport, error, transport.write_failure())
        }?;
    }
    Ok(Attempt::Over)
}

fn send_by_socket(
    transport: &Bound<'_, DatagramTransport>,
    data: &Bound<'_, PyAny>,
    bytes: &Data<'_>,
    addr: Py<PyAny>,
) -> PyResult<()> {
    let this = transport.get();
    if let Attempt::Full = attempt(transport, data, &addr, refused)? {
        let (chunk, _) = bytes.to_chunk(0);
        let kept =
            this.with_state(|state| state.keep(this.id, chunk, Target::Object(addr), false))?;
        if let Some(Kept::Queued(told)) = kept {
            return flow::tell(Link::Datagram(transport), told);
        }
    }
    Ok(())
}

fn refused(transport: &Bound<'_, DatagramTransport>, error: PyErr) -> PyResult<()> {
    let py = transport.py();
    let Some(protocol) = Link::Datagram(transport).protocol() else {
        return Ok(());
    };
    let value = error.into_value(py).into_bound(py).into_any();
    ffi::call_method(intern!(py, "error_received"), [&protocol, &value]).map(drop)
}

/// The system has room again for a socket whose send it had refused.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` of the protocol.
pub(crate) fn sendable(event_loop: &Bound<'_, EventLoop>, id: Id) -> PyResult<()> {
    let py = event_loop.py();
    let transport = event_loop.get().state.with(|state| {
        let endpoint = state.resources.endpoint(id)?;
        endpoint.machine.unblocked();
        Some(endpoint.transport.bind(py).clone())
    })?;
    let Some(transport) = transport else {
        return Ok(());
    };
    let this = transport.get();
    let told = context::run_shared(py, &this.context, || flush(&transport));
    // This is also done after a KeyboardInterrupt in resume_writing(), because a closing transport
    // must end; but not after an error of one datagram, which another round follows.
    let over = this.with_machine(|machine| machine.settle())?;
    let ended = match over {
        Some(true) => end::lose(Link::Datagram(&transport), None, true),
        _ => Ok(()),
    };
    ended.and(told)
}

/// What to do next with the queue.
enum Step {
    /// Nothing is left, or there is no room.
    Over(Option<Flow>),
    Refused(io::Error),
    BySocket(Chunk, Target),
}

/// Sends what is queued until it is all gone, the system has no room, or one is refused: the rest
/// then waits for the next tick, as with asyncio.
fn flush(transport: &Bound<'_, DatagramTransport>) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    loop {
        let step = this.with_state(|state| state.flush_datagrams(this.id))?;
        match step {
            None => return Ok(()),
            Some(Step::Over(told)) => return flow::tell(Link::Datagram(transport), told),
            Some(Step::Refused(error)) => return tell_error(transport, os_error(error)),
            Some(Step::BySocket(chunk, target)) => {
                let Target::Object(addr) = &target else {
                    continue;
                };
                let data = PyBytes::new(py, chunk.as_ref());
                match attempt(transport, data.as_any(), addr, tell_error)? {
                    Attempt::Sent => {}
                    Attempt::Full => {
                        let kept =
                            this.with_state(|state| state.keep(this.id, chunk, target, true))?;
                        drop(kept);
                    }
                    Attempt::Over => {
                        this.with_state(|state| state.await_room(this.id))?;
                        return Ok(());
                    }
                }
            }
        }
    }
}

impl State {
    fn flush_datagrams(&mut self, id: Id) -> Step {
        let (driver, resources) = self.parts();
        let Some(endpoint) = resources.endpoint(id) else {
            return Step::Over(None);
        };
        let machine = &mut endpoint.machine;
        while machine.needs_flush() {
            let mut batch = [Outgoing {
                bytes: &[],
                to: None,
            }; MAX_DATAGRAMS];
            let mut count = 0;
            for (slot, (chunk, target)) in batch.iter_mut().zip(machine.queued()) {
                let to = match target {
                    Target::Peer => None,
                    Target::To(address) => Some(address),
                    Target::Object(_) => break,
                };
                *slot = Outgoing {
                    bytes: chunk.as_ref(),
                    to,
                };
                count += 1;
            }
            if count == 0 {
                let Some((chunk, target)) = machine.pop() else {
                    break;
                };
                return Step::BySocket(chunk, target);
            }
            let datagrams = &batch[..count];
            match driver.submit(Op::SendDatagrams { id, datagrams }) {
                Poll::Ready(Completion::Sent(_, Ok(sent))) => {
                    // A chunk holds an exact bytes object or a copy, the target no object: dropping
                    // them runs no Python code.
                    for _ in 0..sent {
                        machine.pop();
                    }
                }
                Poll::Ready(Completion::Sent(_, Err(error)) | Completion::Failed(_, error)) => {
                    machine.pop();
                    self.await_room(id);
                    return Step::Refused(error);
                }
                _ => machine.blocked(),
            }
        }
        Step::Over(machine.resume())
    }

    /// After an error the next round is in the next tick, even if nothing is left to send.
    fn await_room(&mut self, id: Id) {
        let (driver, resources) = self.parts();
        if let Some(endpoint) = resources.endpoint(id) {
            endpoint.machine.blocked();
            let _ = driver.submit(Op::AwaitRoom(id));
        }
    }
}
