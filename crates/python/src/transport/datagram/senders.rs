//! Who has sent something lately, with the address as Python shows it: to make such a tuple for each datagram, and to
//! read it again for the answer, would be a tenth of what an echo costs.
//!
//! A part of the loop's state, and used under its borrow.

use std::collections::HashMap;

use oxlip_core::address::Address;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

/// With so many remembered, the next one begins anew.
const MOST: usize = 256;

#[derive(Default)]
pub(super) struct Senders {
    known: Vec<(Address, Py<PyAny>)>,
    /// Where each is in `known`.
    places: HashMap<Address, usize>,
    latest: usize,
}

impl Senders {
    /// What Python shows for this sender, which is the latest one from now on.
    #[inline]
    pub(super) fn find(&mut self, address: &Address) -> Option<&Py<PyAny>> {
        if self.known.get(self.latest)?.0 != *address {
            self.latest = *self.places.get(address)?;
        }
        Some(&self.known[self.latest].1)
    }

    /// Remembers one that is new, as the latest. Those that are forgotten are tuples of text and numbers, or text, so
    /// dropping them runs no Python code.
    pub(super) fn remember(&mut self, address: Address, shown: Py<PyAny>) {
        if self.known.len() == MOST {
            self.known.clear();
            self.places.clear();
        }
        self.latest = self.known.len();
        self.places.insert(address.clone(), self.latest);
        self.known.push((address, shown));
    }

    /// The address that this object stands for, if it is what Python shows for the latest sender.
    #[inline]
    pub(super) fn address_of(&self, shown: &Bound<'_, PyAny>) -> Option<&Address> {
        let (address, latest) = self.known.get(self.latest)?;
        latest.is(shown).then_some(address)
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.known
            .iter()
            .try_for_each(|(_, shown)| visit.call(shown))
    }
}
