//! The incoming side of one resource: how data are requested, and what has arrived but has not been taken.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Op};

use super::arrived::{Arrived, Piece};
use super::buffers::{BUFFER, BufferId, Pool};
use super::ring::Answer;
use super::tag::{ACCEPTS, Tag};

/// A take of at least this much had to be assembled from several buffers, and is worth a buffer larger than the
/// pool's.
const MUCH: usize = BUFFER + 1;
/// After so many large takes in a row the stream is polled, and received from directly.
const MUCH_BEFORE_POLLING: u8 = 2;
/// A receive that is new to the kernel begins with at most so many pieces, and then waits to be woken. If it finds
/// more at that moment, it takes them too, but does not look for an end or an error behind them any more, although
/// nothing will wake it for one that has come before (`MULTISHOT_MAX_RETRY` and `io_recv_finish` in io_uring/net.c, Linux
/// 6.18).
const PIECES_BEFORE_THE_END: usize = 33;
/// With so many connections that nobody has asked for, the ring stops accepting.
const AHEAD: usize = 128;
/// After so many takes in a row that would have fitted into one buffer of the pool, it is no longer polled.
const LITTLE_BEFORE_RECEIVING: u8 = 8;

/// Determines what the embedder is told when something has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Stream,
    Datagram,
    Listener {
        /// Connections may be accepted before they are asked for.
        ahead: bool,
    },
}

/// What the ring is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// To tell when there is something.
    Poll,
    Receive,
    Accept,
}

/// A resource for which the ring handles reading.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) kind: Kind,
    /// Whether the embedder wants to read.
    pub(super) wanted: bool,
    /// The ring polls, and takes go to the system. Otherwise the kernel receives or accepts.
    pub(super) polled: bool,
    pub(super) request: Request,
    /// Listed for the next round of requests.
    pub(super) touched: bool,
    /// A send is staged for the next call.
    pub(super) sending: bool,
    /// It accepts no send that must be complete, because the kernel encrypts what is sent (kTLS).
    pub(super) by_itself: bool,
    /// Listed among the resources with something to take.
    pub(super) listed: bool,
    /// There may be something that only a take can find.
    pub(super) hint: bool,
    /// An end or an error may follow what has arrived, which the kernel will not report.
    pub(super) ask_behind: bool,
    pub(super) end: End,
    /// The error of a failed send, if the next send or the end of the stream is to report it.
    pub(super) failure: Option<i32>,
    pub(super) arrived: Arrived,
    /// Connections that have been accepted, and not asked for yet.
    pub(super) callers: VecDeque<OwnedFd>,
    /// The number of takes in a row for which the other way of receiving would be better.
    habit: u8,
}

/// The state of the ring's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    None,
    /// The request with this number is in flight.
    UnderWay {
        number: u32,
        work: Work,
    },
    /// It has been cancelled, and has not ended yet.
    Ending {
        number: u32,
        work: Work,
    },
}

/// Whether more follows after everything that has arrived.
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

