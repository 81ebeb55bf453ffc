//! What all transports have in common: the loop, the driver's id, the protocol, and the progress of
//! closing. Each class is a Python type over one [`Body`].
//!
//! Any thread may look at the body; the state machine that its id refers to belongs to the loop's thread.

use std::cell::UnsafeCell;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use oxlip_core::id::Id;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::PyDict;

use super::Server;
use super::extra::Sockets;
use crate::counts::{Counted, Kind};
use crate::loop_::{EventLoop, State};

/// From this many on, asyncio warns about writes to a lost connection.
pub(super) const LATE_WRITES_BEFORE_WARNING: u32 = 5;

/// The native part of a transport.
pub(crate) struct Body {
    pub(super) event_loop: Py<EventLoop>,
    pub(super) id: Id,
    /// Where the protocol's callbacks run: a copy of the context in which the connection was made.
    pub(super) context: Py<PyAny>,
    /// Whether `connection_made` and every `connection_lost` run there too, as with asyncio's
    /// connections since Python 3.15. Before, each begins with a copy of the current context.
    pub(super) one_context: bool,
    /// The number under which the program knows the descriptor.
    pub(super) fd: RawFd,
    /// `connection_lost` has been called, or the loop was closed.
    pub(super) dead: AtomicBool,
    /// What `is_closing()` returns, on every thread: a stream may be garbage-collected on any.
    pub(super) closing: AtomicBool,
    /// Whether the program has paused reading: for `is_reading()`, on every thread.
    pub(super) paused: AtomicBool,
    /// The loop was closed first.
    abandoned: AtomicBool,
    /// Writes after that.
    pub(super) late_writes: AtomicU32,
    slots: UnsafeCell<Slots>,
    _counted: Counted,
}

/// The objects that change. They are accessed only inside the transport's critical section.
#[derive(Default)]
pub(super) struct Slots {
    pub(super) protocol: Option<Py<PyAny>>,
    pub(super) server: Option<Py<Server>>,
    pub(super) extra: Option<Py<PyDict>>,
    pub(super) sockets: Option<Sockets>,
    /// The object that sends past the write buffer.
    pub(super) sender: Option<Py<PyAny>>,
    /// The write buffer's limits, if the program has set them.
    pub(super) limits: Option<(usize, usize)>,
}

// SAFETY: `slots` is reached only through `with_slots`, inside the object's critical section, and
// by the collector, which runs while no other thread is in one.
unsafe impl Sync for Body {}

/// The parts from which a transport is made and that never change.
pub(super) struct Parts {
    pub(super) event_loop: Py<EventLoop>,
    pub(super) id: Id,
    pub(super) context: Py<PyAny>,
    pub(super) one_context: bool,
    pub(super) fd: RawFd,
}

impl Body {
    pub(super) fn new(parts: Parts, slots: Slots, kind: Kind) -> Self {
        let Parts {
            event_loop,
            id,
            context,
            one_context,
            fd,
        } = parts;
        Self {
            event_loop,
            id,
            context,
            one_context,
            fd,
            dead: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            late_writes: AtomicU32::new(0),
            slots: UnsafeCell::new(slots),
            _counted: Counted::new(kind),
        }
    }

    /// Reads or changes the objects it refers to. `owner` is the transport whose body this is;
    /// `access` must not run Python code.
    #[inline]
    pub(super) fn with_slots<R>(
        &self,
        owner: &Bound<'_, PyAny>,
        access: impl FnOnce(&mut Slots) -> R,
    ) -> R {
        with_critical_section(owner, || {
            // SAFETY: inside the object's critical section, and `access` only moves or clones
            // references, so no second borrow can arise.
            access(unsafe { &mut *self.slots.get() })
        })
    }

    /// The loop was closed under the connection: its descriptor is gone.
    pub(super) fn set_abandoned(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
        self.dead.store(true, Ordering::Relaxed);
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// `connection_lost` cannot be called any more: the loop was closed under the connection.
    ///
    /// # Errors
    /// asyncio's `RuntimeError` about a closed loop.
    pub(super) fn check_not_abandoned(&self) -> PyResult<()> {
        if self.is_abandoned() {
            return self.event_loop.get().check_open();
        }
        Ok(())
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Whether data may be delivered: neither closing nor paused.
    pub(super) fn is_reading(&self) -> bool {
        !self.is_closing() && !self.paused.load(Ordering::Relaxed)
    }

    /// Runs `access` on the loop's state unless the connection is gone.
    pub(super) fn with_state<R>(
        &self,
        access: impl FnOnce(&mut State) -> R,
    ) -> PyResult<Option<R>> {
        if self.is_dead() {
            return Ok(None);
        }
        Ok(Some(self.event_loop.get().state.with(access)?))
    }

    /// Counts a write after `connection_lost`, and returns its number. Losing the connection counts as the first.
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
        visit.call(&slots.sender)?;
        slots
            .sockets
            .as_ref()
            .map_or(Ok(()), |sockets| sockets.traverse(visit))
    }
}
