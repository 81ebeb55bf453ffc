//! Updating the backend to what is wanted.
//!
//! The backend's picture of a borrowed descriptor may be stale: its number may have been closed,
//! and opened again as something else. So a change that finds nothing becomes an addition, and an
//! addition that finds something becomes a change.

use std::io;
use std::os::fd::RawFd;

use oxlip_core::id::Id;
use oxlip_core::op::Interest;
use oxlip_selectors::backend::Backend;
use oxlip_selectors::event::Event;
use oxlip_selectors::interest::Interest as Watched;

use super::BELL;
use super::resource::{Resource, lost};
use crate::wake::WakeDescriptor;

/// The multiplexer, and what is known about its contents.
pub(super) struct Watching<B> {
    pub(super) backend: B,
    /// How many resources it watches, without the waker and others of the same purpose.
    resources: usize,
}

impl<B: Backend> Watching<B> {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            backend: B::new()?,
            resources: 0,
        })
    }

    /// Whether it can report nothing but the waker.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.resources == 0
    }

    /// Watches the waker from here on, edge-triggered if possible: then the waker need not be read.
    pub(super) fn hear(&mut self, bell: &WakeDescriptor) -> io::Result<()> {
        self.backend.add_edge(bell.number(), BELL, Watched::READ)
    }

    /// The waker has been reported.
    pub(super) fn heard(bell: &WakeDescriptor) {
        if B::EDGES {
            bell.acknowledge();
        } else {
            bell.clear();
        }
    }

    /// Notes that the interest that is watched for has changed.
    fn rearmed(&mut self, resource: &mut Resource, armed: Interest) {
        self.resources -= Self::counts(resource);
        resource.rearmed(armed);
        self.resources += Self::counts(resource);
    }

    /// From here on the resource is not counted.
    pub(super) fn leave_out(&mut self, resource: &mut Resource) {
        self.resources -= Self::counts(resource);
        resource.set_only_wakes();
    }

    fn counts(resource: &Resource) -> usize {
        usize::from(resource.is_armed() && !resource.only_wakes())
    }
}

/// Tells the backend what to watch for, unless it does so already. After an error it watches for
/// nothing.
pub(super) fn change<B: Backend>(
    watching: &mut Watching<B>,
    id: Id,
    resource: &mut Resource,
    wanted: Interest,
) -> io::Result<()> {
    if resource.armed == wanted {
        return Ok(());
    }
    if wanted.is_none() {
        forget(watching, resource);
        return Ok(());
    }
    arm(watching, id, resource, wanted)
}

type Change<B> = fn(&mut B, RawFd, u64, Watched) -> io::Result<()>;

/// Tells the backend what to watch for, even if it should know.
pub(super) fn arm<B: Backend>(
    watching: &mut Watching<B>,
    id: Id,
    resource: &mut Resource,
    wanted: Interest,
) -> io::Result<()> {
    let number = resource.number().ok_or_else(lost)?;
    let (token, watched) = (id.to_u64(), translate(wanted));
    let (add, modify) = if resource.is_once() {
        (B::add_once as Change<B>, B::modify_once as Change<B>)
    } else if resource.has_edges() {
        (B::add_edge as Change<B>, B::modify_edge as Change<B>)
    } else {
        (B::add as Change<B>, B::modify as Change<B>)
    };
    let backend = &mut watching.backend;
    let outcome = if resource.is_armed() {
        match modify(backend, number, token, watched) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                add(backend, number, token, watched)
            }
            outcome => outcome,
        }
    } else {
        match add(backend, number, token, watched) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                modify(backend, number, token, watched)
            }
            outcome => outcome,
        }
    };
    let armed = if outcome.is_ok() {
        wanted
    } else {
        Interest::NONE
    };
    watching.rearmed(resource, armed);
    outcome
}

/// Removes the resource from the backend. Errors mean that it was no longer there, because the
/// owner has closed the number.
pub(super) fn forget<B: Backend>(watching: &mut Watching<B>, resource: &mut Resource) {
    if !resource.is_armed() {
        return;
    }
    watching.rearmed(resource, Interest::NONE);
    if let Some(number) = resource.number() {
        let _ = watching.backend.delete(number);
    }
}

/// The part of the armed interest that an event satisfies.
#[inline]
pub(super) fn armed_part(event: &Event, resource: &Resource) -> Interest {
    let answered = event.readiness.answers(translate(resource.armed));
    let mut ready = Interest::NONE;
    if answered.reads() {
        ready |= Interest::READ;
    }
    if answered.writes() {
        ready |= Interest::WRITE;
    }
    ready
}

/// Converts between the core's type and the backend's: neither crate knows the other.
#[inline]
fn translate(interest: Interest) -> Watched {
    match (interest.reads(), interest.writes()) {
        (false, false) => Watched::NONE,
        (true, false) => Watched::READ,
        (false, true) => Watched::WRITE,
        (true, true) => Watched::BOTH,
    }
}
