//! What a [`super::Tls`] answers: what its embedder has to do next.

/// What to do when the lower transport is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Start the timer and take the first step of the handshake.
    Handshake,
    /// The program has closed the connection before it began: abort the lower transport.
    Abort,
    /// Nothing: it has begun before.
    Nothing,
}

/// What the records that have arrived are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nobody.
    Nothing,
    /// Shake hands.
    Handshake,
    /// Decrypt while [`super::Tls::wants_read`], write what is queued, ask
    /// [`super::Tls::read_flow`].
    Read,
    /// The same until nothing is left, then [`super::Tls::start_shutdown`].
    Flush,
    /// See [`super::Tls::shutdown`].
    Shutdown,
}

/// What to do with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WritePlan {
    /// Encrypt it, behind what is queued.
    Encrypt,
    /// Queue it until hands are shaken, or the lower transport has room.
    Queue,
    /// Drop it: the connection is closing or lost. So many writes were dropped before; asyncio
    /// warns when there were five.
    Late(u32),
}

/// What to do about `close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosePlan {
    /// Nothing: it is closing already, or has not begun.
    Nothing,
    /// Start the timer and take the [`Step::Flush`].
    Flush,
    /// There is nobody to part from yet: abort the lower transport.
    Abort,
}

/// What to do about the end of the lower stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndPlan {
    /// Let the lower transport close.
    Nothing,
    /// The handshake has failed: the peer has gone.
    Fail,
    /// Keep the lower transport open: the program is still to read what has arrived.
    Keep,
    /// Take the [`Step::Flush`], then let the lower transport close, unless
    /// [`super::Tls::keeps_open`].
    Flush,
    /// Take the [`Step::Shutdown`], then let the lower transport close.
    Shutdown,
}

/// How the farewell goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Not at all.
    Nothing,
    /// Send ours, wait for the peer's.
    Unwrap,
    /// The peer cannot answer any more: [`super::Tls::finish`].
    Finish,
}

/// What has taken too long. The connection is aborted already: abort the lower transport with an
/// error that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// The peer did not finish the handshake.
    Handshake,
    /// The peer did not say farewell, or did not take what was left to send.
    Shutdown,
}

/// What follows from the loss of the lower transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Schedule the protocol's `connection_lost`.
    pub tell: bool,
}
