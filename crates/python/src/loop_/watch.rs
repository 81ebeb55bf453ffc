//! `add_reader`, `add_writer` and the waits of the `sock_*` coroutines: descriptors that the
//! program owns, and may close at any time.
//!
//! A program that calls `sock_recv` in a loop waits for the same descriptor again and again. So
//! when a wait is over, its watch is kept until the task that was woken has had its turn
//! ([`Keeping`]). If that task waits again, arming the watch anew asks the kernel once instead of
//! twice, and not at all if there is something to read by then. The watch is armed for one report
//! only, so it stays silent meanwhile.
//!
//! Each of these calls can fail: the number is not open any more, or belongs to something that
//! cannot be watched. Then the descriptor will never be reported at all, and whoever waits for its
//! other side gets the error ([`Update::settle`]); with asyncio's selectors they would wait for
//! ever.

use std::fmt::Debug;
use std::io;
use std::mem;
use std::os::fd::RawFd;
use std::task::Poll;

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Interest, Op};
use oxlip_driver::Driver as _;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};

use super::number::{descriptor, negative, number};
use super::{EventLoop, Resource, replaced};
use crate::context::{self, Chosen};
use crate::errors::os_error;
use crate::handle::{Args, Handle};

/// One watched descriptor, and those who wait for it.
pub(crate) struct Watched {
    fd: RawFd,
    /// The object that was given to `add_reader` or `add_writer`. It is kept so that it is not closed while it is
    /// watched, and that it is found again after it was closed and has no number any more.
    object: Option<Py<PyAny>>,
    read: Watchers,
    write: Watchers,
}

#[derive(Default)]
struct Watchers {
    /// From `add_reader` or `add_writer`: called in every tick in which the descriptor is ready.
    handle: Option<Py<Handle>>,
    /// From `_wait_readable` or `_wait_writable`: all of them are set, once.
    futures: Vec<Py<PyAny>>,
}

/// Someone who begins to wait for a descriptor.
enum Watcher<'a, 'py> {
    Callback(&'a Bound<'py, Handle>),
    Future(&'a Bound<'py, PyAny>),
}

/// Watches that nobody waits for at the moment.
#[derive(Default)]
pub(super) struct Keeping {
    /// Those whose wait ended in this tick.
    fresh: Vec<Id>,
    /// Those of the tick before: the tasks that they woke run in this one.
    old: Vec<Id>,
}

/// The direction that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Read,
    Write,
}

impl Side {
    fn interest(self) -> Interest {
        match self {
            Self::Read => Interest::READ,
            Self::Write => Interest::WRITE,
        }
    }
}

impl Watchers {
    fn is_empty(&self) -> bool {
        self.handle.is_none() && self.futures.is_empty()
    }

    /// Adds a watcher. Returns the callback that it replaces.
    fn put(&mut self, watcher: &Watcher<'_, '_>) -> Option<Py<Handle>> {
        match *watcher {
            Watcher::Callback(handle) => self.handle.replace(handle.clone().unbind()),
            Watcher::Future(future) => {
                self.futures.push(future.clone().unbind());
                None
            }
        }
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.handle)?;
        self.futures
            .iter()
            .try_for_each(|future| visit.call(future))
    }
}

impl Watched {
    fn new(fd: RawFd) -> Self {
        Self {
            fd,
            object: None,
            read: Watchers::default(),
            write: Watchers::default(),
        }
    }

    fn side(&mut self, side: Side) -> &mut Watchers {
        match side {
            Side::Read => &mut self.read,
            Side::Write => &mut self.write,
        }
    }

    fn interest(&self) -> Interest {
        let mut interest = Interest::NONE;
        if !self.read.is_empty() {
            interest |= Interest::READ;
        }
        if !self.write.is_empty() {
            interest |= Interest::WRITE;
        }
        interest
    }

