//! What comes in at one resource: how it is requested, and what has arrived but has not been taken.

use std::collections::VecDeque;
use std::io;

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Op};

use super::buffers::{BUFFER, BufferId, Pool};
use super::ring::Answer;

/// A take of this much had to be put together, and was worth a buffer larger than the pool's.
const MUCH: usize = BUFFER + 1;
/// After so many of them in a row the stream is polled, and received from directly.
const MUCH_BEFORE_POLLING: u8 = 2;
/// After so many takes in a row that one buffer of the pool would have held, it is not any longer.
const LITTLE_BEFORE_RECEIVING: u8 = 8;

/// What the embedder is told when something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Stream,
    Datagram,
    Listener,
}

/// Whose readiness to be read from the ring looks after.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) kind: Kind,
    /// By the embedder.
    pub(super) wanted: bool,
    /// The ring polls, and takes go to the system. Otherwise the kernel receives.
    pub(super) polled: bool,
    pub(super) request: Request,
    /// Listed for the next round of requests.
    pub(super) touched: bool,
    /// A send is among those of the next call.
    pub(super) sending: bool,
    /// It takes no send that must be whole: the kernel makes TLS of it.
    pub(super) by_itself: bool,
    /// Listed among those with something to take.
    pub(super) listed: bool,
    /// There may be something that only a take can find.
    pub(super) hint: bool,
    pub(super) end: End,
    /// Why a send has failed, if the next one or the end of the stream is to tell it.
    pub(super) failure: Option<i32>,
    pub(super) arrived: VecDeque<Piece>,
    /// Takes in a row that speak for the other way of receiving.
    habit: u8,
}

/// What the ring has been asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    None,
    /// The request with this number: a poll, or a receive.
    UnderWay {
        number: u32,
        polls: bool,
    },
    /// It has been cancelled, and has not ended yet.
    Ending {
        number: u32,
        polls: bool,
    },
}

/// Whether more will come, behind everything that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As far as is known.
    Open,
    Eof,
    /// With this error number.
    Error(i32),
    /// The end or the error has been taken.
    Taken,
}

/// Bytes that have arrived.
#[derive(Debug)]
pub(super) enum Piece {
    /// In a buffer of the pool.
    Pooled {
        buffer: BufferId,
        from: usize,
        to: usize,
    },
    /// Kept back for a stream that does not want them now, or copied from a ring that is no more.
    Owned { bytes: Box<[u8]>, from: usize },
}

