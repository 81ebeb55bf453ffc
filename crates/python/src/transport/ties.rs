//! What ties a transport to its loop, its descriptor and its protocol: the same for every class.
//!
//! A class holds [`Ties`], dereferences to them, and says in [`Transport`] what it does its own way.

use std::cell::UnsafeCell;
use std::ops::Deref;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use oxlip_core::id::Id;
use pyo3::PyClass;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::PyDict;

use super::extra::{Addresses, Sockets};
use super::{DatagramTransport, StreamTransport};
use crate::counts::{Counted, Kind};
use crate::loop_::{EventLoop, Resource, Runnable, State};

/// The part that all transports have in common.
pub(crate) struct Ties {
    pub(super) event_loop: Py<EventLoop>,
    pub(super) id: Id,
    /// Where the protocol's callbacks run: a copy of the context in which the connection was made.
    pub(super) context: Py<PyAny>,
    /// The number under which the program knows the descriptor.
    pub(super) fd: RawFd,
    pub(super) addresses: Option<Addresses>,
    /// `connection_lost` has been called, or the loop was closed.
    pub(super) dead: AtomicBool,
    /// What `is_closing()` says, to every thread: a transport may be collected on any.
    pub(super) closing: AtomicBool,
    /// The loop was closed first.
    abandoned: AtomicBool,
    /// Writes after that.
    pub(super) late_writes: AtomicU32,
    slots: UnsafeCell<Slots>,
    _counted: Counted,
}

/// The objects that come and go. Reached only inside the transport's critical section.
#[derive(Default)]
pub(crate) struct Slots {
    pub(super) protocol: Option<Py<PyAny>>,
    pub(super) server: Option<Py<PyAny>>,
    pub(super) extra: Option<Py<PyDict>>,
    pub(super) sockets: Option<Sockets>,
    /// The write buffer's limits when the connection was lost.
    pub(super) last_limits: Option<(usize, usize)>,
}

// SAFETY: `slots` is reached only through `Transport::with_slots`, inside the object's critical
// section, and by the collector, which runs while no other thread is in one.
unsafe impl Sync for Ties {}

/// What a transport is made from and never changes.
pub(super) struct Parts {
    pub(super) event_loop: Py<EventLoop>,
    pub(super) id: Id,
    pub(super) context: Py<PyAny>,
    pub(super) fd: RawFd,
    pub(super) addresses: Option<Addresses>,
}

impl Ties {
    pub(super) fn new(parts: Parts, slots: Slots, kind: Kind) -> Self {
        let Parts {
            event_loop,
            id,
            context,
            fd,
            addresses,
        } = parts;
        Self {
            event_loop,
            id,
            context,
            fd,
            addresses,
            dead: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            late_writes: AtomicU32::new(0),
            slots: UnsafeCell::new(slots),
            _counted: Counted::new(kind),
        }
    }

    /// `connection_lost` cannot be called any more: the loop was closed under the connection.
    ///
    /// # Errors
    /// asyncio's `RuntimeError` about a closed loop.
    pub(super) fn check_not_abandoned(&self) -> PyResult<()> {
        if self.abandoned.load(Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err("Event loop is closed"));
        }
        Ok(())
    }

    /// Runs `access` on the loop's state unless the connection is gone.
    #[inline]
    pub(super) fn with_state<R>(
        &self,
        access: impl FnOnce(&mut State) -> R,
    ) -> PyResult<Option<R>> {
        if self.dead.load(Ordering::Relaxed) {
            return Ok(None);
        }
        Ok(Some(self.event_loop.get().state.with(access)?))
    }

    /// A write after `connection_lost`: which one. Losing the connection counts as the first.
    pub(super) fn count_late_write(&self) -> u32 {
        self.late_writes.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.context)?;
        // SAFETY: the collector runs while no other thread is inside a critical section.
        let slots = unsafe { &*self.slots.get() };
        visit.call(&slots.protocol)?;
        visit.call(&slots.server)?;
        visit.call(&slots.extra)?;
        slots
            .sockets
            .as_ref()
            .map_or(Ok(()), |sockets| sockets.traverse(visit))
    }
}

/// What the loop does with a resource, as `repr()` shows it.
pub(crate) struct Activity {
    pub(super) reading: bool,
    pub(super) buffered: usize,
    pub(super) closing: bool,
}

/// A class of transports.
pub(crate) trait Transport: PyClass + Deref<Target = Ties> {
    fn ties<'a>(slf: &'a Bound<'_, Self>) -> &'a Ties;

    /// `connection_made` has been called: receiving may begin.
    fn start(slf: &Bound<'_, Self>) -> PyResult<()>;

    /// Ends the connection now, with `error` for `connection_lost`; nothing if it is lost already.
    fn abort_with(slf: &Bound<'_, Self>, error: Option<Py<PyAny>>) -> PyResult<()>;

    fn activity(resource: &Resource) -> Option<Activity>;

    /// `begin::begin`, as a handle.
    fn beginning(beginning: super::Beginning<Self>) -> Runnable;

    /// `end::end`, as a handle.
    fn ending(ending: super::Ending<Self>) -> Runnable;

    /// Reads or changes the objects it refers to. `access` must not run Python code.
    #[inline]
    fn with_slots<R>(slf: &Bound<'_, Self>, access: impl FnOnce(&mut Slots) -> R) -> R {
        with_critical_section(slf.as_any(), || {
            // SAFETY: inside the object's critical section, and `access` only moves or clones
            // references, so no second borrow can arise.
            access(unsafe { &mut *Self::ties(slf).slots.get() })
        })
    }

    /// The protocol, until the connection is lost.
    #[inline]
    fn protocol<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        let py = slf.py();
        Self::with_slots(slf, |slots| {
            slots.protocol.as_ref().map(|it| it.bind(py).clone())
        })
    }

    /// [`abandon`].
    fn abandon(slf: &Bound<'_, Self>) {
        let ties = Self::ties(slf);
        ties.abandoned.store(true, Ordering::Relaxed);
        ties.dead.store(true, Ordering::Relaxed);
        ties.closing.store(true, Ordering::Relaxed);
        let sockets = Self::with_slots(slf, |slots| slots.sockets.take());
        drop(sockets);
    }

    /// [`has_number`].
    fn has_number(slf: &Bound<'_, Self>, fd: RawFd) -> PyResult<bool> {
        let kept = Self::with_slots(slf, |slots| match &slots.sockets {
            Some(Sockets::Theirs { sock, .. }) => Some(sock.bind(slf.py()).clone()),
            _ => None,
        });
        match kept {
            Some(sock) => Ok(sock.call_method0("fileno")?.extract::<RawFd>()? == fd),
            None => Ok(true),
        }
    }
}

/// The loop was closed under a transport of whichever class: its descriptor is gone.
pub(crate) fn abandon(transport: &Bound<'_, PyAny>) {
    if let Ok(stream) = transport.cast::<StreamTransport>() {
        StreamTransport::abandon(stream);
    } else if let Ok(datagrams) = transport.cast::<DatagramTransport>() {
        DatagramTransport::abandon(datagrams);
    }
}

/// Whether `fd` is still this transport's number: a socket that the program kept may have been
/// closed.
pub(crate) fn has_number(transport: &Bound<'_, PyAny>, fd: RawFd) -> PyResult<bool> {
    if let Ok(stream) = transport.cast::<StreamTransport>() {
        StreamTransport::has_number(stream, fd)
    } else if let Ok(datagrams) = transport.cast::<DatagramTransport>() {
        DatagramTransport::has_number(datagrams, fd)
    } else {
        Ok(true)
    }
}
