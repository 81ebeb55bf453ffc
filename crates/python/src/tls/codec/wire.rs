//! What lies below an `SSL`: a BIO of ours in place of two `MemoryBIO`s. Records are read from
//! where the socket has put them, and written to where the socket takes them from.
//!
//! OpenSSL's memory BIO clears its memory, copies what it is given, and copies it once more when it
//! is read. This one borrows: the records of one receive are read in place, and only what is left
//! of them at the end is copied and kept. One BIO serves both directions, as a socket's does.
//!
//! It is used by the owner of the connection, and by OpenSSL from within its own functions, on
//! whatever thread calls them: `get_extra_info("ssl_object")` gives the `SSLObject` to everybody.
//! So the records have a lock, which is held for the duration of a copy.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use oxlip_driver::kernel_tls;

use super::kernel::{Kernel, Written};

/// OpenSSL's `SSL`.
#[repr(C)]
pub(super) struct Ssl([u8; 0]);
/// OpenSSL's `BIO`.
#[repr(C)]
pub(super) struct Bio([u8; 0]);
/// OpenSSL's `BIO_METHOD`.
#[repr(C)]
pub(super) struct BioMethod([u8; 0]);

type ReadEx = unsafe extern "C" fn(*mut Bio, *mut c_char, usize, *mut usize) -> c_int;
type WriteEx = unsafe extern "C" fn(*mut Bio, *const c_char, usize, *mut usize) -> c_int;
type Control = unsafe extern "C" fn(*mut Bio, c_int, c_long, *mut c_void) -> c_long;
type Destroy = unsafe extern "C" fn(*mut Bio) -> c_int;

/// OpenSSL's functions that make a BIO (BIO_meth_new(3)). The conditions for calls are those of `Symbols`.
pub(super) struct BioSymbols {
    pub(super) get_new_index: unsafe extern "C" fn() -> c_int,
    pub(super) meth_new: unsafe extern "C" fn(c_int, *const c_char) -> *mut BioMethod,
    pub(super) meth_set_read_ex: unsafe extern "C" fn(*mut BioMethod, ReadEx) -> c_int,
    pub(super) meth_set_write_ex: unsafe extern "C" fn(*mut BioMethod, WriteEx) -> c_int,
    pub(super) meth_set_ctrl: unsafe extern "C" fn(*mut BioMethod, Control) -> c_int,
    pub(super) meth_set_destroy: unsafe extern "C" fn(*mut BioMethod, Destroy) -> c_int,
    pub(super) new: unsafe extern "C" fn(*const BioMethod) -> *mut Bio,
    pub(super) set_init: unsafe extern "C" fn(*mut Bio, c_int),
    pub(super) set_data: unsafe extern "C" fn(*mut Bio, *mut c_void),
    pub(super) get_data: unsafe extern "C" fn(*mut Bio) -> *mut c_void,
    pub(super) set_flags: unsafe extern "C" fn(*mut Bio, c_int),
    pub(super) clear_flags: unsafe extern "C" fn(*mut Bio, c_int),
    pub(super) ssl_set_bio: unsafe extern "C" fn(*mut Ssl, *mut Bio, *mut Bio),
}

const NAME: &CStr = c"oxlip";
/// OpenSSL's `BIO_TYPE_SOURCE_SINK`.
const SOURCE_SINK: c_int = 0x0400;
/// `BIO_FLAGS_READ` and `BIO_FLAGS_SHOULD_RETRY`, and all the flags that say why a call moved nothing.
const RETRY_READ: c_int = 0x01 | 0x08;
const WHY: c_int = 0x0f;
/// `BIO_CTRL_PENDING`, `BIO_CTRL_FLUSH` and `BIO_CTRL_WPENDING`.
const PENDING: c_int = 10;
const FLUSH: c_int = 11;
const WRITE_PENDING: c_int = 13;
/// `BIO_CTRL_SET_KTLS`, `BIO_CTRL_GET_KTLS_SEND`, `BIO_CTRL_SET_KTLS_TX_SEND_CTRL_MSG` and
/// `BIO_CTRL_CLEAR_KTLS_TX_CTRL_MSG`. A socket's BIO knows them since OpenSSL 3.0.
const SET_KERNEL: c_int = 72;
const IS_KERNEL_SENDING: c_int = 73;
const SET_KIND: c_int = 74;
const CLEAR_KIND: c_int = 75;

/// Memory larger than this is not kept for the next records.
const SPARE: usize = 256 * 1024;

