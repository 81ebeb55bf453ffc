//! When queued bytes leave: before a call that would show them, after the tick, with the driver's
//! wait, and when the system has room again. What follows once they are gone, such as the end of
//! the connection, is also done here.

use std::io;
use std::mem;

use oxlip_core::id::Id;
use oxlip_core::op::Completion;
use oxlip_core::stream::{Stream, Then};
use oxlip_core::write_queue::Flow;
use pyo3::prelude::*;

use super::link::{AnyTransport, Link};
use super::outcome::{Outcome, act};
use super::send::{Pace, flush_connection, shut_down};
use super::{datagram, end, reserve};
use crate::buffer::Chunk;
use crate::loop_::{EventLoop, Runnable, State};
use crate::{context, tasks};

/// With more than this many bytes gathered on a connection, waiting gains nothing.
const GATHER_AT_MOST: usize = 32 * 1024;

/// Sends what was gathered for the end of the tick, before a call that would show the program that it was not
/// sent inside `write()`, as it is with asyncio.
pub(super) fn flush_one(transport: Link<'_, '_>) -> PyResult<()> {
    let id = transport.get().id;
    let outcome = transport.get().with_state(|state| state.flush(id, None))?;
    act(transport, outcome.unwrap_or(Outcome::Nothing))
}

/// Sends what the handles of this tick have gathered, one vectored send per connection.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` of a protocol; what is gathered for other connections is
/// then still queued.
#[inline]
pub(crate) fn flush(event_loop: &Bound<'_, EventLoop>) -> PyResult<()> {
    flush_all(event_loop, State::flush_held)
}

/// As [`flush`], just before a wait, except that what can leave with the wait is left to [`stage_for_wait`].
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
    // Nearly always all of it is sent in one access of the state.
    while let Some((transport, outcome)) = this.state.with(|state| next(state, py))? {
        tasks::current::settle(event_loop)?;
        act_and_settle(transport.bind(py), outcome, false)?;
    }
    Ok(())
}

/// Stages what [`flush_before_wait`] has left, in the same access of the state as the wait that follows, which
/// answers the sends ([`note_sent`]). What leads to more than a send is left for [`settle_sent`].
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
            // The program has changed its state since it was popped.
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

/// Takes a wait's answers to sends. Nearly always everything was sent and nothing else is to be done; the other cases
/// are left for [`settle_sent`].
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

/// Goes on with the other sends: those after which more has to be sent, and those that have failed.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` of a protocol; the rest is then still queued.
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

/// The system has room again for a connection whose send it had refused.
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

/// Acts on what a flush outside any call of the program led to, in the protocol's context.
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
        outcome => context::run_shared(py, &transport.get().context, || act(transport, outcome)),
    };
    // This is also done after a KeyboardInterrupt in resume_writing(): a closing connection must end.
    settle(transport, at_once).and(acted)
}

/// A send that was put off has failed because the peer has gone meanwhile; asyncio would have sent inside `write()`,
/// before that. So the peer's last data, and its error or end, are read before the send is tried again. Returns false
/// if there is nothing to read.
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

/// Does what follows once nothing is queued: ends the stream, or the connection.
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
        // asyncio ignores an error of this shutdown(2) too: the peer is gone, and reading will
        // report that.
        let _ = shut_down(driver, this.id);
        connection.stream.settle()
    })?;
    match then {
        Some(Then::Lost) => end::lose(transport, None, at_once),
        Some(Then::Yours) => reserve::begin(transport),
        _ => Ok(()),
    }
}

/// Data are not put off if the protocol or the end of the stream waits for them to be sent.
#[inline]
fn can_leave_with_wait(stream: &Stream<Chunk>) -> bool {
    !stream.is_ending() && !stream.is_writing_paused()
}

impl State {
    /// Something was queued: it is sent at the end of the tick, or now if it is large, if the
    /// protocol would have to be told, or if the loop does not run.
    pub(super) fn queued(&mut self, id: Id, told: Option<Flow>, running: bool) -> Outcome {
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

    /// Sends what is held for the end of the tick, up to the first connection for which more than
    /// that has to be done. Returns its transport, and what sending has led to.
    fn flush_held(&mut self, py: Python<'_>) -> Option<(AnyTransport, Outcome)> {
        while let Some(id) = self.holding.pop() {
            if let Some(more) = self.flush_one_held(py, id) {
                return Some(more);
            }
        }
        None
    }

    /// As [`State::flush_held`], for those that cannot be sent with the wait.
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

    /// Sends what is queued, unless it waits for room. `told` is what queueing it led to.
    pub(super) fn flush(&mut self, id: Id, told: Option<Flow>) -> Outcome {
        let (driver, resources) = self.parts();
        match resources.connection(id) {
            Some(connection) => flush_connection(driver, connection, id, told, Pace::AtOnce),
            None => Outcome::Nothing,
        }
    }
}
