//! The half of a connection that the kernel may take over (kTLS): encrypting what is sent. This
//! happens if the program's context asks for it (`ssl.OP_ENABLE_KTLS`), OpenSSL and the kernel can
//! do it, and the transport below is a stream of ours.
//!
//! OpenSSL gives its keys to the BIO as it would to a socket's (`BIO_set_ktls` in openssl/bio.h),
//! and plain data from then on, which take the same path as records: to the lower transport.
//! Anything that is not data, such as a `close_notify` or a ticket, must be passed to the socket
//! with its record type, after everything that was written before. So it bypasses the transport
//! while the socket is lent, which happens when nothing waits to be sent. Until then it is kept,
//! and so are the data after it.
//!
//! Used under the lock of the connection's records (`wire.rs`), on whatever thread OpenSSL's
//! functions run.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use oxlip_driver::kernel_tls;

/// A record type, and a type of message in it (RFC 8446, 4 and 5.1).
const HANDSHAKE: u8 = 22;
const KEY_UPDATE: u8 = 24;

/// The kernel's half of one connection.
#[derive(Default)]
pub(super) struct Kernel {
    /// Lent for the duration of a call. It is a duplicate, since a callback of the context may end the connection.
    socket: Option<OwnedFd>,
    /// The kernel encrypts.
    sending: bool,
    /// The record type of what OpenSSL writes next, if that is not data.
    kind: Option<u8>,
    /// The peer has been told of new keys, but OpenSSL has not handed them out (3.0 does not).
    needs_keys: bool,
    /// What the socket has not taken yet.
    kept: Vec<Kept>,
    /// Why nothing can be sent any more.
    failed: Option<io::Error>,
}

/// What bypasses the lower transport, in order.
enum Kept {
    /// A record and its type.
    Record(u8, Vec<u8>),
    /// The keys for what follows.
    Keys(Vec<u8>),
    /// Data after one of these.
    Data(Vec<u8>),
}

/// What becomes of something that OpenSSL writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It is data, or a record that OpenSSL has made: it goes to the lower transport.
    Data,
    /// It is sent, or kept. OpenSSL is never told to try again, because it would read the data from where they were
    /// the first time.
    Done,
    Failed,
}

impl Kernel {
    /// Lends the socket, or takes it back. With the socket, what was kept is sent after `outgoing`.
    pub(super) fn lend(
        &mut self,
        socket: Option<OwnedFd>,
        outgoing: &mut Vec<u8>,
    ) -> Option<OwnedFd> {
        let before = std::mem::replace(&mut self.socket, socket);
        self.send_kept(outgoing);
        before
    }

    pub(super) fn is_sending(&self) -> bool {
        self.sending
    }

    /// Whether data may bypass OpenSSL: the kernel has the current keys, and there was no error.
    pub(super) fn takes_files(&self) -> bool {
        self.sending && !self.needs_keys && self.kept.is_empty() && self.failed.is_none()
    }

    /// Whether something is kept that must go directly to the socket.
    pub(super) fn is_blocked(&self) -> bool {
        !self.kept.is_empty()
    }

    /// How many bytes of that there are.
    pub(super) fn kept(&self) -> usize {
        let length = |kept: &Kept| match kept {
            Kept::Record(_, bytes) | Kept::Keys(bytes) | Kept::Data(bytes) => bytes.len(),
        };
        self.kept.iter().map(length).sum()
    }

    /// The reason why nothing can be sent any more, for the program.
    pub(super) fn failure(&self) -> Option<io::Error> {
        let error = self.failed.as_ref()?;
        // An error cannot be copied.
        Some(match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(error.kind(), error.to_string()),
        })
    }

    /// What OpenSSL writes next is of this type, not data.
    pub(super) fn set_kind(&mut self, kind: Option<u8>) {
        self.kind = kind;
    }

    /// OpenSSL offers its keys for what is sent after `outgoing`. `false` makes it go on encrypting by itself.
    pub(super) fn start(&mut self, outgoing: &mut Vec<u8>, keys: &[u8]) -> bool {
        if self.sending {
            // The peer has given up the old keys, so there is no way back.
            self.needs_keys = false;
            self.kept.push(Kept::Keys(keys.to_vec()));
            self.send_kept(outgoing);
        } else if let Some(socket) = &self.socket {
            let begun =
                send_all(socket, outgoing).and_then(|()| kernel_tls::start(socket.as_fd(), keys));
            self.sending = begun.is_ok();
        }
        self.sending && self.failed.is_none()
    }

    /// OpenSSL writes something.
    pub(super) fn write(&mut self, outgoing: &mut Vec<u8>, content: &[u8]) -> Written {
        if self.needs_keys {
            let why = "the keys of a TLS connection cannot change while the kernel encrypts";
            self.failed = Some(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        if self.failed.is_some() {
            return Written::Failed;
        }
        match self.kind.take() {
            None if self.kept.is_empty() => Written::Data,
            None => {
                match self.kept.last_mut() {
                    Some(Kept::Data(data)) => data.extend_from_slice(content),
                    _ => self.kept.push(Kept::Data(content.to_vec())),
                }
                Written::Done
            }
            Some(kind) => {
                self.needs_keys = (kind, content.first()) == (HANDSHAKE, Some(&KEY_UPDATE));
                self.kept.push(Kept::Record(kind, content.to_vec()));
                self.send_kept(outgoing);
                if self.failed.is_some() {
                    return Written::Failed;
                }
                Written::Done
            }
        }
    }

    fn send_kept(&mut self, outgoing: &mut Vec<u8>) {
        let Some(socket) = &self.socket else { return };
        let mut sent = 0;
        for kept in &mut self.kept {
            let result = send_all(socket, outgoing).and_then(|()| match kept {
                Kept::Record(kind, content) => {
                    kernel_tls::send_record(socket.as_fd(), *kind, content)
                }
                Kept::Keys(keys) => kernel_tls::start(socket.as_fd(), keys),
                Kept::Data(data) => send_all(socket, data),
            });
            match result {
                Ok(()) => sent += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.failed = Some(error);
                    sent = self.kept.len();
                    break;
                }
            }
        }
        self.kept.drain(..sent);
    }
}

/// Sends what has to go first; what the socket does not take stays in `outgoing`.
fn send_all(socket: &OwnedFd, outgoing: &mut Vec<u8>) -> io::Result<()> {
    while !outgoing.is_empty() {
        let sent = kernel_tls::send(socket.as_fd(), outgoing)?;
        outgoing.drain(..sent);
    }
    Ok(())
}
