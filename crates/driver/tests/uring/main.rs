//! What only the io_uring driver has: a pool that runs out, requests under way when a descriptor is
//! closed, a ring that belongs to a thread, and systems that forbid it.

mod accepts;
mod ends;
mod overflow;
mod receives;
mod sandbox;
mod sends;
mod transfers;
mod waits;
mod world;
