//! `EventLoop`: the embedder of `oxlip-core` for Python.
//!
//! The object is frozen. What only the loop's thread may touch is [`State`], behind a
//! [`ThreadBound`]; what other threads may touch is the inbox, the waker and a few atomics.
//! `methods.rs` is the table of contents: one line per asyncio method, pointing to the file that
//! does it.

pub(crate) mod exception_handler;
pub(crate) mod fastcall;
pub(crate) mod files;
pub(crate) mod fork;
mod inside;
mod lifecycle;
mod methods;
mod number;
pub(crate) mod replaced;
mod resources;
mod schedule;
mod sock;
pub(crate) mod tasks;
mod tick;
pub(crate) mod watch;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use oxlip_core::file::Transferred;
use oxlip_core::holding::Holding;
use oxlip_core::id::Id;
use oxlip_core::inbox::Inbox;
use oxlip_core::op::{Completion, Interest};
use oxlip_core::tick::Scheduler;
use oxlip_driver::{AnyDriver, Driver as _, Waker};
use pyo3::prelude::*;
use pyo3::types::PyDict;

pub(crate) use self::inside::Pending;
pub(crate) use self::resources::{Connection, Descriptors, Receiver, Resource, Resources};
pub(crate) use self::schedule::pass_on;
use self::watch::Keeping;
pub(crate) use self::watch::Watched;
use crate::context::Snapshot;
use crate::counts::{Counted, Kind};
use crate::errors;
use crate::fields::Fields;
use crate::handle::{Handle, Lent, Spare, TimerHandle};
use crate::owner::ThreadBound;
use crate::tasks::Task;
use crate::transport::{Beginning, Ending};

/// asyncio's event loop. Python code subclasses it; see `oxlip.EventLoop`.
#[pyclass(subclass, frozen, module = "oxlip._native")]
pub(crate) struct EventLoop {
    pub(crate) state: ThreadBound<State>,
    inbox: Inbox<Runnable, ForOthers>,
    /// Gone once the loop is closed, and its descriptor with it.
    waker: Mutex<Option<Waker>>,
    driver_name: &'static str,
    driver_reason: Box<str>,
    /// The driver that has taken over, once it is known.
    driver_instead: OnceLock<&'static str>,
    life: AtomicU8,
    running: AtomicBool,
    /// The token of the thread that has set `running`.
    running_thread: AtomicUsize,
    stopping: AtomicBool,
    /// Which methods are the program's own: `replaced.rs`.
    replaced: AtomicU8,
    /// The tick or its wait has been replaced, or put back: who runs the ticks has to look again.
    reconsiders: AtomicBool,
    debug: AtomicBool,
    /// Seconds, as the bits of an `f64`.
    slow_callback_duration: AtomicU64,
    /// The loop is known to asyncio as one that runs no task just now: `tasks/current.rs`.
    #[cfg(not(Py_3_14))]
    pub(crate) between_tasks: AtomicBool,
    /// Not in the state: asyncio lets other threads ask for it, and create tasks.
    task_factory: Fields<Option<Py<PyAny>>>,
    /// The simulated clock as last read, in nanoseconds.
    last_time: AtomicU64,
    _counted: Counted,
}

/// What other threads need to schedule a call, behind the lock that they take anyway.
#[derive(Default)]
struct ForOthers {
    lent: Lent,
    snapshot: Snapshot,
}

impl ForOthers {
    fn traverse(&self, visit: &pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        self.lent.traverse(visit)?;
        self.snapshot.traverse(visit)
    }
}

/// What belongs to the loop's thread. Python code never runs while it is borrowed.
pub(crate) struct State {
    /// Gone once the loop is closed.
    driver: Option<AnyDriver>,
    pub(crate) scheduler: Scheduler<Runnable>,
    pub(crate) completions: Vec<Completion>,
    /// Waits since the GIL was last released for one.
    polls: u32,
    pub(crate) resources: Resources,
    /// Connections whose writes wait for the end of the tick.
    pub(crate) holding: Holding,
    /// Sends that the last wait has answered, and that lead to more than that.
    pub(crate) unsettled: Vec<(Id, std::io::Result<usize>)>,
    /// The number of the running handle.
    pub(crate) run: u64,
    /// Handles to use again.
    spare: Spare,
    /// For handles that are scheduled on this thread.
    snapshot: Snapshot,
    /// The handle that runs in debug mode, for messages about errors in it.
    current_handle: Option<Py<PyAny>>,
    /// The descriptors of `add_reader` and its kin.
    watched_fds: Descriptors,
    keeping: Keeping,
    /// The descriptors of connections, and of past ones: their ids name nothing.
    pub(crate) connected_fds: Descriptors,
    /// `{"loop": …}`, the arguments of every future. Only while the loop runs: it refers to the loop.
    future_keywords: Option<Py<PyDict>>,
    /// Reads and writes of files, by their keys, each with the future that gets the outcome.
    transfers: files::Transfers,
    /// Where long reads of `sock_recv` go; empty until the first.
    scratch: Vec<u8>,
}