thread_local! {
    /// Memory for outgoing records, shared so that an idle connection has none.
    static SPARE_RECORDS: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The BIO's method, made once per process.
static METHOD: OnceLock<Method> = OnceLock::new();

struct Method {
    symbols: BioSymbols,
    method: NonNull<BioMethod>,
}

// SAFETY: OpenSSL only reads a finished method, from any thread.
unsafe impl Send for Method {}
// SAFETY: as above.
unsafe impl Sync for Method {}

/// The records of one connection. It belongs to its BIO, and the BIO to the `SSL`.
struct Records {
    /// What arrived earlier, read up to `at`.
    kept: Vec<u8>,
    at: usize,
    /// What has just arrived, following `kept`. [`Lent`] outlives neither the memory nor this.
    lent: *const [u8],
    outgoing: Vec<u8>,
    /// Present if the program wants the kernel to encrypt.
    kernel: Option<Box<Kernel>>,
}

// SAFETY: `lent` is the only pointer, and it is read under the lock, under which `Lent` takes it back before the
// memory is freed. The memory is plain bytes.
unsafe impl Send for Records {}

/// Access to a connection's records.
pub(super) struct Wire(NonNull<Mutex<Records>>);

/// Records that are lent to a connection. When this is dropped, what was not read is kept.
pub(in crate::tls) struct Lent<'a>(&'a Wire);

/// Prepares for [`Wire::attach`]. `false` if memory or BIO types have run out.
pub(super) fn prepare(symbols: BioSymbols) -> bool {
    if METHOD.get().is_some() {
        return true;
    }
    // SAFETY: plain constructors; the callbacks have the types that OpenSSL asks for.
    let method = unsafe {
        let index = (symbols.get_new_index)();
        if index < 0 {
            return false;
        }
        let kind = index | SOURCE_SINK;
        let Some(method) = NonNull::new((symbols.meth_new)(kind, NAME.as_ptr())) else {
            return false;
        };
        let complete = (symbols.meth_set_read_ex)(method.as_ptr(), read) == 1
            && (symbols.meth_set_write_ex)(method.as_ptr(), write) == 1
            && (symbols.meth_set_ctrl)(method.as_ptr(), control) == 1
            && (symbols.meth_set_destroy)(method.as_ptr(), destroy) == 1;
        if !complete {
            return false;
        }
        method
    };
    // Another thread may have been faster; then this one is never used.
    let _ = METHOD.set(Method { symbols, method });
    true
}

impl Wire {
    /// Puts a BIO of ours below the `SSL`, in place of what is there. `None` if memory has run out,
    /// or nothing is prepared.
    ///
    /// # Safety
    /// `ssl` lives, nothing is inside it, and it outlives the `Wire`. Its BIOs stay as they are from
    /// now on.
    pub(super) unsafe fn attach(ssl: NonNull<Ssl>) -> Option<Self> {
        let Method { symbols, method } = METHOD.get()?;
        // SAFETY: the method is complete.
        let bio = NonNull::new(unsafe { (symbols.new)(method.as_ptr()) })?;
        let records = NonNull::from(Box::leak(Box::new(Mutex::new(Records {
            kept: Vec::new(),
            at: 0,
            lent: &[],
            outgoing: Vec::new(),
            kernel: None,
        }))));
        // SAFETY: the BIO is new. It owns the records from here on (`destroy`), and the SSL the
        // BIO: passed twice it takes one reference (SSL_set_bio(3)).
        unsafe {
            (symbols.set_data)(bio.as_ptr(), records.as_ptr().cast());
            (symbols.set_init)(bio.as_ptr(), 1);
            (symbols.ssl_set_bio)(ssl.as_ptr(), bio.as_ptr(), bio.as_ptr());
        }
        Some(Self(records))
    }

    /// Accesses the records under their lock. `access` must call nothing that calls back.
    #[inline]
    fn with<R>(&self, access: impl FnOnce(&mut Records) -> R) -> R {
        // SAFETY: the SSL and with it the records live as long as `self` (`attach`).
        access(&mut lock(unsafe { self.0.as_ref() }))
    }

    /// Copies records from the peer.
    pub(super) fn feed(&self, more: &[u8]) {
        self.with(|records| {
            records.keep();
            records.kept.extend_from_slice(more);
        });
    }

