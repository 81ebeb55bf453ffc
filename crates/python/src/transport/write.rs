//! What a program writes: sent at once, queued until the tick is over, or kept until there is room.
//! `oxlip_core::stream` decides; `flush.rs` sends what is queued.

use std::sync::atomic::Ordering;

use oxlip_core::stream::{EofPlan, WritePlan};
use pyo3::prelude::*;

use super::StreamTransport;
use super::flush::flush_one;
use super::link::Link;
use super::outcome::{Outcome, act, refusal};
use super::send::{send_now, shut_down};
use crate::buffer::Data;
use crate::errors::os_error;

/// A piece of more bytes than this does not wait for other handles: copies of fifty buffers of 10 KiB made the C
/// library grow and trim its heap in every tick.
const HOLD_AT_MOST: usize = 4 * 1024;

/// The name of `writelines()` in errors: before 3.12 asyncio's calls `write()`.
const WRITELINES: &str = if cfg!(Py_3_12) { "writelines" } else { "write" };

#[inline(always)]
pub(crate) fn write(transport: Link<'_, '_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
    write_data(transport, &Data::extract(data)?)
}

/// As `transport.write(data)`: what is not sent at once is copied.
pub(crate) fn write_borrowed(transport: &Bound<'_, StreamTransport>, data: &[u8]) -> PyResult<()> {
    write_data(Link::Stream(transport), &Data::Borrowed(data))
}

#[inline(always)]
fn write_data(transport: Link<'_, '_>, data: &Data<'_>) -> PyResult<()> {
    let this = transport.get();
    if data.as_slice().is_empty() {
        return write_nothing(transport, "write");
    }
    let running = this.event_loop.get().runs();
    let outcome = this.with_state(|state| {
        let run = state.run;
        let hold = data.as_slice().len() <= HOLD_AT_MOST
            && state.holding.should_hold(state.scheduler.batch_left());
        let (driver, resources) = state.parts();
        let Some(connection) = resources.connection(this.id) else {
            return this.late_write();
        };
        let plan = if hold {
            connection.stream.plan_write_many()
        } else {
            connection.stream.plan_write(run)
        };
        match plan {
            WritePlan::Now => send_now(driver, connection, this.id, data),
            WritePlan::Later => {
                let (chunk, skip) = data.to_chunk(0);
                let flow = connection.stream.push(chunk, skip);
                state.queued(this.id, flow, running)
            }
            WritePlan::Refused => Outcome::Refused("write"),
            WritePlan::Lost(nth) => Outcome::Late(nth),
        }
    })?;
    act(transport, outcome.unwrap_or_else(|| this.late_write()))
}

/// As `write()` of asyncio's pipes: nothing is gathered, and nothing is accepted once it is closing.
pub(super) fn write_at_once(transport: Link<'_, '_>, data: &Data<'_>) -> PyResult<()> {
    let this = transport.get();
    if data.as_slice().is_empty() {
        return Ok(());
    }
    // Only an error of writing counts as the first of the late writes, unlike with a socket, where losing the
    // connection does.
    let late = || Outcome::Late(this.late_writes.fetch_add(1, Ordering::Relaxed));
    let outcome = this.with_state(|state| {
        let (driver, resources) = state.parts();
        let Some(connection) = resources.connection(this.id) else {
            return late();
        };
        if connection.stream.is_closing() {
            return late();
        }
        if connection.stream.buffered() == 0 {
            return send_now(driver, connection, this.id, data);
        }
        let (chunk, skip) = data.to_chunk(0);
        let told = connection.stream.push(chunk, skip);
        told.map_or(Outcome::Nothing, Outcome::Tell)
    })?;
    act(transport, outcome.unwrap_or_else(late))
}

pub(super) fn writelines(transport: Link<'_, '_>, list: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = transport.get();
    let mut buffers = Vec::new();
    for item in list.try_iter()? {
        let data = Data::any_buffer(&item?)?;
        if !data.as_slice().is_empty() {
            buffers.push(data);
        }
    }
    if buffers.is_empty() {
        return write_nothing(transport, WRITELINES);
    }
    let outcome = this.with_state(|state| {
        let Some(connection) = state.resources.connection(this.id) else {
            return this.late_write();
        };
        match connection.stream.plan_write_many() {
            WritePlan::Now | WritePlan::Later => {
                let mut told = None;
                for data in &buffers {
                    let (chunk, skip) = data.to_chunk(0);
                    told = connection.stream.push(chunk, skip).or(told);
                }
                state.flush(this.id, told)
            }
            WritePlan::Refused => Outcome::Refused(WRITELINES),
            WritePlan::Lost(nth) => Outcome::Late(nth),
        }
    })?;
    act(transport, outcome.unwrap_or_else(|| this.late_write()))
}

pub(super) fn write_eof(transport: Link<'_, '_>) -> PyResult<()> {
    let this = transport.get();
    flush_one(transport)?;
    let failed = this.with_state(|state| {
        let (driver, resources) = state.parts();
        match resources.connection(this.id)?.stream.write_eof() {
            EofPlan::Shutdown => shut_down(driver, this.id),
            EofPlan::Already | EofPlan::AfterFlush => None,
        }
    })?;
    failed
        .flatten()
        .map_or(Ok(()), |error| Err(os_error(error)))
}

/// The size of the write buffer: what was only gathered is sent first, so that a program sees what
/// the system did not take, as with asyncio.
pub(super) fn buffered(transport: Link<'_, '_>) -> PyResult<usize> {
    let this = transport.get();
    flush_one(transport)?;
    let size = this.with_state(|state| {
        state
            .resources
            .connection(this.id)
            .map_or(0, |connection| connection.stream.buffered())
    })?;
    Ok(size.unwrap_or(0))
}

fn write_nothing(transport: Link<'_, '_>, method: &'static str) -> PyResult<()> {
    let this = transport.get();
    let refused = this.with_state(|state| {
        state
            .resources
            .connection(this.id)
            .is_some_and(|it| it.stream.eof_requested() || it.stream.is_reserved())
    })?;
    if refused == Some(true) {
        return Err(refusal(transport, method));
    }
    Ok(())
}
