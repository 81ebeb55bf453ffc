//! What the driver knows of one descriptor, and who holds which number.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use oxlip_core::id::Id;
use oxlip_core::op::Interest;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Stream,
    Datagram,
    Listener,
    Watch,
}

impl Kind {
    #[inline]
    pub(super) fn receives(self) -> bool {
        matches!(self, Self::Stream | Self::Datagram)
    }

    #[inline]
    pub(super) fn accepts(self) -> bool {
        self == Self::Listener
    }
}

/// One descriptor: what is wanted of it, what the backend has been told, and what is known already.
#[derive(Debug)]
pub(super) struct Resource {
    source: Source,
    kind: Kind,
    /// By the embedder: reading (or accepting), and writing while a send is pending.
    wanted: Interest,
    /// As the backend has it.
    pub(super) armed: Interest,
    /// Listed for the next round of changes.
    changed: bool,
    connecting: bool,
    /// The kernel took less than it was given: no room until it says otherwise.
    full: bool,
    /// The end of the stream or an error has been taken: nothing more will come.
    received_all: bool,
}

impl Resource {
    pub(super) fn new(source: Source, kind: Kind) -> Self {
        Self {
            source,
            kind,
            wanted: Interest::NONE,
            armed: Interest::NONE,
            changed: false,
            connecting: false,
            full: false,
            received_all: false,
        }
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

    #[inline]
    pub(super) fn stream(&self) -> io::Result<BorrowedFd<'_>> {
        match self.kind {
            Kind::Stream => self.owned(),
            Kind::Datagram | Kind::Listener | Kind::Watch => {
                Err(io::ErrorKind::InvalidInput.into())
            }
        }
    }

    pub(super) fn listener(&self) -> io::Result<BorrowedFd<'_>> {
        match self.kind {
            Kind::Listener => self.owned(),
            Kind::Stream | Kind::Datagram | Kind::Watch => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    pub(super) fn into_source(self) -> Source {
        self.source
    }

    /// The number has gone to another: never close it.
    pub(super) fn lose(&mut self) {
        if let Source::Owned(fd) = std::mem::replace(&mut self.source, Source::Lost) {
            let _ = fd.into_raw_fd();
        }
    }

    // The methods below that return a bool say whether the resource must be listed as changed.

    /// Adds to or takes from what is wanted.
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
        self.connecting = true;
        self.list()
    }

    pub(super) fn end_connecting(&mut self) -> bool {
        self.connecting = false;
        self.list()
    }

    #[inline]
    pub(super) fn end_sending(&mut self) -> bool {
        self.full = false;
        self.want(Interest::WRITE, false)
    }

    pub(super) fn end_receiving(&mut self) -> bool {
        self.received_all = true;
        self.list()
    }

    /// The backend has been replaced and knows nothing.
    pub(super) fn disarm(&mut self) -> bool {
        self.armed = Interest::NONE;
        self.list()
    }

    #[inline]
    fn list(&mut self) -> bool {
        !std::mem::replace(&mut self.changed, true)
    }

    /// What the backend shall watch for from now on; no longer listed as changed.
    pub(super) fn settle(&mut self) -> Interest {
        self.changed = false;
        if self.connecting {
            Interest::WRITE
        } else if self.received_all {
            self.wanted.without(Interest::READ)
        } else {
            self.wanted
        }
    }

    pub(super) fn is_armed(&self) -> bool {
        !self.armed.is_none()
    }

    #[inline]
    pub(super) fn is_connecting(&self) -> bool {
        self.connecting
    }

    #[inline]
    pub(super) fn is_sending(&self) -> bool {
        self.wanted.writes()
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    #[inline]
    pub(super) fn set_full(&mut self, full: bool) {
        self.full = full;
    }
}

/// What an operation on a descriptor gives whose number has gone to another.
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

    /// Puts a new holder, and gives the one before.
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
    fn a_connecting_stream_waits_for_writing_only() {
        let mut stream = Resource::new(Source::Lost, Kind::Stream);
        stream.want(Interest::READ, true);
        stream.begin_connecting();
        assert_eq!(stream.settle(), Interest::WRITE);
        stream.end_connecting();
        assert_eq!(stream.settle(), Interest::READ);
    }
}
