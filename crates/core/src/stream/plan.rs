//! What a [`super::Stream`] answers: what its embedder has to do next.

use crate::write_queue::Flow;

/// What to do with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WritePlan {
    /// Send it at once; queue what is not taken.
    Now,
    /// Queue it; the queue is flushed when the handle that runs is over, or when there is room.
    Later,
    /// An error of the user's: `write_eof` has been called, or somebody else sends
    /// ([`super::Stream::reserve`]). asyncio raises `RuntimeError`.
    Refused,
    /// Drop it: the connection is lost. This is the nth such write, beginning with 1; asyncio warns
    /// from the fifth on.
    Lost(u32),
}

/// What to do about `write_eof`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EofPlan {
    /// Nothing: the stream is closing, or this has been asked for before.
    Already,
    /// Shut the sending side down now.
    Shutdown,
    /// [`Then::Shutdown`] will say when.
    AfterFlush,
}

/// What to do about `close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosePlan {
    /// Nothing: the stream is closing already.
    Already,
    /// Stop receiving; [`Then::Lost`] will say when everything has been sent.
    Flushing,
    /// Stop receiving and schedule `connection_lost(None)`.
    Lost,
}

/// What a send has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What the protocol has to be told, before `then`.
    pub flow: Option<Flow>,
    /// What else is due.
    pub then: Then,
}

/// What is due once the queue is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// Shut the sending side down: `write_eof` has waited for this. Then ask again.
    Shutdown,
    /// Who has reserved the stream may send.
    Yours,
    /// The stream was closing: `connection_lost(None)` is due. asyncio calls it at once when a
    /// `Sendable` led here; after a flush at the end of a handle it should be scheduled, as
    /// `close` with nothing queued does.
    Lost,
}