    /// Lends records from the peer.
    pub(super) fn lend<'a>(&'a self, more: &'a [u8]) -> Lent<'a> {
        self.with(|records| {
            // There are some already inside a callback of a read of the same connection.
            records.keep();
            records.lent = more;
        });
        Lent(self)
    }

    pub(super) fn pending_in(&self) -> usize {
        self.with(|records| records.pending())
    }

    pub(super) fn pending_out(&self) -> usize {
        self.with(|records| {
            let kept = records.kernel.as_deref().map_or(0, Kernel::kept);
            records.outgoing.len() + kept
        })
    }

    /// The records to be sent. Their memory is to be given back ([`give_back`]).
    pub(super) fn take(&self) -> Vec<u8> {
        self.with(|records| mem::take(&mut records.outgoing))
    }

    /// Lets the kernel encrypt if OpenSSL offers it the keys.
    pub(super) fn allow_kernel(&self) {
        self.with(|records| records.kernel = Some(Box::default()));
    }

    /// Lends the socket, or takes it back.
    pub(super) fn lend_socket(&self, socket: Option<OwnedFd>) {
        let before = self.with(|records| {
            let kernel = records.kernel.as_mut()?;
            kernel.lend(socket, &mut records.outgoing)
        });
        drop(before);
    }

    /// Asks the kernel's half; `None` if there is none.
    pub(super) fn ask_kernel<R>(&self, question: impl FnOnce(&Kernel) -> R) -> Option<R> {
        self.with(|records| records.kernel.as_deref().map(question))
    }

    /// The reason why nothing can be sent any more.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.ask_kernel(Kernel::failure).flatten()
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.0.with(Records::keep);
    }
}

/// Takes the memory of records that were sent, for others to use.
pub(in crate::tls) fn give_back(mut memory: Vec<u8>) {
    if memory.capacity() <= SPARE {
        memory.clear();
        SPARE_RECORDS.set(memory);
    }
}

impl Records {
    /// Copies what is lent and not read yet.
    fn keep(&mut self) {
        if self.at * 2 >= self.kept.len() {
            // Before it grows, what was read is removed as soon as no more than that is left.
            self.kept.drain(..self.at);
            self.at = 0;
        }
        let lent = self.lent;
        self.lent = &[];
        // SAFETY: `Lent` has not been dropped yet, or this is empty.
        self.kept.extend_from_slice(unsafe { &*lent });
    }

    fn pending(&self) -> usize {
        self.kept.len() - self.at + self.lent.len()
    }

    /// Takes as much as there is room for, and passes it to `copy`.
    fn read(&mut self, room: usize, copy: impl FnOnce(&[u8])) -> usize {
        let kept = &self.kept[self.at..];
        if !kept.is_empty() {
            let count = kept.len().min(room);
            copy(&kept[..count]);
            self.at += count;
            if self.at == self.kept.len() {
                // An idle connection holds no memory.
                self.kept = Vec::new();
                self.at = 0;
            }
            return count;
        }
        // SAFETY: `Lent` has not been dropped yet, or this is empty.
        let lent = unsafe { &*self.lent };
        let (now, later) = lent.split_at(lent.len().min(room));
        copy(now);
        self.lent = later;
        now.len()
    }

    fn write(&mut self, records: &[u8]) -> Written {
        if let Some(kernel) = &mut self.kernel {
            let written = kernel.write(&mut self.outgoing, records);
            if written != Written::Data {
                return written;
            }
        }
        if self.outgoing.capacity() == 0 {
            self.outgoing = SPARE_RECORDS.take();
        }
        self.outgoing.extend_from_slice(records);
        Written::Done
    }
}

// The callbacks. A panic in one of them ends the process, as it cannot unwind through OpenSSL.

fn lock(records: &Mutex<Records>) -> MutexGuard<'_, Records> {
    records.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The records of a BIO, in a callback from OpenSSL.
///
/// # Safety
/// `bio` is one of ours, and lives as long as what is returned.
unsafe fn records_of<'a>(bio: *mut Bio) -> Option<(&'static Method, MutexGuard<'a, Records>)> {
    let method = METHOD.get()?;
    // SAFETY: it is what `attach` has set, and lives as long as the BIO.
    let records = unsafe {
        (method.symbols.get_data)(bio)
            .cast::<Mutex<Records>>()
            .as_ref()
    };
    Some((method, lock(records?)))
}

