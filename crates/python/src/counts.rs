//! How many of this crate's objects are alive. In builds with debug assertions, a test asks before
//! and after, and expects no more than before. In release builds none of this exists.

#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicIsize, Ordering};

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    EventLoop,
    Handle,
    TimerHandle,
    StreamTransport,
    ReadPipeTransport,
    WritePipeTransport,
    TlsProtocol,
    TlsTransport,
    DatagramTransport,
    StreamReader,
    StreamWriter,
    Event,
    Lock,
    Condition,
    Semaphore,
    Queue,
    Timeout,
    Future,
    Task,
    Gathering,
    Waiting,
    TaskGroup,
    Server,
}

#[cfg(debug_assertions)]
impl Kind {
    pub(crate) const ALL: [(Self, &'static str); 23] = [
        (Self::EventLoop, "EventLoop"),
        (Self::Handle, "Handle"),
        (Self::TimerHandle, "TimerHandle"),
        (Self::StreamTransport, "StreamTransport"),
        (Self::ReadPipeTransport, "ReadPipeTransport"),
        (Self::WritePipeTransport, "WritePipeTransport"),
        (Self::TlsProtocol, "TlsProtocol"),
        (Self::TlsTransport, "TlsTransport"),
        (Self::DatagramTransport, "DatagramTransport"),
        (Self::StreamReader, "StreamReader"),
        (Self::StreamWriter, "StreamWriter"),
        (Self::Event, "Event"),
        (Self::Lock, "Lock"),
        (Self::Condition, "Condition"),
        (Self::Semaphore, "Semaphore"),
        (Self::Queue, "Queue"),
        (Self::Timeout, "Timeout"),
        (Self::Future, "Future"),
        (Self::Task, "Task"),
        (Self::Gathering, "Gathering"),
        (Self::Waiting, "Waiting"),
        (Self::TaskGroup, "TaskGroup"),
        (Self::Server, "Server"),
    ];
}

#[cfg(debug_assertions)]
static LIVE: [AtomicIsize; Kind::ALL.len()] = [const { AtomicIsize::new(0) }; Kind::ALL.len()];

/// A part of every counted object.
#[cfg(debug_assertions)]
pub(crate) struct Counted(Kind);

#[cfg(debug_assertions)]
impl Counted {
    pub(crate) fn new(kind: Kind) -> Self {
        LIVE[kind as usize].fetch_add(1, Ordering::Relaxed);
        Self(kind)
    }
}

#[cfg(debug_assertions)]
impl Drop for Counted {
    fn drop(&mut self) {
        LIVE[self.0 as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// A part of every counted object.
#[cfg(not(debug_assertions))]
pub(crate) struct Counted;

#[cfg(not(debug_assertions))]
impl Counted {
    pub(crate) fn new(_kind: Kind) -> Self {
        Self
    }
}

/// How many objects of each kind are alive; nothing in builds that do not count.
pub(crate) fn live() -> Vec<(&'static str, isize)> {
    #[cfg(debug_assertions)]
    return Kind::ALL
        .iter()
        .map(|&(kind, name)| (name, LIVE[kind as usize].load(Ordering::Relaxed)))
        .collect();
    #[cfg(not(debug_assertions))]
    Vec::new()
}
