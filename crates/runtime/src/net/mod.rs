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

use std::cell::Cell;
use std::task::Waker;

/// Whether there was somebody to wake.
fn wake(waiting: &Cell<Option<Waker>>) -> bool {
    match waiting.take() {
        Some(waker) => {
            waker.wake();
            true
        }
        None => false,
    }
}
