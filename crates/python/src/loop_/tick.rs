//! One pass of the loop: wait, queue what completed, run what was queued when the pass began.
//!
//! The order is asyncio's: I/O callbacks first, then due timers, both behind what was scheduled
//! before; callbacks scheduled meanwhile wait for the next tick.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use oxlip_core::bursts;
use oxlip_core::op::Completion;
use oxlip_core::time::Time;
use oxlip_driver::Driver as _;
use pyo3::prelude::*;

use super::{EventLoop, Runnable, State, files, inside, replaced, watch};
use crate::context::Runner;
use crate::handle::{Handle, TimerHandle, Used, collector};
use crate::owner::Ownership;
use crate::tasks::{Task, current, step, told};
use crate::{chains, log};
use crate::{names, transport};

/// Runs one tick of a loop that this thread owns; `sleep` lets it wait for something to happen.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` of a callback or a signal handler; `OSError` if the
/// multiplexer fails.
pub(super) fn tick(
    event_loop: &Bound<'_, EventLoop>,
    owned: &Ownership<'_, State>,
    runner: &mut Option<Runner>,
    sleep: bool,
) -> PyResult<()> {
    let py = event_loop.py();
    let this = event_loop.get();
    // A fork in the last tick may have left the loop behind.
    this.check_open()?;
    if chains::are_under_way() {
        current::settle(event_loop)?;
        chains::forget_left(py);
    }
    this.drain_inbox(py);
    let poll = !sleep || this.stopping.load(Ordering::Relaxed);
    if this.has_own_time() {
        current::settle(event_loop)?;
    }
    let (ready, bursts_left_some) =
        owned.with(|state| (state.scheduler.has_ready(), state.spare.is_left_by_bursts()));
    let sleeps = !poll && !ready;
    if sleeps {
        current::settle(event_loop)?;
        drop(runner.take());
        this.drop_contexts(owned);
    }
    if bursts_left_some {
        current::settle(event_loop)?;
        this.after_bursts(owned);
    }
    let own_now = if !poll && this.has_own_time() && owned.with(|state| state.waits_for_timer()) {
        replaced::own_now(event_loop)?
    } else {
        None
    };
    // What is written must leave before the loop may sleep. Flushing that may call the program comes
    // first: the program could fork, and the child would send what is staged once more; or raise
    // KeyboardInterrupt, and the wait that answers would not follow. So staging is last, and in one
    // piece with the wait.
    if poll || !owned.with(State::goes_on_holding) {
        transport::flush_before_wait(event_loop)?;
    }
    // A signal that came before the wait does not end it if the program has taken over the descriptor
    // that signals write to.
    if sleeps {
        py.check_signals()?;
    }
    let (gone, settled, yielded) = owned.with(|state| {
        transport::stage_for_wait(state);
        let gone = state.end_kept();
        let timeout = state.timeout(poll, own_now);
        let settled = state.wait(py, timeout);
        (gone, settled, state.polls == 0)
    });
    if !gone.is_empty() {
        current::settle(event_loop)?;
        drop(gone);
    }
    let settled = settled?;
    settle(event_loop, owned, settled)?;
    // Python's own signal handlers run here, and Ctrl-C is raised here. This is also done without a sleep: the
    // interpreter checks only between its instructions, and callbacks may all be native. Between steps of tasks
    // it checks in the next step, unless all coroutines are native, too: so it is done here now and then.
    if yielded {
        current::settle(event_loop)?;
    }
    if !current::is_unsettled(event_loop) {
        py.check_signals()?;
    }
    this.drain_inbox(py);
    let own_due = replaced::own_due(event_loop)?;
    owned.with(|state| state.begin(own_due));
    let mut spare = None;
    loop {
        match owned.with(|state| state.next(spare.take())) {
            Next::Run(runnable) if this.is_debug() => run_timed(event_loop, runnable)?,
            Next::Run(runnable) if this.has_own_handle_run() => run(event_loop, runnable)?,
            Next::Run(Runnable::Call(handle)) => {
                current::settle(event_loop)?;
                spare = Handle::run_queued(handle.into_bound(py), runner)?;
            }
            Next::Run(Runnable::Timer(handle)) => {
                current::settle(event_loop)?;
                spare = TimerHandle::run_queued(handle.into_bound(py), runner)?;
            }
            Next::Run(runnable) => run(event_loop, runnable)?,
            Next::Flush => transport::flush(event_loop)?,
            Next::Drop(over) => {
                // Empty, but a program may have a weak reference to it.
                current::settle(event_loop)?;
                drop(over);
            }
            Next::Over => return Ok(()),
        }
    }
}

