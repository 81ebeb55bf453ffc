//! How a connection ends: `close()`, `abort()`, errors, and `connection_lost`.

use std::sync::atomic::Ordering;

use oxlip_core::id::Id;
use oxlip_core::op::Op;
use oxlip_core::stream::ClosePlan;
use oxlip_driver::Driver as _;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::flush::flush_one;
use super::link::{AnyTransport, Link};
use super::{Server, datagram, extra, reserve};
use crate::context::{self, Chosen};
use crate::errors::{self, os_error};
use crate::handle::{Args, Handle};
use crate::loop_::{self, EventLoop, Runnable, State, exception_handler, watch};
use crate::owner::{Ownership, WrongThread};
use crate::{ffi, log};

/// A `connection_lost` that is due.
pub(crate) struct Ending {
    pub(crate) transport: AnyTransport,
    error: Option<Py<PyAny>>,
    context: Py<PyAny>,
}

impl Ending {
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.transport.traverse(visit)?;
        visit.call(&self.error)?;
        visit.call(&self.context)
    }
}

/// How a program may end a connection, from any thread.
#[derive(Clone, Copy)]
pub(super) enum Wish<'a> {
    Close,
    /// With the error for `connection_lost`.
    Abort(&'a Option<Py<PyAny>>),
}

/// The loop's state, if the caller may go on; `None` on another thread, after the loop's thread was asked to do it.
///
/// A stream is closed when it is garbage-collected. In debug mode this is refused on another thread, as asyncio's
/// `call_soon` refuses it, but the connection ends all the same, because nobody may be left to close it again.
///
/// # Errors
/// `RuntimeError` if the loop was closed; on another thread in debug mode.
pub(super) fn here<'a>(
    transport: Link<'a, '_>,
    wish: Wish<'_>,
) -> PyResult<Option<Ownership<'a, State>>> {
    let this = transport.get();
    this.check_not_abandoned()?;
    let owned = this.event_loop.get().own_here();
    if owned.is_some() {
        return Ok(owned);
    }
    let py = transport.py();
    let event_loop = this.event_loop.bind(py);
    match wish {
        Wish::Close if this.is_closing() => return Ok(None),
        Wish::Abort(_) if this.is_dead() => return Ok(None),
        Wish::Close => loop_::pass_on(event_loop, transport.as_any(), "close", None)?,
        Wish::Abort(None) => loop_::pass_on(event_loop, transport.as_any(), "abort", None)?,
        Wish::Abort(Some(error)) => {
            let error = error.bind(py);
            loop_::pass_on(event_loop, transport.as_any(), "_force_close", Some(error))?;
        }
    }
    this.closing.store(true, Ordering::Relaxed);
    if event_loop.get().is_debug() {
        return Err(WrongThread.into());
    }
    Ok(None)
}

pub(super) fn close(transport: Link<'_, '_>) -> PyResult<()> {
    let this = transport.get();
    let Some(_owned) = here(transport, Wish::Close)? else {
        return Ok(());
    };
    // As if it had been sent inside `write()`, so that connection_lost is called when asyncio would call it.
    flush_one(transport)?;
    let plan = this.with_state(|state| {
        let (driver, resources) = state.parts();
        let Some(connection) = resources.connection(this.id) else {
            return ClosePlan::Already;
        };
        let plan = connection.stream.close();
        this.closing.store(true, Ordering::Relaxed);
        if plan != ClosePlan::Already {
            let _ = driver.submit(Op::RecvStop(this.id));
        }
        plan
    })?;
    match plan {
        Some(ClosePlan::Lost) => lose(transport, None, false),
        _ => Ok(()),
    }
}

/// Ends the connection now, with `error` for `connection_lost`; nothing if it is lost already.
pub(super) fn abort(transport: Link<'_, '_>, error: Option<Py<PyAny>>) -> PyResult<()> {
    if let Link::Datagram(transport) = transport {
        return datagram::abort(transport, error);
    }
    let this = transport.get();
    let Some(_owned) = here(transport, Wish::Abort(&error))? else {
        return Ok(());
    };
    if error.is_none() {
        // asyncio would have sent inside `write()` what was gathered here, so it must not be lost.
        flush_one(transport)?;
    }
    let aborted = this.with_state(|state| {
        let (driver, resources) = state.parts();
        let connection = resources.connection(this.id)?;
        let queued = connection.stream.take_queue();
        let aborted = connection.stream.abort();
        this.closing.store(true, Ordering::Relaxed);
        let _ = driver.submit(Op::RecvStop(this.id));
        Some((aborted, queued))
    })?;
    match aborted.flatten() {
        Some((true, _queued)) => lose(transport, error, false),
        _ => Ok(()),
    }
}

