//! A cell that one thread at a time owns, checked once per access.
//!
//! A running loop belongs to the thread that runs it. A loop that is not running belongs to whoever
//! calls it, for the duration of the call. Both are one atomic word: the token of the owner.
//! Nothing here depends on the GIL, so free-threaded interpreters get the same guarantee: two
//! threads never see the value at once.
//!
//! The cell also enforces that no Python code runs while the value is borrowed: a nested access is
//! a bug in this crate, and panics.

use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A value that only its owner thread may touch.
pub(crate) struct ThreadBound<T> {
    owner: AtomicUsize,
    /// How many guards the owner has.
    guards: Cell<usize>,
    borrowed: Cell<bool>,
    value: UnsafeCell<T>,
}

// SAFETY: all but `owner` is touched only by the thread whose token that holds; taking and releasing
// ownership synchronise through Acquire and Release on `owner`.
unsafe impl<T: Send> Sync for ThreadBound<T> {}

/// The value belongs to another thread at the moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WrongThread;

/// Ownership for longer than one access: while a loop runs. It ends with the last of the thread's guards, which need
/// not be the first: a program may change stacks (greenlets).
pub(crate) struct Ownership<'a, T> {
    cell: &'a ThreadBound<T>,
    /// The guard stays on the thread that owns.
    _not_send: PhantomData<*const ()>,
}

impl<T> Ownership<'_, T> {
    /// As [`ThreadBound::with`], without asking which thread this is.
    #[inline(always)]
    pub(crate) fn with<R>(&self, access: impl FnOnce(&mut T) -> R) -> R {
        self.cell.with_owned(access)
    }
}

impl<T> Drop for Ownership<'_, T> {
    fn drop(&mut self) {
        let left = self.cell.guards.get() - 1;
        self.cell.guards.set(left);
        if left == 0 {
            self.cell.owner.store(UNOWNED, Ordering::Release);
        }
    }
}

const UNOWNED: usize = 0;
/// No thread has this token: an address that nothing is at.
const FORSAKEN: usize = usize::MAX;

/// A number that no other living thread has: its thread pointer, of which x86-64 Linux keeps a copy
/// where it points to (System V ABI, "Thread-Local Storage": `%fs:0`). In a shared library one
/// instruction instead of a call of `__tls_get_addr`, several times for each operation.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[inline(always)]
pub(crate) fn thread_token() -> usize {
    let token: usize;
    // SAFETY: reads the word that the ABI gives every thread; nothing else is touched.
    unsafe {
        std::arch::asm!(
            "mov {}, qword ptr fs:[0]",
            out(reg) token,
            options(nostack, preserves_flags, readonly, pure),
        );
    }
    token
}

/// A number that no other living thread has: the address of a thread-local.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
#[inline]
pub(crate) fn thread_token() -> usize {
    thread_local!(static TOKEN: u8 = const { 0 });
    TOKEN.with(|token| std::ptr::from_ref(token) as usize)
}

impl<T> ThreadBound<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            owner: AtomicUsize::new(UNOWNED),
            guards: Cell::new(0),
            borrowed: Cell::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Makes the calling thread the owner until the guard is dropped.
    pub(crate) fn own(&self) -> Result<Ownership<'_, T>, WrongThread> {
        let me = thread_token();
        // Looked at first: an exchange that fails costs as much as one that does not.
        match self.owner.load(Ordering::Relaxed) {
            UNOWNED => {
                self.owner
                    .compare_exchange(UNOWNED, me, Ordering::Acquire, Ordering::Relaxed)
                    .map_err(|_| WrongThread)?;
            }
            owner if owner == me => {}
            _ => return Err(WrongThread),
        }
        self.guards.set(self.guards.get() + 1);
        Ok(Ownership {
            cell: self,
            _not_send: PhantomData,
        })
    }

    /// Whether another thread owns the value at the moment.
    pub(crate) fn is_elsewhere(&self) -> bool {
        let owner = self.owner.load(Ordering::Relaxed);
        owner != UNOWNED && owner != thread_token()
    }

    /// For a forked child, where the owner is a thread that the fork has left behind, perhaps in
    /// the middle of an access: nobody touches the value any more, whatever token a new thread has.
    pub(crate) fn forsake(&self) {
        self.owner.store(FORSAKEN, Ordering::Relaxed);
    }

    /// Runs `access` on the value. `access` must not run Python code, which includes dropping the
    /// last reference to an object: return such objects instead.
    #[inline(always)]
    pub(crate) fn with<R>(&self, access: impl FnOnce(&mut T) -> R) -> Result<R, WrongThread> {
        if self.owner.load(Ordering::Relaxed) == thread_token() {
            return Ok(self.with_owned(access));
        }
        Ok(self.own()?.with(access))
    }

    /// As [`ThreadBound::with`], but gives up rather than panics in a nested access: for the cycle
    /// collector, which may run anywhere.
    pub(crate) fn try_with<R>(&self, access: impl FnOnce(&mut T) -> R) -> Option<R> {
        let owned = self.own().ok()?;
        (!self.borrowed.get()).then(|| owned.with(access))
    }

    #[inline(always)]
    fn with_owned<R>(&self, access: impl FnOnce(&mut T) -> R) -> R {
        struct Release<'a>(&'a Cell<bool>);
        impl Drop for Release<'_> {
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        assert!(
            !self.borrowed.replace(true),
            "loop state is borrowed already"
        );
        let _release = Release(&self.borrowed);
        // SAFETY: this thread is the owner (one caller has checked, the other has a guard, which does not leave the
        // thread), so no other thread reads or writes `value`, and `borrowed` says that no other reference exists
        // on this one.
        access(unsafe { &mut *self.value.get() })
    }
}