    /// What to ask of the driver: a future is set once, a callback is called for as long as the descriptor is ready.
    fn op(&self, id: Id) -> Op<'static> {
        let interest = self.interest();
        if self.read.handle.is_none() && self.write.handle.is_none() {
            Op::WatchOnce { id, interest }
        } else {
            Op::Watch { id, interest }
        }
    }

    /// The descriptor will never be reported again: all who wait get the error, except the one who learns of it by
    /// other means. Callbacks are dropped, as when asyncio's selector loses a closed descriptor.
    ///
    /// # Errors
    /// `SystemExit` and `KeyboardInterrupt` of a future's callback.
    fn fail(self, py: Python<'_>, error: &PyErr, but: Option<&Watcher<'_, '_>>) -> PyResult<()> {
        for future in self.read.futures.iter().chain(&self.write.futures) {
            let future = future.bind(py);
            if matches!(but, Some(Watcher::Future(told)) if told.is(future)) {
                continue;
            }
            if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
                future.call_method1(intern!(py, "set_exception"), (error.value(py),))?;
            }
        }
        Ok(())
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)?;
        self.read.traverse(visit)?;
        self.write.traverse(visit)
    }
}

/// `add_reader` / `add_writer`: replaces and cancels the callback that was there.
pub(super) fn add<'py>(
    event_loop: &Bound<'py, EventLoop>,
    object: &Bound<'py, PyAny>,
    side: Side,
    callback: Bound<'py, PyAny>,
    args: Bound<'py, PyTuple>,
) -> PyResult<()> {
    let py = event_loop.py();
    let this = event_loop.get();
    this.check_open()?;
    let fd = descriptor(object)?;
    check_no_transport(event_loop, fd, object)?;
    let args = Args::of_tuple(args);
    let own = Chosen::Own(context::copy_current(py)?);
    let handle = Handle::new(event_loop, callback, args, own)?;
    let (id, replaced) = watch(event_loop, fd, side, &Watcher::Callback(&handle))?;
    if !object.is_instance_of::<PyInt>() {
        let object = object.clone().unbind();
        let before = this.state.with(|state| {
            let watched = state.resources.watched(id)?;
            watched.object.replace(object)
        })?;
        drop(before);
    }
    if let Some(replaced) = replaced {
        Handle::cancel_now(replaced.bind(py))?;
    }
    Ok(())
}

/// `remove_reader` / `remove_writer`: whether there was a callback. A closed loop has none.
///
/// # Errors
/// Those of finding the number; the driver's, if the other side is watched and cannot be any more.
pub(super) fn remove(
    event_loop: &Bound<'_, EventLoop>,
    object: &Bound<'_, PyAny>,
    side: Side,
) -> PyResult<bool> {
    let py = event_loop.py();
    let mut fd = number(object)?;
    if fd < 0 {
        // A socket that was closed before its callbacks were taken off?
        fd = number_of_watched(event_loop, object)?.ok_or_else(|| negative(fd))?;
    } else {
        check_no_transport(event_loop, fd, object)?;
    }
    let removed = event_loop.get().state.with(|state| {
        let id = state.watched_fds.get(fd)?;
        let handle = state.resources.watched(id)?.side(side).handle.take()?;
        Some((handle, state.update_watch(id)))
    })?;
    let Some((handle, update)) = removed else {
        return Ok(false);
    };
    Handle::cancel_now(handle.bind(py))?;
    update.settle(py, None)?.map_or(Ok(true), Err)
}

/// The number under which an object is watched, if it is.
fn number_of_watched(
    event_loop: &Bound<'_, EventLoop>,
    object: &Bound<'_, PyAny>,
) -> PyResult<Option<RawFd>> {
    let number = event_loop.get().state.with(|state| {
        let mut number = None;
        state.resources.for_each(|_, resource| {
            if let Resource::Watched(watched) = resource
                && watched.object.as_ref().is_some_and(|it| it.is(object))
            {
                number = Some(watched.fd);
            }
        });
        number
    })?;
    Ok(number)
}

