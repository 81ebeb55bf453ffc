//! The contract of `Driver`, body by body: the same on every driver.
//!
//! A body is generic over a [`world::World`], which is a driver and a way to make connected sockets
//! in it. `on_every_driver!` makes one test of each body and driver.

mod close;
mod connect;
mod datagram;
mod offload;
mod pipe;
mod receive;
mod send;
mod wait;
mod watch;
mod world;
