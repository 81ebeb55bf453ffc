//! How a datagram socket ends: `close()` and `abort()`.

use std::sync::atomic::Ordering;

use oxlip_core::datagram::ClosePlan;
use oxlip_core::op::Op;
use oxlip_driver::Driver as _;
use pyo3::prelude::*;

use super::DatagramTransport;
use crate::transport::end::{self, Wish};
use crate::transport::link::Link;

pub(super) fn close(transport: &Bound<'_, DatagramTransport>) -> PyResult<()> {
    let this = transport.get();
    let Some(_owned) = end::here(Link::Datagram(transport), Wish::Close)? else {
        return Ok(());
    };
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
        Some(ClosePlan::Lost) => end::lose(Link::Datagram(transport), None, false),
        _ => Ok(()),
    }
}

/// Ends it now, with `error` for `connection_lost`; nothing if it is lost already.
pub(in crate::transport) fn abort(
    transport: &Bound<'_, DatagramTransport>,
    error: Option<Py<PyAny>>,
) -> PyResult<()> {
    let this = transport.get();
    let Some(_owned) = end::here(Link::Datagram(transport), Wish::Abort(&error))? else {
        return Ok(());
    };
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
    // Dropped outside the borrow, because dropping an address object of the program may run Python code.
    drop(queued);
    match aborted {
        Some(true) => end::lose(Link::Datagram(transport), error, false),
        _ => Ok(()),
    }
}
