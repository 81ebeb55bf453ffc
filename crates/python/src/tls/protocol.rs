//! `TlsProtocol`: the protocol that the lower transport sees, and the owner of everything that a
//! TLS connection has.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use oxlip_core::tls::{Step, Tls};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::codec::Codec;
use super::{TlsTransport, end, handshake, read, write};
use crate::buffer::Chunk;
use crate::counts::{Counted, Kind};
use crate::loop_::{self, EventLoop, Receiver};
use crate::owner::{Ownership, ThreadBound, WrongThread};

/// A TLS connection, as the protocol of the transport below it.
#[pyclass(frozen, weakref, module = "oxlip._native")]
pub(crate) struct TlsProtocol {
    pub(super) event_loop: Py<EventLoop>,
    /// `sslcontext`, and after the handshake what `get_extra_info` returns about it.
    pub(super) extra: Py<PyDict>,
    /// In seconds, as the program gave them.
    pub(super) handshake_timeout: Py<PyAny>,
    pub(super) shutdown_timeout: Py<PyAny>,
    pub(super) inner: ThreadBound<Inner>,
    /// The limits of both buffers, readable by every thread.
    limits: Mutex<Limits>,
    /// The transport below, until it is lost. Any thread may ask it for its extra information.
    lower: Mutex<Option<Py<PyAny>>>,
    /// What `is_closing()` returns, on every thread. If another thread has closed, it is true before the state
    /// machine knows.
    closing: AtomicBool,
    /// Whether the program has paused reading: for `is_reading()`, on every thread.
    pub(super) paused: AtomicBool,
    _counted: Counted,
}

/// The low and the high water mark of each buffer, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) read: (usize, usize),
    pub(super) write: (usize, usize),
}

impl Limits {
    fn of(machine: &Tls) -> Self {
        Self {
            read: machine.read_limits(),
            write: machine.write_limits(),
        }
    }
}

/// The mutable state. Python code never runs while it is borrowed.
pub(super) struct Inner {
    pub(super) machine: Tls,
    /// None once the connection is lost and the program has said that it is done with it.
    codec: Option<Arc<Codec>>,
    /// The program has closed a closing connection: it will ask for nothing any more.
    done_with: bool,
    /// What the program has written and the codec has not taken yet, and how much of each piece is done.
    pub(super) queue: VecDeque<(Chunk, usize)>,
    pub(super) protocol: Option<Py<PyAny>>,
    pub(super) receiver: Receiver,
    pub(super) transport: Option<Py<TlsTransport>>,
    pub(super) waiter: Option<Py<PyAny>>,
    pub(super) timer: Option<Py<PyAny>>,
    /// Nobody waits for the handshake: a failure of it is reported in debug mode.
    pub(super) accepted: bool,
    /// When the handshake began, in debug mode.
    pub(super) began: Option<f64>,
    /// The codec is at work. A callback of the context that uses the transport finds this set.
    busy: bool,
    /// The kernel may encrypt, or does (`socket.rs`).
    pub(super) kernel: bool,
    /// All that is left of the shutdown is to send our own `close_notify`: the argument for `end::finish`.
    pub(super) parted: Option<bool>,
    /// The wait for room after the last record is over (`end::finish`).
    pub(super) left: bool,
    /// A file is being sent past the codec, so the program cannot write.
    pub(super) reserved: bool,
    /// The descriptor with which the connection waits for room in the socket.
    pub(super) room: Option<OwnedFd>,
}

impl Inner {
    pub(super) fn codec(&self) -> Option<&Codec> {
        self.codec.as_deref()
    }

    /// Whether a record is kept that only the socket itself takes.
    pub(super) fn is_blocked(&self) -> bool {
        self.kernel && self.codec().is_some_and(Codec::is_blocked)
    }
}

