//! Taking what a stream has received: first what the ring has put into its pool, then what the
//! system still holds.

use std::io;
use std::mem::MaybeUninit;

use oxlip_core::id::Id;

use super::Uring;
use super::arrived::Piece;
use super::buffers::BUFFER;
use super::incoming::{End, Incoming, Request};
use crate::{Driver as _, Received, Taken};

/// The most that a take gets.
const LARGE: usize = 256 * 1024;

impl Uring {
    #[inline]
    pub(super) fn give_back(&mut self) {
        if let Some(lent) = self.lent.take()
            && let Some(ring) = &mut self.ring
        {
            ring.pool.give_back(lent);
        }
    }

    /// The hint is being followed; another request will tell whether there is more.
    #[inline]
    pub(super) fn follow_hint(touched: &mut Vec<Id>, id: Id, incoming: &mut Incoming) {
        incoming.hint = false;
        if incoming.request == Request::None && incoming.touch() {
            touched.push(id);
        }
    }

    #[inline]
    pub(super) fn receive(&mut self, id: Id) -> io::Result<Received<'_>> {
        self.give_back();
        let Some(incoming) = self.table.get_mut(id) else {
            return self.inner.take(id);
        };
        Self::follow_hint(&mut self.touched, id, incoming);
        match incoming.arrived.first() {
            None => {
                if let Some(end) = incoming.take_end() {
                    self.inner.end_receiving(id);
                    return end.map(|()| Received::Eof);
                }
                let outcome = self.inner.take(id);
                incoming.has_asked(matches!(outcome, Ok(Received::Data(_))));
                match &outcome {
                    Ok(Received::Data(data)) => {
                        incoming.has_taken(data.len());
                    }
                    Ok(Received::Nothing) => {}
                    Ok(Received::Eof) => {
                        incoming.has_taken_end();
                        incoming.clean_end()?;
                    }
                    Err(_) => incoming.has_taken_end(),
                }
                return outcome;
            }
            Some(&Piece::Pooled { buffer, from, to })
                if (to as usize) < BUFFER
                    && incoming.arrived.only().is_some()
                    && !incoming.ask_behind
                    && self.ring.is_some() =>
            {
                incoming.arrived.pop();
                incoming.has_taken((to - from) as usize);
                self.lent = Some(buffer);
                let ring = self.ring.as_ref().expect("asked for just now");
                return Ok(Received::Data(ring.pool.bytes(buffer, from..to)));
            }
            Some(_) => {}
        }
        // There are several pieces, or one that more may follow.
        if self.large.is_empty() {
            self.large = vec![0; LARGE];
        }
        let mut large = std::mem::take(&mut self.large);
        let taken = self.receive_into(id, &mut large);
        self.large = large;
        Ok(match taken? {
            None => Received::Nothing,
            Some(0) => Received::Eof,
            Some(count) => Received::Data(&self.large[..count]),
        })
    }

    #[inline]
    pub(super) fn receive_or_fill(
        &mut self,
        id: Id,
        room: &mut [MaybeUninit<u8>],
    ) -> io::Result<Taken<'_>> {
        // What the ring has received is lent.
        match self.table.get(id) {
            None => return self.inner.take_or_fill(id, room),
            Some(incoming) if !incoming.is_spent() => return self.receive(id).map(Taken::Lent),
            Some(_) => {}
        }
        self.give_back();
        let outcome = self.inner.take_or_fill(id, room);
        if let Some(incoming) = self.table.get_mut(id) {
            Self::follow_hint(&mut self.touched, id, incoming);
            incoming.has_asked(matches!(
                outcome,
                Ok(Taken::Filled(_) | Taken::Lent(Received::Data(_)))
            ));
            match &outcome {
                Ok(Taken::Filled(count)) => {
                    incoming.has_taken(*count);
                }
                Ok(Taken::Lent(Received::Eof)) => {
                    incoming.has_taken_end();
                    incoming.clean_end()?;
                }
                Err(_) => incoming.has_taken_end(),
                Ok(Taken::Lent(_)) => {}
            }
        }
        outcome
    }

    #[inline]
    pub(super) fn receive_into(&mut self, id: Id, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.give_back();
        let Some(incoming) = self.table.get_mut(id) else {
            return self.inner.take_into(id, buffer);
        };
        if buffer.is_empty() {
            return Ok(Some(0));
        }
        Self::follow_hint(&mut self.touched, id, incoming);
        let pool = self.ring.as_mut().map(|ring| &mut ring.pool);
        let (mut count, more) = incoming.copy(pool, buffer);
        if count > 0 {
            if more && count == buffer.len() {
                incoming.hint = true;
            } else if more {
                let behind = self.inner.take_into(id, &mut buffer[count..]);
                incoming.has_asked(matches!(behind, Ok(Some(1..))));
                match behind {
                    Ok(None) => {}
                    // The end is kept for the next take, because the system may not report it again.
                    Ok(Some(0)) => incoming.ends(End::Eof),
                    Ok(Some(behind)) => count += behind,
                    Err(error) => incoming.ends(End::of(&error)),
                }
            }
            if (incoming.hint || incoming.end.is_to_be_taken()) && !incoming.listed {
                incoming.listed = true;
                self.unread.push(id);
            }
            if incoming.has_taken(count) && incoming.touch() {
                self.touched.push(id);
            }
            return Ok(Some(count));
        }
        if let Some(end) = incoming.take_end() {
            self.inner.end_receiving(id);
            return end.map(|()| Some(0));
        }
        let outcome = self.inner.take_into(id, buffer);
        incoming.has_asked(matches!(outcome, Ok(Some(1..))));
        match outcome {
            Ok(Some(0)) => {
                incoming.has_taken_end();
                incoming.clean_end()?;
            }
            Err(_) => incoming.has_taken_end(),
            Ok(Some(count)) => {
                incoming.has_taken(count);
            }
            Ok(None) => {}
        }
        outcome
    }
}
