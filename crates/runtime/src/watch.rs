//! Closures that are called whenever a descriptor that somebody else owns is ready.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::rc::Rc;
use std::task::Poll;

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Interest, Op};
use oxlip_driver::Driver;

use crate::local::{Handle, Loop, Resource};

impl Loop {
    /// Calls the closure in every tick in which the descriptor is readable, in place of the one set
    /// before. Remove it before closing the descriptor.
    ///
    /// # Errors
    /// The driver cannot watch it: epoll takes no regular files, a simulation no descriptors.
    pub fn add_reader(&self, fd: impl AsFd, call: impl FnMut() + 'static) -> io::Result<()> {
        self.set_callback(fd.as_fd().as_raw_fd(), Side::Reader, Callback::new(call))
    }

    /// As [`Loop::add_reader`], for writing.
    ///
    /// # Errors
    /// As [`Loop::add_reader`].
    pub fn add_writer(&self, fd: impl AsFd, call: impl FnMut() + 'static) -> io::Result<()> {
        self.set_callback(fd.as_fd().as_raw_fd(), Side::Writer, Callback::new(call))
    }

    /// Ends the calls, also those that are due in this tick. `false`: there was nothing to end.
    pub fn remove_reader(&self, fd: impl AsFd) -> bool {
        self.remove_callback(fd.as_fd().as_raw_fd(), Side::Reader)
    }

    /// As [`Loop::remove_reader`], for writing.
    pub fn remove_writer(&self, fd: impl AsFd) -> bool {
        self.remove_callback(fd.as_fd().as_raw_fd(), Side::Writer)
    }

    fn set_callback(&self, fd: RawFd, side: Side, callback: Rc<Callback>) -> io::Result<()> {
        let known = self.watches().0.borrow().get(&fd).cloned();
        let watch = match known {
            Some(watch) => watch,
            None => {
                let id = self.with_driver(|driver| driver.borrow(fd))?;
                let watch = Rc::new(Watch {
                    lp: self.clone(),
                    fd,
                    id,
                    callbacks: RefCell::default(),
                });
                self.register(id, watch.clone());
                self.watches().0.borrow_mut().insert(fd, watch.clone());
                watch
            }
        };
        watch.replace(side, Some(callback));
        let outcome = watch.apply();
        if outcome.is_err() {
            self.remove_callback(fd, side);
        }
        outcome
    }

    fn remove_callback(&self, fd: RawFd, side: Side) -> bool {
        let Some(watch) = self.watches().0.borrow().get(&fd).cloned() else {
            return false;
        };
        let removed = watch.replace(side, None);
        if watch.interest().is_none() {
            self.forget_watch(fd, watch.id);
        } else {
            // What is watched already cannot fail to be watched for less.
            let _ = watch.apply();
        }
        removed
    }

    fn forget_watch(&self, fd: RawFd, id: Id) {
        let watch = self.watches().0.borrow_mut().remove(&fd);
        self.close(id);
        drop(watch);
    }
}

/// The watched descriptors of a loop.
#[derive(Default)]
pub(crate) struct Watches(RefCell<BTreeMap<RawFd, Rc<Watch>>>);

impl Watches {
    /// Drops all; whether there were any.
    pub(crate) fn clear(&self) -> bool {
        let watches = mem::take(&mut *self.0.borrow_mut());
        !watches.is_empty()
    }
}

/// One closure that is called again and again, until it is removed.
pub(crate) struct Callback {
    call: RefCell<Box<dyn FnMut()>>,
    removed: Cell<bool>,
}

impl Callback {
    fn new(call: impl FnMut() + 'static) -> Rc<Self> {
        Rc::new(Self {
            call: RefCell::new(Box::new(call)),
            removed: Cell::new(false),
        })
    }

    pub(crate) fn call(&self) {
        if !self.removed.get() {
            (self.call.borrow_mut())();
        }
    }
}

#[derive(Clone, Copy)]
enum Side {
    Reader,
    Writer,
}

struct Watch {
    lp: Loop,
    fd: RawFd,
    id: Id,
    callbacks: RefCell<[Option<Rc<Callback>>; 2]>,
}

impl Watch {
    /// Whether there was one before.
    fn replace(&self, side: Side, callback: Option<Rc<Callback>>) -> bool {
        let before = mem::replace(&mut self.callbacks.borrow_mut()[side as usize], callback);
        if let Some(before) = &before {
            before.removed.set(true);
        }
        before.is_some()
    }

    fn interest(&self) -> Interest {
        let [reader, writer] = &*self.callbacks.borrow();
        let mut interest = Interest::NONE;
        if reader.is_some() {
            interest |= Interest::READ;
        }
        if writer.is_some() {
            interest |= Interest::WRITE;
        }
        interest
    }

    fn apply(&self) -> io::Result<()> {
        match self.lp.submit(Op::Watch {
            id: self.id,
            interest: self.interest(),
        }) {
            Poll::Ready(Completion::Failed(_, error)) => Err(error),
            _ => Ok(()),
        }
    }
}

impl Resource for Watch {
    fn completed(self: Rc<Self>, completion: Completion) {
        let ready = match completion {
            Completion::Watched(_, ready) => ready,
            // The descriptor was closed unremoved, and its number belongs to another now.
            Completion::Failed(..) => return self.lp.forget_watch(self.fd, self.id),
            _ => return,
        };
        let [reader, writer] = &*self.callbacks.borrow();
        for (callback, ready) in [(reader, ready.reads()), (writer, ready.writes())] {
            if let Some(callback) = callback.as_ref().filter(|_| ready) {
                self.lp.push(Handle::Callback(callback.clone()));
            }
        }
    }
}
