//! Memory that the kernel and the driver both use: mapped for this purpose alone, never moved.
//!
//! It does not come from the allocator, because the kernel keeps the pages of a ring of buffers
//! pinned until it has torn the ring down, which may be after the driver has let go of them. Before
//! that, nobody else gets a page of a mapping of our own.

use std::io;
use std::ptr::{self, NonNull};

/// Zeroed memory of at least the size asked for. Pages that are not used are not touched.
pub(super) struct Region {
    base: NonNull<u8>,
    size: usize,
}

// SAFETY: it owns the mapping, which belongs to no thread.
unsafe impl Send for Region {}

impl Region {
    pub(super) fn new(size: usize) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that
        // exists.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, size })
    }

    /// As [`Region::new`], but zeroed anew in a forked child.
    pub(super) fn wiped_by_fork(size: usize) -> io::Result<Self> {
        let region = Self::new(size)?;
        // SAFETY: advice about exactly the mapping that `new` made, which is private and anonymous.
        let advised =
            unsafe { libc::madvise(region.base.as_ptr().cast(), size, libc::MADV_WIPEONFORK) };
        if advised == 0 {
            Ok(region)
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Where it begins: valid for reads and writes of all of its size for as long as it lives.
    pub(super) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `new` made, and nothing borrows from it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.size) };
    }
}
