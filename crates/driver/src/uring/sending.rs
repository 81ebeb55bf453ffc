//! The sends that leave with the next call of the ring, and what became of them.

use std::io;
use std::task::Poll;

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, MAX_BUFFERS, Op};

use super::incoming::{Kind, Table};
use super::ring::STAGED_AT_MOST;
use super::{SENDS, Uring};
use crate::Driver;
use crate::readiness::Epoll;

impl Uring {
    pub(super) fn finish_sends(&mut self, completions: &mut Vec<Completion>) {
        if self.sends.is_empty() {
            return;
        }
        if let Some(ring) = &mut self.ring
            && ring.is_submitted()
        {
            self.sends
                .finish(&mut self.table, &mut self.inner, completions);
        }
    }

    pub(super) fn send(
        &mut self,
        id: Id,
        bufs: &[io::IoSlice<'_>],
        soon: bool,
    ) -> Poll<Completion> {
        if let Some(stream) = self.table.get(id) {
            // One at a time, or they would overtake each other.
            if stream.sending || (soon && stream.kind == Kind::Stream && self.stage(id, bufs)) {
                return Poll::Pending;
            }
        }
        self.inner.submit(Op::Send { id, bufs })
    }

    /// Puts a send among those of the next call, if it is small. False: it was not.
    fn stage(&mut self, id: Id, bufs: &[io::IoSlice<'_>]) -> bool {
        let bufs = &bufs[..bufs.len().min(MAX_BUFFERS)];
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if length == 0 || length > STAGED_AT_MOST || !self.claim() {
            return false;
        }
        let Some(fd) = self.inner.sender(id) else {
            return false;
        };
        if let Some(ring) = &mut self.ring
            && !(ring.has_room() && ring.can_stage(length))
        {
            self.submit_now();
        }
        let (Some(ring), Some(stream)) = (&mut self.ring, self.table.get_mut(id)) else {
            return false;
        };
        if !(ring.has_room() && ring.can_stage(length)) {
            return false;
        }
        ring.send(fd, bufs, SENDS + self.sends.put(id, length));
        stream.sending = true;
        true
    }
}

#[derive(Default)]
pub(super) struct Sends(Vec<Staged>);

struct Staged {
    id: Id,
    length: usize,
    /// What the system has answered; it says nothing if it has taken everything.
    answer: Option<i32>,
}

impl Sends {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one: its place, by which it is answered.
    pub(super) fn put(&mut self, id: Id, length: usize) -> u64 {
        self.0.push(Staged {
            id,
            length,
            answer: None,
        });
        self.0.len() as u64 - 1
    }

    pub(super) fn answer(&mut self, place: u64, result: i32) {
        let staged = usize::try_from(place)
            .ok()
            .and_then(|place| self.0.get_mut(place));
        if let Some(staged) = staged {
            staged.answer = Some(result);
        }
    }

    /// All have been submitted, and so answered: tells what of them is to be told.
    pub(super) fn finish(
        &mut self,
        table: &mut Table,
        inner: &mut Epoll,
        completions: &mut Vec<Completion>,
    ) {
        for Staged { id, length, answer } in self.0.drain(..) {
            let Some(stream) = table.get_mut(id) else {
                continue;
            };
            stream.sending = false;
            let outcome = match answer.map_or(Ok(length), usize::try_from) {
                Ok(sent) => {
                    if sent < length {
                        inner.set_full(id);
                    }
                    Ok(sent)
                }
                Err(_) => {
                    let error = io::Error::from_raw_os_error(-answer.unwrap_or_default());
                    if error.kind() == io::ErrorKind::WouldBlock {
                        inner.await_sendable(id);
                        continue;
                    }
                    Err(error)
                }
            };
            completions.push(Completion::Sent(id, outcome));
        }
    }

    /// The ring is gone. What it has not submitted was not sent; what it has is answered already,
    /// because every call is followed by `finish`.
    pub(super) fn take_back(&mut self, table: &mut Table, completions: &mut Vec<Completion>) {
        for Staged { id, .. } in self.0.drain(..) {
            if let Some(stream) = table.get_mut(id) {
                stream.sending = false;
                completions.push(Completion::Sent(id, Ok(0)));
            }
        }
    }
}
