//! The interpreter's own libssl: where its functions are, and whether the objects of `_ssl` have
//! the layout that using them requires. Found and checked once per process.
//!
//! The functions are looked up through the extension module `_ssl`, so they come from the library
//! that this module uses and no other. If that library is linked statically into the module or the
//! interpreter, none are found, and the codec is `SSLObject` (`object.rs`). Layouts are not assumed
//! but tested: pointers have to be where a known relation requires them, and a trial connection has
//! to behave as expected.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::OnceLock;

use pyo3::ffi;
use pyo3::prelude::*;

use super::object::Object;
use super::wire::{self, Bio, BioSymbols, Ssl, Wire};

type Read = unsafe extern "C" fn(*mut Ssl, *mut c_void, usize, *mut usize) -> c_int;
type Write = unsafe extern "C" fn(*mut Ssl, *const c_void, usize, *mut usize) -> c_int;
type GetError = unsafe extern "C" fn(*const Ssl, c_int) -> c_int;
type GetBio = unsafe extern "C" fn(*const Ssl) -> *mut Bio;
type BioRead = unsafe extern "C" fn(*mut Bio, *mut c_void, c_int) -> c_int;
type BioPending = unsafe extern "C" fn(*mut Bio) -> usize;
type ClearError = unsafe extern "C" fn();
type Version = unsafe extern "C" fn(c_int) -> *const c_char;

