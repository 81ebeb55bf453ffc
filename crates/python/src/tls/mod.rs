//! TLS over any transport: a `TlsProtocol` sits on a lower transport as its protocol, and the
//! program's protocol gets a `TlsTransport`.
//!
//! What a connection may do next is decided by `oxlip_core::tls`; records are made and opened by
//! the program's own `ssl.SSLContext` (`codec`); these files carry bytes between the two transports
//! and call the protocol. The lower transport is used as any program would use it, so it may be
//! ours, another TLS connection, or somebody else's.
//!
//! All of it runs on the loop's thread. Each entry owns the connection while it runs
//! (`ThreadBound`), so another thread gets an error instead of corrupting the connection.

mod codec;
mod end;
mod handshake;
mod protocol;
mod read;
mod socket;
mod transport;
mod write;

pub(crate) use codec::describe;
pub(crate) use protocol::TlsProtocol;
pub(crate) use transport::TlsTransport;
