//! What other threads may do with a loop: send it closures, and wake its tasks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;
use std::thread::{self, ThreadId};

use oxlip_core::id::Id;
use oxlip_core::inbox::Inbox;
use oxlip_driver::Waker;

/// A reference to a loop for any thread.
#[derive(Clone)]
pub struct Remote(Arc<Shared>);

struct Shared {
    inbox: Inbox<Message>,
    waker: Waker,
    owner: ThreadId,
}

/// What comes through the inbox.
pub(crate) enum Message {
    Call(Box<dyn FnOnce() + Send>),
    Task(Id),
}

impl Remote {
    /// Made by the owner's thread, which a loop never leaves.
    pub(crate) fn new(waker: Waker) -> Self {
        let owner = thread::current().id();
        Self(Arc::new(Shared {
            inbox: Inbox::new(),
            waker,
            owner,
        }))
    }

    /// Runs the closure on the loop's thread, soon.
    pub fn call_soon(&self, call: impl FnOnce() + Send + 'static) {
        self.send(Message::Call(Box::new(call)));
    }

    /// The owner's own messages need no wake: before it waits, it looks.
    pub(crate) fn send(&self, message: Message) {
        if self.0.inbox.push(message) && thread::current().id() != self.0.owner {
            self.0.waker.wake();
        }
    }

    pub(crate) fn has_messages(&self) -> bool {
        !self.0.inbox.is_empty()
    }

    pub(crate) fn drain(&self, take: impl FnMut(Message)) {
        self.0.inbox.drain(take);
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

/// The waker of the future that the loop runs for.
pub(crate) struct Root {
    woken: AtomicBool,
    remote: Remote,
}

impl Root {
    /// Woken from the start: a future wants to be polled once.
    pub(crate) fn new(remote: Remote) -> Arc<Self> {
        Arc::new(Self {
            woken: AtomicBool::new(true),
            remote,
        })
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    pub(crate) fn take_wake(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Root {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let woken = self.woken.swap(true, Ordering::AcqRel);
        if !woken && thread::current().id() != self.remote.0.owner {
            self.remote.0.waker.wake();
        }
    }
}

/// The waker of a task. Between two polls any number of wakes is one message.
pub(crate) struct TaskWaker {
    id: Id,
    queued: AtomicBool,
    remote: Remote,
}

impl TaskWaker {
    pub(crate) fn new(id: Id, remote: Remote) -> Arc<Self> {
        Arc::new(Self {
            id,
            queued: AtomicBool::new(false),
            remote,
        })
    }

    /// The task is about to be polled: wakes from here on count anew.
    pub(crate) fn begin(&self) {
        self.queued.swap(false, Ordering::AcqRel);
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.remote.send(Message::Task(self.id));
        }
    }
}