impl TlsProtocol {
    /// Makes the calling thread the owner of the connection.
    ///
    /// # Errors
    /// asyncio's `RuntimeError` if another thread runs the loop or is inside this connection.
    pub(super) fn own(&self) -> PyResult<Ownership<'_, Inner>> {
        if self.event_loop.get().state.is_elsewhere() {
            return Err(WrongThread.into());
        }
        Ok(self.inner.own()?)
    }

    /// As [`TlsProtocol::own`]; `None` where the loop's thread is asked to call the transport's `method` instead,
    /// with the error for `connection_lost` if there is one. In debug mode that is refused all the same, as by a
    /// transport without TLS (`transport/end.rs`).
    ///
    /// # Errors
    /// `RuntimeError` if the loop is closed; on another thread in debug mode.
    pub(super) fn own_to_end(
        &self,
        transport: &Bound<'_, TlsTransport>,
        method: &str,
        error: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Ownership<'_, Inner>>> {
        let event_loop = self.event_loop.bind(transport.py());
        if event_loop.get().own_here().is_some()
            && let Ok(owned) = self.inner.own()
        {
            return Ok(Some(owned));
        }
        loop_::pass_on(event_loop, transport.as_any(), method, error)?;
        let was_closing = self.closing.swap(true, Ordering::Relaxed);
        if event_loop.get().is_debug() && !was_closing {
            return Err(WrongThread.into());
        }
        Ok(None)
    }

    /// Reads or changes the connection's state. `access` must not run Python code.
    pub(super) fn with<R>(&self, access: impl FnOnce(&mut Inner) -> R) -> PyResult<R> {
        let result = self.inner.with(|inner| {
            let result = access(inner);
            if inner.machine.is_closing() {
                self.closing.store(true, Ordering::Relaxed);
            }
            result
        })?;
        Ok(result)
    }

    /// Uses the codec, which may run Python code; `None` if it is at work further up the stack, or
    /// gone.
    pub(super) fn with_codec<R>(&self, work: impl FnOnce(&Codec) -> R) -> PyResult<Option<R>> {
        struct Done<'a>(&'a ThreadBound<Inner>);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                let _ = self.0.with(|inner| inner.busy = false);
            }
        }
        let codec = self.with(|inner| {
            let codec = inner.codec.clone().filter(|_| !inner.busy)?;
            inner.busy = true;
            Some(codec)
        })?;
        let Some(codec) = codec else {
            return Ok(None);
        };
        let _done = Done(&self.inner);
        Ok(Some(work(&codec)))
    }

    /// Bytes of records that have arrived and are not decrypted yet.
    pub(super) fn pending_in(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(|inner| inner.codec.clone())?
            .map_or(Ok(0), |codec| codec.pending_in(py))
    }

    /// Bytes of records that the lower transport has not got yet.
    pub(super) fn pending_out(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(|inner| inner.codec.clone())?
            .map_or(Ok(0), |codec| codec.pending_out(py))
    }

    /// The program has closed a connection that was already closing: once it is lost, nothing is
    /// kept for `get_extra_info`, so that a protocol that refers to its transport keeps nothing
    /// alive. asyncio drops everything at the same moment.
    pub(super) fn be_done_with(&self, py: Python<'_>) -> PyResult<()> {
        self.with(|inner| inner.done_with = true)?;
        self.let_go(py)
    }

    /// Drops codec and extra information if nobody needs them any more.
    pub(super) fn let_go(&self, py: Python<'_>) -> PyResult<()> {
        let codec = self.with(|inner| {
            let over = inner.done_with && inner.machine.is_lost();
            over.then(|| inner.codec.take())
        })?;
        if codec.is_some() {
            self.extra.bind(py).clear();
        }
        drop(codec);
        Ok(())
    }

    /// Whether [`TlsProtocol::receive`] can be used for what arrives.
    pub(crate) fn can_be_lent_to(&self) -> bool {
        let able = self.with(|inner| inner.codec.as_ref().is_some_and(|codec| codec.is_lent_to()));
        able.unwrap_or(false)
    }

    /// As `data_received()`, with records that are not copied unless they have to wait.
    ///
    /// # Errors
    /// As `data_received()`.
    pub(crate) fn receive(slf: &Bound<'_, Self>, records: &[u8]) -> PyResult<()> {
        let this = slf.get();
        let _owned = this.own()?;
        let Some(codec) = this.with(|inner| inner.codec.clone())? else {
            return Ok(());
        };
        let _lent = codec.lend(records);
        Self::proceed(slf)
    }

    /// Takes the next step, now that records have arrived or the connection is to be closed.
    pub(super) fn proceed(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.with(|inner| inner.busy)? {
            // This is inside a callback of the context. The call that is in progress further up the stack may not
            // look for records again, and what it encrypts goes before any `close_notify`. It has returned in the next
            // tick, or in a later one if the callback itself runs ticks.
            let step = slf.getattr(intern!(slf.py(), "_step"))?;
            return this.call_soon(slf.py(), &step, &[]);
        }
        Self::step(slf)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    pub(super) fn limits(&self) -> Limits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the state machine change its limits.
    pub(super) fn set_limits(&self, set: impl FnOnce(&mut Tls)) -> PyResult<()> {
        let limits = self.with(|inner| {
            set(&mut inner.machine);
            Limits::of(&inner.machine)
        })?;
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
        Ok(())
    }

    /// The transport below, until it is lost.
    pub(super) fn lower<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let lower = self.lower.lock().unwrap_or_else(PoisonError::into_inner);
        lower.as_ref().map(|it| it.bind(py).clone())
    }

    pub(super) fn swap_lower(&self, lower: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
        let mut slot = self.lower.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *slot, lower)
    }

    /// The program's protocol, until the connection is lost.
    pub(super) fn protocol<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.with(|inner| inner.protocol.as_ref().map(|it| it.bind(py).clone()))
    }

    /// Directs the callbacks to another protocol.
    pub(super) fn set_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let receiver = Receiver::of(protocol)?;
        let before = self.with(|inner| {
            inner.receiver = receiver;
            inner.protocol.replace(protocol.clone().unbind())
        })?;
        drop(before);
        Ok(())
    }

    /// `loop.call_soon(callback, *args)`.
    pub(super) fn call_soon<'py>(
        &self,
        py: Python<'py>,
        callback: &Bound<'py, PyAny>,
        args: &[&Bound<'py, PyAny>],
    ) -> PyResult<()> {
        let event_loop = self.event_loop.bind(py);
        let method = intern!(py, "call_soon");
        match args {
            [] => event_loop.call_method1(method, (callback,)),
            [arg] => event_loop.call_method1(method, (callback, arg)),
            _ => event_loop.call_method1(method, (callback, args.to_vec())),
        }
        .map(drop)
    }

    /// Starts the connection's one timer, or starts it again.
    pub(super) fn start_timer(slf: &Bound<'_, Self>, seconds: &Py<PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let timer = this.event_loop.bind(py).call_method1(
            intern!(py, "call_later"),
            (seconds, slf.getattr(intern!(py, "_timed_out"))?),
        )?;
        let before = this.with(|inner| inner.timer.replace(timer.unbind()))?;
        cancel(py, before)
    }

    pub(super) fn stop_timer(&self, py: Python<'_>) -> PyResult<()> {
        cancel(py, self.with(|inner| inner.timer.take())?)
    }

    /// Processes the records that have arrived, according to the state of the connection.
    pub(super) fn step(slf: &Bound<'_, Self>) -> PyResult<()> {
        match slf.get().with(|inner| inner.machine.step())? {
            Step::Nothing => Ok(()),
            Step::Handshake => handshake::advance(slf),
            Step::Read => read::receive(slf).map(drop),
            Step::Flush => end::flush(slf),
            Step::Shutdown => end::shutdown(slf),
        }
    }
}

