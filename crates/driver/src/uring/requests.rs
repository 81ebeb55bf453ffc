//! What the ring is asked for, and what its answers mean.

use oxlip_core::id::Id;

use super::owner::thread_token;
use super::ring::{Answer, NOBODY, Ring};
use super::{BELL, INNER, SENDS, Uring};

/// The kernel refuses requests while it has no memory. That does not last, or is not to be lived with.
const ATTEMPTS: usize = 1000;

impl Uring {
    /// Submits what has been asked for, and takes the answers.
    pub(super) fn submit_now(&mut self) {
        let entered = match &mut self.ring {
            Some(ring) => ring.enter(false, None),
            None => return,
        };
        if entered.is_err() {
            self.give_up();
            return;
        }
        self.take_answers();
        let mut early = std::mem::take(&mut self.early);
        self.finish_sends(&mut early);
        self.early = early;
    }

    /// The kernel works on nothing of this resource any more: its descriptor can be closed.
    pub(super) fn end_request(&mut self, id: Id) {
        let Some(number) = self.table.get(id).and_then(|incoming| incoming.request) else {
            return;
        };
        let ours = self
            .owner
            .is_some_and(|(thread, _)| thread == thread_token());
        if !ours {
            // Closing the ring ends all of it.
            self.lose_ring();
            return;
        }
        self.make_room();
        if let Some(ring) = &mut self.ring {
            ring.cancel(number.into());
        }
        self.submit_now();
    }

    /// Room for one more request.
    fn make_room(&mut self) {
        for _ in 0..ATTEMPTS {
            if self.ring.as_mut().is_none_or(Ring::has_room) {
                return;
            }
            self.submit_now();
        }
        self.give_up();
    }

    /// Asks the ring for what is wanted, and no longer for what is not.
    pub(super) fn apply_touched(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for id in touched.drain(..) {
            self.make_room();
            self.apply(id);
        }
        // Answers that making room has brought may have touched more.
        touched.append(&mut self.touched);
        self.touched = touched;
    }

    fn apply(&mut self, id: Id) {
        let (Some(ring), Some(incoming)) = (&mut self.ring, self.table.get_mut(id)) else {
            return;
        };
        incoming.touched = false;
        if !incoming.wanted {
            incoming.keep(&mut ring.pool);
        }
        let number = if incoming.wants_request() {
            self.inner.receiver(id)
        } else {
            None
        };
        match (incoming.request, number) {
            (None, Some(fd)) => {
                let request = self.requests.begin(id);
                incoming.request = Some(request);
                incoming.request_polls = incoming.polled;
                if incoming.polled {
                    ring.poll(fd, request.into(), false);
                } else {
                    ring.receive(fd, request.into());
                }
            }
            (Some(request), number) if !incoming.ending => {
                if number.is_none() || incoming.request_polls != incoming.polled {
                    incoming.ending = true;
                    ring.cancel(request.into());
                }
            }
            (Some(_) | None, _) => {}
        }
    }

    /// The ring watches the multiplexer and the waker.
    pub(super) fn watch_own(&mut self) {
        if !self.hears_bell {
            self.make_room();
            if let Some(ring) = &mut self.ring {
                ring.poll(self.inner.bell().number(), BELL, true);
                self.hears_bell = true;
            }
        }
        if !self.polls_inner && !self.inner_ready {
            self.make_room();
            if let Some(ring) = &mut self.ring {
                ring.poll(self.inner.multiplexer(), INNER, false);
                self.polls_inner = true;
            }
        }
    }

    /// Takes every answer that the kernel has. How many there were.
    pub(super) fn take_answers(&mut self) -> usize {
        let mut count = 0;
        loop {
            let mut answers = std::mem::take(&mut self.answers);
            if let Some(ring) = &mut self.ring {
                ring.answers(&mut answers);
            }
            count += answers.len();
            for answer in answers.drain(..) {
                self.dispatch(answer);
            }
            self.answers = answers;
            let Some(ring) = &mut self.ring else {
                return count;
            };
            if !ring.has_overflown() || ring.enter(false, None).is_err() {
                return count;
            }
        }
    }

    fn dispatch(&mut self, answer: Answer) {
        let Some(ring) = &mut self.ring else {
            return;
        };
        let buffer = answer.buffer.map(|number| ring.pool.taken(number));
        match answer.tag {
            NOBODY => {}
            INNER => {
                self.polls_inner = false;
                self.inner_ready = true;
            }
            BELL => {
                self.hears_bell = answer.more;
                self.inner.bell().acknowledge();
                self.woken = true;
            }
            tag if tag >= SENDS => self.sends.answer(tag - SENDS, answer.result),
            tag => {
                let number = tag as u32;
                let owner = self.requests.owner(number);
                if !answer.more {
                    self.requests.end(number);
                }
                let incoming = owner.and_then(|id| Some((id, self.table.get_mut(id)?)));
                match incoming.filter(|(_, incoming)| incoming.request == Some(number)) {
                    Some((id, incoming)) => {
                        if !answer.more {
                            incoming.request = None;
                            incoming.ending = false;
                            if incoming.touch() {
                                self.touched.push(id);
                            }
                        }
                        if let Some(unused) = incoming.answered(&answer, buffer, &mut ring.pool) {
                            ring.pool.give_back(unused);
                        }
                        if incoming.has_unread() && !incoming.listed {
                            incoming.listed = true;
                            self.unread.push(id);
                        }
                    }
                    // Of a resource that is closed, or a socket that was released.
                    None => {
                        if let Some(unused) = buffer {
                            ring.pool.give_back(unused);
                        }
                    }
                }
            }
        }
    }
}
