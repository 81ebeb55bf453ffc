//! The sends that are submitted with the ring's next call, and their results.
//!
//! A send is staged first: copied, and kept here. It becomes a request of the ring only just before
//! a call. Until then it can be taken back, and no descriptor number is left in the ring.
//!
//! A peer that goes away may have said why. So a stream that is read reports something to read
//! before it reports room to write. The same holds when a staged send fails, because the program
//! may have asked for it before the peer went. That failure is kept back: the next send reports it.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::RawFd;
use std::task::Poll;

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, MAX_BUFFERS, Op};

use super::Uring;
use super::incoming::{Kind, Table};
use super::ring::{Ring, STAGED_AT_MOST, Staged};
use super::tag::SENDS;
use crate::Driver;
use crate::readiness::Epoll;

impl Uring {
    pub(super) fn finish_sends(&mut self) {
        if self.sends.is_empty() {
            return;
        }
        if let Some(ring) = &mut self.ring {
            self.sends
                .finish(ring, &mut self.table, &mut self.inner, &mut self.early);
        }
    }

    /// Pushes the staged sends to the ring, as far as it has room. Returns true if that is all of them.
    pub(super) fn push_sends(&mut self) -> bool {
        match &mut self.ring {
            Some(ring) => self.sends.push(ring),
            None => true,
        }
    }

