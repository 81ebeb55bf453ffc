//! Python's `selectors`, over any backend.
//!
//! What [the module](https://docs.python.org/3/library/selectors.html) promises and a bare
//! multiplexer does not: a map of keys, each with its data; hang-ups and errors reported as what
//! was asked for; an interrupted wait is empty; unregistering works after closing.
//!
//! Where CPython's own selectors differ among themselves, this one does what the epoll one does:
//! registering a closed descriptor fails at once with `EBADF`. And one closed descriptor does not
//! fail the wait for all others with select: it is reported, as with poll.
//!
//! A selector belongs to one thread. Neither layer closes what it watches. Unregister before
//! closing: the heads of the backends say what happens otherwise.

use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::slice;
use std::time::Duration;

use crate::backend::Backend;
use crate::event::Event;
use crate::interest::Interest;
use crate::key::{Key, Map};

/// Watches descriptors, each with an interest and with data of the user's.
pub struct Selector<B, D> {
    /// `None` after [`Selector::close`].
    open: Option<Open<B, D>>,
    /// What the last wait reported: kept to spare an allocation each wait.
    events: Vec<Event>,
}

struct Open<B, D> {
    backend: B,
    keys: Map<D>,
}

impl<B: Backend, D> Selector<B, D> {
    /// A new selector with nothing registered.
    ///
    /// # Errors
    /// Those of [`Backend::new`].
    pub fn new() -> io::Result<Self> {
        let open = Open {
            backend: B::new()?,
            keys: Map::new(),
        };
        Ok(Self {
            open: Some(open),
            events: Vec::new(),
        })
    }

    /// Starts watching a descriptor.
    ///
    /// # Errors
    /// [`SelectorError::NoInterest`] (Python: `ValueError`), [`SelectorError::Registered`]
    /// (`KeyError`), [`SelectorError::Closed`], and those of [`Backend::add`]; nothing is
    /// registered then.
    pub fn register(
        &mut self,
        fd: RawFd,
        interest: Interest,
        data: D,
    ) -> Result<&Key<D>, SelectorError> {
        let Open { backend, keys } = self.open()?;
        if interest.is_empty() {
            return Err(SelectorError::NoInterest);
        }
        if keys.get(fd).is_some() {
            return Err(SelectorError::Registered(fd));
        }
        backend.add(fd, keys.next_token(fd), interest)?;
        Ok(keys.insert(Key { fd, interest, data }))
    }

    /// Stops watching a descriptor, and gives its key back. It may have been closed already.
    ///
    /// # Errors
    /// [`SelectorError::NotRegistered`] (Python: `KeyError`), [`SelectorError::Closed`].
    pub fn unregister(&mut self, fd: RawFd) -> Result<Key<D>, SelectorError> {
        let Open { backend, keys } = self.open()?;
        let key = keys.remove(fd).ok_or(SelectorError::NotRegistered(fd))?;
        // It fails if the descriptor has been closed, or closed and reused: gone is gone.
        let _ = backend.delete(fd);
        Ok(key)
    }

    /// Replaces interest and data of a registered descriptor. No system call is made if the
    /// interest stays.
    ///
    /// # Errors
    /// [`SelectorError::NotRegistered`] (Python: `KeyError`), [`SelectorError::NoInterest`]
    /// (`ValueError`), [`SelectorError::Closed`], and those of [`Backend::modify`]; after one of
    /// these last the descriptor is not registered any more.
    pub fn modify(
        &mut self,
        fd: RawFd,
        interest: Interest,
        data: D,
    ) -> Result<&Key<D>, SelectorError> {
        let Open { backend, keys } = self.open()?;
        let token = keys.token(fd).ok_or(SelectorError::NotRegistered(fd))?;
        if interest.is_empty() {
            return Err(SelectorError::NoInterest);
        }
        let changed = keys.get(fd).is_some_and(|key| key.interest != interest);
        if changed && let Err(error) = backend.modify(fd, token, interest) {
            keys.remove(fd);
            return Err(error.into());
        }
        let key = keys
            .get_mut(fd)
            .expect("a token is only given for a registered descriptor");
        *key = Key { fd, interest, data };
        Ok(key)
    }

    /// Waits until something registered is ready or the time-out has passed: `None` waits for
    /// ever, zero polls, see [`timeout::from_secs`](crate::timeout::from_secs) for Python's
    /// seconds. Gives each ready key with what it is ready for, which is never more than was asked
    /// for and never empty. A wait that a signal interrupts is empty, and so, seldom, is one that
    /// ends because of a descriptor that was closed before it was unregistered.
    ///
    /// # Errors
    /// [`SelectorError::Closed`], and those of [`Backend::wait`].
    pub fn select(&mut self, timeout: Option<Duration>) -> Result<Ready<'_, D>, SelectorError> {
        let Open { backend, keys } = self.open.as_mut().ok_or(SelectorError::Closed)?;
        self.events.clear();
        backend.wait(timeout, &mut self.events)?;
        Ok(Ready {
            events: self.events.iter(),
            keys,
        })
    }

    /// The key of a registered descriptor.
    ///
    /// # Errors
    /// [`SelectorError::NotRegistered`] (Python: `KeyError`), [`SelectorError::Closed`]
    /// (`RuntimeError`).
    pub fn get_key(&self, fd: RawFd) -> Result<&Key<D>, SelectorError> {
        let keys = self.get_map().ok_or(SelectorError::Closed)?;
        keys.get(fd).ok_or(SelectorError::NotRegistered(fd))
    }

    /// The keys of all registered descriptors; `None` once the selector is closed.
    #[must_use]
    pub fn get_map(&self) -> Option<&Map<D>> {
        self.open.as_ref().map(|open| &open.keys)
    }

    /// The multiplexer beneath, for the descriptor that some of them have; `None` once the
    /// selector is closed.
    #[must_use]
    pub fn backend(&self) -> Option<&B> {
        self.open.as_ref().map(|open| &open.backend)
    }

    /// Frees the multiplexer and forgets all keys. Closing again does nothing.
    pub fn close(&mut self) {
        self.open = None;
    }

    fn open(&mut self) -> Result<&mut Open<B, D>, SelectorError> {
        self.open.as_mut().ok_or(SelectorError::Closed)
    }
}

/// What [`Selector::select`] found: keys, each with what it is ready for.
pub struct Ready<'a, D> {
    events: slice::Iter<'a, Event>,
    keys: &'a Map<D>,
}

impl<'a, D> Iterator for Ready<'a, D> {
    type Item = (&'a Key<D>, Interest);

    fn next(&mut self) -> Option<Self::Item> {
        self.events.find_map(|event| {
            let key = self.keys.find(event.token)?;
            Some((key, event.readiness.answers(key.interest)))
        })
    }
}

/// Why a selector refused.
#[derive(Debug)]
pub enum SelectorError {
    /// The selector has been closed.
    Closed,
    /// Nothing was asked for.
    NoInterest,
    /// The descriptor is registered already.
    Registered(RawFd),
    /// The descriptor is not registered.
    NotRegistered(RawFd),
    /// The system refused.
    System(io::Error),
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the selector is closed"),
            Self::NoInterest => f.write_str("a descriptor is watched for reading, writing or both"),
            Self::Registered(fd) => write!(f, "file descriptor {fd} is already registered"),
            Self::NotRegistered(fd) => write!(f, "file descriptor {fd} is not registered"),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl Error for SelectorError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::System(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for SelectorError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}
