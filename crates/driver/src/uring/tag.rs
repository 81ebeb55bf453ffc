//! Which request an answer of the ring belongs to: the number that the kernel hands back with it
//! (`user_data`), and how its range is divided.

/// From 0 on: a receive or a poll, by its number in [`Requests`](super::incoming::Requests).
pub(super) type Tag = u64;

/// From here on: a send, by its number.
pub(super) const SENDS: Tag = 1 << 32;
/// From here on: a transfer of a file, by its number.
pub(super) const TRANSFERS: Tag = 1 << 48;
/// The poll of the waker.
pub(super) const BELL: Tag = u64::MAX - 2;
/// The poll of the multiplexer.
pub(super) const INNER: Tag = u64::MAX - 1;
/// Requests whose answers tell nothing.
pub(super) const NOBODY: Tag = u64::MAX;