/// A future that is set once the descriptor is ready, and the key of its watch for [`unwait`]. Any number of
/// futures may wait for the same descriptor.
pub(super) fn wait<'py>(
    event_loop: &Bound<'py, EventLoop>,
    fd: &Bound<'py, PyAny>,
    side: Side,
) -> PyResult<(Bound<'py, PyAny>, u64)> {
    event_loop.get().check_open()?;
    wait_for(event_loop, descriptor(fd)?, side)
}

/// As [`wait`], for the number of a descriptor.
pub(super) fn wait_for<'py>(
    event_loop: &Bound<'py, EventLoop>,
    fd: RawFd,
    side: Side,
) -> PyResult<(Bound<'py, PyAny>, u64)> {
    event_loop.get().check_open()?;
    check_no_transport(event_loop, fd, &fd)?;
    let future = super::tasks::create_future(event_loop)?;
    let (id, _) = watch(event_loop, fd, side, &Watcher::Future(&future))?;
    Ok((future, id.to_u64()))
}

/// The descriptor's reader only ends sleeps: ticks that do not sleep need not ask for it.
pub(super) fn only_wakes(this: &EventLoop, fd: RawFd) -> PyResult<()> {
    this.state.with(|state| {
        if let Some(id) = state.watched_fds.get(fd) {
            state.driver().only_wakes(id);
        }
    })?;
    Ok(())
}

/// Removes a future of [`wait`] that was cancelled, if it is still there. If the other side cannot be watched any
/// more, those who wait for it get the error.
pub(super) fn unwait(
    event_loop: &Bound<'_, EventLoop>,
    future: &Bound<'_, PyAny>,
    watch: u64,
) -> PyResult<()> {
    let id = Id::from_u64(watch);
    let removed = event_loop.get().state.with(|state| {
        let watched = state.resources.watched(id)?;
        let removed = [Side::Read, Side::Write].into_iter().find_map(|side| {
            let futures = &mut watched.side(side).futures;
            let at = futures.iter().position(|waiting| waiting.is(future))?;
            Some(futures.remove(at))
        })?;
        Some((removed, state.update_watch(id)))
    })?;
    if let Some((_, update)) = removed {
        // An error of the descriptor does not concern the one who leaves.
        update.settle(event_loop.py(), None)?;
    }
    Ok(())
}

/// The descriptor is ready: runs the callbacks, sets the futures.
pub(super) fn ready(event_loop: &Bound<'_, EventLoop>, id: Id, ready: Interest) -> PyResult<()> {
    let py = event_loop.py();
    let this = event_loop.get();
    let mut handles = [None, None];
    let (futures, update) = this.state.with(|state| {
        let Some(watched) = state.resources.watched(id) else {
            return (Vec::new(), None);
        };
        let mut futures = Vec::new();
        for (side, slot) in [Side::Read, Side::Write].into_iter().zip(&mut handles) {
            if (ready | side.interest()) == ready {
                let watchers = watched.side(side);
                *slot = watchers.handle.as_ref().map(|handle| handle.clone_ref(py));
                futures.append(&mut watchers.futures);
            }
        }
        if futures.is_empty() {
            return (futures, None);
        }
        if watched.interest().is_none() {
            state.keeping.fresh.push(id);
            return (futures, None);
        }
        (futures, Some(state.update_watch(id)))
    })?;
    for future in futures {
        let future = future.bind(py);
        if let Some(woken) = crate::tasks::wake(future, py.None().bind(py)) {
            woken?;
        } else if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
            future.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
    }
    if let Some(update) = update {
        // The waiters of this side find out by themselves.
        update.settle(py, None)?;
    }
    for (handle, side) in handles.into_iter().zip([Side::Read, Side::Write]) {
        let Some(handle) = handle else { continue };
        let handle = handle.bind(py);
        if handle.get().is_cancelled() {
            // The program cancelled the handle itself: that ends the watch, as in asyncio.
            forget_handle(event_loop, id, side, handle)?;
        } else {
            match replaced::handle_run(event_loop)? {
                Some(function) => Handle::run_by(handle, &function)?,
                None => Handle::run(handle)?,
            }
        }
    }
    Ok(())
}

