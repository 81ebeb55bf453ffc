//! The loop: who owns it, who refers to it, and its tick.
//!
//! Everything here belongs to one thread. No borrow is held while user code runs, so closures and
//! futures may do with the loop what they like.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::ops::Deref;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Op};
use oxlip_core::tick::{Scheduler, TimerId};
use oxlip_core::time::Time;
use oxlip_driver::{AnyDriver, Driver, Sim};

use crate::net::Connection;
use crate::remote::{Message, Remote, Root};
use crate::task::Tasks;
use crate::watch::{Callback, Watches};

/// An event loop and all that lives in it: dropping it drops every task, closure and socket.
pub struct LocalLoop(Loop);

/// A cheap reference to a [`LocalLoop`], to be cloned into closures and futures.
///
/// It keeps working after its loop is gone, but nothing that it schedules then is ever run.
#[derive(Clone)]
pub struct Loop(Rc<State>);

struct State {
    scheduler: RefCell<Scheduler<Handle>>,
    driver: RefCell<AnyDriver>,
    /// Who gets the completions of each of the driver's ids, by the id's index.
    resources: RefCell<Vec<Option<Rc<dyn Resource>>>>,
    tasks: Tasks,
    watches: Watches,
    remote: Remote,
    /// Streams that the running handle has written to, to be flushed at its end.
    unflushed: RefCell<Vec<Rc<Connection>>>,
    completions: RefCell<Vec<Completion>>,
    /// The number of the running handle.
    run: Cell<u64>,
    running: Cell<bool>,
    stopping: Cell<bool>,
}

/// What the scheduler holds.
pub(crate) enum Handle {
    Call(Box<dyn FnOnce()>),
    Callback(Rc<Callback>),
    Task(Id),
    Wake(std::task::Waker),
}

/// Something that the driver reports on.
pub(crate) trait Resource {
    fn completed(self: Rc<Self>, completion: Completion);
}

impl LocalLoop {
    /// A loop over the best driver of this platform.
    ///
    /// # Errors
    /// The system is out of descriptors or memory.
    pub fn new() -> io::Result<Self> {
        Ok(Self::with_driver(AnyDriver::new(None)?))
    }

    /// A loop over this driver.
    #[must_use]
    pub fn with_driver(driver: AnyDriver) -> Self {
        let remote = Remote::new(driver.waker());
        Self(Loop(Rc::new(State {
            scheduler: RefCell::default(),
            driver: RefCell::new(driver),
            resources: RefCell::default(),
            tasks: Tasks::new(remote.clone()),
            watches: Watches::default(),
            remote,
            unflushed: RefCell::default(),
            completions: RefCell::default(),
            run: Cell::new(0),
            running: Cell::new(false),
            stopping: Cell::new(false),
        })))
    }

    /// A reference to this loop.
    #[must_use]
    pub fn handle(&self) -> Loop {
        self.0.clone()
    }

    /// Runs until [`Loop::stop`]. The tick in which that is called is finished first.
    ///
    /// # Panics
    /// If the loop runs already, if a closure or task panics, and if the driver's multiplexer fails.
    pub fn run(&self) {
        let _running = Running::begin(&self.0);
        while !self.0.0.stopping.replace(false) {
            self.0.tick(false);
        }
    }

    /// Runs until the future is ready.
    ///
    /// # Panics
    /// As [`LocalLoop::run`].
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let _running = Running::begin(&self.0);
        let mut future = pin!(future);
        let root = Root::new(self.0.0.remote.clone());
        let waker = root.clone().into();
        loop {
            if root.take_wake() {
                let mut cx = Context::from_waker(&waker);
                if let Poll::Ready(output) = self.0.run_one(|| future.as_mut().poll(&mut cx)) {
                    return output;
                }
            }
            self.0.tick(root.is_woken());
        }
    }
}

impl Loop {
    /// Runs the closure in the next tick.
    pub fn call_soon(&self, call: impl FnOnce() + 'static) {
        self.push(Handle::Call(Box::new(call)));
    }

    /// Runs the closure once the delay is over.
    pub fn call_later(&self, delay: Duration, call: impl FnOnce() + 'static) -> TimerId {
        self.call_at(self.now().after(delay), call)
    }

    /// Runs the closure at that time of [`Loop::now`]'s clock, or soon if it has passed.
    pub fn call_at(&self, when: Time, call: impl FnOnce() + 'static) -> TimerId {
        self.push_at(when, Handle::Call(Box::new(call)))
    }

    /// Drops a closure that was to be called later. `false`: it is ready to run, or has run.
    pub fn cancel(&self, timer: TimerId) -> bool {
        let cancelled = self.0.scheduler.borrow_mut().cancel_timer(timer);
        cancelled.is_some()
    }

    /// Ends [`LocalLoop::run`] after this tick.
    pub fn stop(&self) {
        self.0.stopping.set(true);
    }

    /// The time by the driver's clock, which in a simulation is virtual.
    #[must_use]
    pub fn now(&self) -> Time {
        self.0.driver.borrow().now()
    }

    /// A reference for other threads.
    #[must_use]
    pub fn remote(&self) -> Remote {
        self.0.remote.clone()
    }

