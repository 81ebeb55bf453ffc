//! From `Receivable` to the protocol.
//!
//! asyncio takes one datagram in each tick. Here a flood is taken in batches, but handed over one
//! by one: whatever `datagram_received` does to the transport (close, pause, another protocol)
//! already applies to the next one. A protocol with `datagrams_received` gets each batch in one
//! call.

use oxlip_core::address::Address;
use oxlip_core::id::Id;
use oxlip_driver::Driver as _;
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use super::{DatagramTransport, Endpoint};
use crate::errors::{ends_the_loop, os_error};
use crate::loop_::{EventLoop, Runnable, State};
use crate::transport::address::{self, Family};
use crate::transport::link::Link;
use crate::transport::{end, extra};
use crate::{context, ffi};

/// Longer datagrams are truncated, as in asyncio.
const LONGEST: usize = 256 * 1024;

/// A datagram's bytes and its sender.
type Datagram<'py> = (Bound<'py, PyBytes>, Sender<'py>);

enum Sender<'py> {
    /// As Python shows it.
    Known(Bound<'py, PyAny>),
    New(Option<Address>),
}

/// What to do next with a datagram socket.
enum Step<'py> {
    One(Datagram<'py>),
    Batch(Vec<Datagram<'py>>),
    Failed(std::io::Error),
    Over,
}

/// Datagrams wait on a socket, or did when it was reported.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` of the protocol. Datagrams that were taken are then
/// delivered in the next tick.
pub(crate) fn receive(event_loop: &Bound<'_, EventLoop>, id: Id) -> PyResult<()> {
    let py = event_loop.py();
    let this = event_loop.get();
    let transport = this.state.with(|state| {
        let endpoint = state.resources.endpoint(id)?;
        let wanted = endpoint.machine.wants_read();
        wanted.then(|| endpoint.transport.bind(py).clone())
    })?;
    let Some(transport) = transport else {
        return Ok(());
    };
    let delivered = context::run_shared(py, &transport.get().context, || {
        if transport.get().family == Family::Other {
            return receive_by_socket(&transport);
        }
        let mut taken = false;
        loop {
            match this.state.with(|state| state.step(py, id, &mut taken))? {
                Step::One(datagram) => deliver(&transport, datagram)?,
                Step::Batch(batch) => deliver_batch(&transport, batch)?,
                Step::Failed(error) => return tell_error(&transport, os_error(error)),
                Step::Over => return Ok(()),
            }
        }
    });
    if delivered.is_err() {
        let waits = this.state.with(|state| {
            let endpoint = state.resources.endpoint(id)?;
            (!endpoint.received.is_empty()).then_some(())
        })?;
        if waits.is_some() {
            this.push(Runnable::Receivable(id));
        }
    }
    delivered
}

impl State {
    /// The next datagram, or all of them. The driver is asked only once, so that others get their turn.
    fn step<'py>(&mut self, py: Python<'py>, id: Id, taken: &mut bool) -> Step<'py> {
        let (driver, resources) = self.parts();
        // The protocol may have done anything meanwhile.
        let Some(endpoint) = resources
            .endpoint(id)
            .filter(|endpoint| endpoint.machine.wants_read())
        else {
            return Step::Over;
        };
        if !std::mem::replace(taken, true) && endpoint.received.is_empty() {
            let received = &mut endpoint.received;
            // The cycle collector does not track bytes objects: making one runs no Python code, so
            // it may be done under the borrow.
            let outcome = driver.take_datagrams(id, endpoint.machine.batch(), |bytes, from| {
                received.push_back((PyBytes::new(py, bytes).unbind(), from));
            });
            match outcome {
                Ok(count) => endpoint.machine.received(count),
                Err(error) => return Step::Failed(error),
            }
        }
        if !endpoint.batched {
            return endpoint.pop(py).map_or(Step::Over, Step::One);
        }
        let batch: Vec<_> = std::iter::from_fn(|| endpoint.pop(py)).collect();
        if batch.is_empty() {
            Step::Over
        } else {
            Step::Batch(batch)
        }
    }
}

impl Endpoint {
    fn pop<'py>(&mut self, py: Python<'py>) -> Option<Datagram<'py>> {
        let (bytes, from) = self.received.pop_front()?;
        let known = from.as_ref().and_then(|from| self.senders.find(from));
        let sender = match known {
            Some(shown) => Sender::Known(shown.bind(py).clone()),
            None => Sender::New(from),
        };
        Some((bytes.into_bound(py), sender))
    }
}

