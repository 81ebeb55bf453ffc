//! A waker for multiplexers: a descriptor that becomes readable. It is an `eventfd(2)`, or a pipe
//! where the system refuses one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, pipe_with};

use super::{Wake, Waker};

/// The owner's side: watched by the driver, cleared when it has become readable.
pub(crate) struct WakeDescriptor(Arc<Bell>);

struct Bell {
    /// Whether the descriptor is readable, or about to be.
    rung: AtomicBool,
    channel: Channel,
}

enum Channel {
    Eventfd(OwnedFd),
    Pipe { reader: OwnedFd, writer: OwnedFd },
}

impl WakeDescriptor {
    pub(crate) fn new() -> io::Result<Self> {
        Self::eventfd().or_else(|_| Self::pipe())
    }

    fn eventfd() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self::over(Channel::Eventfd(fd)))
    }

    fn pipe() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self::over(Channel::Pipe { reader, writer }))
    }

    fn over(channel: Channel) -> Self {
        Self(Arc::new(Bell {
            rung: AtomicBool::new(false),
            channel,
        }))
    }

    /// The descriptor to watch for reading.
    pub(crate) fn number(&self) -> RawFd {
        self.0.reader().as_raw_fd()
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker::new(self.0.clone())
    }

    /// Whether the descriptor is readable, or about to be.
    #[inline]
    pub(crate) fn is_rung(&self) -> bool {
        self.0.rung.load(Ordering::Acquire)
    }

    /// As [`WakeDescriptor::clear`] for who is told of each write and needs no unreadable
    /// descriptor for that.
    pub(crate) fn acknowledge(&self) {
        match self.0.channel {
            // A counter that never gets full.
            Channel::Eventfd(_) => {
                self.0.rung.swap(false, Ordering::AcqRel);
            }
            Channel::Pipe { .. } => self.clear(),
        }
    }

    /// Makes the descriptor unreadable again: the next wake writes anew.
    pub(crate) fn clear(&self) {
        let mut word = [0u8; 8];
        // An error means that nothing was there to read, which is what is wanted.
        let _ = rustix::io::read(self.0.reader(), &mut word);
        // After the read: a wake between the two finds `rung` set and does not write, and what it
        // published is visible from this swap on, before the owner looks for it.
        self.0.rung.swap(false, Ordering::AcqRel);
    }
}

impl Bell {
    fn reader(&self) -> &OwnedFd {
        match &self.channel {
            Channel::Eventfd(fd) => fd,
            Channel::Pipe { reader, .. } => reader,
        }
    }
}

impl Wake for Bell {
    fn wake(&self) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        // One rung bell is all that is ever unread, so neither channel can be full. An eventfd
        // takes exactly eight bytes, a pipe takes them too.
        let (Channel::Eventfd(fd) | Channel::Pipe { writer: fd, .. }) = &self.channel;
        let _ = retry_on_intr(|| rustix::io::write(fd.as_fd(), &1u64.to_ne_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn readable(bell: &WakeDescriptor) -> bool {
        let mut fds = [PollFd::new(bell.0.reader(), PollFlags::IN)];
        poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        )
        .expect("poll")
            == 1
    }

    #[test]
    #[cfg_attr(miri, ignore = "miri has no poll(2)")]
    fn both_channels_ring_once_and_clear() {
        for bell in [
            WakeDescriptor::eventfd().expect("eventfd"),
            WakeDescriptor::pipe().expect("pipe"),
        ] {
            assert!(!readable(&bell));
            let waker = bell.waker();
            waker.wake();
            waker.wake();
            assert!(readable(&bell));
            bell.clear();
            assert!(!readable(&bell), "two wakes wrote once");
            waker.wake();
            assert!(readable(&bell), "and it rings again");
        }
    }

    #[test]
    fn a_waker_outlives_its_driver() {
        let waker = WakeDescriptor::new().expect("eventfd").waker();
        waker.wake();
    }
}