/// Goes on with what a wait has answered to sends, unless that is done (`settled`), before any program
/// runs; then queues what else has happened.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` of a protocol.
pub(super) fn settle(
    event_loop: &Bound<'_, EventLoop>,
    owned: &Ownership<'_, State>,
    settled: bool,
) -> PyResult<()> {
    if settled {
        return Ok(());
    }
    let outcome = transport::settle_sent(event_loop);
    owned.with(State::queue_completions);
    outcome
}

/// After this many polls in a row the GIL is released once: if all callbacks are native, the interpreter never
/// gets to do so, and other threads would wait for ever.
const POLLS_BEFORE_YIELD: u32 = 128;

/// What a tick does next.
enum Next {
    Run(Runnable),
    /// Flush what the handles have written.
    Flush,
    /// Drop a used handle that is one too many.
    Drop(Used),
    Over,
}

#[inline]
pub(super) fn run(event_loop: &Bound<'_, EventLoop>, runnable: Runnable) -> PyResult<()> {
    let py = event_loop.py();
    if !matches!(
        runnable,
        Runnable::Step(_) | Runnable::Wake(_) | Runnable::Tell(_)
    ) {
        current::settle(event_loop)?;
    }
    match runnable {
        Runnable::Call(handle) => {
            let handle = handle.into_bound(py);
            collector::show(&handle);
            match replaced::handle_run(event_loop)? {
                Some(function) => Handle::run_by(&handle, &function),
                None => Handle::run(&handle),
            }
        }
        Runnable::Timer(handle) => match replaced::handle_run(event_loop)? {
            Some(function) => TimerHandle::run_by(handle.bind(py), &function),
            None => TimerHandle::run(handle.bind(py)),
        },
        Runnable::Step(task) => step::run(event_loop, &task.into_bound(py), false),
        Runnable::Wake(task) => step::run(event_loop, &task.into_bound(py), true),
        Runnable::Tell(task) => told::run(event_loop, &task.into_bound(py)),
        Runnable::Readable(id) => transport::read(event_loop, id),
        Runnable::Receivable(id) => transport::receive(event_loop, id),
        Runnable::Sendable(id) => transport::sendable(event_loop, id),
        Runnable::Acceptable(id) => transport::accept(event_loop, id),
        Runnable::Watched(id, ready) => watch::ready(event_loop, id, ready),
        Runnable::Transferred(transferred) => files::ended(event_loop, *transferred),
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
    current::settle(event_loop)?;
    let description = runnable.describe(event_loop)?;
    let (began, own_began) = (Instant::now(), replaced::own_now(event_loop)?);
    let set_current = |handle| {
        event_loop
            .get()
            .state
            .with(|state| std::mem::replace(&mut state.current_handle, handle))
    };
    drop(set_current(
        description.as_ref().map(|it| it.clone_ref(py)),
    )?);
    let result = run(event_loop, runnable);
    drop(set_current(None)?);
    let took = match (own_began, replaced::own_now(event_loop)?) {
        (Some(began), Some(now)) => now.since(began),
        _ => began.elapsed(),
    };
    let took = took.as_secs_f64();
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
        log::warning(py, "Executing %s took %.3f seconds", &[what, took])?;
    }
    result
}

impl State {
    fn waits_for_timer(&self) -> bool {
        !self.scheduler.has_ready() && self.scheduler.timers_len() > 0
    }

