//! Which request a completion of the ring belongs to: the number that the kernel returns with it
//! (`user_data`), and how the range of numbers is divided.

/// From 0 on: a receive or a poll, by its number in [`Requests`](super::incoming::Requests).
pub(super) type Tag = u64;

/// From here on: a send, by its number.
pub(super) const SENDS: Tag = 1 << 32;
/// From here on: a transfer of a file, by its number.
pub(super) const TRANSFERS: Tag = 1 << 48;
/// From here on: an accept, by its number in [`Requests`](super::incoming::Requests), which is the lower half.
pub(super) const ACCEPTS: Tag = 1 << 56;
/// The poll of the waker.
pub(super) const BELL: Tag = u64::MAX - 2;
/// The poll of the multiplexer.
pub(super) const INNER: Tag = u64::MAX - 1;
/// Requests whose completions are of no interest.
pub(super) const NOBODY: Tag = u64::MAX;
