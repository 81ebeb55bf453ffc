//! The fast codec: the interpreter's libssl, on the `SSL` of an `SSLObject`, for the bytes between
//! handshake and shutdown. It processes several records per call, without a Python object for each.
//!
//! Its callers hold the connection (`TlsProtocol::with_codec`), so nothing else is inside the
//! `SSL`. The context's callbacks run Python code, as they do under `SSLObject`.

use std::cell::Cell;
use std::ffi::c_int;

use oxlip_core::bulk::{LARGE, ROOM};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::object::Object;
use super::symbols::{Pointers, Symbols, WANT_READ};
use super::wire::Wire;
use super::{End, Filled, Read};
use crate::py_buffer::Buffer;
use crate::room::Room;

/// OpenSSL's `SSL_ERROR_WANT_WRITE`, `SSL_ERROR_SYSCALL` and `SSL_ERROR_ZERO_RETURN`.
const WANT_WRITE: c_int = 3;
const SYSCALL: c_int = 5;
const ZERO_RETURN: c_int = 6;

/// The buffer's first size, and the largest that is kept: what a lower transport brings before it
/// is held back (`oxlip_core::tls::READ_HIGH`) fits.
const FIRST: usize = 64 * 1024;
const KEPT: usize = 512 * 1024;

/// The largest record. OpenSSL keeps what is left of one.
const RECORD: usize = 16 * 1024;

