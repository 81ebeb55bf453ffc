//! From the program to the driver: sent at once, gathered until the tick is over, or kept until
//! there is room. The decision is `oxlip_core::stream`'s.

use std::io::{self, IoSlice};
use std::mem;
use std::sync::atomic::Ordering;
use std::task::Poll;

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, MAX_BUFFERS, Op};
use oxlip_core::stream::{EofPlan, Stream, Then, WritePlan};
use oxlip_core::write_queue::Flow;
use oxlip_driver::{AnyDriver, Driver as _};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::body::Body;
use super::link::{AnyTransport, Link};
use super::{StreamTransport, datagram, end, flow, reserve};
use crate::buffer::{Chunk, Data};
use crate::errors::{self, os_error};
use crate::loop_::{Connection, EventLoop, Runnable, State};
use crate::{context, tasks};

/// With more than this gathered on a connection, in bytes, nothing is won by waiting.
const GATHER_AT_MOST: usize = 32 * 1024;

/// A piece of more than this, in bytes, does not wait for other handles: copies of fifty buffers of 10 KiB made
/// the C library grow and trim its heap in every tick.
const HOLD_AT_MOST: usize = 4 * 1024;

/// asyncio warns about writes to a lost connection from this many on.
pub(super) const LATE_WRITES_BEFORE_WARNING: u32 = 5;

/// What `writelines()` calls itself in errors: before 3.12 it is asyncio's `write()`.
const WRITELINES: &str = if cfg!(Py_3_12) { "writelines" } else { "write" };

