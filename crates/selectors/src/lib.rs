//! The system's multiplexers, side by side.
//!
//! There are two layers. [`backend::Backend`] is the lower one: tokens in, events out, nothing
//! allocated per wait. It serves the driver crate. [`selector::Selector`] is the upper one: the
//! semantics of Python's `selectors` module (a map of keys, modify, hang-ups reported as what was
//! asked for, time-outs rounded away from zero, an interrupted wait is empty).
//!
//! All backends of a platform are compiled together: the user chooses one at run time.

#![deny(unsafe_code)]

pub mod backend;
pub mod event;
pub mod interest;
pub mod key;
pub mod selector;
pub mod timeout;