    /// How long the next wait may last; `own_now` if the clock is the program's.
    #[inline]
    fn timeout(&mut self, poll: bool, own_now: Option<Time>) -> Option<Duration> {
        if poll || !self.unsettled.is_empty() {
            return Some(Duration::ZERO);
        }
        // The clock is read only if there is a timer to compare it with.
        let now = if self.scheduler.has_ready() {
            Time::ZERO
        } else {
            own_now.unwrap_or_else(|| self.driver().now())
        };
        let timeout = self.scheduler.timeout(now);
        if self.spare.is_raised() {
            // A poll, to find out that nothing more came.
            return Some(timeout.map_or(bursts::MOMENT, |it| it.min(bursts::MOMENT)));
        }
        timeout
    }

    /// Waits for I/O or a wake. The GIL is released if that may sleep, and otherwise now and then. `false`: what
    /// has happened is not queued yet, because sends have led to something that [`settle`] has to do first.
    pub(super) fn wait(&mut self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<bool> {
        let Self {
            driver,
            completions,
            polls,
            ..
        } = self;
        let driver = driver.as_mut().expect("a running loop is open");
        *polls += 1;
        let result = if timeout == Some(Duration::ZERO) && *polls < POLLS_BEFORE_YIELD {
            driver.wait(timeout, completions)
        } else {
            *polls = 0;
            py.detach(|| driver.wait(timeout, completions))
        };
        result.map_err(crate::errors::os_error)?;
        if self.holding.is_with_wait() {
            transport::note_sent(self);
        }
        let settled = self.unsettled.is_empty();
        if settled {
            self.queue_completions();
        }
        Ok(settled)
    }

    fn queue_completions(&mut self) {
        let Self {
            scheduler,
            completions,
            ..
        } = self;
        for completion in completions.drain(..) {
            scheduler.push(match completion {
                Completion::Readable(id) => Runnable::Readable(id),
                Completion::Receivable(id) => Runnable::Receivable(id),
                Completion::Sendable(id) => Runnable::Sendable(id),
                Completion::Acceptable(id) => Runnable::Acceptable(id),
                Completion::Watched(id, ready) => Runnable::Watched(id, ready),
                Completion::File(transferred) => Runnable::Transferred(transferred),
                Completion::Failed(id, error) => Runnable::Failed(Box::new((id, error))),
                // These answer ops that this embedder has handled before, takes at once, or does not use.
                Completion::Sent(..) | Completion::Connected(..) | Completion::Closed(_) => {
                    continue;
                }
            });
        }
    }

    fn begin(&mut self, own_due: Option<Time>) {
        let Self {
            driver,
            scheduler,
            holding,
            ..
        } = self;
        let driver = driver.as_ref().expect("a running loop is open");
        let now = match own_due {
            Some(due) => due,
            None if scheduler.timers_len() == 0 => Time::ZERO,
            None => driver.now(),
        };
        scheduler.begin(now);
        holding.begin(driver);
    }

    /// Whether writes that are held back stay so until the next tick, which follows without a sleep.
    #[inline]
    fn goes_on_holding(&mut self) -> bool {
        let Self {
            driver,
            scheduler,
            holding,
            polls,
            ..
        } = self;
        let driver = driver.as_ref().expect("a running loop is open");
        // Not across a wait that releases the GIL.
        *polls + 1 < POLLS_BEFORE_YIELD && scheduler.has_ready() && holding.goes_on(driver)
    }

    /// What to do next; `spare` is a handle that has run and that nobody else holds.
    #[inline]
    fn next(&mut self, spare: Option<Used>) -> Next {
        if let Some(spare) = spare
            && let Some(over) = self.spare.keep(spare)
        {
            return Next::Drop(over);
        }
        let Self {
            driver, holding, ..
        } = self;
        let Some(driver) = driver else {
            return Next::Over; // Left behind by a fork.
        };
        if holding.is_due(driver) {
            return Next::Flush;
        }
        self.run += 1;
        match self.scheduler.next() {
            Some(runnable) => {
                if let Runnable::Readable(_) = runnable {
                    holding.received();
                }
                Next::Run(runnable)
            }
            None => Next::Over,
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
            Self::Step(task) => Some(as_handle(event_loop, task, false)?),
            Self::Wake(task) => Some(as_handle(event_loop, task, true)?),
            Self::Tell(task) => {
                // None if the task was initialised again.
                let handle = told::as_handle(event_loop, task.bind(py)).ok();
                handle.map(|handle| handle.into_any().unbind())
            }
            Self::Begin(beginning) => Some(beginning.transport.clone_ref(py).into_any()),
            Self::End(ending) => Some(ending.transport.clone_ref(py).into_any()),
            Self::Readable(id) | Self::Receivable(id) | Self::Sendable(id) => {
                event_loop.get().state.with(|state| {
                    let transport = state.resources.get(*id)?.transport(py)?;
                    Some(transport.into_any())
                })?
            }
            Self::Watched(id, ready) => watch::describe(event_loop, *id, *ready)?,
            Self::Transferred(ended) => event_loop
                .get()
                .state
                .with(|state| state.transfers.future(py, ended.key))?,
            Self::Acceptable(_) | Self::Failed(_) | Self::AcceptAgain(_) => None,
        })
    }
}