/// What a write or a flush led to, to be acted on outside the borrow.
enum Outcome {
    Nothing,
    Tell(Flow),
    /// By this method.
    Refused(&'static str),
    /// The connection is lost; this is the nth write since.
    Late(u32),
    Failed(io::Error),
}

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

/// As `write()` of asyncio's pipes: never gathered, and nothing is taken once it is closing.
pub(super) fn write_at_once(transport: Link<'_, '_>, data: &Data<'_>) -> PyResult<()> {
    let this = transport.get();
    if data.as_slice().is_empty() {
        return Ok(());
    }
    // Only an error of writing counts as the first of the late writes, unlike a socket's end.
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

/// Sends what is only gathered for the end of the tick: before anything that would show
/// the program that it was not sent inside `write()`, as asyncio does.
pub(super) fn flush_one(transport: Link<'_, '_>) -> PyResult<()> {
    let id = transport.get().id;
    let outcome = transport.get().with_state(|state| state.flush(id, None))?;
    act(transport, outcome.unwrap_or(Outcome::Nothing))
}

/// Sends what the handles of this tick have gathered, one vectored send per connection.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` of a protocol; what is gathered for other connections is
/// then still there.
#[inline]
pub(crate) fn flush(event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
    flush_all(event_loop, State::flush_held)
}

/// As [`flush`] when the next thing is to wait, except for what can leave with the wait: that is left
/// to [`stage_for_wait`].
///
/// # Errors
/// As [`flush`].
#[inline]
pub(crate) fn flush_before_wait(event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
    flush_all(event_loop, |state, py| {
        if state.holding.is_with_wait() {
            state.flush_urgent(py)
        } else {
            state.flush_held(py)
        }
    })
}

fn flush_all(
    event_loop: &Bound<'_, EventLoop>,
    next: fn(&mut State, Python<'_>) -> Option<(AnyTransport, Outcome)>,
) -> PyResult<()> {
    let py = event_loop.py();
    let this = event_loop.get();
    // Nearly always all of it leaves in one access of the state.
    while let Some((transport, outcome)) = this.state.with(|state| next(state, py))? {
        tasks::current::settle(event_loop)?;
        act_and_settle(transport.bind(py), outcome, false)?;
    }
    Ok(())
}

/// Sends what [`flush_before_wait`] has left, in the same access of the state as the wait that follows:
/// that answers it ([`note_sent`]). What leads to more than that is left for [`settle_sent`].
pub(crate) fn stage_for_wait(state: &mut State) {
    let list = state.holding.take_for_wait();
    for &id in &list {
        let (driver, resources) = state.parts();
        let Some(connection) = resources.connection(id) else {
            continue;
        };
        let outcome = if can_leave_with_wait(&connection.stream) {
            flush_connection(driver, connection, id, None, Pace::WithWait)
        } else {
            // Since it was looked at, a program has done something to it.
            Outcome::Tell(Flow::Resume)
        };
        match outcome {
            Outcome::Nothing => {}
            Outcome::Failed(error) => state.unsettled.push((id, Err(error))),
            _ => state.unsettled.push((id, Ok(0))),
        }
    }
    state.holding.put_back(list);
}

/// The answers of a wait to sends. Nearly always all was sent, and nothing else is to be done; the
/// others are left for [`settle_sent`].
pub(crate) fn note_sent(state: &mut State) {
    let State {
        completions,
        resources,
        unsettled,
        ..
    } = state;
    completions.retain_mut(|completion| {
        let Completion::Sent(id, outcome) = completion else {
            return true;
        };
        let Some(connection) = resources.connection(*id) else {
            return false;
        };
        let stream = &mut connection.stream;
        match outcome {
            Ok(n)
                if *n == stream.buffered()
                    && !stream.is_ending()
                    && !stream.is_writing_paused() =>
            {
                stream.unblocked();
                stream.advance(*n, drop);
            }
            outcome => unsettled.push((*id, mem::replace(outcome, Ok(0)))),
        }
        false
    });
}

/// Goes on with the sends that have come to something else: more is to be sent, or they failed.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` of a protocol; what is left is then still there.
pub(crate) fn settle_sent(event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
    let py = event_loop.py();
    loop {
        let next = event_loop.get().state.with(|state| {
            let (id, sent) = state.unsettled.pop()?;
            let (driver, resources) = state.parts();
            let settled = resources.connection(id).map(|connection| {
                connection.stream.unblocked();
                let outcome = match sent {
                    Ok(n) => {
                        let told = connection.stream.advance(n, drop);
                        flush_connection(driver, connection, id, told, Pace::AtOnce)
                    }
                    Err(error) => Outcome::Failed(error),
                };
                (connection.transport.clone_ref(py), outcome)
            });
            Some(settled)
        })?;
        match next {
            None => return Ok(()),
            Some(None) => {}
            Some(Some((transport, outcome))) => {
                tasks::current::settle(event_loop)?;
                act_and_settle(transport.bind(py), outcome, false)?;
            }
        }
    }
}

/// The system has room again for a connection that it had turned away.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` of the protocol.
pub(crate) fn sendable(event_loop: &Bound<'_, EventLoop>, id: Id) -> PyResult<()> {
    let py = event_loop.py();
    let flushed = event_loop.get().state.with(|state| {
        let connection = state.resources.connection(id)?;
        connection.stream.has_room();
        let transport = connection.transport.clone_ref(py);
        Some((transport, state.flush(id, None)))
    })?;
    let Some((transport, outcome)) = flushed else {
        return datagram::sendable(event_loop, id);
    };
    act_and_settle(transport.bind(py), outcome, true)
}

/// What a flush outside of any program's call led to: the protocol's context is entered for it.
fn act_and_settle(transport: Link<'_, '_>, outcome: Outcome, at_once: bool) -> PyResult<()> {
    let py = transport.py();
    if let Outcome::Failed(error) = &outcome
        && !at_once
        && reads_first(transport, error)?
    {
        return Ok(());
    }
    let acted = match outcome {
        Outcome::Nothing => Ok(()),
        outcome => context::run(py, &transport.get().context, || act(transport, outcome)),
    };
    // Also after a KeyboardInterrupt in resume_writing(): a closing connection must end.
    settle(transport, at_once).and(acted)
}

/// A send that was put off has failed because the peer has gone meanwhile; asyncio would have sent within `write()`,
/// before that. So what the peer has said last, and its error or end, are read before the send is tried once more.
/// False: nothing is to be read.
#[cold]
fn reads_first(transport: Link<'_, '_>, error: &io::Error) -> PyResult<bool> {
    let is_gone = matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    );
    if !is_gone || !matches!(transport, Link::Stream(_)) {
        return Ok(false);
    }
    let this = transport.get();
    let reads = this.with_state(|state| {
        let Some(connection) = state.resources.connection(this.id) else {
            return false;
        };
        if !connection.stream.wants_read() {
            return false;
        }
        connection.stream.blocked();
        let id = this.id;
        for next in [
            Runnable::Readable(id),
            Runnable::Readable(id),
            Runnable::Sendable(id),
        ] {
            state.scheduler.push(next);
        }
        true
    })?;
    Ok(reads.unwrap_or(false))
}

/// What follows once nothing is queued: the end of the stream, or of the connection.
fn settle(transport: Link<'_, '_>, at_once: bool) -> PyResult<()> {
    let this = transport.get();
    let then = this.with_state(|state| {
        let (driver, resources) = state.parts();
        let Some(connection) = resources.connection(this.id) else {
            return Then::Nothing;
        };
        let then = connection.stream.settle();
        if then != Then::Shutdown {
            return then;
        }
        // asyncio lets an error of this shutdown(2) fall, too: the peer is gone, and reading
        // will say so.
        let _ = shut_down(driver, this.id);
        connection.stream.settle()
    })?;
    match then {
        Some(Then::Lost) => end::lose(transport, None, at_once),
        Some(Then::Yours) => reserve::begin(transport),
        _ => Ok(()),
    }
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

/// asyncio's error for a write after `write_eof()` or while a file is sent.
#[cold]
fn refusal(transport: Link<'_, '_>, method: &str) -> PyErr {
    let this = transport.get();
    let eof = this.with_state(|state| {
        let connection = state.resources.connection(this.id)?;
        Some(connection.stream.eof_requested())
    });
    PyRuntimeError::new_err(match eof {
        Ok(Some(Some(false))) => format!("unable to {method}; sendfile is in progress"),
        _ => format!("Cannot call {method}() after write_eof()"),
    })
}

#[inline(always)]
fn act(transport: Link<'_, '_>, outcome: Outcome) -> PyResult<()> {
    match outcome {
        Outcome::Nothing => Ok(()),
        Outcome::Tell(flow) => flow::tell(transport, Some(flow)),
        Outcome::Refused(method) => Err(refusal(transport, method)),
        Outcome::Late(nth) => {
            if nth >= LATE_WRITES_BEFORE_WARNING {
                errors::log_warning(transport.py(), transport.late_write_warning(), &[])?;
            }
            Ok(())
        }
        Outcome::Failed(error) => {
            if let Link::WritePipe(_) = transport {
                transport.get().late_write();
            }
            end::fatal(transport, os_error(error), transport.write_failure())
        }
    }
}

/// Sends with nothing queued before it, and queues what is left.
#[inline(always)]
fn send_now(
    driver: &mut AnyDriver,
    connection: &mut Connection,
    id: Id,
    data: &Data<'_>,
) -> Outcome {
    let bytes = data.as_slice();
    let sent = match driver.submit(Op::Send {
        id,
        bufs: &[IoSlice::new(bytes)],
    }) {
        Poll::Ready(Completion::Sent(_, Ok(n))) if n == bytes.len() => return Outcome::Nothing,
        Poll::Ready(Completion::Sent(_, Ok(n))) => n,
        Poll::Ready(Completion::Sent(_, Err(error)) | Completion::Failed(_, error)) => {
            return Outcome::Failed(error);
        }
        _ => {
            connection.stream.blocked();
            0
        }
    };
    let (chunk, skip) = data.to_chunk(sent);
    let told = connection.stream.push(chunk, skip);
    // After a short send the next one is pending: that is what arms the driver.
    flush_connection(driver, connection, id, told, Pace::AtOnce)
}

/// When what is queued leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    AtOnce,
    WithWait,
}

/// Sends what is queued until it is all gone or the system takes no more.
fn flush_connection(
    driver: &mut AnyDriver,
    connection: &mut Connection,
    id: Id,
    told: Option<Flow>,
    pace: Pace,
) -> Outcome {
    let mut told = told;
    let soon = pace == Pace::WithWait;
    while connection.stream.needs_flush() {
        match send_queued(driver, &connection.stream, id, soon) {
            Poll::Ready(Completion::Sent(_, Ok(n))) => {
                // A chunk holds an exact bytes object or a copy: dropping it runs no Python code.
                told = match (told, connection.stream.advance(n, drop)) {
                    (Some(Flow::Pause), Some(Flow::Resume)) => None,
                    (told, newer) => newer.or(told),
                };
            }
            Poll::Ready(Completion::Sent(_, Err(error)) | Completion::Failed(_, error)) => {
                return Outcome::Failed(error);
            }
            _ if soon => connection.stream.submitted(),
            _ => connection.stream.blocked(),
        }
    }
    told.map_or(Outcome::Nothing, Outcome::Tell)
}

/// What the protocol or the end of the stream waits for is not put off.
#[inline]
fn can_leave_with_wait(stream: &Stream<Chunk>) -> bool {
    !stream.is_ending() && !stream.is_writing_paused()
}

/// One send of as much of the queue as a send takes.
#[inline]
fn send_queued(
    driver: &mut AnyDriver,
    stream: &Stream<Chunk>,
    id: Id,
    soon: bool,
) -> Poll<Completion> {
    let mut unsent = stream.unsent();
    let first = IoSlice::new(unsent.next().unwrap_or_default());
    let Some(second) = unsent.next() else {
        return submit_send(driver, id, &[first], soon);
    };
    let mut slices = [IoSlice::new(&[]); MAX_BUFFERS];
    slices[0] = first;
    slices[1] = IoSlice::new(second);
    let mut count = 2;
    for (slot, bytes) in slices[2..].iter_mut().zip(unsent) {
        *slot = IoSlice::new(bytes);
        count += 1;
    }
    submit_send(driver, id, &slices[..count], soon)
}

#[inline(always)]
fn submit_send(
    driver: &mut AnyDriver,
    id: Id,
    bufs: &[IoSlice<'_>],
    soon: bool,
) -> Poll<Completion> {
    driver.submit(if soon {
        Op::SendSoon { id, bufs }
    } else {
        Op::Send { id, bufs }
    })
}

fn shut_down(driver: &mut AnyDriver, id: Id) -> Option<io::Error> {
    match driver.submit(Op::Shutdown(id)) {
        Poll::Ready(Completion::Sent(_, Err(error)) | Completion::Failed(_, error)) => Some(error),
        _ => None,
    }
}

impl Body {
    /// A write after `connection_lost`; losing the connection counts as the first.
    fn late_write(&self) -> Outcome {
        Outcome::Late(self.count_late_write())
    }
}

impl State {
    /// Something was queued: it leaves at the end of the tick, or now if it is much, or the protocol
    /// would have to be told, or the loop does not run.
    fn queued(&mut self, id: Id, told: Option<Flow>, running: bool) -> Outcome {
        let Some(connection) = self.resources.connection(id) else {
            return Outcome::Nothing;
        };
        if !connection.stream.needs_flush() {
            return told.map_or(Outcome::Nothing, Outcome::Tell);
        }
        if !running || told.is_some() || connection.stream.buffered() > GATHER_AT_MOST {
            return self.flush(id, told);
        }
        self.hold(id);
        Outcome::Nothing
    }

    /// Sends what is held for the end of the tick, up to the first connection with more to do than
    /// that: its transport, and what the sending has led to.
    fn flush_held(&mut self, py: Python<'_>) -> Option<(AnyTransport, Outcome)> {
        while let Some(id) = self.holding.pop() {
            if let Some(more) = self.flush_one_held(py, id) {
                return Some(more);
            }
        }
        None
    }

    /// As [`State::flush_held`], of those that cannot leave with the wait.
    fn flush_urgent(&mut self, py: Python<'_>) -> Option<(AnyTransport, Outcome)> {
        while let Some(id) = self.holding.pop_new() {
            let connection = self.resources.connection(id);
            if connection.is_some_and(|it| can_leave_with_wait(&it.stream)) {
                self.holding.leave_to_wait(id);
            } else if let Some(more) = self.flush_one_held(py, id) {
                return Some(more);
            }
        }
        None
    }

    fn flush_one_held(&mut self, py: Python<'_>, id: Id) -> Option<(AnyTransport, Outcome)> {
        let (driver, resources) = self.parts();
        let connection = resources.connection(id)?;
        let outcome = flush_connection(driver, connection, id, None, Pace::AtOnce);
        let over = matches!(outcome, Outcome::Nothing) && !connection.stream.is_ending();
        (!over).then(|| (connection.transport.clone_ref(py), outcome))
    }

    /// Sends what is queued, unless it waits for room; `told` is what queueing it led to.
    fn flush(&mut self, id: Id, told: Option<Flow>) -> Outcome {
        let (driver, resources) = self.parts();
        match resources.connection(id) {
            Some(connection) => flush_connection(driver, connection, id, told, Pace::AtOnce),
            None => Outcome::Nothing,
        }
    }
}