/// The same, to move bytes: first clears the flags that say why a call moved nothing.
///
/// # Safety
/// As [`records_of`].
unsafe fn records_to_move<'a>(bio: *mut Bio) -> Option<(&'static Method, MutexGuard<'a, Records>)> {
    // SAFETY: the same is asked of the caller; and the flags of a BIO of ours are ours.
    unsafe {
        let (method, records) = records_of(bio)?;
        (method.symbols.clear_flags)(bio, WHY);
        Some((method, records))
    }
}

unsafe extern "C" fn read(
    bio: *mut Bio,
    room: *mut c_char,
    length: usize,
    count: *mut usize,
) -> c_int {
    // SAFETY: OpenSSL passes a BIO of our method, room for `length` bytes, and a place for the count.
    unsafe {
        let Some((method, mut records)) = records_to_move(bio) else {
            return 0;
        };
        let moved = records.read(length, |bytes| {
            ptr::copy_nonoverlapping(bytes.as_ptr(), room.cast::<u8>(), bytes.len());
        });
        *count = moved;
        if moved == 0 {
            (method.symbols.set_flags)(bio, RETRY_READ);
        }
        c_int::from(moved > 0)
    }
}

unsafe extern "C" fn write(
    bio: *mut Bio,
    records: *const c_char,
    length: usize,
    count: *mut usize,
) -> c_int {
    // SAFETY: as in `read`; the memory holds so many bytes.
    unsafe {
        let Some((_, mut due)) = records_to_move(bio) else {
            return 0;
        };
        match due.write(slice::from_raw_parts(records.cast::<u8>(), length)) {
            Written::Done | Written::Data => {
                *count = length;
                1
            }
            Written::Failed => 0,
        }
    }
}

unsafe extern "C" fn control(
    bio: *mut Bio,
    command: c_int,
    number: c_long,
    pointer: *mut c_void,
) -> c_long {
    // SAFETY: OpenSSL passes a BIO of our method.
    let Some((_, mut records)) = (unsafe { records_of(bio) }) else {
        return 0;
    };
    let size = match command {
        FLUSH => return 1,
        PENDING => records.pending(),
        WRITE_PENDING => records.outgoing.len(),
        _ => {
            let Records {
                kernel, outgoing, ..
            } = &mut *records;
            let Some(kernel) = kernel else { return 0 };
            // SAFETY: OpenSSL's own pointer.
            return c_long::from(unsafe {
                control_kernel(kernel, outgoing, command, number, pointer)
            });
        }
    };
    c_long::try_from(size).unwrap_or(c_long::MAX)
}

/// The control calls with which OpenSSL sets up a socket for kTLS. `false` means no; it is also returned where
/// OpenSSL ignores the result.
///
/// # Safety
/// With `SET_KERNEL`, `pointer` is to keys as the kernel wants them (`ktls_crypto_info_t`: one of the structures
/// `tls12_crypto_info_*` comes first).
unsafe fn control_kernel(
    kernel: &mut Kernel,
    outgoing: &mut Vec<u8>,
    command: c_int,
    number: c_long,
    pointer: *mut c_void,
) -> bool {
    match command {
        // The number is not zero for sending (1 or 2, depending on OpenSSL's version), and zero for receiving.
        SET_KERNEL if number != 0 && !pointer.is_null() => {
            // SAFETY: the keys begin with their version and cipher, which say how long they are.
            let keys = unsafe {
                let head = pointer.cast::<[u8; kernel_tls::HEAD]>().read_unaligned();
                let Some(length) = kernel_tls::keys_length(head) else {
                    return false;
                };
                slice::from_raw_parts(pointer.cast::<u8>(), length)
            };
            kernel.start(outgoing, keys)
        }
        IS_KERNEL_SENDING => kernel.is_sending(),
        SET_KIND => {
            kernel.set_kind(u8::try_from(number).ok());
            false
        }
        CLEAR_KIND => {
            kernel.set_kind(None);
            false
        }
        _ => false,
    }
}

unsafe extern "C" fn destroy(bio: *mut Bio) -> c_int {
    let Some(method) = METHOD.get() else { return 0 };
    // SAFETY: the last reference to the BIO is dropped together with the SSL. The records are those that `attach` has
    // leaked, and no `Wire` is used any more, since the SSL outlives it (`attach`).
    unsafe {
        let records = (method.symbols.get_data)(bio).cast::<Mutex<Records>>();
        (method.symbols.set_data)(bio, ptr::null_mut());
        if !records.is_null() {
            drop(Box::from_raw(records));
        }
    }
    1
}