fn cancel(py: Python<'_>, timer: Option<Py<PyAny>>) -> PyResult<()> {
    if let Some(timer) = timer {
        timer.bind(py).call_method0(intern!(py, "cancel"))?;
    }
    Ok(())
}

#[pymethods]
impl TlsProtocol {
    #[new]
    #[pyo3(signature = (
        event_loop, protocol, sslcontext, waiter, *, server_side, server_hostname,
        handshake_timeout, shutdown_timeout, connection_made = false, accepted = false,
    ))]
    #[expect(
        clippy::too_many_arguments,
        reason = "called from one place, by keyword"
    )]
    fn new(
        py: Python<'_>,
        event_loop: Py<EventLoop>,
        protocol: Bound<'_, PyAny>,
        sslcontext: &Bound<'_, PyAny>,
        waiter: Option<Py<PyAny>>,
        server_side: bool,
        server_hostname: Option<&Bound<'_, PyAny>>,
        handshake_timeout: Py<PyAny>,
        shutdown_timeout: Py<PyAny>,
        connection_made: bool,
        accepted: bool,
    ) -> PyResult<Py<Self>> {
        let extra = PyDict::new(py);
        extra.set_item("sslcontext", sslcontext)?;
        let codec = Codec::new(sslcontext, server_side, server_hostname)?;
        let inner = Inner {
            machine: Tls::new(connection_made),
            codec: Some(Arc::new(codec)),
            done_with: false,
            queue: VecDeque::new(),
            receiver: Receiver::of(&protocol)?,
            protocol: Some(protocol.unbind()),
            transport: None,
            waiter,
            timer: None,
            accepted,
            began: None,
            busy: false,
            kernel: false,
            parted: None,
            left: false,
            reserved: false,
            room: None,
        };
        let made = Self {
            event_loop,
            extra: extra.unbind(),
            handshake_timeout,
            shutdown_timeout,
            limits: Mutex::new(Limits::of(&inner.machine)),
            inner: ThreadBound::new(inner),
            lower: Mutex::new(None),
            closing: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            _counted: Counted::new(Kind::TlsProtocol),
        };
        let made = Py::new(py, made)?;
        let transport = TlsTransport::create(py, made.clone_ref(py))?;
        made.get().with(|inner| inner.transport = Some(transport))?;
        Ok(made)
    }

    /// The transport that the program's protocol gets; `None` once the connection is lost.
    #[getter]
    fn transport(&self, py: Python<'_>) -> PyResult<Option<Py<TlsTransport>>> {
        self.with(|inner| inner.transport.as_ref().map(|it| it.clone_ref(py)))
    }

    /// The transport below, until it is lost.
    #[getter]
    fn _transport<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.lower(py)
    }

    #[getter]
    fn _sslcontext<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.extra.bind(py).get_item(intern!(py, "sslcontext"))
    }

    /// The lower transport is connected: begins the handshake.
    fn connection_made(slf: &Bound<'_, Self>, transport: Bound<'_, PyAny>) -> PyResult<()> {
        let _owned = slf.get().own()?;
        handshake::begin(slf, transport)
    }

    /// The lower transport is gone.
    #[pyo3(signature = (exc))]
    fn connection_lost(slf: &Bound<'_, Self>, exc: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let _owned = slf.get().own()?;
        end::lost(slf, exc)
    }

    /// Records from the peer.
    fn data_received(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = slf.get();
        let _owned = this.own()?;
        let Some(codec) = this.with(|inner| inner.codec.clone())? else {
            return Ok(());
        };
        codec.feed(data)?;
        Self::proceed(slf)
    }

    /// The lower stream has ended. `True`: what has arrived is still to be read.
    fn eof_received(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let _owned = slf.get().own()?;
        end::eof(slf)
    }

    /// The lower transport's write buffer is full.
    fn pause_writing(&self) -> PyResult<()> {
        self.with(|inner| inner.machine.lower_full())
    }

    /// The lower transport has room again.
    fn resume_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let _owned = this.own()?;
        this.with(|inner| inner.machine.lower_drained())?;
        let sent = write::write_queued(slf);
        end::survive(slf, sent)
    }

    fn _step(slf: &Bound<'_, Self>) -> PyResult<()> {
        let _owned = slf.get().own()?;
        Self::proceed(slf)
    }

    fn _timed_out(slf: &Bound<'_, Self>) -> PyResult<()> {
        let _owned = slf.get().own()?;
        end::timed_out(slf)
    }

    pub(super) fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyString>> {
        let py = slf.py();
        let over = match slf.get().lower(py) {
            Some(lower) => format!("over {}", lower.repr()?),
            None => "without a transport".to_owned(),
        };
        Ok(PyString::new(py, &format!("<TlsProtocol {over}>")))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.extra)?;
        visit.call(&self.handshake_timeout)?;
        visit.call(&self.shutdown_timeout)?;
        if let Ok(lower) = self.lower.try_lock() {
            visit.call(&*lower)?;
        }
        // A connection that is in use further up the stack is not garbage.
        self.inner
            .try_with(|inner| {
                if let Some(codec) = &inner.codec {
                    codec.traverse(&visit)?;
                }
                visit.call(&inner.protocol)?;
                visit.call(&inner.transport)?;
                visit.call(&inner.waiter)?;
                visit.call(&inner.timer)
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        drop(self.swap_lower(None));
        let taken = self.inner.try_with(|inner| {
            (
                inner.codec.take(),
                inner.protocol.take(),
                inner.transport.take(),
                inner.waiter.take(),
                inner.timer.take(),
            )
        });
        drop(taken);
    }
}