/// The driver gave up a descriptor: its number was closed by the program and belongs to another
/// resource by now.
///
/// # Errors
/// `SystemExit` and `KeyboardInterrupt` of a future's callback.
pub(crate) fn failed(
    event_loop: &Bound<'_, EventLoop>,
    id: Id,
    error: std::io::Error,
) -> PyResult<()> {
    let forgotten = event_loop
        .get()
        .state
        .with(|state| state.forget_watch(id))?;
    if let Some(Resource::Watched(watched)) = forgotten {
        watched.fail(event_loop.py(), &os_error(error), None)?;
    }
    Ok(())
}

fn forget_handle(
    event_loop: &Bound<'_, EventLoop>,
    id: Id,
    side: Side,
    handle: &Bound<'_, Handle>,
) -> PyResult<()> {
    let forgotten = event_loop.get().state.with(|state| {
        let current = &mut state.resources.watched(id)?.side(side).handle;
        let forgotten = current.take_if(|known| known.is(handle));
        Some((forgotten, state.update_watch(id)))
    })?;
    if let Some((_, update)) = forgotten {
        // Nobody has asked for this, so the error concerns only those who wait for the other side.
        update.settle(event_loop.py(), None)?;
    }
    Ok(())
}

/// The callback that debug mode names when it is slow.
pub(super) fn describe(
    event_loop: &Bound<'_, EventLoop>,
    id: Id,
    ready: Interest,
) -> PyResult<Option<Py<PyAny>>> {
    let py = event_loop.py();
    Ok(event_loop.get().state.with(|state| {
        let watched = state.resources.watched(id)?;
        let side = if ready.reads() {
            Side::Read
        } else {
            Side::Write
        };
        watched
            .side(side)
            .handle
            .as_ref()
            .map(|handle| handle.clone_ref(py).into_any())
    })?)
}

/// Adds a watcher of a descriptor. Returns the watch, and the callback that the watcher replaces.
fn watch(
    event_loop: &Bound<'_, EventLoop>,
    fd: RawFd,
    side: Side,
    watcher: &Watcher<'_, '_>,
) -> PyResult<(Id, Option<Py<Handle>>)> {
    let this = event_loop.get();
    let known = this
        .state
        .with(|state| Some(state.watch(state.watched_fds.get(fd)?, side, watcher)))?;
    if let Some((replaced, update)) = known {
        let _ = match update {
            Update::Watched(id) => return Ok((id, replaced)),
            // The watch was of a descriptor that is gone. Perhaps the number is another's by now:
            // a transport's that has come and gone since then has taken it from the watch.
            update => update.settle(event_loop.py(), Some(watcher))?,
        };
        // Code that was called meanwhile may have closed the loop.
        this.check_open()?;
    }
    let (replaced, update) = this.state.with(|state| match state.driver().borrow(fd) {
        Ok(id) => {
            let watched = Resource::Watched(Box::new(Watched::new(fd)));
            state.resources.insert(id, watched);
            state.watched_fds.insert(fd, id);
            state.watch(id, side, watcher)
        }
        Err(error) => (None, Update::Failed(error, None)),
    })?;
    match update {
        Update::Watched(id) => Ok((id, replaced)),
        update => {
            let error = update.settle(event_loop.py(), Some(watcher))?;
            Err(error.expect("who was refused has the reason"))
        }
    }
}

