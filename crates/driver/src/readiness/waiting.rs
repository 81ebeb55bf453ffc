//! One wait: it tells the backend what is wanted, asks it what is ready, and interprets the answer.
//! The io_uring driver calls these parts one by one.

use std::io;
use std::mem;
use std::time::Duration;

use oxlip_core::id::Id;
use oxlip_core::op::Completion;
use oxlip_selectors::backend::Backend;
use oxlip_selectors::event::Event;

use super::apply::{self, Watching};
use super::resource::{self, Kind, Resource};
use super::{BELL, Readiness, transfer, unpolled};

impl<B: Backend> Readiness<B> {
    /// A resource that could not be armed gets a completion with the error.
    fn apply_changes(&mut self, completions: &mut Vec<Completion>) {
        for id in self.changed.drain(..) {
            let Some(resource) = self.resources.get_mut(id) else {
                continue;
            };
            let wanted = resource.settle();
            match apply::change(&mut self.watching, id, resource, wanted) {
                Ok(()) => {}
                Err(error) if unpolled::is_refused(resource, &error) => {
                    if !self.unpolled.contains(&id) {
                        self.unpolled.push(id);
                    }
                }
                // Its number has gone to another resource in this tick; it has got its completion already.
                Err(_) if resource.number().is_none() => {}
                Err(error) => completions.push(Completion::Failed(id, error)),
            }
        }
    }

    /// Arms again what was reported and, as far as is known, has not been taken. Then the kernel looks again, and
    /// reports it if it is still there, as a level-triggered backend does.
    fn repeat_reports(&mut self, completions: &mut Vec<Completion>) {
        for id in self.reported.drain(..) {
            let Some(resource) = self.resources.get_mut(id) else {
                continue;
            };
            if resource.owes_a_report() {
                let armed = resource.armed;
                if let Err(error) = apply::arm(&mut self.watching, id, resource, armed) {
                    completions.push(Completion::Failed(id, error));
                }
            }
        }
    }

    /// Turns one event into completions. Returns false if it was for nobody.
    #[inline]
    fn dispatch(&mut self, event: &Event, completions: &mut Vec<Completion>) -> bool {
        if event.token == BELL {
            Watching::<B>::heard(&self.bell);
            return true;
        }
        let id = Id::from_u64(event.token);
        let Some(resource) = self.resources.get_mut(id) else {
            return false;
        };
        let ready = apply::armed_part(event, resource);
        match resource.kind() {
            // There is only urgent data, which nobody has asked for.
            Kind::Stream if ready.is_none() && resource.has_edges() => return resource.is_armed(),
            _ if ready.is_none() => return false,
            Kind::Stream | Kind::Pipe => {
                if resource.is_connecting() {
                    let outcome = resource.owned().and_then(transfer::connected);
                    if resource.end_connecting() {
                        self.changed.push(id);
                    }
                    completions.push(Completion::Connected(id, outcome));
                }
                if ready.reads() && resource.has_unread(event.readiness.short_read_is_all()) {
                    completions.push(Completion::Readable(id));
                    if resource.has_edges() {
                        self.reported.push(id);
                    }
                }
                if ready.writes() && resource.is_sending() {
                    if resource.end_sending() {
                        self.changed.push(id);
                    }
                    completions.push(Completion::Sendable(id));
                }
            }
            Kind::Datagram => {
                if ready.reads() {
                    completions.push(Completion::Receivable(id));
                }
                if ready.writes() && resource.is_sending() {
                    if resource.end_sending() {
                        self.changed.push(id);
                    }
                    self.rooms.end(id);
                    completions.push(Completion::Sendable(id));
                }
            }
            Kind::Room => self.rooms_found(Some(id), completions),
            Kind::Clock => self.rooms_found(None, completions),
            Kind::Listener => {
                self.round.begin();
                completions.push(Completion::Acceptable(id));
            }
            Kind::Watch => {
                if resource.is_once() && resource.has_reported(B::ONCE) {
                    self.changed.push(id);
                }
                completions.push(Completion::Watched(id, ready));
            }
        }
        true
    }

    /// The first half of a wait: tells the backend what is wanted.
    #[inline]
    pub(crate) fn prepare(&mut self, completions: &mut Vec<Completion>) {
        self.clear_rooms();
        self.apply_changes(completions);
        self.repeat_reports(completions);
        if !self.unpolled.is_empty() {
            self.report_unpolled(completions);
        }
        completions.extend(
            self.ousted
                .drain(..)
                .map(|id| Completion::Failed(id, resource::lost())),
        );
    }

    /// The second half: asks it what is ready.
    #[inline]
    pub(crate) fn collect(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        self.watching.backend.wait(timeout, &mut self.events)?;
        let mut events = mem::take(&mut self.events);
        let mut orphans = false;
        for event in &events {
            orphans |= !self.dispatch(event, completions);
        }
        events.clear();
        self.events = events;
        if orphans { self.rebuild() } else { Ok(()) }
    }

    /// Starts over with a new multiplexer, to get rid of a registration that has outlived its
    /// descriptor and can no longer be named.
    pub(super) fn rebuild(&mut self) -> io::Result<()> {
        let mut watching = Watching::new()?;
        if self.hears_bell {
            watching.hear(&self.bell)?;
        }
        self.watching = watching;
        let armed: Vec<Id> = self
            .resources
            .iter()
            .filter(|(_, r)| r.is_armed())
            .map(|(id, _)| id)
            .collect();
        for id in armed {
            if self.resources.get_mut(id).is_some_and(Resource::disarm) {
                self.changed.push(id);
            }
        }
        Ok(())
    }
}
