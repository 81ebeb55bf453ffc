//! The ring itself: requests are submitted and completions ("answers") fetched with one system call.
//!
//! It is safe to use: the memory that a request points to belongs to the ring and lives longer than
//! the request. From [`Ring::enable`] on it belongs to one thread; the kernel refuses others.

use std::io;
use std::mem::size_of;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::slice;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use oxlip_core::file::{Transfer, Way};

use super::buffers::Pool;
use super::region::Region;
use super::tag::{ACCEPTS, BELL, NOBODY, TRANSFERS, Tag};
use super::transfers::Transfers;

/// The size of a ring; both are powers of two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Requests that are submitted at once. More are submitted in parts.
    pub(super) requests: u32,
    /// Answers, before the kernel must keep them elsewhere.
    pub(super) answers: u32,
}

impl Room {
    pub(super) const USUAL: Self = Self {
        requests: 256,
        answers: 2048,
    };
}

/// The longest send that is copied to be submitted with the next [`Ring::enter`].
pub(super) const STAGED_AT_MOST: usize = 16 * 1024;
/// How many bytes can be copied before one call.
const STAGE: usize = 256 * 1024;

/// Longer than any time-out; the kernel's type need not hold more.
const FOREVER: Duration = Duration::from_secs(i32::MAX as u64);

/// The only group of provided buffers.
const GROUP: u16 = 0;

pub(super) struct Ring {
    // It is dropped first; from then on the kernel does not use the memory in the fields below.
    io: IoUring,
    pub(super) pool: Pool,
    pub(super) transfers: Transfers,
    stage: Region,
    staged: usize,
    /// The number of requests so far.
    pushed: u64,
    /// Zero in a forked child, which does not own this ring: see [`Ring::is_of_this_process`].
    mark: Region,
}

/// Bytes in the ring's memory that wait to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Staged {
    begin: usize,
    length: usize,
}

impl Staged {
    pub(super) fn len(self) -> usize {
        self.length
    }
}

/// The results of accepts are descriptors, so these are told from others by their tags.
fn is_of_accept(tag: Tag) -> bool {
    (ACCEPTS..BELL).contains(&tag)
}

/// A completion of one request.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) tag: Tag,
    /// As a system call's result: negative is an error.
    pub(super) result: i32,
    /// More completions of this request follow.
    pub(super) more: bool,
    /// The number of the provided buffer that it took.
    pub(super) buffer: Option<u16>,
    /// The connection that it has accepted.
    pub(super) connection: Option<OwnedFd>,
}

/// Why a wait in the kernel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// There are enough completions.
    Answered,
    /// Time is up.
    TimedOut,
    /// A signal arrived.
    Interrupted,
    /// The wait was not begun: the kernel has no memory for now, or no room for completions.
    /// Requests may not have been submitted.
    Refused,
}

impl Ring {
    /// A ring that no thread has used yet.
    ///
    /// # Errors
    /// The kernel is older than 6.1, has no io_uring or is not allowed to offer it; descriptors or memory have run
    /// out.
    pub(super) fn new(room: Room) -> io::Result<Self> {
        // `dontfork` is not used: a child that drops its copy would unmap what it has mapped there since.
        let mut builder = IoUring::builder();
        builder
            .setup_r_disabled()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(room.answers);
        // Saves one indirection, since Linux 6.6.
        let io = builder
            .clone()
            .setup_no_sqarray()
            .build(room.requests)
            .or_else(|_| builder.build(room.requests))?;
        let parameters = io.params();
        if !(parameters.is_feature_ext_arg() && parameters.is_feature_skip_cqe_on_success()) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let ring = Self {
            io,
            pool: Pool::new()?,
            transfers: Transfers::default(),
            stage: Region::new(STAGE)?,
            staged: 0,
            pushed: 0,
            mark: Region::wiped_by_fork(size_of::<u64>())?,
        };
        // SAFETY: the mapping is large enough and aligned to a page, and nothing borrows from it.
        unsafe { ring.mark.base().cast::<u64>().write(1) };
        let (list, entries) = ring.pool.list();
        // SAFETY: the list has that many entries, and the pool lives longer than the ring, which is
        // dropped first.
        unsafe {
            ring.io
                .submitter()
                .register_buf_ring_with_flags(list, entries, GROUP, 0)?;
        }
        Ok(ring)
    }

