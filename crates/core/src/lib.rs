//! The pure half of the event loop: scheduler and I/O state machines.
//!
//! Nothing here makes a system call, reads a clock, spawns a thread or calls back into its user.
//! Time and I/O results come in as arguments; what is to be done next goes out as a return value.
//! That makes every machine deterministic, testable without an operating system, and the same for
//! readiness drivers (epoll, poll, select) and completion drivers (`io_uring`, IOCP).
//!
//! Two families live here and do not know each other:
//!
//! * the **tick**: [`tick::Scheduler`] over the ready queue and [`timers::Timers`], fed from other
//!   threads through [`inbox::Inbox`]; [`bursts::Bursts`] says how much that can be used again is kept;
//! * the **machines**: [`stream::Stream`], [`datagram::Endpoint`], [`listener::Listener`],
//!   [`connect::Connect`], which turn [`op::Completion`]s into decisions and decisions into
//!   [`op::Op`]s, and [`tls::Tls`], which stands on a stream; [`holding::Holding`] says when what
//!   streams have queued leaves.
//!
//! Whoever owns both and moves data between them is the *embedder* (the Python extension, the
//! crate `oxlip`).

#![forbid(unsafe_code)]

pub mod address;
pub mod bulk;
pub mod bursts;
pub mod connect;
pub mod datagram;
pub mod file;
pub mod flow;
pub mod holding;
pub mod id;
pub mod inbox;
pub mod listener;
pub mod op;
pub mod stream;
pub mod tick;
pub mod time;
pub mod timers;
pub mod tls;
pub mod write_queue;