/// For a step that was queued before debug mode was turned on.
fn as_handle(
    event_loop: &Bound<'_, EventLoop>,
    task: &Py<Task>,
    wakes: bool,
) -> PyResult<Py<PyAny>> {
    let handle = step::as_handle(event_loop, task.bind(event_loop.py()), wakes)?;
    Ok(handle.into_any().unbind())
}

impl EventLoop {
    /// Before a sleep: the loop keeps no context alive meanwhile, and other threads get their used handles.
    pub(super) fn drop_contexts(&self, owned: &Ownership<'_, State>) {
        let snapshots = owned.with(|state| {
            let queued = state.scheduler.ready_len();
            let remote = self.inbox.lend(|for_others| {
                state.spare.lend(&mut for_others.lent, queued);
                for_others.snapshot.take()
            });
            (state.snapshot.take(), remote)
        });
        drop(snapshots);
    }

    /// Lends the used handles that bursts have left, and gradually frees those kept for bursts that have ended.
    #[cold]
    fn after_bursts(&self, owned: &Ownership<'_, State>) {
        let less = owned.with(|state| {
            let queued = state.scheduler.ready_len();
            self.inbox
                .lend(|for_others| state.spare.lend(&mut for_others.lent, queued));
            let now = state.driver().now();
            state.spare.pass(now)
        });
        if less {
            self.trim_spare(owned);
        }
    }

    /// The same, at once: the loop is about to sleep as long as a program says.
    pub(super) fn forget_bursts(&self, owned: &Ownership<'_, State>) {
        if owned.with(|state| state.spare.is_raised()) {
            owned.with(|state| state.spare.forget_bursts());
            self.trim_spare(owned);
        }
    }

    fn trim_spare(&self, owned: &Ownership<'_, State>) {
        let over = owned.with(|state| {
            self.inbox.expect(state.spare.limit());
            self.inbox
                .lend(|for_others| state.spare.trim(&mut for_others.lent))
        });
        drop(over);
    }

    /// Moves what other threads have scheduled into the ready queue. Costs one load if there is
    /// nothing.
    #[inline]
    pub(super) fn drain_inbox(&self, py: Python<'_>) {
        if !self.inbox.is_empty() {
            self.take_from_inbox(py);
        }
    }

    fn take_from_inbox(&self, py: Python<'_>) {
        let mut timers = Vec::new();
        // Simulated time would pass while the loop checks whether bursts go on.
        let follow = self.driver_name != "sim";
        let _ = self.state.with(|state| {
            let mut calls = 0;
            let drained = self.inbox.drain(|runnable| match runnable {
                Runnable::Timer(handle) => timers.push(handle),
                Runnable::Call(handle) => {
                    calls += 1;
                    state.scheduler.push(Runnable::Call(handle));
                }
                runnable => state.scheduler.push(runnable),
            });
            if drained > 0 && state.spare.came(calls, follow) {
                self.inbox.expect(state.spare.limit());
            }
        });
        for handle in timers {
            self.set_timer(handle.bind(py));
        }
    }
}