    /// The driver's name.
    #[must_use]
    pub fn driver_name(&self) -> &'static str {
        self.0.driver.borrow().name()
    }

    /// Does something to the simulation that this loop runs in. `None` if it runs in reality.
    pub fn simulation<T>(&self, act: impl FnOnce(&mut Sim) -> T) -> Option<T> {
        self.0.driver.borrow_mut().simulation().map(act)
    }

    pub(crate) fn push(&self, handle: Handle) {
        self.0.scheduler.borrow_mut().push(handle);
    }

    pub(crate) fn push_at(&self, when: Time, handle: Handle) -> TimerId {
        self.0.scheduler.borrow_mut().push_at(when, handle)
    }

    /// Uses the driver. Nothing that `act` does may lead to user code.
    pub(crate) fn with_driver<T>(&self, act: impl FnOnce(&mut AnyDriver) -> T) -> T {
        act(&mut self.0.driver.borrow_mut())
    }

    pub(crate) fn submit(&self, op: Op<'_>) -> Poll<Completion> {
        self.0.driver.borrow_mut().submit(op)
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    pub(crate) fn watches(&self) -> &Watches {
        &self.0.watches
    }

    /// The number of the running handle.
    pub(crate) fn current_run(&self) -> u64 {
        self.0.run.get()
    }

    pub(crate) fn flush_later(&self, connection: Rc<Connection>) {
        self.0.unflushed.borrow_mut().push(connection);
    }

    /// The completions of `id` go to `resource` from now on.
    pub(crate) fn register(&self, id: Id, resource: Rc<dyn Resource>) {
        let mut resources = self.0.resources.borrow_mut();
        if resources.len() <= id.index() {
            resources.resize_with(id.index() + 1, || None);
        }
        resources[id.index()] = Some(resource);
    }

    /// Closes the driver's resource and forgets who it was for.
    pub(crate) fn close(&self, id: Id) {
        let resource = self
            .0
            .resources
            .borrow_mut()
            .get_mut(id.index())
            .and_then(Option::take);
        // A closed id has no completions left, so the answer says nothing new.
        let _ = self.submit(Op::Close(id));
        drop(resource);
    }

    fn resource(&self, id: Id) -> Option<Rc<dyn Resource>> {
        self.0.resources.borrow().get(id.index())?.clone()
    }

    /// One pass. `busy`: there is something to do besides what the loop knows of.
    fn tick(&self, busy: bool) {
        let mut completions = mem::take(&mut *self.0.completions.borrow_mut());
        {
            let mut driver = self.0.driver.borrow_mut();
            let timeout = if busy || self.0.remote.has_messages() {
                Some(Duration::ZERO)
            } else {
                self.0.scheduler.borrow_mut().timeout(driver.now())
            };
            driver
                .wait(timeout, &mut completions)
                .expect("the multiplexer works as long as it is open");
        }
        for completion in completions.drain(..) {
            if let Some(resource) = id_of(&completion).and_then(|id| self.resource(id)) {
                resource.completed(completion);
            }
        }
        self.0.completions.replace(completions);
        self.0.remote.drain(|message| {
            self.push(match message {
                Message::Call(call) => Handle::Call(call),
                Message::Task(id) => Handle::Task(id),
            });
        });
        let now = self.now();
        self.0.scheduler.borrow_mut().begin(now);
        loop {
            let Some(handle) = self.0.scheduler.borrow_mut().next() else {
                return;
            };
            self.run_one(|| match handle {
                Handle::Call(call) => call(),
                Handle::Callback(callback) => callback.call(),
                Handle::Task(id) => self.0.tasks.poll(id),
                Handle::Wake(waker) => waker.wake(),
            });
        }
    }

    /// Runs one handle, and flushes what it has written.
    fn run_one<T>(&self, handle: impl FnOnce() -> T) -> T {
        self.0.run.set(self.0.run.get() + 1);
        let outcome = handle();
        loop {
            let Some(connection) = self.0.unflushed.borrow_mut().pop() else {
                return outcome;
            };
            connection.flush();
        }
    }
}

/// Whom a completion of `wait` is about. The other kinds are answers to `submit` only.
fn id_of(completion: &Completion) -> Option<Id> {
    match completion {
        Completion::Readable(id)
        | Completion::Receivable(id)
        | Completion::Sendable(id)
        | Completion::Acceptable(id)
        | Completion::Connected(id, _)
        | Completion::Watched(id, _)
        | Completion::Failed(id, _) => Some(*id),
        Completion::Sent(..) | Completion::File(_) | Completion::Closed(_) => None,
    }
}

impl Deref for LocalLoop {
    type Target = Loop;

    fn deref(&self) -> &Loop {
        &self.0
    }
}

impl Drop for LocalLoop {
    /// What is dropped here may hold references to the loop, and use them: everything is taken out
    /// before it is dropped, until nothing is left.
    fn drop(&mut self) {
        let state = &self.0.0;
        loop {
            let tasks = state.tasks.clear();
            let handles = state.scheduler.borrow_mut().clear();
            let resources = mem::take(&mut *state.resources.borrow_mut());
            let unflushed = mem::take(&mut *state.unflushed.borrow_mut());
            let watches = state.watches.clear();
            state.remote.drain(drop);
            let empty = handles.is_empty() && resources.is_empty() && unflushed.is_empty();
            if empty && !tasks && !watches {
                return;
            }
        }
    }
}

impl fmt::Debug for LocalLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loop")
            .field("driver", &self.driver_name())
            .finish_non_exhaustive()
    }
}

/// Marks the loop as running until dropped.
struct Running<'a>(&'a State);

impl<'a> Running<'a> {
    fn begin(lp: &'a Loop) -> Self {
        assert!(!lp.0.running.replace(true), "the loop runs already");
        Self(&lp.0)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.set(false);
    }
}
