//! The mutable fields of a native class: one at a time looks at them, and no Python code runs
//! meanwhile.
//!
//! PyO3's own cell counts borrows with atomic instructions, 20 cycles each, in every build; taking
//! and releasing a lock costs ten. Where the GIL keeps other threads out, an ordinary flag is
//! enough.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::PyClass;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;

/// The cell.
pub(crate) struct Fields<T> {
    flag: Flag,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through a `Held` only, of which there is one at a time, on whatever thread:
// the flag sees to that. So it is sent from thread to thread, never shared.
unsafe impl<T: Send> Sync for Fields<T> {}

/// A class whose fields are in such a cell.
pub(crate) trait HasFields: PyClass<Frozen = True> + Sync {
    type Fields;

    fn fields(&self) -> &Fields<Self::Fields>;
}

/// Says so of a class whose field `fields` it is.
macro_rules! has_fields {
    ($class:ty, $fields:ty) => {
        impl crate::fields::HasFields for $class {
            type Fields = $fields;

            #[inline]
            fn fields(&self) -> &crate::fields::Fields<$fields> {
                &self.fields
            }
        }
    };
}

pub(crate) use has_fields;

/// The fields of an object, until this is dropped: before any Python code runs and any Python object is dropped.
///
/// # Panics
/// When they are held already, on this thread or, with a GIL, on another one.
#[inline]
pub(crate) fn hold<'a, 'py, T: HasFields>(object: &'a Bound<'py, T>) -> Held<'a, 'py, T::Fields> {
    object.get().fields().hold(object.py())
}

/// See [`hold`].
pub(crate) struct Held<'a, 'py, T> {
    fields: &'a Fields<T>,
    /// It cannot outlive the attachment, nor change the thread.
    attached: PhantomData<Python<'py>>,
}

impl<T> Fields<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            flag: Flag(AtomicBool::new(false)),
            value: UnsafeCell::new(value),
        }
    }

    /// As [`hold`], of a cell that stands alone.
    ///
    /// # Panics
    /// As [`hold`].
    #[inline]
    pub(crate) fn hold<'py>(&self, _attached: Python<'py>) -> Held<'_, 'py, T> {
        self.flag.take();
        Held {
            fields: self,
            attached: PhantomData,
        }
    }

    /// Shows them to the cycle collector. What is held just now is not shown: then the collector takes it for
    /// something that others refer to.
    ///
    /// # Errors
    /// Those of `visit`.
    pub(crate) fn traverse(
        &self,
        visit: &PyVisit<'_>,
        show: impl FnOnce(&T, &PyVisit<'_>) -> Result<(), PyTraverseError>,
    ) -> Result<(), PyTraverseError> {
        if self.flag.is_taken() {
            return Ok(());
        }
        // SAFETY: there is a `PyVisit`, so that the collector runs: on the thread that has the GIL, or while all
        // others are stopped. None of them holds the fields, and the collector's functions do not.
        show(unsafe { &*self.value.get() }, visit)
    }
}

impl<T> Deref for Held<'_, '_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this is the only `Held` of the cell.
        unsafe { &*self.fields.value.get() }
    }
}

impl<T> DerefMut for Held<'_, '_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and it is borrowed exclusively.
        unsafe { &mut *self.fields.value.get() }
    }
}

impl<T> Drop for Held<'_, '_, T> {
    #[inline]
    fn drop(&mut self) {
        self.fields.flag.give_back();
    }
}

/// Whether somebody holds the fields.
struct Flag(AtomicBool);

impl Flag {
    /// Read and written by who has the GIL only, which orders that: then an ordinary byte does.
    #[cfg(not(Py_GIL_DISABLED))]
    #[inline]
    fn take(&self) {
        assert!(!self.is_taken(), "the fields of an object are held already");
        self.0.store(true, Ordering::Relaxed);
    }

    /// Threads run at once: who comes second waits, which is never long.
    #[cfg(Py_GIL_DISABLED)]
    #[inline]
    fn take(&self) {
        while self.0.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
    }

    #[inline]
    fn give_back(&self) {
        self.0.store(false, Ordering::Release);
    }

    #[inline]
    fn is_taken(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
