//! What the threads of a pool take their work from, and where they wait for it.
//!
//! It takes the places of a pool's `queue.SimpleQueue`, and of the semaphore that counts threads with
//! nothing to do: those are the ones that wait here.
//!
//! Used by any thread, attached to the interpreter. A thread that waits is not, and touches nothing
//! of the queue: a fork in another thread cannot find it half changed.

use std::collections::VecDeque;
use std::thread::{self, Thread};

use oxlip_driver::Waker;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::ExecutorCall;
use crate::counts::{Counted, Kind};
use crate::fields::{Fields, has_fields, hold};
use crate::loop_::EventLoop;
use crate::names;

#[pyclass(frozen, module = "oxlip._native")]
pub(crate) struct WorkQueue {
    fields: Fields<QueueFields>,
    _counted: Counted,
}

#[derive(Default)]
pub(crate) struct QueueFields {
    items: VecDeque<Py<PyAny>>,
    /// Threads that wait, the one that came last at the end. It is the next to be woken: what it
    /// needs is in the caches still.
    waiting: Vec<Thread>,
    /// A thread was waiting for the item that was put in last.
    is_expected: bool,
}

has_fields!(WorkQueue, QueueFields);

#[pymethods]
impl WorkQueue {
    #[new]
    fn new() -> Self {
        Self {
            fields: Fields::new(QueueFields::default()),
            _counted: Counted::new(Kind::WorkQueue),
        }
    }

    /// Puts an item in, and wakes a thread that waits for one.
    fn put(slf: &Bound<'_, Self>, item: Bound<'_, PyAny>) {
        let woken = {
            let mut this = hold(slf);
            this.items.push_back(item.unbind());
            let woken = this.waiting.pop();
            this.is_expected = woken.is_some();
            woken
        };
        if let Some(thread) = woken {
            thread.unpark();
        }
    }

    /// Puts in the call `function(*args)`, whose outcome is `future`'s.
    fn put_call<'py>(
        slf: &Bound<'py, Self>,
        event_loop: Bound<'py, EventLoop>,
        future: Bound<'py, PyAny>,
        function: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
    ) -> PyResult<()> {
        let call = ExecutorCall::new(slf, event_loop, future, function, args);
        Self::put(slf, Bound::new(slf.py(), call)?.into_any());
        Ok(())
    }

    /// Takes an item out; `queue.Empty` if there is none.
    fn get_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        match Self::take(slf) {
            Some(item) => Ok(item),
            None => Err(PyErr::from_type(
                names::EMPTY.get(slf.py())?.clone().cast_into()?,
                (),
            )),
        }
    }

    /// Takes an item out; with `block`, as soon as there is one.
    #[pyo3(signature = (block=true))]
    fn get<'py>(slf: &Bound<'py, Self>, block: bool) -> PyResult<Bound<'py, PyAny>> {
        if !block {
            return Self::get_nowait(slf);
        }
        loop {
            Self::wait(slf, None);
            // Unless another thread was faster.
            if let Some(item) = Self::take(slf) {
                return Ok(item);
            }
        }
    }

    fn qsize(slf: &Bound<'_, Self>) -> usize {
        hold(slf).items.len()
    }

    fn empty(slf: &Bound<'_, Self>) -> bool {
        hold(slf).items.is_empty()
    }

    /// As the semaphore: whether a thread was waiting for what was put in last, so that the pool needs
    /// no other one.
    #[pyo3(signature = (blocking=true, timeout=None))]
    fn acquire(slf: &Bound<'_, Self>, blocking: bool, timeout: Option<f64>) -> bool {
        let _ = (blocking, timeout);
        hold(slf).is_expected
    }

    /// As the semaphore: nothing to do, since a thread is counted while it waits.
    #[pyo3(signature = (n=1))]
    fn release(&self, n: usize) {
        let _ = (self, n);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.fields.traverse(&visit, |this, visit| {
            this.items.iter().try_for_each(|item| visit.call(item))
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let items = std::mem::take(&mut hold(slf).items);
        drop(items);
    }
}

impl WorkQueue {
    fn take<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        let item = hold(slf).items.pop_front();
        item.map(|item| item.into_bound(slf.py()))
    }

    /// Wakes the loop, if there is a waker, and waits until there is something to take, which another
    /// thread may be faster to do. In this order, with the GIL given up in between, where it has to wait.
    pub(super) fn wait(slf: &Bound<'_, Self>, mut waker: Option<Waker>) {
        let me = thread::current();
        while !Self::has_items(slf, &me) {
            slf.py().detach(|| {
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
                thread::park();
            });
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// If not, the thread is one that will be woken.
    fn has_items(slf: &Bound<'_, Self>, me: &Thread) -> bool {
        let mut this = hold(slf);
        let place = this.waiting.iter().position(|it| it.id() == me.id());
        match (this.items.is_empty(), place) {
            (true, None) => this.waiting.push(me.clone()),
            // Woken by something else.
            (false, Some(place)) => drop(this.waiting.remove(place)),
            (true, Some(_)) | (false, None) => {}
        }
        !this.items.is_empty()
    }
}
