//! One pass of the loop: wait, queue what completed, run what was queued when the pass began.
//!
//! The order is asyncio's: I/O callbacks first, then due timers, both behind what was scheduled
//! before; callbacks scheduled meanwhile wait for the next tick.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use oxlip_core::op::Completion;
use oxlip_core::time::Time;
use oxlip_driver::Driver as _;
use pyo3::prelude::*;

use super::{EventLoop, Runnable, State, inside, watch};
use crate::handle::{Handle, TimerHandle};
use crate::owner::Ownership;
use crate::{names, transport};

/// Runs one tick of a loop that this thread owns; `sleep` lets it wait for something to happen.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` of a callback or a signal handler; `OSError` if the
/// multiplexer fails.
pub(super) fn tick(
    event_loop: &Bound<'_, EventLoop>,
    owned: &Ownership<'_, State>,
    sleep: bool,
) -> PyResult<()> {
    let py = event_loop.py();
    let this = event_loop.get();
    // What was written outside of any callback must leave before the loop may sleep.
    transport::flush(event_loop)?;
    this.drain_inbox(py);
    let poll = !sleep || this.stopping.load(Ordering::Relaxed);
    if owned.with(|state| {
        let timeout = state.timeout(poll);
        state.wait(py, timeout)
    })? {
        // Python's own signal handlers run here, and Ctrl-C leaves from here.
        py.check_signals()?;
    }
    this.drain_inbox(py);
    owned.with(State::begin);
    let mut spare = None;
    loop {
        match owned.with(|state| state.next(spare.take())) {
            Next::Run(runnable) if this.is_debug() => run_timed(event_loop, runnable)?,
            Next::Run(Runnable::Call(handle)) => {
                Handle::run(handle.bind(py))?;
                spare = Handle::recycle(handle, py);
            }
            Next::Run(runnable) => run(event_loop, runnable)?,
            Next::Flush => transport::flush(event_loop)?,
            Next::Over => return Ok(()),
        }
    }
}

/// More than this many handles are not kept for reuse: a burst must not hold its memory for ever.
const SPARE_HANDLES: usize = 1024;

/// What a tick does next.
enum Next {
    Run(Runnable),
    /// What the handles have written leaves.
    Flush,
    Over,
}

#[inline]
pub(super) fn run(event_loop: &Bound<'_, EventLoop>, runnable: Runnable) -> PyResult<()> {
    let py = event_loop.py();
    match runnable {
        Runnable::Call(handle) => Handle::run(handle.bind(py)),
        Runnable::Timer(handle) => TimerHandle::run(handle.bind(py)),
        Runnable::Readable(id) => transport::read(event_loop, id),
        Runnable::Sendable(id) => transport::sendable(event_loop, id),
        Runnable::Acceptable(id) => transport::accept(event_loop, id),
        Runnable::Watched(id, ready) => watch::ready(event_loop, id, ready),
        Runnable::Failed(failure) => transport::failed(event_loop, failure.0, failure.1),
        Runnable::Begin(beginning) => transport::begin(event_loop, *beginning),
        Runnable::End(ending) => transport::end(event_loop, *ending),
        Runnable::AcceptAgain(id) => transport::accept_again(event_loop, id),
        Runnable::Foreign(handle) => inside::run_foreign(handle.bind(py)),
    }
}

/// As [`run`], and says which callback held the loop up (debug mode).
#[cold]
fn run_timed(event_loop: &Bound<'_, EventLoop>, runnable: Runnable) -> PyResult<()> {
    let py = event_loop.py();
    let description = runnable.describe(event_loop)?;
    let set_current = |handle| {
        event_loop
            .get()
            .state
            .with(|state| std::mem::replace(&mut state.current_handle, handle))
    };
    drop(set_current(
        description.as_ref().map(|it| it.clone_ref(py)),
    )?);
    let began = Instant::now();
    let result = run(event_loop, runnable);
    drop(set_current(None)?);
    let took = began.elapsed().as_secs_f64();
    let limit = f64::from_bits(
        event_loop
            .get()
            .slow_callback_duration
            .load(Ordering::Relaxed),
    );
    if took >= limit {
        let Some(object) = description else {
            return result;
        };
        // For a step of a task this is the task, which names its coroutine.
        let what = match object.getattr(py, "_callback") {
            Ok(_) => names::FORMAT_HANDLE.get(py)?.call1((object,))?,
            Err(_) => object.bind(py).repr()?.into_any(),
        };
        let took = pyo3::types::PyFloat::new(py, took).into_any();
        crate::errors::log_warning(py, "Executing %s took %.3f seconds", &[what, took])?;
    }
    result
}