/// OpenSSL's functions. Each must be called with the thread attached to the interpreter, since
/// callbacks run Python code, and with live pointers.
pub(super) struct Symbols {
    pub(super) ssl_read: Read,
    pub(super) ssl_write: Write,
    pub(super) ssl_get_error: GetError,
    ssl_get_rbio: GetBio,
    ssl_get_wbio: GetBio,
    bio_read: BioRead,
    bio_pending: BioPending,
    pub(super) err_clear_error: ClearError,
    version: Version,
    /// The class `_ssl._SSLSocket` and the offset of its `SSL *`, in words.
    socket_class: Py<PyAny>,
    ssl_word: usize,
    /// `ssl.SSLObject`'s own methods: a subclass with other ones must be called, not bypassed.
    methods: [(&'static str, Py<PyAny>); 2],
}

/// The pointers of one connection.
pub(super) struct Pointers {
    pub(super) ssl: NonNull<Ssl>,
    outgoing: NonNull<Bio>,
    /// The `_ssl._SSLSocket`, which owns the `SSL`.
    pub(super) owner: Py<PyAny>,
}

/// OpenSSL's `SSL_ERROR_WANT_READ`.
pub(super) const WANT_READ: c_int = 2;

/// The functions, or why they cannot be used.
pub(super) fn get(py: Python<'_>) -> Result<&'static Symbols, &'static str> {
    static SYMBOLS: OnceLock<Result<Symbols, String>> = OnceLock::new();
    if let Some(found) = SYMBOLS.get() {
        return found.as_ref().map_err(String::as_str);
    }
    // Not inside get_or_init: finding them runs Python code.
    let found = find(py).map_err(|why| match why {
        Missing::Because(why) => why,
        Missing::Raised(error) => error.to_string(),
    });
    let _ = SYMBOLS.set(found);
    match SYMBOLS.get() {
        Some(found) => found.as_ref().map_err(String::as_str),
        None => Err("it was not looked for"),
    }
}

enum Missing {
    Because(String),
    Raised(PyErr),
}

impl From<PyErr> for Missing {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<&str> for Missing {
    fn from(why: &str) -> Self {
        Self::Because(why.to_owned())
    }
}

#[cfg(unix)]
mod dynamic {
    use std::ffi::{c_char, c_int, c_void};
    // SAFETY: as POSIX declares them.
    unsafe extern "C" {
        pub(super) fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
        pub(super) fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    }
    pub(super) const RTLD_NOW: c_int = 2;
}

/// The address of a function in the library at `path` or in one that it was linked with.
#[cfg(unix)]
fn look_up(path: &CStr, name: &CStr) -> Option<NonNull<c_void>> {
    // SAFETY: the library is loaded already (it is an imported module), so opening it runs no code
    // and its functions stay where they are; both strings end with NUL.
    unsafe {
        let library = dynamic::dlopen(path.as_ptr(), dynamic::RTLD_NOW);
        if library.is_null() {
            return None;
        }
        NonNull::new(dynamic::dlsym(library, name.as_ptr()))
    }
}

#[cfg(not(unix))]
fn look_up(_path: &CStr, _name: &CStr) -> Option<NonNull<c_void>> {
    None
}

fn find(py: Python<'_>) -> Result<Symbols, Missing> {
    if cfg!(Py_GIL_DISABLED) {
        return Err("other threads may use an SSLObject at the same time on this Python".into());
    }
    let version = py.version_info();
    if (version.major, version.minor) > (3, 15) {
        return Err("the layout of _ssl's objects is not known for this Python".into());
    }
    let Ok(path) = py.import("_ssl")?.getattr("__file__") else {
        return Err("_ssl is a part of the interpreter".into());
    };
    let path = CString::new(path.extract::<String>()?)
        .map_err(|_| Missing::from("the path of _ssl has a NUL"))?;
    macro_rules! function {
        ($name:literal, $type:ty) => {{
            let Some(address) = look_up(&path, $name) else {
                let name = $name.to_string_lossy();
                return Err(Missing::Because(format!(
                    "{name} is not among what _ssl was linked with (libssl may be a part of it)"
                )));
            };
            #[allow(
                clippy::missing_transmute_annotations,
                reason = "the field has the type"
            )]
            // SAFETY: the function of this name has the type that its field says, in every OpenSSL
            // since 1.1.1 (man pages SSL_read_ex(3), BIO_meth_new(3) and so on).
            let function: $type = unsafe { std::mem::transmute(address) };
            function
        }};
    }
    let ssl = py.import("ssl")?;
    let plain = ssl.getattr("SSLObject")?;
    let mut symbols = Symbols {
        ssl_read: function!(c"SSL_read_ex", Read),
        ssl_write: function!(c"SSL_write_ex", Write),
        ssl_get_error: function!(c"SSL_get_error", GetError),
        ssl_get_rbio: function!(c"SSL_get_rbio", GetBio),
        ssl_get_wbio: function!(c"SSL_get_wbio", GetBio),
        bio_read: function!(c"BIO_read", BioRead),
        bio_pending: function!(c"BIO_ctrl_pending", BioPending),
        err_clear_error: function!(c"ERR_clear_error", ClearError),
        version: function!(c"OpenSSL_version", Version),
        socket_class: py.None(),
        ssl_word: 0,
        methods: [
            ("read", plain.getattr("read")?.unbind()),
            ("write", plain.getattr("write")?.unbind()),
        ],
    };
    // SAFETY: OPENSSL_VERSION is 0; the answer is a constant string.
    let linked = unsafe { CStr::from_ptr((symbols.version)(0)) };
    let known: String = ssl.getattr("OPENSSL_VERSION")?.extract()?;
    if linked.to_bytes() != known.as_bytes() {
        return Err(Missing::Because(format!(
            "what was found is {}, not {known}",
            linked.to_string_lossy()
        )));
    }
    try_out(&ssl, &mut symbols)?;
    let prepared = wire::prepare(BioSymbols {
        get_new_index: function!(c"BIO_get_new_index", _),
        meth_new: function!(c"BIO_meth_new", _),
        meth_set_read_ex: function!(c"BIO_meth_set_read_ex", _),
        meth_set_write_ex: function!(c"BIO_meth_set_write_ex", _),
        meth_set_ctrl: function!(c"BIO_meth_set_ctrl", _),
        meth_set_destroy: function!(c"BIO_meth_set_destroy", _),
        new: function!(c"BIO_new", _),
        set_init: function!(c"BIO_set_init", _),
        set_data: function!(c"BIO_set_data", _),
        get_data: function!(c"BIO_get_data", _),
        set_flags: function!(c"BIO_set_flags", _),
        clear_flags: function!(c"BIO_clear_flags", _),
        ssl_set_bio: function!(c"SSL_set_bio", _),
    });
    if !prepared {
        return Err("there is no room for another kind of BIO".into());
    }
    try_wire(&ssl, &symbols)?;
    Ok(symbols)
}

/// A context, and a connection of it that has no peer.
fn trial<'py>(ssl: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Object)> {
    let context = ssl
        .getattr("SSLContext")?
        .call1((ssl.getattr("PROTOCOL_TLS_CLIENT")?,))?;
    let name = pyo3::types::PyString::new(ssl.py(), "localhost").into_any();
    let object = Object::new(&context, false, Some(&name))?;
    Ok((context, object))
}

