//! What stands in for the lock-free queue when loom checks the inbox: the queue itself is
//! crossbeam's and tested there, the wake protocol round it is ours.

use std::collections::VecDeque;

use loom::sync::Mutex;

#[derive(Debug)]
pub(super) struct SegQueue<T>(Mutex<VecDeque<T>>);

impl<T> SegQueue<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    pub(super) fn push(&self, item: T) {
        self.locked(|queue| queue.push_back(item));
    }

    pub(super) fn pop(&self) -> Option<T> {
        self.locked(VecDeque::pop_front)
    }

    pub(super) fn len(&self) -> usize {
        self.locked(|queue| queue.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn locked<R>(&self, act: impl FnOnce(&mut VecDeque<T>) -> R) -> R {
        act(&mut self.0.lock().expect("no holder of the lock panics"))
    }
}