impl Incoming {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            wanted: false,
            polled: !matches!(kind, Kind::Stream | Kind::Listener { ahead: true }),
            request: Request::None,
            touched: false,
            sending: false,
            by_itself: false,
            listed: false,
            hint: false,
            ask_behind: false,
            end: End::Open,
            failure: None,
            arrived: Arrived::default(),
            callers: VecDeque::new(),
            habit: 0,
        }
    }

    /// Whether a take would find something, as far as is known.
    #[inline]
    pub(super) fn has_unread(&self) -> bool {
        self.hint
            || !self.arrived.is_empty()
            || self.end.is_to_be_taken()
            || !self.callers.is_empty()
    }

    /// Whether everything that has arrived has been taken: anything else is still in the system.
    #[inline]
    pub(super) fn is_spent(&self) -> bool {
        self.arrived.is_empty() && !self.end.is_to_be_taken()
    }

    /// What the ring is to do for it.
    pub(super) fn work(&self) -> Work {
        match self.kind {
            _ if self.polled => Work::Poll,
            Kind::Stream | Kind::Datagram => Work::Receive,
            Kind::Listener { .. } => Work::Accept,
        }
    }

    /// Whether the ring is to do it now.
    pub(super) fn wants_request(&self) -> bool {
        let room = match self.request {
            Request::UnderWay { .. } => !self.is_far_ahead(),
            Request::None | Request::Ending { .. } => self.callers.is_empty(),
        };
        self.wanted && !self.hint && self.end == End::Open && room
    }

    /// Whether so many connections have been accepted ahead that the others are left to the system, until these are
    /// asked for.
    pub(super) fn is_far_ahead(&self) -> bool {
        self.callers.len() >= AHEAD
    }

    /// Whether something may arrive that the embedder wants to know about.
    pub(super) fn is_read(&self) -> bool {
        self.wanted && self.end != End::Taken
    }

    /// What the embedder is told when the system reports a clean end. After a reset the system reports the error once
    /// and a clean end from then on; here the first one was reported to a send, whose failure has been kept back.
    pub(super) fn clean_end(&mut self) -> io::Result<()> {
        let reset = self.failure.take_if(|failure| *failure == libc::ECONNRESET);
        reset.map_or(Ok(()), |number| Err(io::Error::from_raw_os_error(number)))
    }

    /// The error for a TCP send for which the system reports a broken pipe: the same the other way round. Unix
    /// sockets have only this error for a send.
    pub(super) fn send_error(&self, number: i32, is_tcp: bool) -> i32 {
        match self.end {
            End::Error(reset @ libc::ECONNRESET) if is_tcp && number == libc::EPIPE => reset,
            _ => number,
        }
    }

    /// Takes the end or the error that follows what has arrived, if it is known.
    pub(super) fn take_end(&mut self) -> Option<io::Result<()>> {
        let end = self.end.take()?;
        Some(end.and_then(|()| self.clean_end()))
    }

    /// Returns true if it must be listed for the next round of requests.
    #[inline]
    pub(super) fn touch(&mut self) -> bool {
        !std::mem::replace(&mut self.touched, true)
    }

    /// The op that tells another driver to stop.
    pub(super) fn stop(&self, id: Id) -> Op<'static> {
        match self.kind {
            Kind::Listener { .. } => Op::AcceptStop(id),
            Kind::Stream | Kind::Datagram => Op::RecvStop(id),
        }
    }

    /// The op that asks another driver for the same.
    pub(super) fn start(&self, id: Id) -> Op<'static> {
        match self.kind {
            Kind::Listener { .. } => Op::AcceptStart(id),
            Kind::Stream | Kind::Datagram => Op::RecvStart(id),
        }
    }

    /// Notes a completion of its request. A buffer that holds nothing is given back.
    pub(super) fn answered(
        &mut self,
        answer: Answer,
        buffer: Option<BufferId>,
        pool: &mut Pool,
    ) -> Option<BufferId> {
        match self.request.work() {
            Some(Work::Receive) => {}
            Some(Work::Accept) => {
                self.accepted(answer);
                return buffer;
            }
            Some(Work::Poll) | None => {
                // A take will report what went wrong.
                self.hint |= answer.result != -libc::ECANCELED;
                return buffer;
            }
        }
        match (answer.result, buffer) {
            (received @ 1.., Some(buffer)) => {
                self.arrived.push(Piece::Pooled {
                    buffer,
                    from: 0,
                    to: received.unsigned_abs(),
                });
                self.ask_behind |= self.arrived.count() >= PIECES_BEFORE_THE_END;
                return None;
            }
            (0.., _) => self.ends(End::Eof),
            (error, _) => match -error {
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                libc::ENOBUFS => {
                    pool.grow();
                    self.hint = true;
                }
                // Such a receive is not possible on this kind of socket.
                libc::EINVAL | libc::EOPNOTSUPP | libc::ENOTSOCK => self.polled = true,
                number => self.ends(End::Error(number)),
            },
        }
        buffer
    }

    fn accepted(&mut self, answer: Answer) {
        match answer.connection {
            Some(connection) => self.callers.push_back(connection),
            // Descriptors have run out, for instance. The poll will tell whether anybody waits, and accept(2) what is
            // wrong.
            None => self.polled |= answer.result != -libc::ECANCELED,
        }
    }

    /// Others may accept from this listener from here on. Returns true if it must be listed for the next round of
    /// requests.
    pub(super) fn share(&mut self) -> bool {
        let Kind::Listener { ahead } = &mut self.kind else {
            return false;
        };
        *ahead = false;
        self.polled = true;
        self.touch()
    }

    /// Notes that nothing more will arrive. The first report is the right one: the system reports
    /// an error once, and a clean end from then on.
    pub(super) fn ends(&mut self, end: End) {
        if self.end == End::Open {
            self.end = end;
        }
    }

    /// The system was asked directly; `more`: it had data, of which the ring had not heard, and the end may be behind
    /// those.
    pub(super) fn has_asked(&mut self, more: bool) {
        self.ask_behind &= more;
    }

    /// A direct receive has returned the end, or an error.
    pub(super) fn has_taken_end(&mut self) {
        // For other kinds of resources it says nothing about what follows.
        if self.kind == Kind::Stream {
            self.end = End::Taken;
        }
    }

    pub(super) fn report(&self, id: Id) -> Completion {
        match self.kind {
            Kind::Stream => Completion::Readable(id),
            Kind::Datagram => Completion::Receivable(id),
            Kind::Listener { .. } => Completion::Acceptable(id),
        }
    }

    /// Notes how much one take got. Returns true if the other way of receiving is better from here on.
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
        for piece in self.arrived.iter_mut() {
            if let Piece::Pooled { buffer, from, to } = *piece {
                *piece = Piece::Owned {
                    bytes: pool.bytes(buffer, from..to).into(),
                    from: 0,
                };
                pool.give_back(buffer);
            }
        }
    }

    /// Drops what has arrived.
    pub(super) fn forget(&mut self, pool: Option<&mut Pool>) {
        if let Some(pool) = pool {
            for piece in self.arrived.iter() {
                if let Piece::Pooled { buffer, .. } = piece {
                    pool.give_back(*buffer);
                }
            }
        }
        self.arrived.clear();
    }

    /// Copies as much of what has arrived as fits to the beginning of `into`. Returns how much, and
    /// whether the system may have more, or an end, of which the ring says nothing.
    pub(super) fn copy(&mut self, pool: Option<&mut Pool>, into: &mut [u8]) -> (usize, bool) {
        let mut pool = pool;
        let (mut copied, mut more) = (0, false);
        while let Some(piece) = self.arrived.first_mut() {
            let room = &mut into[copied..];
            if room.is_empty() {
                return (copied, false);
            }
            let bytes = match (&*piece, pool.as_deref()) {
                (Piece::Owned { bytes, from }, _) => &bytes[*from as usize..],
                (Piece::Pooled { buffer, from, to }, Some(pool)) => pool.bytes(*buffer, *from..*to),
                // Impossible without a ring: `keep` has been called.
                (Piece::Pooled { .. }, None) => &[],
            };
            let count = bytes.len().min(room.len());
            room[..count].copy_from_slice(&bytes[..count]);
            let all = count == bytes.len();
            copied += count;
            match piece {
                // No more than a buffer holds.
                Piece::Pooled { from, .. } | Piece::Owned { from, .. } => *from += count as u32,
            }
            if !all {
                return (copied, false);
            }
            if let Some(Piece::Pooled { buffer, to, .. }) = self.arrived.pop() {
                more = to as usize == BUFFER;
                if let Some(pool) = pool.as_deref_mut() {
                    pool.give_back(buffer);
                }
            }
        }
        more |= self.ask_behind;
        (copied, more && self.end == End::Open)
    }
}

