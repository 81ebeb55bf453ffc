//! Plain bytes into TLS records and back, with the program's own `ssl.SSLContext`.
//!
//! Handshake and shutdown are left to `SSLObject`: the context's callbacks run there, and what is
//! raised is the interpreter's own. What lies between goes to libssl directly where that is
//! possible (`libssl.rs`), and otherwise through `SSLObject` (`object.rs`); both share one `SSL`.
//! None of these methods may be called while anything is borrowed: they run Python code.

mod kernel;
mod libssl;
mod object;
mod symbols;
mod wire;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use self::kernel::Kernel;
use self::libssl::Libssl;
use self::object::Object;
use self::symbols::Symbols;
use self::wire::{Lent, Wire};
use crate::buffer::Data;

pub(super) use self::wire::give_back;

/// Encrypts and decrypts the records of one connection.
pub(super) struct Codec {
    object: Object,
    libssl: Option<Libssl>,
}

/// Why reading stopped.
pub(super) enum End {
    /// More records are needed.
    More,
    /// The peer has sent `close_notify`.
    Closed,
    Failed(PyErr),
}

/// What could be decrypted.
pub(super) struct Read<'py> {
    pub(super) data: Option<Bound<'py, PyBytes>>,
    pub(super) end: End,
}

/// Records for the lower transport.
pub(super) enum Due<'py> {
    /// To be given back to [`give_back`].
    Memory(Vec<u8>),
    Bytes(Bound<'py, PyBytes>),
}

/// A socket that is lent ([`Codec::lend_socket`]).
pub(super) struct LentSocket<'a>(&'a Wire);

impl Drop for LentSocket<'_> {
    fn drop(&mut self) {
        self.0.lend_socket(None);
    }
}

/// What could be decrypted into a buffer.
pub(super) struct Filled {
    pub(super) filled: usize,
    /// `None`: the buffer is full.
    pub(super) end: Option<End>,
}

/// The environment variable that says which codec it must be: `object` or `libssl`.
const VARIABLE: &str = "OXLIP_TLS";

fn wanted() -> &'static str {
    static WANTED: OnceLock<String> = OnceLock::new();
    WANTED.get_or_init(|| std::env::var(VARIABLE).unwrap_or_default())
}

