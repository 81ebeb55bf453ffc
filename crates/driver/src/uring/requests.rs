//! What the ring is asked to do, and what its completions mean.

use std::time::Duration;

use oxlip_core::id::Id;

use super::Uring;
use super::incoming::{Request, Work};
use super::ring::{Answer, Ended, Ring};
use super::tag::{ACCEPTS, BELL, INNER, NOBODY, SENDS, TRANSFERS, Tag};

/// The kernel refuses requests while it has no memory. After so many refused calls in a row the
/// shortage is taken as permanent, and epoll is used, which needs no such memory.
const REFUSALS: u32 = 1000;

/// How often the kernel is asked again before a descriptor is closed.
const ATTEMPTS: usize = 16;

impl Uring {
    /// Calls the ring once, and acts on its completions. With `wait` it may sleep. Returns false if
    /// there were no completions.
    pub(super) fn enter(&mut self, wait: bool, timeout: Option<Duration>) -> bool {
        let Some(ring) = &mut self.ring else {
            return false;
        };
        let Ok(ended) = ring.enter(wait, timeout) else {
            self.give_up();
            return false;
        };
        let count = self.take_answers();
        self.finish_sends();
        if ended == Ended::Refused {
            self.refusals += 1;
            if self.refusals > REFUSALS {
                self.give_up();
            }
        } else {
            self.refusals = 0;
        }
        ended == Ended::Answered && count > 0
    }

    /// Submits the pushed requests, and takes the completions. Returns false if the kernel refuses
    /// some requests for now.
    pub(super) fn submit_now(&mut self) -> bool {
        loop {
            let all = self.push_sends();
            self.enter(false, None);
            match self.ring.as_mut().map(Ring::is_submitted) {
                Some(false) => return false,
                Some(true) if !all => {}
                Some(true) | None => return true,
            }
        }
    }

    /// Submits everything before a descriptor is closed, because a request that is left would apply
    /// to the next descriptor with the same number. If the kernel does not accept it, the ring is
    /// given up.
    pub(super) fn submit_all(&mut self) {
        if self.is_ours() {
            for _ in 0..ATTEMPTS {
                if self.submit_now() && self.sends.is_empty() {
                    return;
                }
            }
        }
        self.lose_ring();
    }

    /// Ends the kernel's work on this resource, so that its descriptor can be closed.
    pub(super) fn end_request(&mut self, id: Id) {
        let Some(tag) = self.request(id) else {
            return;
        };
        if !self.is_ours() || !(0..ATTEMPTS).any(|_| self.make_room()) {
            // Closing the ring ends all its work.
            self.lose_ring();
            return;
        }
        if let Some(ring) = &mut self.ring {
            ring.cancel(tag);
        }
        // In a call that does not wait, the kernel does only some of its work, and the end of the
        // request may come after one piece of work for each of the others.
        for _ in 0..=self.requests.most() {
            self.submit_all();
            let works = self.ring.as_mut().is_some_and(Ring::has_work);
            if self.request(id) != Some(tag) || !works {
                return;
            }
        }
    }

    fn request(&self, id: Id) -> Option<Tag> {
        self.table.get(id)?.request.tag()
    }

    /// Makes room for one more request, by a call if necessary. Returns whether there is room.
    pub(super) fn make_room(&mut self) -> bool {
        if self.ring.as_mut().is_some_and(|ring| !ring.has_room()) {
            self.enter(false, None);
        }
        self.ring.as_mut().is_some_and(Ring::has_room)
    }

    /// Pushes requests for what is wanted, and cancels those that are not. Resources for which the
    /// ring has no room stay listed.
    pub(super) fn apply_touched(&mut self) {
        let mut done = 0;
        // Completions that are taken while making room may touch more resources.
        while done < self.touched.len() && self.make_room() {
            self.apply(self.touched[done]);
            done += 1;
        }
        self.touched.drain(..done);
    }

