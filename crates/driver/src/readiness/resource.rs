//! What the driver knows about each descriptor, and which resource holds which number.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use oxlip_core::id::Id;
use oxlip_core::op::Interest;
use rustix::io::Errno;

use super::joining::Joining;
use crate::Received;

/// Where a resource's descriptor is.
#[derive(Debug)]
pub(super) enum Source {
    /// Ours: closed with the resource.
    Owned(OwnedFd),
    /// Somebody else's, who may have closed it.
    Borrowed(RawFd),
    /// Closed by others, and the number now belongs to another resource.
    Lost,
}

/// How bytes move.
#[derive(Clone, Copy, Debug)]
pub(super) enum Channel<'a> {
    /// By recv(2) and send(2).
    Socket(BorrowedFd<'a>),
    /// By read(2) and write(2). The descriptor is non-blocking.
    Pipe(BorrowedFd<'a>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Stream,
    /// A byte stream on which recv(2) and send(2) do not work.
    Pipe,
    Datagram,
    Listener,
    Watch,
    /// The driver's own (`room.rs`): a socket that is connected where a datagram finds no room.
    Room,
    /// The driver's own: it ticks while there are such sockets.
    Clock,
}

impl Kind {
    /// Whether bytes go through it.
    #[inline]
    pub(super) fn carries_bytes(self) -> bool {
        matches!(self, Self::Stream | Self::Pipe)
    }

    /// Whether bytes or datagrams are received.
    #[inline]
    pub(super) fn receives(self) -> bool {
        matches!(self, Self::Stream | Self::Pipe | Self::Datagram)
    }

    #[inline]
    pub(super) fn accepts(self) -> bool {
        self == Self::Listener
    }
}

/// One descriptor: what is wanted of it, what the backend has been told, and what is already known.
#[derive(Debug)]
pub(super) struct Resource {
    source: Source,
    kind: Kind,
    /// What the embedder wants: reading (or accepting), and writing while a send is pending.
    wanted: Interest,
    /// As the backend has it.
    pub(super) armed: Interest,
    facts: Facts,
    unread: Unread,
    /// For a UDP socket: whether the kernel joins what arrives.
    pub(super) joining: Joining,
}

/// Facts, one bit each, to save memory: there may be many idle streams.
#[derive(Clone, Copy, Debug)]
struct Facts(u8);

impl Facts {
    const CONNECTING: u8 = 1;
    /// The kernel took less than it was given: no room until it says otherwise.
    const FULL: u8 = 2;
    /// The end of the stream or an error has been taken: nothing more will come.
    const RECEIVED_ALL: u8 = 4;
    /// Listed for the next round of changes.
    const CHANGED: u8 = 8;
    /// It is known whether the kernel cuts a joined message of this UDP socket, …
    const CUTTING_KNOWN: u8 = 16;
    /// … and it does.
    const CUTTING: u8 = 32;
    /// The same bit for a listener: its connections are TCP.
    const GIVES_TCP: u8 = 16;
    /// The same bit for a stream: a send was told that the peer has reset the connection.
    const RESET: u8 = 16;
    /// Watched for one report.
    const ONCE: u8 = 64;
    /// Watched only to end a sleep; its readiness is not reported.
    const ONLY_WAKES: u8 = 128;

    #[inline]
    fn has(self, fact: u8) -> bool {
        self.0 & fact != 0
    }

    #[inline]
    fn set(&mut self, fact: u8, so: bool) {
        self.0 = if so { self.0 | fact } else { self.0 & !fact };
    }
}

/// What an edge-triggered backend has reported about reading, and will not report again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unread {
    /// It is watched level-triggered: the backend knows.
    Unknown,
    /// Nothing that has not been taken.
    Nothing,
    /// Something; a short read has taken all of it.
    UntilShort,
    /// Something, and an end, an error or urgent data, at which a read stops short: only a read
    /// that would block shows that everything is taken.
    UntilBlocked,
}

impl Resource {
    pub(super) fn new(source: Source, kind: Kind) -> Self {
        Self {
            source,
            kind,
            wanted: Interest::NONE,
            armed: Interest::NONE,
            facts: Facts(0),
            unread: Unread::Unknown,
            joining: Joining::new(),
        }
    }

