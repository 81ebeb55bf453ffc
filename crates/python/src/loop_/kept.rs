//! Watches that are kept for the next wait.
//!
//! A program that calls `sock_recv` in a loop waits for the same socket again and again. Taking the
//! descriptor out of the multiplexer when it is ready, and putting it in again, would be two system
//! calls each time. So the watch stays until the task that was woken had its turn, and who waits
//! for the same socket object meanwhile takes it over. That the object is the same is a good guess
//! that the descriptor is, and no more: `dup2()` can put another file behind the number. So before
//! the loop sleeps on such a guess, and after [`TICKS_IN_DOUBT`] at the latest, the kernel is asked.
//!
//! For `watch.rs`, and for the tick. On the loop's thread.

use std::mem;
use std::os::fd::RawFd;
use std::task::Poll;

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Interest};
use oxlip_driver::Driver as _;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::watch::Side;
use super::{EventLoop, Resource, Runnable, State};

/// A loop that never sleeps asks the kernel all the same.
const TICKS_IN_DOUBT: u32 = 64;

/// What one watch knows of this.
#[derive(Default)]
pub(super) struct Kept {
    /// Whose descriptor it was when it was put into the multiplexer: a weak reference.
    socket: Option<Py<PyWeakrefReference>>,
    /// What it is armed for while nobody waits.
    idle: Option<Interest>,
    /// Somebody waits, and the kernel has not been asked.
    in_doubt: bool,
    /// It is in [`Keeping::doubts`].
    listed: bool,
}

/// All of a loop's.
#[derive(Default)]
pub(super) struct Keeping {
    /// Those that fell idle in this tick.
    fresh: Vec<Id>,
    /// Those of the tick before: what they woke has its turn in this one.
    old: Vec<Id>,
    doubts: Vec<Id>,
    /// Ticks since the kernel was asked.
    ticks: u32,
}

impl Kept {
    /// The watch is put into the multiplexer for this socket. What is given back is to be dropped
    /// outside the borrow.
    pub(super) fn renew(
        &mut self,
        socket: Option<Py<PyWeakrefReference>>,
    ) -> Option<Py<PyWeakrefReference>> {
        self.idle = None;
        self.in_doubt = false;
        mem::replace(&mut self.socket, socket)
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.socket)
    }
}

/// What a watch remembers a socket by; nothing that is no object of its own can be kept.
pub(super) fn name(sock: &Bound<'_, PyAny>) -> Option<Py<PyWeakrefReference>> {
    PyWeakrefReference::new(sock).ok().map(Bound::unbind)
}

/// Hands an idle watch of this socket to a new future.
pub(super) fn claim(
    event_loop: &Bound<'_, EventLoop>,
    number: RawFd,
    sock: &Bound<'_, PyAny>,
    side: Side,
    future: &Bound<'_, PyAny>,
) -> PyResult<Option<Id>> {
    let py = event_loop.py();
    let state = &event_loop.get().state;
    let found = state.with(|state| {
        let id = state.watched_fds.get(number)?;
        let kept = &state.resources.watched(id)?.kept;
        let suits = kept.idle == Some(side.interest());
        let socket = kept.socket.as_ref().filter(|_| suits)?;
        Some((id, socket.clone_ref(py)))
    })?;
    let Some((id, socket)) = found else {
        return Ok(None);
    };
    if !socket.bind(py).upgrade().is_some_and(|it| it.is(sock)) {
        return Ok(None);
    }
    state
        .with(|state| {
            let State {
                resources, keeping, ..
            } = state;
            let watched = resources.watched(id)?;
            watched.kept.idle.take()?;
            watched.side(side).futures.push(future.clone().unbind());
            watched.kept.in_doubt = true;
            if !mem::replace(&mut watched.kept.listed, true) {
                keeping.doubts.push(id);
            }
            Some(id)
        })
        .map_err(Into::into)
}

impl State {
    /// Keeps a watch whose futures have just been set, if it can be.
    pub(super) fn keep_watch(&mut self, id: Id, armed: Interest) -> bool {
        let has_edges = self.driver().has_edges();
        let Some(watched) = self.resources.watched(id) else {
            return false;
        };
        watched.kept.in_doubt = false;
        let idle = watched.interest().is_none() && watched.kept.socket.is_some() && has_edges;
        watched.kept.idle = idle.then_some(armed);
        if idle {
            self.keeping.fresh.push(id);
        }
        idle
    }

    /// Before a wait: ends the watches that nobody has taken over. What they were is to be dropped
    /// outside the borrow.
    #[inline]
    pub(super) fn end_kept(&mut self) -> Vec<Resource> {
        let Keeping { fresh, old, .. } = &mut self.keeping;
        if fresh.is_empty() && old.is_empty() {
            return Vec::new();
        }
        mem::swap(fresh, old);
        let mut past = mem::take(fresh);
        let mut gone = Vec::new();
        for id in past.drain(..) {
            let is_idle = |watched: &mut super::Watched| watched.kept.idle.is_some();
            // It may be idle anew, and then is ended a tick early.
            if self.resources.watched(id).is_some_and(is_idle) {
                gone.extend(self.update_watch(id).gone);
            }
        }
        self.keeping.fresh = past;
        gone
    }

    /// Whether the next wait must not sleep, because it might be for ever.
    #[inline]
    pub(super) fn has_doubts(&self) -> bool {
        !self.keeping.doubts.is_empty()
    }

    /// After a wait that was not to sleep: asks the kernel, if the loop has nothing to do or never has
    /// had nothing to do for long. Who waits for what is no descriptor any more gets the error.
    #[inline]
    pub(super) fn end_doubts(&mut self) {
        if !self.has_doubts() {
            return;
        }
        self.keeping.ticks += 1;
        if self.scheduler.has_ready() && self.keeping.ticks < TICKS_IN_DOUBT {
            return;
        }
        self.keeping.ticks = 0;
        let mut doubts = mem::take(&mut self.keeping.doubts);
        for id in doubts.drain(..) {
            let Some(watched) = self.resources.watched(id) else {
                continue;
            };
            watched.kept.listed = false;
            if !mem::take(&mut watched.kept.in_doubt) {
                continue;
            }
            let op = watched.op(id);
            if let Poll::Ready(Completion::Failed(id, error)) = self.driver().submit(op) {
                let failure = Box::new((id, error));
                self.scheduler.push(Runnable::Failed(failure));
            }
        }
        self.keeping.doubts = doubts;
    }
}