    fn apply(&mut self, id: Id) {
        let (Some(ring), Some(incoming)) = (&mut self.ring, self.table.get_mut(id)) else {
            return;
        };
        incoming.touched = false;
        if !incoming.wanted {
            incoming.keep(&mut ring.pool);
        }
        let fd = if incoming.wants_request() {
            self.inner.receiver(id)
        } else {
            None
        };
        match (incoming.request, fd) {
            (Request::None, Some(fd)) => {
                let number = self.requests.begin(id);
                let work = incoming.work();
                incoming.request = Request::UnderWay { number, work };
                match work {
                    Work::Poll => ring.poll(fd, work.tag(number), false),
                    Work::Receive => ring.receive(fd, work.tag(number)),
                    Work::Accept => ring.accept(fd, work.tag(number)),
                }
            }
            (Request::UnderWay { number, work }, fd) => {
                if fd.is_none() || work != incoming.work() {
                    incoming.request = Request::Ending { number, work };
                    ring.cancel(work.tag(number));
                }
            }
            (Request::None | Request::Ending { .. }, _) => {}
        }
    }

    /// Makes the ring poll the multiplexer and the waker.
    pub(super) fn watch_own(&mut self) {
        if !self.hears_bell
            && self.make_room()
            && let Some(ring) = &mut self.ring
        {
            ring.poll(self.inner.bell().number(), BELL, true);
            self.hears_bell = true;
        }
        if !self.polls_inner
            && !self.inner_ready
            && self.make_room()
            && let Some(ring) = &mut self.ring
        {
            ring.poll(self.inner.multiplexer(), INNER, false);
            self.polls_inner = true;
        }
    }

    /// Takes every completion that the kernel has. Returns how many there were.
    fn take_answers(&mut self) -> usize {
        let mut count = 0;
        loop {
            count += self.take_answers_in_reach();
            let Some(ring) = &mut self.ring else {
                return count;
            };
            if ring.has_lost_answers() {
                self.lose_ring();
                return count;
            }
            // The kernel keeps the rest until there is room, and delivers it when it is called.
            if !ring.has_overflown() || !ring.fetch_kept() {
                return count;
            }
        }
    }

    /// Takes the completions for which no system call is needed.
    pub(super) fn take_answers_in_reach(&mut self) -> usize {
        let mut answers = std::mem::take(&mut self.answers);
        if let Some(ring) = &mut self.ring {
            ring.answers(&mut answers);
        }
        let count = answers.len();
        for answer in answers.drain(..) {
            self.dispatch(answer);
        }
        self.answers = answers;
        count
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
            tag if (TRANSFERS..ACCEPTS).contains(&tag) => {
                if let Some(ended) = ring.transfers.end(tag - TRANSFERS, answer.result) {
                    self.early.push(ended.into());
                }
            }
            tag if (SENDS..TRANSFERS).contains(&tag) => {
                self.sends.answer(tag - SENDS, answer.result);
            }
            tag => {
                let number = tag as u32;
                let more = answer.more;
                let owner = self.requests.owner(number);
                if !more {
                    self.requests.end(number);
                }
                let incoming = owner.and_then(|id| Some((id, self.table.get_mut(id)?)));
                match incoming.filter(|(_, incoming)| incoming.request.number() == Some(number)) {
                    Some((id, incoming)) => {
                        if let Some(unused) = incoming.answered(answer, buffer, &mut ring.pool) {
                            ring.pool.give_back(unused);
                        }
                        if !more {
                            incoming.request = Request::None;
                        }
                        if (!more || incoming.is_far_ahead()) && incoming.touch() {
                            self.touched.push(id);
                        }
                        if incoming.has_unread() && !incoming.listed {
                            incoming.listed = true;
                            self.unread.push(id);
                        }
                    }
                    // It belongs to a resource that is closed, or to a socket that was released. A connection is
                    // closed with the answer.
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