impl Kind {
    pub(super) fn accepts(self) -> bool {
        matches!(self, Self::Listener { .. })
    }
}

impl Work {
    /// By which the ring knows the request of that number.
    pub(super) fn tag(self, number: u32) -> Tag {
        let number = Tag::from(number);
        match self {
            Self::Accept => ACCEPTS + number,
            Self::Poll | Self::Receive => number,
        }
    }
}

impl Request {
    pub(super) fn number(self) -> Option<u32> {
        match self {
            Self::None => None,
            Self::UnderWay { number, .. } | Self::Ending { number, .. } => Some(number),
        }
    }

    pub(super) fn work(self) -> Option<Work> {
        match self {
            Self::None => None,
            Self::UnderWay { work, .. } | Self::Ending { work, .. } => Some(work),
        }
    }

    pub(super) fn tag(self) -> Option<Tag> {
        match self {
            Self::None => None,
            Self::UnderWay { number, work } | Self::Ending { number, work } => {
                Some(work.tag(number))
            }
        }
    }
}

impl End {
    pub(super) fn of(error: &io::Error) -> Self {
        Self::Error(error.raw_os_error().unwrap_or(libc::EIO))
    }

    pub(super) fn is_to_be_taken(self) -> bool {
        matches!(self, Self::Eof | Self::Error(_))
    }

    /// Takes the end or the error, if there is one. It can be taken once.
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

/// All such resources, by the driver's ids.
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

/// The requests in flight, by number. A number is reused only after the kernel's last completion,
/// so that no late completion is taken for another request's.
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

    /// The most that are or were in flight at a time.
    pub(super) fn most(&self) -> usize {
        self.owners.len()
    }

    /// The last completion has arrived.
    pub(super) fn end(&mut self, number: u32) {
        self.free.push(number);
    }

    /// The ring is gone, and all requests with it.
    pub(super) fn clear(&mut self) {
        self.owners.clear();
        self.free.clear();
    }
}