thread_local! {
    /// The memory into which records are decrypted; it is taken out while in use.
    static PLAIN: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// One connection's direct access to libssl.
pub(super) struct Libssl {
    symbols: &'static Symbols,
    pointers: Pointers,
    wire: Wire,
}

// SAFETY: OpenSSL's objects may move between threads; we use them on one at a time, since the connection is owned by
// one thread at a time and callers of these methods are attached to the interpreter; builds without a GIL do not get
// here (`symbols::find`). A program that has got hold of the `SSLObject` must not use it on another thread meanwhile,
// as with any object of `_ssl`, which also releases the GIL inside OpenSSL.
unsafe impl Send for Libssl {}
// SAFETY: as above; `&self` methods are called by the owner of the connection only.
unsafe impl Sync for Libssl {}

/// The outcome of a call that moved nothing.
enum Idle {
    More,
    Closed,
    /// OpenSSL's error queue has an error that `SSLObject` can raise.
    Failed,
}

impl Libssl {
    /// `None` if `object` is not what it seems.
    ///
    /// # Errors
    /// What a class of the program's raises.
    pub(super) fn new(
        py: Python<'_>,
        symbols: &'static Symbols,
        object: &Object,
    ) -> PyResult<Option<Self>> {
        let Some(pointers) = symbols.pointers(py, object)? else {
            return Ok(None);
        };
        // SAFETY: `pointers` keeps the SSL as long as `self`, and the `SSLObject` is new: nobody has
        // used it yet. Whatever uses it from now on leaves its BIOs where they are, since `_ssl` has no
        // function that changes them.
        let wire = unsafe { Wire::attach(pointers.ssl) };
        Ok(wire.map(|wire| Self {
            symbols,
            pointers,
            wire,
        }))
    }

    pub(super) fn owner(&self) -> &Py<PyAny> {
        &self.pointers.owner
    }

    /// The records below it.
    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Everything that can be decrypted.
    pub(super) fn read<'py>(&self, py: Python<'py>, object: &Object) -> Read<'py> {
        let pending = self.wire.pending_in();
        let read = if (LARGE..ROOM).contains(&pending) {
            match self.read_large(py, pending) {
                Ok(read) => read,
                Err(error) => {
                    return Read {
                        data: None,
                        end: End::Failed(error),
                    };
                }
            }
        } else {
            self.read_copied(py)
        };
        let (data, idle) = read;
        let end = match idle {
            Idle::More => End::More,
            Idle::Closed => End::Closed,
            Idle::Failed => {
                let read = self.failed(py, object);
                return Read {
                    data: data.or(read.data),
                    end: read.end,
                };
            }
        };
        Read { data, end }
    }

    /// Decrypts a large amount directly into the `bytes` that the protocol gets.
    fn read_large<'py>(
        &self,
        py: Python<'py>,
        pending: usize,
    ) -> PyResult<(Option<Bound<'py, PyBytes>>, Idle)> {
        let mut room = Room::new(py, pending + RECORD)?;
        let mut filled = 0;
        let idle = loop {
            if filled == room.memory().len() {
                room.resize(filled + FIRST)?;
            }
            let free = &mut room.memory()[filled..];
            let size = free.len();
            // SAFETY: memory of this size.
            match unsafe { self.read_at(free.as_mut_ptr().cast(), size) } {
                Ok(count) => {
                    filled += count;
                    if count < size && self.wire.pending_in() == 0 {
                        break Idle::More;
                    }
                }
                Err(idle) => break idle,
            }
        };
        if filled == 0 {
            return Ok((None, idle));
        }
        // SAFETY: OpenSSL has written that many bytes.
        let data = unsafe { room.filled(filled) }?;
        Ok((Some(data), idle))
    }

    /// Decrypts a small amount into memory that is reused, and copies it.
    fn read_copied<'py>(&self, py: Python<'py>) -> (Option<Bound<'py, PyBytes>>, Idle) {
        let mut plain = PLAIN.take();
        let mut filled = 0;
        let idle = loop {
            if filled == plain.len() {
                // Records contain no more plain bytes than their own length.
                let more = self.wire.pending_in().max(FIRST);
                plain.resize(filled + more, 0);
            }
            let room = plain.len() - filled;
            match self.read_once(&mut plain[filled..]) {
                Ok(count) => {
                    filled += count;
                    // All of a record was read and nothing follows it, so OpenSSL need not be asked again.
                    if count < room && self.wire.pending_in() == 0 {
                        break Idle::More;
                    }
                }
                Err(idle) => break idle,
            }
        };
        let data = (filled > 0).then(|| PyBytes::new(py, &plain[..filled]));
        plain.truncate(KEPT);
        plain.shrink_to(KEPT);
        PLAIN.set(plain);
        (data, idle)
    }

    /// Decrypts into `buffer` until it is full or there is nothing more.
    pub(super) fn read_into(&self, buffer: &Bound<'_, PyAny>, object: &Object) -> PyResult<Filled> {
        let py = buffer.py();
        let mut view = Buffer::writable(buffer, "read() argument 2")?;
        let (room, size) = view.memory();
        let mut filled = 0;
        let idle = loop {
            if filled == size {
                return Ok(Filled { filled, end: None });
            }
            // SAFETY: what is left of the memory, which stays in place as long as the view is held.
            match unsafe { self.read_at(room.add(filled), size - filled) } {
                Ok(count) => filled += count,
                Err(idle) => break idle,
            }
        };
        let end = match idle {
            Idle::More => End::More,
            Idle::Closed => End::Closed,
            Idle::Failed => self.failed(py, object).end,
        };
        Ok(Filled {
            filled,
            end: Some(end),
        })
    }

    /// Encrypts. Returns how many bytes were taken; `None` if the peer has to send something first.
    pub(super) fn write(
        &self,
        py: Python<'_>,
        data: &[u8],
        object: &Object,
    ) -> PyResult<Option<usize>> {
        let mut written = 0;
        // SAFETY: the SSL lives as long as `self`, the interpreter is attached, `data` is read only
        // during the call.
        let result = unsafe {
            (self.symbols.err_clear_error)();
            let ssl = self.pointers.ssl.as_ptr();
            (self.symbols.ssl_write)(ssl, data.as_ptr().cast(), data.len(), &raw mut written)
        };
        if result == 1 {
            return Ok(Some(written));
        }
        match self.idle(result) {
            Idle::More => Ok(None),
            Idle::Closed | Idle::Failed => match self.wire.failure() {
                Some(error) => Err(error.into()),
                None => object.write(PyBytes::new(py, data).as_any()),
            },
        }
    }

    /// What `SSLObject` raises for a call that failed, or the kernel's error.
    fn failed<'py>(&self, py: Python<'py>, object: &Object) -> Read<'py> {
        match self.wire.failure() {
            Some(error) => Read {
                data: None,
                end: End::Failed(error.into()),
            },
            None => object.read(py),
        }
    }

    /// One record, or a part of it.
    fn read_once(&self, room: &mut [u8]) -> Result<usize, Idle> {
        // SAFETY: `room` has as many bytes as it says.
        unsafe { self.read_at(room.as_mut_ptr(), room.len()) }
    }

    /// The same, into `memory`. Returns how many bytes have been written.
    ///
    /// # Safety
    /// There are `size` bytes of it.
    unsafe fn read_at(&self, memory: *mut u8, size: usize) -> Result<usize, Idle> {
        let mut count = 0;
        // SAFETY: as in `write`; the caller's memory is as large as it says.
        let result = unsafe {
            (self.symbols.err_clear_error)();
            let ssl = self.pointers.ssl.as_ptr();
            (self.symbols.ssl_read)(ssl, memory.cast(), size, &raw mut count)
        };
        if result == 1 {
            return Ok(count);
        }
        Err(self.idle(result))
    }

    /// What a result other than 1 means. An error stays in OpenSSL's queue: the next call of
    /// `SSLObject` fails at once, since the connection is broken, and raises that error.
    fn idle(&self, result: c_int) -> Idle {
        // SAFETY: called right after the call that gave `result`, on the same thread.
        let error = unsafe { (self.symbols.ssl_get_error)(self.pointers.ssl.as_ptr(), result) };
        match error {
            // An error of the system below the BIO is one of the kernel's half.
            SYSCALL if self.wire.failure().is_some() => Idle::Failed,
            // Otherwise there is no system below: the end of the BIO's data looks like an error of the system.
            WANT_READ | WANT_WRITE | SYSCALL => Idle::More,
            ZERO_RETURN => Idle::Closed,
            _ => Idle::Failed,
        }
    }
}