/// The sender as Python shows it, remembered for the next datagram.
fn sender<'py>(
    transport: &Bound<'py, DatagramTransport>,
    sender: Sender<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = transport.py();
    match sender {
        Sender::Known(object) => Ok(object),
        Sender::New(None) => Ok(py.None().into_bound(py)),
        Sender::New(Some(from)) => {
            let this = transport.get();
            // An earlier one of the batch may have come from there.
            let known = this.with_state(|state| {
                let endpoint = state.resources.endpoint(this.id)?;
                endpoint
                    .senders
                    .find(&from)
                    .map(|shown| shown.clone_ref(py))
            })?;
            if let Some(shown) = known.flatten() {
                return Ok(shown.into_bound(py));
            }
            let object = address::to_python(py, Some(&from))?;
            let shown = object.clone().unbind();
            this.with_state(|state| {
                if let Some(endpoint) = state.resources.endpoint(this.id) {
                    endpoint.senders.remember(from, shown);
                }
            })?;
            Ok(object)
        }
    }
}

fn deliver<'py>(
    transport: &Bound<'py, DatagramTransport>,
    (bytes, from): Datagram<'py>,
) -> PyResult<()> {
    let py = transport.py();
    let Some(protocol) = Link::Datagram(transport).protocol() else {
        return Ok(());
    };
    let from = sender(transport, from)?;
    let name = intern!(py, "datagram_received");
    match ffi::call_method(name, [&protocol, bytes.as_any(), &from]) {
        Ok(_) => Ok(()),
        Err(error) => {
            let args = PyTuple::new(py, [bytes.as_any(), &from])?;
            let event_loop = transport.get().event_loop.bind(py);
            end::report_callback(event_loop, &protocol, "datagram_received", args, error)
        }
    }
}

fn deliver_batch<'py>(
    transport: &Bound<'py, DatagramTransport>,
    batch: Vec<Datagram<'py>>,
) -> PyResult<()> {
    let py = transport.py();
    let Some(protocol) = Link::Datagram(transport).protocol() else {
        return Ok(());
    };
    let mut pairs = Vec::with_capacity(batch.len());
    for (bytes, from) in batch {
        pairs.push((bytes, sender(transport, from)?));
    }
    let pairs = PyList::new(py, pairs)?;
    let name = intern!(py, "datagrams_received");
    match ffi::call_method(name, [&protocol, pairs.as_any()]) {
        Ok(_) => Ok(()),
        Err(error) => {
            let args = PyTuple::new(py, [pairs])?;
            let event_loop = transport.get().event_loop.bind(py);
            end::report_callback(event_loop, &protocol, "datagrams_received", args, error)
        }
    }
}

/// Receives one datagram of a family whose addresses only Python's own sockets support.
fn receive_by_socket(transport: &Bound<'_, DatagramTransport>) -> PyResult<()> {
    let py = transport.py();
    let Some(sock) = extra::python_socket(Link::Datagram(transport))? else {
        return Ok(());
    };
    let received = sock.call_method1(intern!(py, "recvfrom"), (LONGEST,));
    match received.and_then(|pair| pair.extract::<(Bound<'_, PyBytes>, Bound<'_, PyAny>)>()) {
        Ok((bytes, from)) => {
            let this = transport.get();
            let batched = this.with_state(|state| {
                let endpoint = state.resources.endpoint(this.id);
                endpoint.is_some_and(|endpoint| endpoint.batched)
            })?;
            let datagram = (bytes, Sender::Known(from));
            match batched {
                Some(true) => deliver_batch(transport, vec![datagram]),
                _ => deliver(transport, datagram),
            }
        }
        Err(error)
            if error.is_instance_of::<PyBlockingIOError>(py)
                || error.is_instance_of::<PyInterruptedError>(py) =>
        {
            Ok(())
        }
        Err(error) if error.is_instance_of::<PyOSError>(py) => tell_error(transport, error),
        Err(error) => {
            let transport = Link::Datagram(transport);
            end::fatal(transport, error, transport.read_failure())
        }
    }
}

/// Calls `error_received` where there is no caller to get what it raises.
pub(super) fn tell_error(transport: &Bound<'_, DatagramTransport>, error: PyErr) -> PyResult<()> {
    let py = transport.py();
    let Some(protocol) = Link::Datagram(transport).protocol() else {
        return Ok(());
    };
    let value = error.into_value(py).into_bound(py).into_any();
    match ffi::call_method(intern!(py, "error_received"), [&protocol, &value]) {
        Ok(_) => Ok(()),
        Err(error) if ends_the_loop(py, &error) => Err(error),
        Err(error) => {
            let args = PyTuple::new(py, [value])?;
            let event_loop = transport.get().event_loop.bind(py);
            end::report_callback(event_loop, &protocol, "error_received", args, error)
        }
    }
}