/// Finds the `SSL` of a connection without a peer, and checks that it behaves as expected.
fn try_out(ssl: &Bound<'_, PyAny>, symbols: &mut Symbols) -> Result<(), Missing> {
    let py = ssl.py();
    let (context, object) = trial(ssl)?;
    let socket = object.sslobj.bind(py).getattr("_sslobj")?;
    symbols.socket_class = socket.get_type().into_any().unbind();
    let Some(context_word) = (0..)
        .map_while(|at| word(&socket, at))
        .position(|word| word == context.as_ptr() as usize)
    else {
        return Err("_ssl's objects do not refer to their context".into());
    };
    // First the weak reference to a socket, of which there is none, then the SSL, then the context
    // (PySSLSocket in CPython's Modules/_ssl.c).
    if context_word < 2 || word(&socket, context_word - 2) != Some(0) {
        return Err("_ssl's objects have another layout".into());
    }
    symbols.ssl_word = context_word - 1;
    let Some(pointers) = symbols.pointers(py, &object)? else {
        return Err("the SSL of a connection does not read and write where it should".into());
    };
    if object.handshake(py)? {
        return Err("a handshake with nobody has succeeded".into());
    }
    let hello = object.pending_out(py)?;
    let mut data = [0_u8; 3];
    let mut count = 0;
    // SAFETY: the pointers live as long as `object`, the thread is attached, `data` has room.
    let (pending, taken, got, error) = unsafe {
        let pending = (symbols.bio_pending)(pointers.outgoing.as_ptr());
        let taken = (symbols.bio_read)(pointers.outgoing.as_ptr(), data.as_mut_ptr().cast(), 3);
        (symbols.err_clear_error)();
        let ssl = pointers.ssl.as_ptr();
        let got = (symbols.ssl_read)(ssl, data.as_mut_ptr().cast(), 0, &raw mut count);
        (pending, taken, got, (symbols.ssl_get_error)(ssl, got))
    };
    // A record of the handshake (22), version 3.
    let as_expected = hello > 3
        && pending == hello
        && taken == 3
        && data[..2] == [22, 3]
        && object.pending_out(py)? == hello - 3
        && got == 0
        && error == WANT_READ;
    if !as_expected {
        return Err("the SSL of a connection does not behave".into());
    }
    Ok(())
}

/// Checks that such a connection works with a BIO of ours.
fn try_wire(ssl: &Bound<'_, PyAny>, symbols: &Symbols) -> Result<(), Missing> {
    let py = ssl.py();
    let (_, object) = trial(ssl)?;
    let Some(pointers) = symbols.pointers(py, &object)? else {
        return Err("the SSL of a connection is not where it was".into());
    };
    // SAFETY: `pointers` keeps the SSL, which nobody uses yet.
    let Some(wire) = (unsafe { Wire::attach(pointers.ssl) }) else {
        return Err("out of memory".into());
    };
    let shaken = object.handshake(py)?;
    // A record of the handshake (22), version 3.
    if shaken || !wire.take().starts_with(&[22, 3]) {
        return Err("a connection does not get on with a BIO of oxlip's".into());
    }
    Ok(())
}

/// A field of an object as a number, counted in words after the object's header; `None` after the last.
fn word(object: &Bound<'_, PyAny>, at: usize) -> Option<usize> {
    let head = size_of::<ffi::PyObject>();
    // SAFETY: the pointer is a live type object.
    let size = unsafe { (*object.get_type_ptr()).tp_basicsize }.unsigned_abs();
    let count = size.saturating_sub(head) / size_of::<usize>();
    // SAFETY: an object has at least as many bytes as its type says, aligned for pointers; `object` keeps it alive,
    // and the GIL keeps other threads out. The fields up to the one that is looked for are set when the object is
    // made; the memory is the interpreter's, so that anything that is not set, such as padding, can still be read as
    // a number.
    (at < count).then(|| unsafe {
        let fields = object.as_ptr().cast::<u8>().add(head);
        fields.cast::<usize>().add(at).read()
    })
}

impl Symbols {
    /// What `OpenSSL_version` returns.
    pub(super) fn version(&self) -> String {
        // SAFETY: as in `find`.
        let version = unsafe { CStr::from_ptr((self.version)(0)) };
        version.to_string_lossy().into_owned()
    }

    /// The pointers of a connection, each verified against another one. `None` if this is no plain
    /// `SSLObject` between two plain `MemoryBIO`s.
    pub(super) fn pointers(&self, py: Python<'_>, object: &Object) -> PyResult<Option<Pointers>> {
        let sslobj = object.sslobj.bind(py);
        for (name, method) in &self.methods {
            if !sslobj.get_type().getattr(*name)?.is(method.bind(py)) {
                return Ok(None);
            }
        }
        let Some(socket) = sslobj.getattr_opt("_sslobj")? else {
            return Ok(None);
        };
        if !socket.get_type().is(&self.socket_class) {
            return Ok(None);
        }
        let ssl = word(&socket, self.ssl_word).and_then(|ssl| NonNull::new(ssl as *mut Ssl));
        let Some(ssl) = ssl else {
            return Ok(None);
        };
        // SAFETY: an `_ssl._SSLSocket` keeps its `SSL` at this offset, which was tested.
        let (incoming, outgoing) = unsafe {
            (
                (self.ssl_get_rbio)(ssl.as_ptr()),
                (self.ssl_get_wbio)(ssl.as_ptr()),
            )
        };
        // A MemoryBIO has its BIO first (PySSLMemoryBIO in Modules/_ssl/…).
        let is_first =
            |bio: &Py<PyAny>, pointer: *mut Bio| word(bio.bind(py), 0) == Some(pointer as usize);
        if !is_first(&object.incoming, incoming) || !is_first(&object.outgoing, outgoing) {
            return Ok(None);
        }
        let Some(outgoing) = NonNull::new(outgoing) else {
            return Ok(None);
        };
        Ok(Some(Pointers {
            ssl,
            outgoing,
            owner: socket.unbind(),
        }))
    }
}