/// What became of a watch; to be settled or dropped outside the borrow.
#[must_use]
enum Update {
    /// The driver watches it.
    Watched(Id),
    /// Nobody is interested any more.
    Ended(#[expect(dead_code, reason = "only to be dropped")] Option<Resource>),
    /// The driver refuses.
    Failed(io::Error, Option<Resource>),
}

impl Update {
    /// If the driver refuses, all who wait get the error, except `but`, who gets it from what this returns.
    ///
    /// # Errors
    /// `SystemExit` and `KeyboardInterrupt` of a future's callback.
    fn settle(self, py: Python<'_>, but: Option<&Watcher<'_, '_>>) -> PyResult<Option<PyErr>> {
        let Self::Failed(error, gone) = self else {
            return Ok(None);
        };
        let error = os_error(error);
        if let Some(Resource::Watched(watched)) = gone {
            watched.fail(py, &error, but)?;
        }
        Ok(Some(error))
    }
}

impl super::State {
    /// Adds a watcher of a descriptor that has a watch.
    fn watch(
        &mut self,
        id: Id,
        side: Side,
        watcher: &Watcher<'_, '_>,
    ) -> (Option<Py<Handle>>, Update) {
        let watched = self
            .resources
            .watched(id)
            .expect("a watched descriptor has an entry");
        let replaced = watched.side(side).put(watcher);
        (replaced, self.update_watch(id))
    }

    /// Before a wait: ends the watches that nobody has taken over. To be dropped outside the borrow.
    #[inline]
    pub(super) fn end_kept(&mut self) -> Vec<Resource> {
        let Keeping { fresh, old } = &mut self.keeping;
        if fresh.is_empty() && old.is_empty() {
            return Vec::new();
        }
        mem::swap(fresh, old);
        let mut past = mem::take(fresh);
        let mut gone = Vec::new();
        for id in past.drain(..) {
            let watched = self.resources.watched(id);
            if watched.is_some_and(|watched| watched.interest().is_none()) {
                gone.extend(self.forget_watch(id));
            }
        }
        self.keeping.fresh = past;
        gone
    }

    /// Tells the driver what a descriptor is watched for now. Removes the watch if that is nothing, or if the driver
    /// refuses.
    fn update_watch(&mut self, id: Id) -> Update {
        let Some(watched) = self.resources.watched(id) else {
            return Update::Ended(None);
        };
        if watched.interest().is_none() {
            return Update::Ended(self.forget_watch(id));
        }
        let op = watched.op(id);
        match self.driver().submit(op) {
            Poll::Ready(Completion::Failed(_, error)) => {
                Update::Failed(error, self.forget_watch(id))
            }
            _ => Update::Watched(id),
        }
    }

    /// Removes a watch. To be dropped outside the borrow.
    fn forget_watch(&mut self, id: Id) -> Option<Resource> {
        let gone = self.resources.remove(id)?;
        if let Resource::Watched(watched) = &gone {
            self.watched_fds.remove(watched.fd, id);
            let _ = self.driver().submit(Op::Close(id));
        }
        Some(gone)
    }
}

/// Refuses a descriptor that belongs to a transport, as asyncio does: both would read from it. The error shows it as it
/// was `given`, like asyncio's: a number or an object.
pub(crate) fn check_no_transport(
    event_loop: &Bound<'_, EventLoop>,
    fd: RawFd,
    given: &(impl Debug + ?Sized),
) -> PyResult<()> {
    let py = event_loop.py();
    let transport = event_loop.get().state.with(|state| {
        let id = state.connected_fds.get(fd)?;
        let resource = state.resources.get(id)?;
        if resource.is_closing() {
            return None;
        }
        resource.transport(py)
    })?;
    match transport {
        // The program may have closed its socket under the transport: the number is free again.
        Some(transport) if transport.bind(py).has_number(fd)? => {
            Err(PyRuntimeError::new_err(format!(
                "File descriptor {given:?} is used by transport {}",
                transport.bind(py).repr()?
            )))
        }
        _ => Ok(()),
    }
}