    /// As [`Resource::new`], watched for changes only.
    pub(super) fn with_edges(mut self) -> Self {
        self.unread = Unread::Nothing;
        self
    }

    #[inline]
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The descriptor's number, unless another resource has it.
    pub(super) fn number(&self) -> Option<RawFd> {
        match &self.source {
            Source::Owned(fd) => Some(fd.as_raw_fd()),
            Source::Borrowed(number) => Some(*number),
            Source::Lost => None,
        }
    }

    /// The descriptor, if it is ours.
    #[inline]
    pub(super) fn owned(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.source {
            Source::Owned(fd) => Ok(fd.as_fd()),
            Source::Borrowed(_) => Err(io::ErrorKind::InvalidInput.into()),
            Source::Lost => Err(lost()),
        }
    }

    /// The descriptor through which bytes move, and how.
    #[inline]
    pub(super) fn channel(&self) -> io::Result<Channel<'_>> {
        match self.kind {
            Kind::Stream => self.owned().map(Channel::Socket),
            Kind::Pipe => self.owned().map(Channel::Pipe),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    pub(super) fn listener(&self) -> io::Result<BorrowedFd<'_>> {
        match self.kind {
            Kind::Listener => self.owned(),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    pub(super) fn into_source(self) -> Source {
        self.source
    }

    /// The number has gone to another resource, so it must never be closed.
    pub(super) fn lose(&mut self) {
        if let Source::Owned(fd) = std::mem::replace(&mut self.source, Source::Lost) {
            let _ = fd.into_raw_fd();
        }
    }

    // The methods below that return a bool say whether the resource must be listed as changed.

    /// Changes what is wanted.
    #[inline]
    pub(super) fn want(&mut self, interest: Interest, wanted: bool) -> bool {
        self.want_exactly(if wanted {
            self.wanted | interest
        } else {
            self.wanted.without(interest)
        })
    }

    #[inline]
    pub(super) fn want_exactly(&mut self, interest: Interest) -> bool {
        self.wanted = interest;
        self.list()
    }

    pub(super) fn begin_connecting(&mut self) -> bool {
        self.facts.set(Facts::CONNECTING, true);
        // Whatever a receive has reported before.
        self.facts.set(Facts::RECEIVED_ALL, false);
        self.list()
    }

    pub(super) fn end_connecting(&mut self) -> bool {
        self.facts.set(Facts::CONNECTING, false);
        self.list()
    }

    #[inline]
    pub(super) fn end_sending(&mut self) -> bool {
        self.facts.set(Facts::FULL, false);
        self.want(Interest::WRITE, false)
    }

    pub(super) fn end_receiving(&mut self) -> bool {
        self.facts.set(Facts::RECEIVED_ALL, true);
        self.forget_unread();
        self.list()
    }

    /// A send has failed. The system reports a reset once, and a clean end to a read after that.
    #[cold]
    pub(super) fn has_failed(&mut self, error: &io::Error) {
        if self.kind == Kind::Stream && error.kind() == io::ErrorKind::ConnectionReset {
            self.facts.set(Facts::RESET, true);
        }
    }

    /// What the embedder is told when the system reports a clean end.
    pub(super) fn clean_end(&self) -> io::Result<()> {
        if self.kind == Kind::Stream && self.facts.has(Facts::RESET) {
            return Err(Errno::CONNRESET.into());
        }
        Ok(())
    }

    /// Sets whether it is watched for one report, from the next arming on.
    pub(super) fn set_once(&mut self, once: bool) {
        self.facts.set(Facts::ONCE, once);
    }

    pub(super) fn is_once(&self) -> bool {
        self.facts.has(Facts::ONCE)
    }

    /// The one report has been made. `by_backend`: the backend reports nothing more, though the descriptor stays
    /// registered.
    pub(super) fn has_reported(&mut self, by_backend: bool) -> bool {
        self.wanted = Interest::NONE;
        !by_backend && self.list()
    }

    pub(super) fn set_only_wakes(&mut self) {
        self.facts.set(Facts::ONLY_WAKES, true);
    }

    pub(super) fn only_wakes(&self) -> bool {
        self.facts.has(Facts::ONLY_WAKES)
    }

    /// The backend has been replaced and knows nothing.
    pub(super) fn disarm(&mut self) -> bool {
        self.rearmed(Interest::NONE);
        self.list()
    }

    #[inline]
    fn list(&mut self) -> bool {
        let listed = self.facts.has(Facts::CHANGED);
        self.facts.set(Facts::CHANGED, true);
        !listed
    }

    /// What the backend is to watch for from now on. The resource is no longer listed as changed.
    pub(super) fn settle(&mut self) -> Interest {
        self.facts.set(Facts::CHANGED, false);
        self.wanted()
    }

    /// What the backend is to watch for.
    pub(super) fn wanted(&self) -> Interest {
        if self.facts.has(Facts::CONNECTING) {
            Interest::WRITE
        } else if self.facts.has(Facts::RECEIVED_ALL) {
            self.wanted.without(Interest::READ)
        } else {
            self.wanted
        }
    }

    #[inline]
    pub(super) fn has_edges(&self) -> bool {
        self.unread != Unread::Unknown
    }

    /// The backend has reported that reading would not block. Returns false if that is known and
    /// was already reported in this wait.
    #[inline]
    pub(super) fn has_unread(&mut self, short_read_is_all: bool) -> bool {
        let before = self.unread;
        self.unread = match before {
            Unread::Unknown => return true,
            Unread::UntilBlocked => before,
            _ if short_read_is_all => Unread::UntilShort,
            _ => Unread::UntilBlocked,
        };
        before == Unread::Nothing
    }

    /// One read of at most `asked` bytes has had this `outcome`. Returns whether the backend has to be told that
    /// nothing more is wanted.
    #[inline(always)]
    pub(super) fn has_taken(&mut self, outcome: &io::Result<Received<'_>>, asked: usize) -> bool {
        match outcome {
            Ok(Received::Data(data)) => self.has_read(Some(data.len()), asked),
            Ok(Received::Nothing) => self.has_read(None, asked),
            Ok(Received::Eof) | Err(_) => return self.end_receiving(),
        }
        false
    }

    /// A read returned `received` of `asked` bytes, or (`None`) would have blocked.
    #[inline]
    pub(super) fn has_read(&mut self, received: Option<usize>, asked: usize) {
        let all = match (self.unread, received) {
            (Unread::Unknown | Unread::Nothing, _) | (Unread::UntilBlocked, Some(_)) => false,
            (Unread::UntilShort | Unread::UntilBlocked, None) => true,
            (Unread::UntilShort, Some(received)) => received < asked,
        };
        if all {
            self.forget_unread();
        }
    }

    /// Whether there is something to read that is wanted and that the backend will not report
    /// again.
    #[inline]
    pub(super) fn owes_a_report(&self) -> bool {
        matches!(self.unread, Unread::UntilShort | Unread::UntilBlocked)
            && self.armed.reads()
            && self.wanted.reads()
    }

    #[inline]
    fn forget_unread(&mut self) {
        if self.has_edges() {
            self.unread = Unread::Nothing;
        }
    }

    /// The backend has been told again what to watch for, so it also reports again.
    pub(super) fn rearmed(&mut self, armed: Interest) {
        self.armed = armed;
        self.forget_unread();
    }

    pub(super) fn is_armed(&self) -> bool {
        !self.armed.is_none()
    }

    #[inline]
    pub(super) fn is_connecting(&self) -> bool {
        self.facts.has(Facts::CONNECTING)
    }

    #[inline]
    pub(super) fn is_sending(&self) -> bool {
        self.wanted.writes()
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.facts.has(Facts::FULL)
    }

    #[inline]
    pub(super) fn set_full(&mut self, full: bool) {
        self.facts.set(Facts::FULL, full);
    }

    /// Whether the connections of this listener are TCP.
    pub(super) fn gives_tcp(&self) -> bool {
        self.kind == Kind::Listener && self.facts.has(Facts::GIVES_TCP)
    }

    pub(super) fn set_gives_tcp(&mut self, gives: bool) {
        self.facts.set(Facts::GIVES_TCP, gives);
    }

    /// Whether the kernel splits a joined message of this UDP socket, if that is known.
    pub(super) fn cutting(&self) -> Option<bool> {
        let known = self.facts.has(Facts::CUTTING_KNOWN);
        known.then(|| self.facts.has(Facts::CUTTING))
    }

    pub(super) fn set_cutting(&mut self, cuts: bool) {
        self.facts.set(Facts::CUTTING_KNOWN, true);
        self.facts.set(Facts::CUTTING, cuts);
    }
}

/// The error of an operation on a descriptor whose number has gone to another resource.
pub(super) fn lost() -> io::Error {
    rustix::io::Errno::BADF.into()
}

/// The holder of each descriptor number: numbers are small and dense, so this is an array.
#[derive(Debug, Default)]
pub(super) struct Holders(Vec<Option<Id>>);

impl Holders {
    pub(super) fn get(&self, number: RawFd) -> Option<Id> {
        self.0.get(index(number)?).copied().flatten()
    }

    /// Whether the array is large enough for a number.
    pub(super) fn reaches(&self, number: RawFd) -> bool {
        index(number).is_none_or(|index| index < self.0.len())
    }

    /// Sets a new holder, and returns the previous one.
    pub(super) fn put(&mut self, number: RawFd, id: Id) -> Option<Id> {
        let index = index(number)?;
        if index >= self.0.len() {
            self.0.resize(index + 1, None);
        }
        self.0[index].replace(id)
    }

    pub(super) fn clear(&mut self, number: RawFd, id: Id) {
        let holder = index(number).and_then(|index| self.0.get_mut(index));
        if let Some(holder) = holder.filter(|holder| **holder == Some(id)) {
            *holder = None;
        }
    }
}

fn index(number: RawFd) -> Option<usize> {
    usize::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_stream_is_small() {
        assert!(size_of::<Resource>() <= 16, "{}", size_of::<Resource>());
    }

    #[test]
    fn interest_is_listed_once_and_settles_to_the_last_word() {
        let mut stream = Resource::new(Source::Lost, Kind::Stream);
        assert!(stream.want(Interest::READ, true));
        assert!(!stream.want(Interest::READ, false));
        assert!(!stream.want(Interest::READ, true));
        assert_eq!(stream.settle(), Interest::READ);
        assert!(stream.want(Interest::WRITE, true));
        assert_eq!(stream.settle(), Interest::BOTH);
        assert!(stream.end_receiving());
        assert_eq!(stream.settle(), Interest::WRITE);
    }

    #[test]
    fn what_an_edge_has_told_is_owed_until_it_is_taken() {
        let mut stream = Resource::new(Source::Lost, Kind::Stream).with_edges();
        stream.want(Interest::READ, true);
        stream.rearmed(Interest::READ);
        assert!(!stream.owes_a_report());
        assert!(stream.has_unread(true));
        assert!(!stream.has_unread(true) && stream.owes_a_report());
        stream.has_read(Some(10), 10);
        assert!(stream.owes_a_report());
        stream.has_read(Some(9), 10);
        assert!(!stream.owes_a_report());

        assert!(stream.has_unread(false));
        stream.has_read(Some(9), 10);
        assert!(stream.owes_a_report());
        stream.want(Interest::READ, false);
        assert!(!stream.owes_a_report());
        stream.want(Interest::READ, true);
        stream.has_read(None, 10);
        assert!(!stream.owes_a_report());

        assert!(stream.has_unread(true));
        stream.rearmed(Interest::BOTH);
        assert!(!stream.owes_a_report());
    }

    #[test]
    fn a_connecting_stream_waits_for_writing_only() {
        let mut stream = Resource::new(Source::Lost, Kind::Stream);
        stream.want(Interest::READ, true);
        stream.begin_connecting();
        assert_eq!(stream.settle(), Interest::WRITE);
        stream.end_connecting();
        assert_eq!(stream.settle(), Interest::READ);
    }
}
