//! A single-threaded event loop for Rust closures and futures.
//!
//! The same scheduler, stream machines and drivers as under oxlip for Python, with Rust on top: this
//! crate is the core's second embedder. A [`LocalLoop`] owns everything and runs it; a [`Loop`] is
//! the handle to it that closures and futures carry along. Nothing is found through thread-locals,
//! so several loops, simulated ones among them, can live on one thread.
//!
//! ```
//! use std::time::Duration;
//! use oxlip::LocalLoop;
//!
//! let owner = LocalLoop::new()?;
//! let answer = owner.block_on(async {
//!     let slow = owner.spawn({
//!         let lp = owner.handle();
//!         async move {
//!             lp.sleep(Duration::from_millis(1)).await;
//!             42
//!         }
//!     });
//!     slow.await
//! });
//! assert_eq!(answer, Ok(42));
//! # Ok::<(), std::io::Error>(())
//! ```

#![forbid(unsafe_code)]

mod local;
pub mod net;
mod remote;
mod task;
mod time;
mod watch;

pub use local::{LocalLoop, Loop};
pub use oxlip_core::tick::TimerId;
pub use oxlip_core::time::Time;
pub use oxlip_driver::{AnyDriver, Faults, Sim};
pub use remote::Remote;
pub use task::{Aborted, JoinHandle};
pub use time::{Elapsed, Sleep};