    /// Binds the ring to this thread.
    ///
    /// # Errors
    /// A sandbox forbids it.
    pub(super) fn enable(&self) -> io::Result<()> {
        self.io.submitter().register_enable_rings()
    }

    /// Whether it was made in this process. A forked child has a copy, but shares the requests and
    /// the answers with its parent: it must not touch them. Costs no system call.
    pub(super) fn is_of_this_process(&self) -> bool {
        // SAFETY: as in `new`.
        unsafe { self.mark.base().cast::<u64>().read() == 1 }
    }

    /// Whether [`Ring::accept`] can be trusted. Without room for a completion, kernels before 6.8 may return a number
    /// that is not the connection's ([a37ee9e117ef](https://github.com/torvalds/linux/commit/a37ee9e117ef)), and
    /// some later ones lose it ([f6a89bf5278d](https://github.com/torvalds/linux/commit/f6a89bf5278d)). No
    /// feature tells these apart; this one exists since 6.15.
    pub(super) fn accepts(&self) -> bool {
        self.io.params().is_feature_no_iowait()
    }

    /// Whether another request can be pushed.
    pub(super) fn has_room(&mut self) -> bool {
        !self.io.submission().is_full()
    }

    /// Every arrival is received into a buffer of the pool, until the end, an error or
    /// [`Ring::cancel`].
    pub(super) fn receive(&mut self, fd: RawFd, tag: Tag) {
        self.push(&opcode::RecvMulti::new(Fd(fd), GROUP).build().user_data(tag));
    }

    /// Every connection of a listening socket is accepted, non-blocking and close-on-exec, until an error or
    /// [`Ring::cancel`]. The tag is one of [`ACCEPTS`], and no other request's is.
    pub(super) fn accept(&mut self, fd: RawFd, tag: Tag) {
        assert!(is_of_accept(tag), "not a tag of an accept");
        self.push(
            &opcode::AcceptMulti::new(Fd(fd))
                .flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
                .build()
                .user_data(tag),
        );
    }

    /// One completion when the descriptor can be read from; with `again`, one at each change.
    pub(super) fn poll(&mut self, fd: RawFd, tag: Tag, again: bool) {
        let readable = libc::POLLIN as u32;
        self.push(
            &opcode::PollAdd::new(Fd(fd), readable)
                .multi(again)
                .build()
                .user_data(tag),
        );
    }

    /// Cancels a request, which still gets its last completion.
    pub(super) fn cancel(&mut self, tag: Tag) {
        self.push(
            &opcode::AsyncCancel::new(tag)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(NOBODY),
        );
    }

    /// Cancels all requests.
    pub(super) fn cancel_all(&mut self) {
        self.push(
            &opcode::AsyncCancel2::new(CancelBuilder::any())
                .build()
                .user_data(NOBODY),
        );
    }

    /// Whether [`Ring::stage`] has room for this many bytes now.
    pub(super) fn can_stage(&self, length: usize) -> bool {
        self.staged + length <= self.stage.size()
    }