    pub(super) fn send(
        &mut self,
        id: Id,
        bufs: &[io::IoSlice<'_>],
        soon: bool,
    ) -> Poll<Completion> {
        if self.table.get(id).is_some_and(|stream| stream.sending) {
            // This send must not overtake the staged one, and only after that is it known whether
            // there is room. The staged one's completion is still reported by the wait.
            self.submit_all();
        }
        if let Some(stream) = self.table.get_mut(id) {
            if let Some(failure) = stream.failure.take() {
                let error = io::Error::from_raw_os_error(failure);
                return Poll::Ready(Completion::Sent(id, Err(error)));
            }
            let may_wait = soon && stream.kind == Kind::Stream && !stream.by_itself;
            if may_wait && self.stage(id, bufs) {
                return Poll::Pending;
            }
        }
        let mut answer = self.inner.submit(Op::Send { id, bufs });
        if let Poll::Ready(Completion::Sent(_, Err(error))) = &mut answer
            && let Some(number) = error.raw_os_error()
            && let Some(stream) = self.table.get_mut(id)
        {
            let number = stream.send_error(number, self.inner.is_tcp_stream(id));
            *error = io::Error::from_raw_os_error(number);
        }
        answer
    }

    /// Reports room to send. What there is to read must be reported first, and possibly only the system knows of it.
    pub(super) fn tell_room(&self, id: Id, completions: &mut Vec<Completion>) {
        if let Some(stream) = self.table.get(id)
            && stream.kind == Kind::Stream
            && stream.is_read()
            && !stream.listed
        {
            completions.push(stream.report(id));
        }
        completions.push(Completion::Sendable(id));
    }

    /// Lets failed sends be tried again, after a report of what there is to read.
    pub(super) fn retry_failed(&mut self, completions: &mut Vec<Completion>) {
        let mut failed = mem::take(&mut self.sends.failed);
        for id in failed.drain(..) {
            if self.table.get(id).is_some() {
                self.tell_room(id, completions);
            }
        }
        self.sends.failed = failed;
    }

    /// Stages a send for the next call if it is small. Returns false if it was not staged.
    fn stage(&mut self, id: Id, bufs: &[io::IoSlice<'_>]) -> bool {
        let bufs = &bufs[..bufs.len().min(MAX_BUFFERS)];
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if length == 0 || length > STAGED_AT_MOST || !self.claim() {
            return false;
        }
        let Some(fd) = self.inner.sender(id) else {
            return false;
        };
        if self
            .ring
            .as_ref()
            .is_some_and(|ring| !ring.can_stage(length))
        {
            self.submit_now();
        }
        let (Some(ring), Some(stream)) = (&mut self.ring, self.table.get_mut(id)) else {
            return false;
        };
        if !ring.can_stage(length) {
            return false;
        }
        self.sends.put(id, fd, ring.stage(bufs));
        stream.sending = true;
        true
    }
}

/// The sends, in the order in which they were asked for.
#[derive(Default)]
pub(super) struct Sends {
    queue: VecDeque<Send>,
    /// How many of them, from the front, are requests of the ring.
    pushed: usize,
    /// The number of the first, which its completion carries. No number is used twice.
    first: u64,
    /// Streams whose send error is kept back.
    failed: Vec<Id>,
}

struct Send {
    id: Id,
    fd: RawFd,
    staged: Staged,
    /// The position among the ring's requests, once it is one.
    place: u64,
    /// The system's result; there is none if it has taken everything.
    answer: Option<i32>,
}

/// A position that no request has, and that is beyond all requests.
const NOWHERE: u64 = u64::MAX / 2;

impl Sends {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn have_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    fn put(&mut self, id: Id, fd: RawFd, staged: Staged) {
        self.queue.push_back(Send {
            id,
            fd,
            staged,
            place: NOWHERE,
            answer: None,
        });
    }

    /// See [`Uring::push_sends`].
    fn push(&mut self, ring: &mut Ring) -> bool {
        while let Some(send) = self.queue.get_mut(self.pushed) {
            if !ring.has_room() {
                return false;
            }
            let tag = SENDS + self.first + self.pushed as u64;
            send.place = ring.send(send.fd, send.staged, tag);
            self.pushed += 1;
        }
        true
    }

    /// Takes back sends that have not been pushed to the ring.
    pub(super) fn forget(&mut self, id: Id) {
        let pushed = self.pushed;
        let mut at = 0;
        self.queue.retain(|send| {
            at += 1;
            at <= pushed || send.id != id
        });
    }

    pub(super) fn answer(&mut self, number: u64, result: i32) {
        let send = number
            .checked_sub(self.first)
            .and_then(|at| self.queue.get_mut(usize::try_from(at).ok()?));
        if let Some(send) = send {
            send.answer = Some(result);
        }
    }

    /// Reports the results of the sends that have been submitted.
    fn finish(
        &mut self,
        ring: &mut Ring,
        table: &mut Table,
        inner: &mut Epoll,
        completions: &mut Vec<Completion>,
    ) {
        if ring.has_overflown() {
            // Some completions are still to come.
            return;
        }
        let pushed = self.queue.iter().take(self.pushed);
        let count = pushed
            .take_while(|send| ring.has_submitted(send.place))
            .count();
        self.pushed -= count;
        self.first += count as u64;
        for send in self.queue.drain(..count) {
            send.tell(table, inner, completions, &mut self.failed);
        }
        if self.queue.is_empty() {
            ring.clear_stage();
        }
    }

    /// The ring is being given up. The results of what it has submitted are reported, and the rest
    /// is sent without it. In a forked child it counts as sent, because the parent sends it. With
    /// `unknown`, completions are missing.
    pub(super) fn take_back(
        &mut self,
        ring: &mut Ring,
        unknown: bool,
        table: &mut Table,
        inner: &mut Epoll,
        completions: &mut Vec<Completion>,
    ) {
        let ours = ring.is_of_this_process();
        self.first += self.queue.len() as u64;
        self.pushed = 0;
        for mut send in self.queue.drain(..) {
            if !ours || ring.has_submitted(send.place) {
                if unknown && send.answer.is_none() {
                    send.answer = Some(-libc::ENOBUFS);
                }
                send.tell(table, inner, completions, &mut self.failed);
                continue;
            }
            let Some(stream) = table.get_mut(send.id) else {
                continue;
            };
            stream.sending = false;
            let bufs = [io::IoSlice::new(ring.staged(send.staged))];
            if let Poll::Ready(completion) = inner.submit(Op::Send {
                id: send.id,
                bufs: &bufs,
            }) {
                completions.push(completion);
            }
        }
    }
}

impl Send {
    fn tell(
        self,
        table: &mut Table,
        inner: &mut Epoll,
        completions: &mut Vec<Completion>,
        failed: &mut Vec<Id>,
    ) {
        let Some(stream) = table.get_mut(self.id) else {
            return;
        };
        stream.sending = false;
        let (id, length) = (self.id, self.staged.len());
        let outcome = match self.answer.map_or(Ok(length), usize::try_from) {
            Ok(sent) => {
                if sent < length {
                    inner.set_full(id);
                }
                Ok(sent)
            }
            Err(_) => {
                let number = -self.answer.unwrap_or_default();
                if matches!(number, libc::EPIPE | libc::ECONNRESET) && stream.is_read() {
                    stream.failure = Some(number);
                    failed.push(id);
                    return;
                }
                let number = stream.send_error(number, inner.is_tcp_stream(id));
                let error = io::Error::from_raw_os_error(number);
                // kTLS does not support MSG_WAITALL (tls_sw_sendmsg in net/tls/tls_sw.c).
                if error.raw_os_error() == Some(libc::EOPNOTSUPP) && !stream.by_itself {
                    stream.by_itself = true;
                    inner.await_sendable(id);
                    return;
                }
                if error.kind() == io::ErrorKind::WouldBlock {
                    inner.await_sendable(id);
                    return;
                }
                Err(error)
            }
        };
        completions.push(Completion::Sent(id, outcome));
    }
}
