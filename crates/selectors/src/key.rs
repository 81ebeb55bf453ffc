//! What a selector knows about a descriptor, and how it finds it.
//!
//! Descriptors are small numbers that the system hands out lowest first, so the keys stand in a
//! vector by number. Events name a key by number *and* registration: an event of a registration
//! that is over finds nothing, even if the number has been registered again.

use std::os::fd::RawFd;

use crate::interest::Interest;

/// One registered descriptor. Python's `SelectorKey`, without the file object: keep that in `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<D> {
    /// Its number.
    pub fd: RawFd,
    /// What it is watched for. Never empty.
    pub interest: Interest,
    /// What it was registered with.
    pub data: D,
}

/// The keys of one selector, by number.
#[derive(Debug)]
pub struct Map<D> {
    /// By number. As long as the highest number that was ever registered.
    slots: Vec<Option<Slot<D>>>,
    len: usize,
    registrations: u32,
}

#[derive(Debug)]
struct Slot<D> {
    registration: u32,
    key: Key<D>,
}

impl<D> Map<D> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            len: 0,
            registrations: 0,
        }
    }

    /// How many descriptors are registered.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The key of a descriptor, if it is registered.
    #[must_use]
    pub fn get(&self, fd: RawFd) -> Option<&Key<D>> {
        Some(&self.slot(fd)?.key)
    }

    /// Every key, in ascending order of the descriptors.
    pub fn iter(&self) -> impl Iterator<Item = &Key<D>> {
        self.slots.iter().flatten().map(|slot| &slot.key)
    }

    /// The token of a registration to come, of a descriptor that is not registered.
    pub(crate) const fn next_token(&self, fd: RawFd) -> u64 {
        token(fd, self.registrations)
    }

    /// The token of the registration of a descriptor.
    pub(crate) fn token(&self, fd: RawFd) -> Option<u64> {
        Some(token(fd, self.slot(fd)?.registration))
    }

    /// The key that an event is for, unless that registration is over.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the two halves are taken apart"
    )]
    pub(crate) fn find(&self, token: u64) -> Option<&Key<D>> {
        let slot = self.slot((token as u32).cast_signed())?;
        (slot.registration == (token >> 32) as u32).then_some(&slot.key)
    }

    pub(crate) fn get_mut(&mut self, fd: RawFd) -> Option<&mut Key<D>> {
        let slot = self.slots.get_mut(usize::try_from(fd).ok()?)?.as_mut()?;
        Some(&mut slot.key)
    }

    /// Adds the key of an open descriptor that is not registered, under the token promised by
    /// [`Map::next_token`].
    pub(crate) fn insert(&mut self, key: Key<D>) -> &Key<D> {
        let index = usize::try_from(key.fd).expect("an open descriptor's number is not negative");
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        let registration = self.registrations;
        self.registrations = registration.wrapping_add(1);
        self.len += 1;
        &self.slots[index].insert(Slot { registration, key }).key
    }

    pub(crate) fn remove(&mut self, fd: RawFd) -> Option<Key<D>> {
        let slot = self.slots.get_mut(usize::try_from(fd).ok()?)?.take()?;
        self.len -= 1;
        Some(slot.key)
    }

    fn slot(&self, fd: RawFd) -> Option<&Slot<D>> {
        self.slots.get(usize::try_from(fd).ok()?)?.as_ref()
    }
}

const fn token(fd: RawFd, registration: u32) -> u64 {
    (registration as u64) << 32 | fd.cast_unsigned() as u64
}
