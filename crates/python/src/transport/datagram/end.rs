//! How a datagram socket ends: `close()`, `abort()`, and what the driver cannot go on with.

use std::sync::atomic::Ordering;

use oxlip_core::datagram::ClosePlan;
use oxlip_core::id::Id;
use oxlip_core::op::Op;
use oxlip_driver::Driver as _;
use pyo3::prelude::*;

use super::DatagramTransport;
use crate::context;
use crate::errors::os_error;
use crate::loop_::{EventLoop, watch};
use crate::transport::end;

pub(super) fn close(transport: &Bound<'_, DatagramTransport>) -> PyResult<()> {
    let this = transport.get();
    this.check_not_abandoned()?;
    let plan = this.with_state(|state| {
        let (driver, resources) = state.parts();
        let Some(endpoint) = resources.endpoint(this.id) else {
            return ClosePlan::Already;
        };
        let plan = endpoint.machine.close();
        this.closing.store(true, Ordering::Relaxed);
        if plan != ClosePlan::Already {
            endpoint.received.clear();
            let _ = driver.submit(Op::RecvStop(this.id));
        }
        plan
    })?;
    match plan {
        Some(ClosePlan::Lost) => end::lose(transport, None, false),
        _ => Ok(()),
    }
}

/// Ends it now, with `error` for `connection_lost`; nothing if it is lost already.
pub(super) fn abort(
    transport: &Bound<'_, DatagramTransport>,
    error: Option<Py<PyAny>>,
) -> PyResult<()> {
    let this = transport.get();
    this.check_not_abandoned()?;
    let mut queued = Vec::new();
    let aborted = this.with_state(|state| {
        let (driver, resources) = state.parts();
        let Some(endpoint) = resources.endpoint(this.id) else {
            return false;
        };
        let aborted = endpoint.machine.abort(|entry| queued.push(entry));
        this.closing.store(true, Ordering::Relaxed);
        endpoint.received.clear();
        let _ = driver.submit(Op::RecvStop(this.id));
        aborted
    })?;
    // Outside the borrow: an address of the program's may run Python code when it goes.
    drop(queued);
    match aborted {
        Some(true) => end::lose(transport, error, false),
        _ => Ok(()),
    }
}

/// The driver could not arm a resource that is not a stream's.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` of the exception handler.
pub(crate) fn failed(
    event_loop: &Bound<'_, EventLoop>,
    id: Id,
    error: std::io::Error,
) -> PyResult<()> {
    let py = event_loop.py();
    let transport = event_loop.get().state.with(|state| {
        state
            .resources
            .endpoint(id)
            .map(|endpoint| endpoint.transport.bind(py).clone())
    })?;
    match transport {
        Some(transport) => context::run(py, &transport.get().context, || {
            end::fatal(
                &transport,
                os_error(error),
                "Fatal read error on datagram transport",
            )
        }),
        None => watch::failed(event_loop, id, error),
    }
}