impl State {
    /// How long the next wait may last.
    fn timeout(&mut self, poll: bool) -> Option<Duration> {
        if poll {
            return Some(Duration::ZERO);
        }
        // The clock is read only if there is a timer to compare it with.
        let now = if self.scheduler.has_ready() {
            Time::ZERO
        } else {
            self.driver().now()
        };
        self.scheduler.timeout(now)
    }

    /// Waits for I/O or a wake; true if it may have slept. The GIL is released only then.
    pub(super) fn wait(&mut self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<bool> {
        let Self {
            driver,
            scheduler,
            completions,
            ..
        } = self;
        let driver = driver.as_mut().expect("a running loop is open");
        let result = if timeout == Some(Duration::ZERO) {
            driver.wait(timeout, completions)
        } else {
            py.detach(|| driver.wait(timeout, completions))
        };
        result.map_err(crate::errors::os_error)?;
        for completion in completions.drain(..) {
            scheduler.push(match completion {
                Completion::Readable(id) => Runnable::Readable(id),
                Completion::Sendable(id) => Runnable::Sendable(id),
                Completion::Acceptable(id) => Runnable::Acceptable(id),
                Completion::Watched(id, ready) => Runnable::Watched(id, ready),
                Completion::Failed(id, error) => Runnable::Failed(Box::new((id, error))),
                // Answers to ops that this embedder takes at once, or does not use.
                Completion::Sent(..) | Completion::Connected(..) | Completion::Closed(_) => {
                    continue;
                }
            });
        }
        Ok(timeout != Some(Duration::ZERO))
    }

    fn begin(&mut self) {
        let Self {
            driver,
            scheduler,
            holding,
            ..
        } = self;
        let driver = driver.as_ref().expect("a running loop is open");
        let now = if scheduler.timers_len() == 0 {
            Time::ZERO
        } else {
            driver.now()
        };
        scheduler.begin(now);
        holding.begin(|| driver.now());
    }

    /// What to do next; `spare` is a handle that has run and that nobody else holds.
    #[inline]
    fn next(&mut self, spare: Option<Py<Handle>>) -> Next {
        if let Some(spare) = spare
            && self.spare_handles.len() < SPARE_HANDLES
        {
            self.spare_handles.push(spare);
        }
        let Self {
            driver, holding, ..
        } = self;
        let driver = driver.as_ref().expect("a running loop is open");
        if holding.is_due(|| driver.now()) {
            return Next::Flush;
        }
        self.run += 1;
        match self.scheduler.next() {
            Some(runnable) => Next::Run(runnable),
            None if self.holding.is_empty() => Next::Over,
            None => Next::Flush,
        }
    }
}

impl Runnable {
    /// What debug mode shows for a slow callback.
    fn describe(&self, event_loop: &Bound<'_, EventLoop>) -> PyResult<Option<Py<PyAny>>> {
        let py = event_loop.py();
        Ok(match self {
            Self::Call(handle) => Some(handle.clone_ref(py).into_any()),
            Self::Timer(handle) => Some(handle.clone_ref(py).into_any()),
            Self::Foreign(handle) => Some(handle.clone_ref(py)),
            Self::Begin(beginning) => Some(beginning.transport.clone_ref(py).into_any()),
            Self::End(ending) => Some(ending.transport.clone_ref(py).into_any()),
            Self::Readable(id) | Self::Sendable(id) => event_loop.get().state.with(|state| {
                let connection = state.resources.connection(*id)?;
                Some(connection.transport.clone_ref(py).into_any())
            })?,
            Self::Watched(id, ready) => watch::describe(event_loop, *id, *ready)?,
            Self::Acceptable(_) | Self::Failed(_) | Self::AcceptAgain(_) => None,
        })
    }
}

impl EventLoop {
    /// Moves what other threads have scheduled into the ready queue.
    pub(super) fn drain_inbox(&self, py: Python<'_>) {
        if self.inbox.is_empty() {
            return;
        }
        let mut timers = Vec::new();
        let _ = self.state.with(|state| {
            self.inbox.drain(|runnable| match runnable {
                Runnable::Timer(handle) => timers.push(handle),
                runnable => state.scheduler.push(runnable),
            })
        });
        for handle in timers {
            self.set_timer(handle.bind(py));
        }
    }
}
