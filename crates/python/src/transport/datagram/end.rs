//! How a datagram socket ends: `close()` and `abort()`.

use std::sync::atomic::Ordering;

use oxlip_core::datagram::ClosePlan;
use oxlip_core::op::Op;
use oxlip_driver::Driver as _;
use pyo3::prelude::*;

use super::DatagramTransport;
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
