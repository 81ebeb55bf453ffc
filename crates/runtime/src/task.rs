//! Tasks: futures that the loop drives, each under an id, on its own thread.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use oxlip_core::id::{Arena, Id};

use crate::local::Loop;
use crate::remote::{Remote, TaskWaker};

impl Loop {
    /// Drives the future to its end, from the next tick on. It goes on when the [`JoinHandle`] is
    /// dropped. A panic in it propagates to whoever runs the loop.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
    {
        let outcome = Rc::new(Outcome(RefCell::new(Stage::Running(None))));
        let end = End(outcome.clone());
        let id = self.tasks().insert(Box::pin(async move {
            let output = future.await;
            end.0.finish(Stage::Done(output));
        }));
        JoinHandle {
            lp: self.clone(),
            id,
            outcome,
        }
    }
}

/// Waits for a task's output. Dropping it leaves the task alone.
pub struct JoinHandle<T> {
    lp: Loop,
    id: Id,
    outcome: Rc<Outcome<T>>,
}

/// The task was dropped before it had an output: by [`JoinHandle::abort`], or with its loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted;

impl<T> JoinHandle<T> {
    /// Drops the task's future where it stands, unless it has ended.
    pub fn abort(&self) {
        self.lp.tasks().remove(self.id);
    }

    /// Whether the task has ended, or was aborted.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !matches!(*self.outcome.0.borrow(), Stage::Running(_))
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, Aborted>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut stage = self.outcome.0.borrow_mut();
        match mem::replace(&mut *stage, Stage::Aborted) {
            Stage::Done(output) => Poll::Ready(Ok(output)),
            Stage::Aborted => Poll::Ready(Err(Aborted)),
            Stage::Running(_) => {
                *stage = Stage::Running(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task was aborted")
    }
}

impl Error for Aborted {}

struct Outcome<T>(RefCell<Stage<T>>);

enum Stage<T> {
    /// And who waits for the end.
    Running(Option<Waker>),
    Done(T),
    /// Also after the output has been given away.
    Aborted,
}

impl<T> Outcome<T> {
    fn finish(&self, end: Stage<T>) {
        let mut stage = self.0.borrow_mut();
        let Stage::Running(waiting) = &mut *stage else {
            return;
        };
        let waiting = waiting.take();
        *stage = end;
        drop(stage);
        if let Some(waiter) = waiting {
            waiter.wake();
        }
    }
}

/// Lives in the task: when that is dropped without an output, it has been aborted.
struct End<T>(Rc<Outcome<T>>);

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        self.0.finish(Stage::Aborted);
    }
}

/// All tasks of a loop.
pub(crate) struct Tasks {
    tasks: RefCell<Arena<Task>>,
    remote: Remote,
}

type BoxedFuture = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    /// `None` while it is polled.
    future: Option<BoxedFuture>,
    /// `None` only until the task has its id.
    waker: Option<Arc<TaskWaker>>,
}

impl Tasks {
    pub(crate) fn new(remote: Remote) -> Self {
        Self {
            tasks: RefCell::default(),
            remote,
        }
    }

    fn insert(&self, future: BoxedFuture) -> Id {
        let mut tasks = self.tasks.borrow_mut();
        let id = tasks.insert(Task {
            future: Some(future),
            waker: None,
        });
        let waker = TaskWaker::new(id, self.remote.clone());
        if let Some(task) = tasks.get_mut(id) {
            task.waker = Some(waker.clone());
        }
        drop(tasks);
        Waker::from(waker).wake();
        id
    }

    /// Polls a task that has been woken, unless it is gone.
    pub(crate) fn poll(&self, id: Id) {
        let Some((mut future, waker)) = self.begin(id) else {
            return;
        };
        waker.begin();
        let polled = future
            .as_mut()
            .poll(&mut Context::from_waker(&waker.into()));
        let mut tasks = self.tasks.borrow_mut();
        match polled {
            Poll::Pending => {
                // If the task has aborted itself, its future is dropped below.
                if let Some(task) = tasks.get_mut(id) {
                    task.future = Some(future);
                    return;
                }
            }
            Poll::Ready(()) => drop(tasks.remove(id)),
        }
        drop(tasks);
        drop(future);
    }

    fn begin(&self, id: Id) -> Option<(BoxedFuture, Arc<TaskWaker>)> {
        let mut tasks = self.tasks.borrow_mut();
        let task = tasks.get_mut(id)?;
        Some((task.future.take()?, task.waker.clone()?))
    }

    fn remove(&self, id: Id) {
        // Dropped after the borrow: a future's end may come back here.
        let task = self.tasks.borrow_mut().remove(id);
        drop(task);
    }

    /// Drops all; whether there were any.
    pub(crate) fn clear(&self) -> bool {
        let tasks = mem::take(&mut *self.tasks.borrow_mut());
        !tasks.is_empty()
    }
}
