//! Waiting for room in the queue of a Unix socket that datagrams are sent to by name.
//!
//! Such a queue may be full while the multiplexer reports the sending socket as writable: waiting
//! for that alone would spin. A second socket of ours, connected to the name, is writable only when
//! the queue has room. This *probe* is watched instead, and given up with its first answer.
//! Meanwhile the name may have come to belong to another socket, which a probe of the old one
//! cannot know, so the send is also retried every [`LOOK_AGAIN`].

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::Poll;
use std::time::Duration;

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Interest};
use oxlip_selectors::backend::Backend;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::datagram::unix;
use super::resource::{Kind, Resource, Source};
use super::{Readiness, resource};

/// The time between two attempts while a probe reports no room.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Which sockets wait for which probe. There are few at a time, mostly none.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    waits: Vec<Wait>,
    /// Probes that nobody waits for any more. They are removed before the next wait, so that an
    /// event that has been collected already still finds them.
    retired: Vec<Id>,
    /// Ticks while there are probes.
    clock: Option<Id>,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    socket: Id,
    probe: Id,
}

impl Rooms {
    /// Whether the socket's room is waited for by a probe.
    pub(super) fn has(&self, socket: Id) -> bool {
        self.waits.iter().any(|wait| wait.socket == socket)
    }

    /// The socket no longer waits for anything.
    #[inline]
    pub(super) fn end(&mut self, socket: Id) {
        if !self.waits.is_empty() {
            self.retire(|wait| wait.socket == socket);
        }
    }

    fn retire(&mut self, is_over: impl Fn(&Wait) -> bool) {
        let over = self.waits.iter().filter(|wait| is_over(wait));
        self.retired.extend(over.map(|wait| wait.probe));
        self.waits.retain(|wait| !is_over(wait));
    }
}

impl<B: Backend> Readiness<B> {
    /// A datagram to this name found no room. One `Sendable` follows when another attempt is worthwhile.
    pub(super) fn await_peer(&mut self, id: Id, name: &[u8]) -> Poll<Completion> {
        let is_ours = self
            .resources
            .get(id)
            .and_then(|socket| socket.owned().ok())
            .is_some_and(|fd| !is_writable(fd));
        if is_ours || self.watch_peer(id, name).is_err() {
            return self.await_room(id);
        }
        Poll::Pending
    }

    fn watch_peer(&mut self, id: Id, name: &[u8]) -> io::Result<()> {
        let probe = self.watch_own(connected_to(name)?, Kind::Room, Interest::WRITE)?;
        self.rooms.waits.push(Wait { socket: id, probe });
        if self.rooms.clock.is_none() {
            self.rooms.clock = clock()
                .and_then(|clock| self.watch_own(clock, Kind::Clock, Interest::READ))
                .ok();
        }
        Ok(())
    }

    /// Watches a descriptor that the embedder does not know of.
    fn watch_own(&mut self, fd: OwnedFd, kind: Kind, interest: Interest) -> io::Result<Id> {
        let number = std::os::fd::AsRawFd::as_raw_fd(&fd);
        B::check(number)?;
        let id = self.hold(number, Resource::new(Source::Owned(fd), kind));
        if let Some(resource) = self.resources.get_mut(id)
            && resource.want_exactly(interest)
        {
            self.changed.push(id);
        }
        Ok(id)
    }

    /// A probe has room, or (`None`) it is time to look again.
    #[cold]
    pub(super) fn rooms_found(&mut self, probe: Option<Id>, completions: &mut Vec<Completion>) {
        if probe.is_none()
            && let Some(clock) = self.rooms.clock.and_then(|id| self.resources.get(id))
            && let Ok(fd) = clock.owned()
        {
            // The number of ticks is of no interest.
            let _ = rustix::io::read(fd, &mut [0; 8]);
        }
        let is_found = |wait: &Wait| probe.is_none_or(|probe| probe == wait.probe);
        for wait in self.rooms.waits.iter().filter(|wait| is_found(wait)) {
            let Some(socket) = self.resources.get_mut(wait.socket) else {
                continue;
            };
            if socket.end_sending() {
                self.changed.push(wait.socket);
            }
            completions.push(Completion::Sendable(wait.socket));
        }
        self.rooms.retire(is_found);
    }

    /// Before a wait: gives up the probes that nobody waits for.
    #[inline]
    pub(super) fn clear_rooms(&mut self) {
        if self.rooms.retired.is_empty() {
            return;
        }
        while let Some(probe) = self.rooms.retired.pop() {
            drop(self.forget(probe));
        }
        if self.rooms.waits.is_empty()
            && let Some(clock) = self.rooms.clock.take()
        {
            drop(self.forget(clock));
        }
    }
}

fn connected_to(name: &[u8]) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    connect(&probe, &unix(name)?)?;
    Ok(probe)
}

fn clock() -> io::Result<OwnedFd> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let clock = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let interval = Timespec::try_from(LOOK_AGAIN).map_err(|_| resource::lost())?;
    let timer = Itimerspec {
        it_interval: interval,
        it_value: interval,
    };
    timerfd_settime(&clock, TimerfdTimerFlags::empty(), &timer)?;
    Ok(clock)
}

/// Whether its own buffer has room. If so, it is the peer's that has none.
fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    let now = Timespec::default();
    matches!(poll(&mut fds, Some(&now)), Ok(1)) && fds[0].revents().contains(PollFlags::OUT)
}