    /// Keeps a copy of the bytes for [`Ring::send`].
    pub(super) fn stage(&mut self, parts: &[io::IoSlice<'_>]) -> Staged {
        let begin = self.staged;
        for part in parts {
            assert!(self.can_stage(part.len()), "more than can be staged");
            // SAFETY: within the stage, as just checked; no other reference to it exists, and the
            // kernel reads only what earlier sends have been given.
            unsafe {
                let place = self.stage.base().add(self.staged);
                place.copy_from_nonoverlapping(part.as_ptr(), part.len());
            }
            self.staged += part.len();
        }
        Staged {
            begin,
            length: self.staged - begin,
        }
    }

    /// The staged bytes.
    pub(super) fn staged(&self, Staged { begin, length }: Staged) -> &[u8] {
        assert!(begin + length <= self.stage.size(), "never staged");
        // SAFETY: within the stage, which is zeroed to begin with and written to through `&mut self`
        // only; the kernel reads it.
        unsafe { slice::from_raw_parts(self.stage.base().add(begin), length) }
    }

    /// The staged bytes are not needed any more.
    pub(super) fn clear_stage(&mut self) {
        // What has been submitted has been read.
        if self.is_submitted() {
            self.staged = 0;
        }
    }

    /// The staged bytes are sent by the next [`Ring::enter`], which also gives the completion: none
    /// if the system takes everything, otherwise how much it took, or its error. Returns the
    /// request's position, for [`Ring::has_submitted`].
    pub(super) fn send(&mut self, fd: RawFd, staged: Staged, tag: Tag) -> u64 {
        let bytes = self.staged(staged);
        let length = u32::try_from(bytes.len()).expect("the stage is small");
        // It never waits in the kernel (DONTWAIT), and a short send counts as a failure (WAITALL),
        // which gets a completion although a success does not.
        let entry = opcode::Send::new(Fd(fd), bytes.as_ptr(), length)
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(tag);
        self.push(&entry);
        self.pushed
    }

    /// Reads from or writes to a file. The transfer stays with the ring until its single completion.
    pub(super) fn transfer(&mut self, mut transfer: Box<Transfer>) {
        let fd = Fd(transfer.descriptor);
        let offset = transfer.offset.unwrap_or(u64::MAX);
        // The rest is left to the next transfer.
        let length = u32::try_from(transfer.bytes.len()).unwrap_or(1 << 30);
        let bytes = transfer.bytes.as_mut_ptr();
        let entry = match transfer.way {
            Way::Read => opcode::Read::new(fd, bytes, length).offset(offset).build(),
            Way::Write => opcode::Write::new(fd, bytes, length).offset(offset).build(),
        };
        let number = self.transfers.begin(transfer);
        self.push(&entry.user_data(TRANSFERS + number));
    }

    /// Whether the kernel has taken the request at this position.
    pub(super) fn has_submitted(&mut self, place: u64) -> bool {
        place + self.io.submission().len() as u64 <= self.pushed
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: what the entry points to, if anything, is in the stage, the pool or a transfer. All live
        // longer than the ring. A send's part of the stage is not written to again before the send
        // is submitted, which is when the kernel reads it; a transfer is not touched, and not freed, before
        // the kernel has answered it.
        let pushed = unsafe { self.io.submission().push(entry) };
        pushed.expect("asked for room before");
        self.pushed += 1;
    }

    /// Whether a call of [`Ring::enter`] that does not wait has anything to do.
    pub(super) fn is_due(&mut self) -> bool {
        let requests = self.io.submission();
        let due = !requests.is_empty() || requests.taskrun() || requests.cq_overflow();
        drop(requests);
        due || !self.io.completion().is_empty()
    }

    /// Submits everything, and with `wait` waits for a completion, for `timeout` at most.
    ///
    /// # Errors
    /// The kernel refuses: another thread owns the ring, or a sandbox forbids it.
    pub(super) fn enter(&mut self, wait: bool, timeout: Option<Duration>) -> io::Result<Ended> {
        let timespec = timeout.map(|timeout| Timespec::from(timeout.min(FOREVER)));
        loop {
            let requests = self.io.submission().len();
            let args = match &timespec {
                Some(timespec) if wait => SubmitArgs::new().timespec(timespec),
                _ => SubmitArgs::new(),
            };
            let flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
            // SAFETY: the flags say that the argument is of this type, and it and its time-out live
            // through the call.
            let entered = unsafe {
                self.io.submitter().enter(
                    u32::try_from(requests).expect("a ring is small"),
                    u32::from(wait),
                    flags.bits(),
                    Some(&args),
                )
            };
            let ended = match entered.map_err(|error| error.raw_os_error()) {
                Ok(_) => Ended::Answered,
                Err(Some(libc::ETIME)) => Ended::TimedOut,
                Err(Some(libc::EINTR)) => Ended::Interrupted,
                // The last one says that completions were dropped, which their count also shows.
                Err(Some(libc::EAGAIN | libc::EBUSY | libc::ENOMEM | libc::EBADR)) => {
                    return Ok(Ended::Refused);
                }
                Err(code) => {
                    return Err(io::Error::from_raw_os_error(code.unwrap_or(libc::EINVAL)));
                }
            };
            if self.is_submitted() || ended == Ended::Interrupted {
                return Ok(ended);
            }
        }
    }

    /// Makes the kernel deliver completions that it keeps, now that there is room, and submits
    /// nothing, because a refused request must not hold them back. Returns false if the kernel
    /// refuses that too.
    pub(super) fn fetch_kept(&mut self) -> bool {
        let flags = EnterFlags::GETEVENTS.bits();
        // SAFETY: without an argument there is nothing to point to.
        unsafe {
            self.io
                .submitter()
                .enter::<libc::sigset_t>(0, 0, flags, None)
        }
        .is_ok()
    }

    /// Whether there were such completions, and some are in reach now.
    pub(super) fn has_kept(&mut self) -> bool {
        self.has_overflown() && self.fetch_kept()
    }

    /// Takes all completions that are there.
    pub(super) fn answers(&mut self, into: &mut Vec<Answer>) {
        let answers = self.io.completion();
        into.extend(answers.map(|answer| {
            let (tag, result, flags) = (answer.user_data(), answer.result(), answer.flags());
            let accepted = is_of_accept(tag) && result >= 0;
            Answer {
                tag,
                result,
                // SAFETY: only accepts have such tags, and their results are descriptors that the kernel has opened
                // for this completion. A completion is taken once.
                connection: accepted.then(|| unsafe { OwnedFd::from_raw_fd(result) }),
                more: cqueue::more(flags),
                buffer: cqueue::buffer_select(flags),
            }
        }));
    }

    /// Whether the kernel has work for this ring that it does only inside [`Ring::enter`].
    pub(super) fn has_work(&mut self) -> bool {
        self.io.submission().taskrun()
    }

    /// Whether the kernel has dropped completions because it had no memory to keep them.
    pub(super) fn has_lost_answers(&mut self) -> bool {
        self.io.completion().overflow() > 0
    }

    /// Whether the kernel keeps completions for which there was no room.
    pub(super) fn has_overflown(&mut self) -> bool {
        self.io.submission().cq_overflow()
    }

    /// Whether everything that was pushed has been submitted.
    pub(super) fn is_submitted(&mut self) -> bool {
        self.io.submission().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    /// The basis of `tests/uring/overflow.rs`: so small a ring really does not have enough room.
    #[test]
    #[cfg_attr(miri, ignore = "miri has no io_uring")]
    fn the_kernel_keeps_answers_for_which_there_is_no_room() {
        const ALL: usize = 40;
        let Ok(mut ring) = Ring::new(Room {
            requests: 8,
            answers: 8,
        }) else {
            return;
        };
        ring.enable().expect("a thread of its own");
        let pipes: Vec<_> = (0..ALL).map(|_| io::pipe().expect("a pipe")).collect();
        for (at, (reader, _)) in pipes.iter().enumerate() {
            if !ring.has_room() {
                assert_eq!(ring.enter(false, None).expect("enter"), Ended::Answered);
            }
            ring.poll(reader.as_raw_fd(), at as Tag, false);
        }
        assert_eq!(ring.enter(false, None).expect("enter"), Ended::Answered);
        assert!(!ring.has_overflown());
        // Each of them ends all the polls of its pipe.
        drop(
            pipes
                .into_iter()
                .map(|(_, writer)| writer)
                .collect::<Vec<_>>(),
        );
        let mut answers: Vec<Answer> = Vec::new();
        let mut overflown = 0;
        while answers.iter().filter(|answer| answer.tag != NOBODY).count() < ALL {
            let ended = ring.enter(true, Some(Duration::from_secs(5)));
            assert_eq!(ended.expect("enter"), Ended::Answered);
            overflown += usize::from(ring.has_overflown());
            ring.answers(&mut answers);
            if overflown == 1 && ring.has_overflown() {
                // They are also delivered while requests are refused, because this call submits none.
                let before = answers.len();
                ring.cancel(NOBODY - 1);
                assert!(ring.fetch_kept());
                ring.answers(&mut answers);
                assert!(answers.len() > before && !ring.is_submitted());
            }
        }
        assert!(overflown > 0, "there was room for all");
        assert!(!ring.has_lost_answers());
        // Removes the completion of the cancel request that found nothing to cancel.
        answers.retain(|answer| answer.tag != NOBODY);
        let mut tags: Vec<_> = answers.iter().map(|answer| answer.tag).collect();
        tags.sort_unstable();
        assert!(tags.into_iter().eq(0..ALL as Tag), "{answers:?}");
    }
}