/// What a tick runs.
pub(crate) enum Runnable {
    /// `call_soon` and its kin.
    Call(Py<Handle>),
    /// A timer that is due; in the inbox: a timer that is still to be set.
    Timer(Py<TimerHandle>),
    /// A task of ours begins, or goes on after a bare `yield`.
    Step(Py<Task>),
    /// What a task of ours waits for is done.
    Wake(Py<Task>),
    /// Those who count tasks of ours are told that this one has ended.
    Tell(Py<Task>),
    /// A connection has something to read.
    Readable(Id),
    /// Datagrams wait on a socket.
    Receivable(Id),
    /// A connection has room for what was left to send.
    Sendable(Id),
    /// Connections wait on a listening socket.
    Acceptable(Id),
    /// A descriptor of the program's is ready.
    Watched(Id, Interest),
    /// A file has been read from or written to.
    Transferred(Box<Transferred>),
    /// The driver could not go on with a resource.
    Failed(Box<(Id, std::io::Error)>),
    /// `connection_made`, then reading.
    Begin(Box<Beginning>),
    /// `connection_lost`, then the descriptor is closed.
    End(Box<Ending>),
    /// Accepting goes on after the system had run out of descriptors.
    AcceptAgain(Id),
    /// An object that a program has put into the queue, or has seen there (`inside.rs`); it has `_run`.
    Foreign(Py<PyAny>),
}

impl State {
    /// The driver of a loop that is not closed: every caller holds a resource or has checked.
    #[inline]
    pub(crate) fn driver(&mut self) -> &mut AnyDriver {
        self.driver.as_mut().expect("the loop is open")
    }

    /// Notes that what was written on a connection waits for the end of the tick.
    pub(crate) fn hold(&mut self, id: Id) {
        let Self {
            driver, holding, ..
        } = self;
        let driver = driver.as_ref().expect("the loop is open");
        holding.hold(id, driver);
    }

    /// The driver and the resources at once.
    #[inline]
    pub(crate) fn parts(&mut self) -> (&mut AnyDriver, &mut Resources) {
        (
            self.driver.as_mut().expect("the loop is open"),
            &mut self.resources,
        )
    }
}

impl EventLoop {
    fn create(driver: Option<&str>) -> PyResult<Self> {
        let from_environment = match driver {
            Some(_) => None,
            None => std::env::var("OXLIP_DRIVER")
                .ok()
                .filter(|name| !name.is_empty()),
        };
        let driver =
            AnyDriver::new(driver.or(from_environment.as_deref())).map_err(errors::os_error)?;
        let gathers_sends = driver.gathers_sends();
        Ok(Self {
            waker: Mutex::new(Some(driver.waker())),
            driver_name: driver.name(),
            driver_reason: driver.reason().into(),
            driver_instead: OnceLock::new(),
            state: ThreadBound::new(State {
                driver: Some(driver),
                scheduler: Scheduler::new(),
                completions: Vec::new(),
                polls: 0,
                resources: Resources::default(),
                holding: Holding::new(gathers_sends),
                unsettled: Vec::new(),
                run: 0,
                spare: Spare::default(),
                snapshot: Snapshot::default(),
                current_handle: None,
                watched_fds: Descriptors::default(),
                keeping: Keeping::default(),
                connected_fds: Descriptors::default(),
                future_keywords: None,
                transfers: files::Transfers::default(),
                scratch: Vec::new(),
            }),
            inbox: Inbox::default(),
            life: AtomicU8::new(fork::OPEN),
            running: AtomicBool::new(false),
            running_thread: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            replaced: AtomicU8::new(0),
            reconsiders: AtomicBool::new(false),
            debug: AtomicBool::new(false),
            slow_callback_duration: AtomicU64::new(0.1_f64.to_bits()),
            #[cfg(not(Py_3_14))]
            between_tasks: AtomicBool::new(false),
            task_factory: Fields::new(None),
            last_time: AtomicU64::new(0),
            _counted: Counted::new(Kind::EventLoop),
        })
    }

    /// Wakes the loop if it sleeps. Once for a batch of the inbox, so the lock is seldom taken.
    fn wake(&self) {
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake();
        }
    }

    #[inline]
    pub(crate) fn is_debug(&self) -> bool {
        self.debug.load(Ordering::Relaxed)
    }

    /// Visits every Python object that the state holds, for the cycle collector. A loop that runs
    /// elsewhere, or right now further up the stack, is in use: what it holds is not garbage.
    fn traverse(&self, visit: &pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        self.task_factory
            .traverse(visit, |factory, visit| visit.call(factory))?;
        let (mut waiting, mut others) = (Ok(()), Ok(()));
        self.inbox.for_each(
            |runnable| {
                if waiting.is_ok() {
                    waiting = runnable.traverse(visit);
                }
            },
            |for_others| others = for_others.traverse(visit),
        );
        waiting?;
        others?;
        self.state
            .try_with(|state| {
                let mut result = Ok(());
                let mut each = |runnable: &Runnable| {
                    if result.is_ok() {
                        result = runnable.traverse(visit);
                    }
                };
                state.scheduler.for_each(&mut each);
                result?;
                state.spare.traverse(visit)?;
                state.snapshot.traverse(visit)?;
                visit.call(&state.future_keywords)?;
                state.transfers.traverse(visit)?;
                state.resources.traverse(visit)
            })
            .unwrap_or(Ok(()))
    }
}

impl Runnable {
    fn traverse(&self, visit: &pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        match self {
            Self::Call(handle) => visit.call(handle),
            Self::Timer(handle) => visit.call(handle),
            Self::Foreign(handle) => visit.call(handle),
            Self::Step(task) | Self::Wake(task) | Self::Tell(task) => visit.call(task),
            Self::Begin(beginning) => beginning.traverse(visit),
            Self::End(ending) => ending.traverse(visit),
            Self::Readable(_)
            | Self::Receivable(_)
            | Self::Sendable(_)
            | Self::Acceptable(_)
            | Self::Watched(..)
            | Self::Transferred(_)
            | Self::Failed(_)
            | Self::AcceptAgain(_) => Ok(()),
        }
    }
}