impl Incoming {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            wanted: false,
            polled: kind != Kind::Stream,
            request: Request::None,
            touched: false,
            sending: false,
            by_itself: false,
            listed: false,
            hint: false,
            end: End::Open,
            failure: None,
            arrived: VecDeque::new(),
            habit: 0,
        }
    }

    /// Whether a take would find something, as far as is known.
    #[inline]
    pub(super) fn has_unread(&self) -> bool {
        self.hint || !self.arrived.is_empty() || self.end.is_to_be_taken()
    }

    /// Whether nothing has arrived that has not been taken: what there is, the system has.
    #[inline]
    pub(super) fn is_spent(&self) -> bool {
        self.arrived.is_empty() && !self.end.is_to_be_taken()
    }

    /// Whether the kernel is to receive or poll.
    pub(super) fn wants_request(&self) -> bool {
        self.wanted && !self.hint && self.end == End::Open
    }

    /// Whether something may come that the embedder wants to know.
    pub(super) fn is_read(&self) -> bool {
        self.wanted && self.end != End::Taken
    }

    /// What the embedder is told when the system calls the end a clean one. After a reset it does so, too,
    /// to whoever asks second: here that was a send, whose failure has been kept back.
    pub(super) fn clean_end(&mut self) -> io::Result<()> {
        let reset = self.failure.take_if(|failure| *failure == libc::ECONNRESET);
        reset.map_or(Ok(()), |number| Err(io::Error::from_raw_os_error(number)))
    }

    /// What a send of TCP is told that the system calls a broken pipe: the same the other way round. Unix
    /// sockets have no error but this one for a send.
    pub(super) fn send_error(&mut self, number: i32, is_tcp: bool) -> i32 {
        match self.end {
            End::Error(reset @ libc::ECONNRESET) if is_tcp && number == libc::EPIPE => {
                self.end = End::Eof;
                reset
            }
            _ => number,
        }
    }

    /// Takes the end or the error behind what has arrived, if it is known.
    pub(super) fn take_end(&mut self) -> Option<io::Result<()>> {
        let end = self.end.take()?;
        Some(end.and_then(|()| self.clean_end()))
    }

    /// True: it must be listed for the next round of requests.
    #[inline]
    pub(super) fn touch(&mut self) -> bool {
        !std::mem::replace(&mut self.touched, true)
    }

    /// What tells another driver that it is not asked for any more.
    pub(super) fn stop(&self, id: Id) -> Op<'static> {
        match self.kind {
            Kind::Listener => Op::AcceptStop(id),
            Kind::Stream | Kind::Datagram => Op::RecvStop(id),
        }
    }

    /// What asks another driver for the same.
    pub(super) fn start(&self, id: Id) -> Op<'static> {
        match self.kind {
            Kind::Listener => Op::AcceptStart(id),
            Kind::Stream | Kind::Datagram => Op::RecvStart(id),
        }
    }

    /// Notes an answer to its request. A buffer that holds nothing is given back.
    pub(super) fn answered(
        &mut self,
        answer: &Answer,
        buffer: Option<BufferId>,
        pool: &mut Pool,
    ) -> Option<BufferId> {
        if self.request.polls() {
            // What went wrong, a take will tell.
            self.hint |= answer.result != -libc::ECANCELED;
            return buffer;
        }
        match (answer.result, buffer) {
            (received @ 1.., Some(buffer)) => {
                let to = received as usize;
                self.arrived.push_back(Piece::Pooled {
                    buffer,
                    from: 0,
                    to,
                });
                return None;
            }
            (0.., _) => self.ends(End::Eof),
            (error, _) => match -error {
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                libc::ENOBUFS => {
                    pool.grow();
                    self.hint = true;
                }
                // Not this kind of socket.
                libc::EINVAL | libc::EOPNOTSUPP | libc::ENOTSOCK => self.polled = true,
                number => self.ends(End::Error(number)),
            },
        }
        buffer
    }

    /// Nothing more will come. The first to say so is right: an error is told once by the system, and
    /// looks like a clean end from then on.
    pub(super) fn ends(&mut self, end: End) {
        if self.end == End::Open {
            self.end = end;
        }
    }

    /// The system itself has told the end, or an error.
    pub(super) fn has_taken_end(&mut self) {
        // One that is told of another resource says nothing about what follows.
        if self.kind == Kind::Stream {
            self.end = End::Taken;
        }
    }

    pub(super) fn report(&self, id: Id) -> Completion {
        match self.kind {
            Kind::Stream => Completion::Readable(id),
            Kind::Datagram => Completion::Receivable(id),
            Kind::Listener => Completion::Acceptable(id),
        }
    }

    /// Notes how much one take got. True: the other way of receiving is better from here on.
    pub(super) fn has_taken(&mut self, length: usize) -> bool {
        let (speaks, enough) = if self.polled {
            (length < BUFFER, LITTLE_BEFORE_RECEIVING)
        } else {
            (length >= MUCH, MUCH_BEFORE_POLLING)
        };
        self.habit = if speaks { self.habit + 1 } else { 0 };
        let change = self.kind == Kind::Stream && self.habit >= enough;
        if change {
            self.habit = 0;
            self.polled = !self.polled;
        }
        change
    }

    /// Moves everything out of the pool.
    pub(super) fn keep(&mut self, pool: &mut Pool) {
        for piece in &mut self.arrived {
            if let Piece::Pooled { buffer, from, to } = *piece {
                *piece = Piece::Owned {
                    bytes: pool.bytes(buffer, to)[from..].into(),
                    from: 0,
                };
                pool.give_back(buffer);
            }
        }
    }

    /// Drops what has arrived.
    pub(super) fn forget(&mut self, pool: Option<&mut Pool>) {
        if let Some(pool) = pool {
            for piece in &self.arrived {
                if let Piece::Pooled { buffer, .. } = piece {
                    pool.give_back(*buffer);
                }
            }
        }
        self.arrived.clear();
    }

    /// Copies what has arrived to the beginning of `into`, as much as fits: how much, and whether
    /// more may wait in the system behind it.
    pub(super) fn copy(&mut self, pool: Option<&mut Pool>, into: &mut [u8]) -> (usize, bool) {
        let mut pool = pool;
        let (mut copied, mut more) = (0, false);
        while let Some(piece) = self.arrived.front_mut() {
            let room = &mut into[copied..];
            if room.is_empty() {
                return (copied, false);
            }
            let bytes = match (&*piece, pool.as_deref()) {
                (Piece::Owned { bytes, from }, _) => &bytes[*from..],
                (Piece::Pooled { buffer, from, to }, Some(pool)) => {
                    &pool.bytes(*buffer, *to)[*from..]
                }
                // Not without a ring: `keep` has been called.
                (Piece::Pooled { .. }, None) => &[],
            };
            let count = bytes.len().min(room.len());
            room[..count].copy_from_slice(&bytes[..count]);
            let all = count == bytes.len();
            copied += count;
            match piece {
                Piece::Pooled { from, .. } | Piece::Owned { from, .. } => *from += count,
            }
            if !all {
                return (copied, false);
            }
            if let Some(Piece::Pooled { buffer, to, .. }) = self.arrived.pop_front() {
                more = to == BUFFER;
                if let Some(pool) = pool.as_deref_mut() {
                    pool.give_back(buffer);
                }
            }
        }
        (copied, more && self.end == End::Open)
    }
}