/// Ends the connection with an error.
///
/// # Errors
/// The error itself if it ends the loop.
pub(super) fn fatal(transport: Link<'_, '_>, error: PyErr, message: &str) -> PyResult<()> {
    let py = transport.py();
    if errors::ends_the_loop(py, &error) {
        return Err(error);
    }
    let event_loop = transport.get().event_loop.bind(py);
    let value = error.value(py).clone().into_any().unbind();
    if transport.is_usual(&error)? {
        if event_loop.get().is_debug() {
            let what = format!("%r: {message}: %s");
            let value = error.value(py).clone().into_any();
            log::debug(py, &what, &[transport.as_any().clone(), value])?;
        }
    } else {
        let protocol = transport.protocol().into_pyobject(py)?;
        exception_handler::report(
            event_loop,
            message,
            error,
            &[("transport", transport.as_any()), ("protocol", &protocol)],
        )?;
    }
    abort(transport, Some(value))
}

/// The driver could not go on with a resource, because it could not be armed.
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
            .get(id)
            .and_then(|resource| resource.transport(py))
    })?;
    match transport {
        Some(transport) => {
            let transport = transport.bind(py);
            context::run_shared(py, &transport.get().context, || {
                fatal(transport, os_error(error), transport.read_failure())
            })
        }
        None => watch::failed(event_loop, id, error),
    }
}

/// The connection is lost: `connection_lost` is called now, or as the next tick's handle.
pub(super) fn lose(
    transport: Link<'_, '_>,
    error: Option<Py<PyAny>>,
    at_once: bool,
) -> PyResult<()> {
    let py = transport.py();
    let context = if at_once || transport.get().one_context {
        transport.get().context.clone_ref(py)
    } else {
        context::copy_current(py)?
    };
    let ending = Ending {
        transport: transport.to_owned(),
        error,
        context,
    };
    let event_loop = transport.get().event_loop.bind(py);
    if at_once {
        return end(event_loop, ending);
    }
    event_loop.get().push(Runnable::End(Box::new(ending)));
    Ok(())
}

/// Notifies the protocol, closes the descriptor, and releases everything.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` of the protocol, after the connection was closed.
pub(crate) fn end(event_loop: &Bound<'_, EventLoop>, ending: Ending) -> PyResult<()> {
    let py = event_loop.py();
    let Ending {
        transport,
        error,
        context,
    } = ending;
    let transport = transport.bind(py);
    let mut result = Ok(());
    let error = error.into_pyobject(py)?;
    if let Some(protocol) = transport.protocol() {
        let told = context::run_shared(py, &context, || {
            ffi::call_method(intern!(py, "connection_lost"), [&protocol, &error])
        });
        if let Err(raised) = told {
            let args = PyTuple::new(py, [&error])?;
            result = report_callback(event_loop, &protocol, "connection_lost", args, raised);
        }
    }
    let sender = reserve::lost(transport, &error);
    result.and(sender).and(release(event_loop, transport))
}

/// Closes the descriptor and forgets the connection. An error on the way is reported at the end.
fn release(event_loop: &Bound<'_, EventLoop>, transport: Link<'_, '_>) -> PyResult<()> {
    let py = event_loop.py();
    let this = transport.get();
    let (protocol, server) =
        transport.with_slots(|slots| (slots.protocol.take(), slots.server.take()));
    let forgotten = this.with_state(|state| {
        let forgotten = state.resources.remove(this.id);
        if forgotten.is_some() {
            let _ = state.driver().submit(Op::Close(this.id));
        }
        forgotten
    })?;
    this.dead.store(true, Ordering::Relaxed);
    this.closing.store(true, Ordering::Relaxed);
    let closed = extra::close(transport);
    drop((forgotten, protocol));
    let detached = server.map_or(Ok(()), |server| Server::detach(server.bind(py)));
    for result in [closed, detached] {
        if let Err(error) = result {
            let details = [("transport", transport.as_any())];
            exception_handler::report(event_loop, "Error on closing a transport", error, &details)?;
        }
    }
    Ok(())
}

/// Reports what a protocol's method raised, as asyncio does for a callback that it has scheduled:
/// with a handle that shows the method.
pub(super) fn report_callback(
    event_loop: &Bound<'_, EventLoop>,
    protocol: &Bound<'_, PyAny>,
    method: &str,
    args: Bound<'_, PyTuple>,
    error: PyErr,
) -> PyResult<()> {
    let py = event_loop.py();
    if errors::ends_the_loop(py, &error) {
        return Err(error);
    }
    // The protocol lacks the method, so there is no callback to show.
    let Ok(callback) = protocol.getattr(method) else {
        return exception_handler::report(
            event_loop,
            &format!("Exception in callback {method}()"),
            error,
            &[("protocol", protocol)],
        );
    };
    let source = crate::handle::format_source(event_loop.get(), &callback, &args)?;
    let own = Chosen::Own(context::copy_current(py)?);
    let handle = Handle::new(event_loop, callback, Args::of_tuple(args), own)?;
    let source_traceback = handle.getattr(intern!(py, "_source_traceback"))?;
    let context = PyDict::new(py);
    context.set_item("message", format!("Exception in callback {source}"))?;
    context.set_item("exception", error.into_value(py))?;
    context.set_item("handle", handle)?;
    if !source_traceback.is_none() {
        context.set_item("source_traceback", source_traceback)?;
    }
    exception_handler::call(event_loop, &context)
}
