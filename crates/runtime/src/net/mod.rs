//! TCP for futures, over the core's machines.
//!
//! In a simulated loop these are the simulation's sockets: a program that takes its [`Loop`] as an
//! argument runs in virtual time without a change.
//!
//! [`Loop`]: crate::Loop

mod connect;
mod listener;
mod stream;

pub use listener::TcpListener;
pub use stream::TcpStream;

pub(crate) use stream::Connection;