impl Request {
    pub(super) fn number(self) -> Option<u32> {
        match self {
            Self::None => None,
            Self::UnderWay { number, .. } | Self::Ending { number, .. } => Some(number),
        }
    }

    fn polls(self) -> bool {
        matches!(
            self,
            Self::UnderWay { polls: true, .. } | Self::Ending { polls: true, .. }
        )
    }

    pub(super) fn receives(self) -> bool {
        self != Self::None && !self.polls()
    }
}

impl End {
    pub(super) fn of(error: &io::Error) -> Self {
        Self::Error(error.raw_os_error().unwrap_or(libc::EIO))
    }

    pub(super) fn is_to_be_taken(self) -> bool {
        matches!(self, Self::Eof | Self::Error(_))
    }

    /// Takes it, if there is one: once.
    fn take(&mut self) -> Option<io::Result<()>> {
        let outcome = match *self {
            Self::Open | Self::Taken => return None,
            Self::Eof => Ok(()),
            Self::Error(number) => Err(io::Error::from_raw_os_error(number)),
        };
        *self = Self::Taken;
        Some(outcome)
    }
}

/// All of them, by the driver's ids.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Option<(Id, Box<Incoming>)>>,
}

impl Table {
    pub(super) fn insert(&mut self, id: Id, incoming: Incoming) {
        if self.slots.len() <= id.index() {
            self.slots.resize_with(id.index() + 1, || None);
        }
        self.slots[id.index()] = Some((id, Box::new(incoming)));
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<Box<Incoming>> {
        let slot = self.slots.get_mut(id.index())?;
        slot.take_if(|(known, _)| *known == id)
            .map(|(_, incoming)| incoming)
    }

    #[inline]
    pub(super) fn get(&self, id: Id) -> Option<&Incoming> {
        match self.slots.get(id.index()) {
            Some(Some((known, incoming))) if *known == id => Some(incoming),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Incoming> {
        match self.slots.get_mut(id.index()) {
            Some(Some((known, incoming))) if *known == id => Some(incoming),
            _ => None,
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Id, &mut Incoming)> {
        self.slots
            .iter_mut()
            .flatten()
            .map(|(id, incoming)| (*id, &mut **incoming))
    }
}

/// The requests under way, by number: a number is used again once the kernel has given the last
/// answer, so that no late answer finds another's.
#[derive(Default)]
pub(super) struct Requests {
    owners: Vec<Id>,
    free: Vec<u32>,
}

impl Requests {
    pub(super) fn begin(&mut self, id: Id) -> u32 {
        if let Some(number) = self.free.pop() {
            self.owners[number as usize] = id;
            return number;
        }
        self.owners.push(id);
        u32::try_from(self.owners.len() - 1).expect("fewer than 2^32 requests")
    }

    pub(super) fn owner(&self, number: u32) -> Option<Id> {
        self.owners.get(number as usize).copied()
    }

    /// How many are or were under way at a time.
    pub(super) fn most(&self) -> usize {
        self.owners.len()
    }

    /// The last answer has come.
    pub(super) fn end(&mut self, number: u32) {
        self.free.push(number);
    }

    /// The ring is gone with all of them.
    pub(super) fn clear(&mut self) {
        self.owners.clear();
        self.free.clear();
    }
}
