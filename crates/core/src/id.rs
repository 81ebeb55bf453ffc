//! Names for things that come and go: an index that is reused, and a generation that is not.
//!
//! A late event for a closed descriptor carries an [`Id`] whose generation has passed, and finds
//! nothing. That keeps one connection's bytes from reaching another that got the same descriptor
//! number or slot.
//!
//! An arena belongs to one thread, the owner of what it holds.

/// The name of one entry of an [`Arena`], for as long as the entry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    index: u32,
    generation: u32,
}

impl Id {
    /// One word that holds the whole id, for a kernel's user data.
    #[must_use]
    #[inline]
    pub const fn to_u64(self) -> u64 {
        ((self.generation as u64) << 32) | self.index as u64
    }

    /// The inverse of [`Id::to_u64`].
    #[must_use]
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the two halves are taken apart"
    )]
    pub const fn from_u64(word: u64) -> Self {
        Self {
            index: word as u32,
            generation: (word >> 32) as u32,
        }
    }

    /// Where the entry stands: small, and reused after the entry is gone.
    #[must_use]
    #[inline]
    pub const fn index(self) -> usize {
        self.index as usize
    }
}

/// A vector of entries that are found by [`Id`]; insertion and removal are O(1), slots are reused.
#[derive(Debug)]
pub struct Arena<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    len: usize,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Arena<T> {
    /// An empty arena.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many entries there are.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry.
    ///
    /// # Panics
    /// With more than `u32::MAX` entries alive.
    #[inline]
    pub fn insert(&mut self, value: T) -> Id {
        self.len += 1;
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.value = Some(value);
            return Id {
                index,
                generation: slot.generation,
            };
        }
        let index = u32::try_from(self.slots.len()).expect("fewer than 2^32 entries");
        self.slots.push(Slot {
            generation: 0,
            value: Some(value),
        });
        Id {
            index,
            generation: 0,
        }
    }

    /// The entry, unless it has been removed.
    #[must_use]
    #[inline]
    pub fn get(&self, id: Id) -> Option<&T> {
        let slot = self.slots.get(id.index())?;
        if slot.generation != id.generation {
            return None;
        }
        slot.value.as_ref()
    }

    /// The entry to change, unless it has been removed.
    #[inline]
    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.index())?;
        if slot.generation != id.generation {
            return None;
        }
        slot.value.as_mut()
    }

    /// Takes the entry out; its id is dead from here on.
    #[inline]
    pub fn remove(&mut self, id: Id) -> Option<T> {
        let slot = self.slots.get_mut(id.index())?;
        if slot.generation != id.generation {
            return None;
        }
        let value = slot.value.take()?;
        self.len -= 1;
        // A slot that has used up its generations is never given out again: an id stays unique
        // for as long as the program runs, at the price of one slot per 2^32 reuses.
        if let Some(generation) = slot.generation.checked_add(1) {
            slot.generation = generation;
            self.free.push(id.index);
        }
        Some(value)
    }

    /// Every entry with its id, in no promised order.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "insert keeps indices below 2^32"
            )]
            let id = Id {
                index: index as u32,
                generation: slot.generation,
            };
            slot.value.as_ref().map(|value| (id, value))
        })
    }

    /// Takes every entry out, in no promised order; all ids given so far are dead from here on.
    pub fn take_all(&mut self) -> Vec<T> {
        let ids: Vec<Id> = self.iter().map(|(id, _)| id).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_without_generations_left_is_retired() {
        let mut arena = Arena::new();
        let first = arena.insert('a');
        arena.remove(first);
        arena.slots[0].generation = u32::MAX;
        let last = arena.insert('b');
        assert_eq!(
            (last.index(), last.to_u64()),
            (0, u64::from(u32::MAX) << 32)
        );
        assert_eq!(arena.remove(last), Some('b'));
        let next = arena.insert('c');
        assert_eq!(next.index(), 1);
        assert_eq!(arena.get(last), None);
        assert_eq!(arena.remove(last), None);
        assert_eq!((arena.get(next), arena.len()), (Some(&'c'), 1));
    }
}