/// Chooses what connections are made with: libssl's functions, or `None` for `SSLObject` alone.
///
/// # Errors
/// `OXLIP_TLS` asks for a codec that does not exist or is not available.
fn choose(py: Python<'_>) -> PyResult<Option<&'static Symbols>> {
    match wanted() {
        "object" => Ok(None),
        "libssl" => symbols::get(py).map(Some).map_err(|why| {
            PyRuntimeError::new_err(format!("{VARIABLE} is libssl, which cannot be used: {why}"))
        }),
        "" => Ok(symbols::get(py).ok()),
        other => Err(PyValueError::new_err(format!(
            "{VARIABLE} is {other:?}, neither 'object' nor 'libssl'"
        ))),
    }
}

/// Why [`choose`] returned `None`.
fn why_object(py: Python<'_>) -> String {
    match wanted() {
        "" => symbols::get(py).err().unwrap_or_default().to_owned(),
        _ => format!("{VARIABLE} says so"),
    }
}

/// For `oxlip doctor`: which codec connections get in this process, and why.
pub(crate) fn describe(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let row = PyDict::new(py);
    let (name, reason) = match choose(py) {
        Ok(Some(symbols)) => (
            "libssl",
            format!("{} is driven directly", symbols.version()),
        ),
        Ok(None) => ("object", why_object(py)),
        Err(error) => ("none", error.to_string()),
    };
    row.set_item("codec", name)?;
    row.set_item("reason", reason)?;
    Ok(row)
}

impl Codec {
    /// # Errors
    /// What the context's `wrap_bio()` raises, and as [`choose`].
    pub(super) fn new(
        context: &Bound<'_, PyAny>,
        server_side: bool,
        server_hostname: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = context.py();
        let object = Object::new(context, server_side, server_hostname)?;
        let libssl = match choose(py)? {
            Some(symbols) => Libssl::new(py, symbols, &object)?,
            None => None,
        };
        Ok(Self { object, libssl })
    }

    /// The `SSLObject`.
    pub(super) fn sslobj(&self) -> &Py<PyAny> {
        &self.object.sslobj
    }

    /// The Python objects it holds, for the cycle collector.
    pub(super) fn traverse(
        &self,
        visit: &pyo3::gc::PyVisit<'_>,
    ) -> Result<(), pyo3::gc::PyTraverseError> {
        visit.call(&self.object.sslobj)?;
        visit.call(&self.object.incoming)?;
        visit.call(&self.object.outgoing)?;
        match &self.libssl {
            Some(libssl) => visit.call(libssl.owner()),
            None => Ok(()),
        }
    }

    /// Takes records from the peer.
    pub(super) fn feed(&self, records: &Bound<'_, PyAny>) -> PyResult<()> {
        match &self.libssl {
            Some(libssl) => {
                libssl.wire().feed(Data::any_buffer(records)?.as_slice());
                Ok(())
            }
            None => self.object.feed(records),
        }
    }

    /// Whether records can be lent ([`Codec::lend`]).
    pub(super) fn is_lent_to(&self) -> bool {
        self.libssl.is_some()
    }

    /// Lends records from the peer until the returned guard is dropped. `None` if they must be fed.
    pub(super) fn lend<'a>(&'a self, records: &'a [u8]) -> Option<Lent<'a>> {
        Some(self.libssl.as_ref()?.wire().lend(records))
    }

    /// Lets the kernel encrypt if OpenSSL offers it the keys. `false`: not with this codec.
    pub(super) fn allow_kernel(&self) -> bool {
        if let Some(libssl) = &self.libssl {
            libssl.wire().allow_kernel();
        }
        self.libssl.is_some()
    }

    /// Lends the socket below to the kernel's half until the returned guard is dropped. Everything must have been
    /// sent to it.
    pub(super) fn lend_socket(&self, socket: OwnedFd) -> Option<LentSocket<'_>> {
        let wire = self.libssl.as_ref()?.wire();
        wire.lend_socket(Some(socket));
        Some(LentSocket(wire))
    }

    /// Whether the kernel encrypts.
    pub(super) fn is_kernel_sending(&self) -> bool {
        self.ask_kernel(Kernel::is_sending)
    }

    /// Whether a file may be sent past the codec.
    pub(super) fn takes_files(&self) -> bool {
        self.ask_kernel(Kernel::takes_files)
    }

    /// Whether a record is kept that can only be sent with the socket lent.
    pub(super) fn is_blocked(&self) -> bool {
        self.ask_kernel(Kernel::is_blocked)
    }

    /// The reason why the kernel sends nothing any more.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.libssl.as_ref()?.wire().failure()
    }

    fn ask_kernel(&self, question: impl FnOnce(&Kernel) -> bool) -> bool {
        let libssl = self.libssl.as_ref();
        libssl.and_then(|libssl| libssl.wire().ask_kernel(question)) == Some(true)
    }

    /// Goes on with the handshake; `false` if the peer has to send more.
    pub(super) fn handshake(&self, py: Python<'_>) -> PyResult<bool> {
        self.object.handshake(py)
    }

    /// Sends `close_notify`; `false` if the peer's is missing.
    pub(super) fn unwrap(&self, py: Python<'_>) -> PyResult<bool> {
        self.object.unwrap(py)
    }

    /// Everything that can be decrypted.
    pub(super) fn read<'py>(&self, py: Python<'py>) -> Read<'py> {
        match &self.libssl {
            Some(libssl) => libssl.read(py, &self.object),
            None => self.object.read(py),
        }
    }

    /// Decrypts into `buffer` until it is full or there is nothing more.
    pub(super) fn read_into(&self, buffer: &Bound<'_, PyAny>) -> PyResult<Filled> {
        match &self.libssl {
            Some(libssl) => libssl.read_into(buffer, &self.object),
            None => self.object.read_into(buffer),
        }
    }

    /// Encrypts what a program has just written. Returns how many bytes were taken; `None` if the
    /// peer has to send something first. `data` are the bytes of `object`.
    pub(super) fn write(
        &self,
        object: &Bound<'_, PyAny>,
        data: &Data<'_>,
    ) -> PyResult<Option<usize>> {
        match &self.libssl {
            Some(libssl) => libssl.write(object.py(), data.as_slice(), &self.object),
            None => self.object.write(object),
        }
    }

    /// As [`Codec::write`], for data that had to wait.
    pub(super) fn write_slice(&self, py: Python<'_>, data: &[u8]) -> PyResult<Option<usize>> {
        match &self.libssl {
            Some(libssl) => libssl.write(py, data, &self.object),
            None => self.object.write(PyBytes::new(py, data).as_any()),
        }
    }

    /// The records to be sent.
    pub(super) fn take<'py>(&self, py: Python<'py>) -> PyResult<Due<'py>> {
        match &self.libssl {
            Some(libssl) => Ok(Due::Memory(libssl.wire().take())),
            None => self.object.take(py).map(Due::Bytes),
        }
    }

    /// Bytes of records that are not read yet.
    pub(super) fn pending_in(&self, py: Python<'_>) -> PyResult<usize> {
        match &self.libssl {
            Some(libssl) => Ok(libssl.wire().pending_in()),
            None => self.object.pending_in(py),
        }
    }

    /// Bytes of records that nobody has taken yet.
    pub(super) fn pending_out(&self, py: Python<'_>) -> PyResult<usize> {
        match &self.libssl {
            Some(libssl) => Ok(libssl.wire().pending_out()),
            None => self.object.pending_out(py),
        }
    }
}
