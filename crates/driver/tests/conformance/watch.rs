//! Watching descriptors that somebody else owns, closes and lets be used again.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use oxlip_core::id::Id;
use oxlip_core::op::{Interest, Op};
use oxlip_driver::{Driver, Role};
use rustix::io::{dup, dup2, fcntl_dupfd_cloexec};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::world::{OsDriver, Play, Real, Seen, World, on_os_drivers, tcp_pair};

on_os_drivers!(
    a_watch_reports_in_every_wait_while_ready,
    a_watch_for_once_reports_once,
    once_and_always_replace_each_other,
    another_file_under_the_number_is_watched_once_too,
    what_has_reported_is_silent_under_a_duplicate,
    hundreds_at_once_are_all_reported,
    a_new_interest_replaces_the_old,
    a_hang_up_counts_as_what_was_asked,
    stopping_and_starting_again_within_a_tick_still_works,
    closing_a_watch_leaves_the_descriptor_open,
    a_watch_is_for_watching_only,
    a_number_used_again_is_watched_anew,
    a_file_that_comes_back_under_its_number_is_watched_anew,
    a_newer_borrow_ends_the_older,
    what_loses_its_number_before_the_wait_fails_once,
    an_adoption_ends_a_borrow_of_its_number,
    an_adoption_ends_an_adoption_of_its_number,
    what_lives_on_under_a_duplicate_is_got_rid_of,
    an_owned_number_cannot_be_borrowed,
    a_closed_number_cannot_be_watched,
    nothing_is_kept_for_a_number_that_nobody_has,
);

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe")
}

fn write(fd: &OwnedFd) {
    assert_eq!(rustix::io::write(fd, b"x").expect("write"), 1);
}

fn read(fd: &OwnedFd) {
    assert_eq!(rustix::io::read(fd, &mut [0]).expect("read"), 1);
}

fn borrow<W: World>(world: &mut W, fd: &OwnedFd) -> Id {
    world.driver().borrow(fd.as_raw_fd()).expect("borrow")
}

fn watch<W: World>(world: &mut W, id: Id, interest: Interest) {
    world.start(Op::Watch { id, interest });
}

fn a_watch_reports_in_every_wait_while_ready<W: World>() {
    let mut world = W::new();
    let (reader, writer) = pipe();
    let id = borrow(&mut world, &reader);
    watch(&mut world, id, Interest::READ);
    world.quiet();
    write(&writer);
    for _ in 0..3 {
        world.until(Seen::Watched(id, Interest::READ));
    }
    read(&reader);
    world.quiet();
}

fn watch_once<W: World>(world: &mut W, id: Id, interest: Interest) {
    world.start(Op::WatchOnce { id, interest });
}

fn a_watch_for_once_reports_once<W: World>() {
    let mut world = W::new();
    let (reader, writer) = pipe();
    let id = borrow(&mut world, &reader);
    for _ in 0..3 {
        watch_once(&mut world, id, Interest::READ);
        world.quiet();
        write(&writer);
        world.until(Seen::Watched(id, Interest::READ));
        world.quiet();
        write(&writer);
        world.quiet();
        // What is there already is reported to who asks.
        watch_once(&mut world, id, Interest::READ);
        world.until(Seen::Watched(id, Interest::READ));
        read(&reader);
        read(&reader);
        world.quiet();
    }
    // The end is reported like data, and not by itself.
    drop(writer);
    world.quiet();
    watch_once(&mut world, id, Interest::READ);
    world.until(Seen::Watched(id, Interest::READ));
    world.quiet();
    world.close(id);
    world.quiet();
}

fn once_and_always_replace_each_other<W: World>() {
    let mut world = W::new();
    let (reader, writer) = pipe();
    let id = borrow(&mut world, &reader);
    write(&writer);
    for _ in 0..2 {
        watch(&mut world, id, Interest::READ);
        for _ in 0..3 {
            world.until(Seen::Watched(id, Interest::READ));
        }
        watch_once(&mut world, id, Interest::READ);
        world.until(Seen::Watched(id, Interest::READ));
        world.quiet();
    }
}

/// The kernel has dropped the registration with the old file: asking anew makes another.
fn another_file_under_the_number_is_watched_once_too<W: World>() {
    let mut world = W::new();
    let (mut reader, first) = pipe();
    let id = borrow(&mut world, &reader);
    watch_once(&mut world, id, Interest::READ);
    write(&first);
    world.until(Seen::Watched(id, Interest::READ));
    let (again, writer) = pipe();
    dup2(&again, &mut reader).expect("dup2");
    drop(again);
    watch_once(&mut world, id, Interest::READ);
    world.quiet();
    write(&writer);
    world.until(Seen::Watched(id, Interest::READ));
}

/// Its registration outlives the number, and is mute.
fn what_has_reported_is_silent_under_a_duplicate<W: World>() {
    let mut world = W::new();
    let (reader, writer) = pipe();
    let id = borrow(&mut world, &reader);
    watch_once(&mut world, id, Interest::READ);
    write(&writer);
    world.until(Seen::Watched(id, Interest::READ));
    let duplicate = dup(&reader).expect("dup");
    drop(reader);
    world.close(id);
    write(&writer);
    world.quiet();
    drop(duplicate);
}

fn hundreds_at_once_are_all_reported<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    // Of each, together more than epoll has room for at first, and few enough for select.
    const MANY: usize = 140;
    let _alone = HUNDREDS.write().unwrap_or_else(PoisonError::into_inner);
    let mut world = W::new();
    let pipes: Vec<_> = (0..MANY).map(|_| pipe()).collect();
    let mut waiting: Vec<Seen> = Vec::new();
    for (reader, _) in &pipes {
        let id = borrow(&mut world, reader);
        watch_once(&mut world, id, Interest::READ);
        waiting.push(Seen::Watched(id, Interest::READ));
    }
    let mut peers = Vec::new();
    for _ in 0..MANY {
        let (socket, peer) = tcp_pair();
        let id = world.driver().adopt(socket, Role::Stream).expect("adopt");
        world.start(Op::RecvStart(id));
        waiting.push(Seen::Readable(id));
        peers.push(peer);
    }
    world.quiet();
    for writer in pipes.iter().map(|(_, writer)| writer).chain(&peers) {
        write(writer);
    }
    while !waiting.is_empty() {
        let seen = world.until_any();
        waiting.retain(|expected| !seen.contains(expected));
    }
}

fn a_new_interest_replaces_the_old<W: World>() {
    let mut world = W::new();
    let (one, other) = tcp_pair();
    let id = borrow(&mut world, &one);
    watch(&mut world, id, Interest::BOTH);
    world.until(Seen::Watched(id, Interest::WRITE));
    write(&other);
    while world.until_any() != [Seen::Watched(id, Interest::BOTH)] {}
    watch(&mut world, id, Interest::READ);
    world.until(Seen::Watched(id, Interest::READ));
    watch(&mut world, id, Interest::WRITE);
    world.until(Seen::Watched(id, Interest::WRITE));
    watch(&mut world, id, Interest::NONE);
    world.quiet();
    watch(&mut world, id, Interest::NONE);
    world.quiet();
}

fn a_hang_up_counts_as_what_was_asked<W: World>() {
    let mut world = W::new();
    let (reader, writer) = pipe();
    let id = borrow(&mut world, &reader);
    watch(&mut world, id, Interest::READ);
    drop(writer);
    world.until(Seen::Watched(id, Interest::READ));
    world.close(id);

    let (reader, writer) = pipe();
    let id = borrow(&mut world, &writer);
    drop(reader);
    watch(&mut world, id, Interest::WRITE);
    world.until(Seen::Watched(id, Interest::WRITE));
}

fn stopping_and_starting_again_within_a_tick_still_works<W: World>() {
    let mut world = W::new();
    let (reader, writer) = pipe();
    let id = borrow(&mut world, &reader);
    for _ in 0..10 {
        watch(&mut world, id, Interest::READ);
        watch(&mut world, id, Interest::NONE);
        watch(&mut world, id, Interest::READ);
        write(&writer);
        world.until(Seen::Watched(id, Interest::READ));
        read(&reader);
        watch(&mut world, id, Interest::NONE);
    }
    world.quiet();
}

fn closing_a_watch_leaves_the_descriptor_open<W: World>() {
    let mut world = W::new();
    let (reader, writer) = pipe();
    let id = borrow(&mut world, &reader);
    watch(&mut world, id, Interest::READ);
    write(&writer);
    world.until(Seen::Watched(id, Interest::READ));
    world.close(id);
    world.quiet();
    read(&reader);
    drop(world);
    write(&writer);
    read(&reader);
}

fn a_watch_is_for_watching_only<W: World>() {
    let mut world = W::new();
    let (one, _other) = tcp_pair();
    let id = borrow(&mut world, &one);
    for op in [
        Op::RecvStart(id),
        Op::AcceptStart(id),
        Op::Shutdown(id),
        Op::Send { id, bufs: &[] },
    ] {
        assert_eq!(
            world.ask(op),
            Some(Seen::Failed(id, ErrorKind::InvalidInput))
        );
    }
    assert!(world.driver().take(id).is_err());
    assert!(world.driver().accept(id).is_err());
    assert!(world.driver().release(id).is_none());
    watch(&mut world, id, Interest::WRITE);
    world.until(Seen::Watched(id, Interest::WRITE));
}

/// The number is the same, the file behind it is not, and the watch was never stopped.
fn a_number_used_again_is_watched_anew<W: World>() {
    let mut world = W::new();
    let (mut reader, writer) = pipe();
    let id = borrow(&mut world, &reader);
    watch(&mut world, id, Interest::READ);
    world.quiet();
    drop(writer);
    let (again, writer) = pipe();
    dup2(&again, &mut reader).expect("dup2");
    drop(again);
    watch(&mut world, id, Interest::READ);
    world.quiet();
    write(&writer);
    world.until(Seen::Watched(id, Interest::READ));
}

/// Epoll never forgot it, because another number kept the file open.
fn a_file_that_comes_back_under_its_number_is_watched_anew<W: World>() {
    let mut world = W::new();
    let (number, _alone) = own_number();
    let (file, writer) = pipe();
    let at_number = || fcntl_dupfd_cloexec(&file, number).expect("a free number");
    let first = at_number();
    let id = borrow(&mut world, &first);
    watch(&mut world, id, Interest::READ);
    world.quiet();
    drop(first);
    watch(&mut world, id, Interest::NONE);
    assert_eq!(world.poll(), []);
    let again = at_number();
    assert_eq!(again.as_raw_fd(), number);
    watch(&mut world, id, Interest::READ);
    write(&writer);
    world.until(Seen::Watched(id, Interest::READ));
}

/// Held by one test that uses hundreds of numbers, or by those that must not meet it.
static HUNDREDS: RwLock<()> = RwLock::new(());

/// A number for one run of one test, so that no other thread gets it when it is closed.
fn own_number() -> (RawFd, RwLockReadGuard<'static, ()>) {
    static NEXT: AtomicI32 = AtomicI32::new(500);
    let alone = HUNDREDS.read().unwrap_or_else(PoisonError::into_inner);
    (NEXT.fetch_add(20, Ordering::Relaxed), alone)
}

fn a_newer_borrow_ends_the_older<W: World>() {
    let mut world = W::new();
    let (mut reader, _writer) = pipe();
    let old = borrow(&mut world, &reader);
    watch(&mut world, old, Interest::READ);
    world.quiet();
    let (again, writer) = pipe();
    dup2(&again, &mut reader).expect("dup2");
    drop(again);
    let new = borrow(&mut world, &reader);
    watch(&mut world, new, Interest::READ);
    assert!(matches!(world.poll()[..], [Seen::Failed(id, _)] if id == old));
    write(&writer);
    world.until(Seen::Watched(new, Interest::READ));
    // The old one neither sees the number any more nor disturbs it.
    watch(&mut world, old, Interest::NONE);
    assert!(matches!(
        world.ask(Op::Watch { id: old, interest: Interest::READ }),
        Some(Seen::Failed(id, _)) if id == old
    ));
    world.close(old);
    world.until(Seen::Watched(new, Interest::READ));
}

fn what_loses_its_number_before_the_wait_fails_once<W: World>() {
    let mut world = W::new();
    let (reader, _writer) = pipe();
    let old = borrow(&mut world, &reader);
    watch(&mut world, old, Interest::READ);
    let new = borrow(&mut world, &reader);
    watch(&mut world, new, Interest::READ);
    assert!(matches!(world.poll()[..], [Seen::Failed(id, _)] if id == old));
    world.quiet();
}

fn an_adoption_ends_a_borrow_of_its_number<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let mut world = W::new();
    let (mut number, _writer) = pipe();
    let old = borrow(&mut world, &number);
    watch(&mut world, old, Interest::READ);
    world.quiet();
    let (socket, peer) = tcp_pair();
    dup2(&socket, &mut number).expect("dup2");
    drop(socket);
    let new = world.driver().adopt(number, Role::Stream).expect("adopt");
    world.start(Op::RecvStart(new));
    assert!(matches!(world.poll()[..], [Seen::Failed(id, _)] if id == old));
    world.close(old);
    write(&peer);
    world.until(Seen::Readable(new));
    assert_eq!(world.receive(new, 1), b"x");
    world.quiet();
}

/// Somebody closed what the driver owns. Its bytes must not reach the next connection, and closing
/// the old id must not close the new one.
fn an_adoption_ends_an_adoption_of_its_number<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let mut world = W::new();
    let (number, _alone) = own_number();
    let at_number = |socket| fcntl_dupfd_cloexec(socket, number).expect("a free number");
    let (socket, _peer) = tcp_pair();
    let old = world
        .driver()
        .adopt(at_number(socket), Role::Stream)
        .expect("adopt");
    world.start(Op::RecvStart(old));
    world.quiet();
    nix::unistd::close(number).expect("close");
    let (socket, peer) = tcp_pair();
    let socket = at_number(socket);
    assert_eq!(socket.as_raw_fd(), number);
    let new = world.driver().adopt(socket, Role::Stream).expect("adopt");
    assert!(matches!(world.poll()[..], [Seen::Failed(id, _)] if id == old));
    assert!(world.take(old).is_err());
    let bufs = [io::IoSlice::new(b"x")];
    assert!(matches!(
        world.ask(Op::Send {
            id: old,
            bufs: &bufs
        }),
        Some(Seen::Sent(_, Err(_)))
    ));
    assert_ne!(old, new);
    world.close(old);
    world.start(Op::RecvStart(new));
    write(&peer);
    world.until(Seen::Readable(new));
    assert_eq!(world.receive(new, 1), b"x");
}

/// Epoll goes on reporting a closed number while a duplicate of it is open, and nothing can name
/// the registration any more.
fn what_lives_on_under_a_duplicate_is_got_rid_of<W: World>() {
    let mut world = W::new();
    let (a, b) = world.pair();
    world.start(Op::RecvStart(b));
    let (reader, writer) = pipe();
    let id = borrow(&mut world, &reader);
    watch(&mut world, id, Interest::READ);
    world.quiet();
    let _duplicate = dup(&reader).expect("dup");
    drop(reader);
    world.close(id);
    write(&writer);
    assert_eq!(world.poll(), []);
    world.quiet();
    world.send_all(a, b"x");
    world.until(Seen::Readable(b));
    assert_eq!(world.receive(b, 1), b"x", "the others are still watched");
    world.driver().waker().wake();
    let mut completions = Vec::new();
    world.driver().wait(None, &mut completions).expect("wait");
    assert!(completions.is_empty(), "so is the waker");
}

fn an_owned_number_cannot_be_borrowed<W>()
where
    W: World,
    W::Driver: Driver<Socket = OwnedFd>,
{
    let mut world = W::new();
    let (one, _other) = tcp_pair();
    let number = one.as_raw_fd();
    let owned = world.driver().adopt(one, Role::Stream).expect("adopt");
    let error = world.driver().borrow(number).expect_err("it is owned");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let socket = world.driver().release(owned).expect("ours");
    borrow(&mut world, &socket);
}

fn a_closed_number_cannot_be_watched<W: World>() {
    // Not one that another test gets meanwhile.
    const HIGH: RawFd = 1000;
    let mut world = W::new();
    assert!(world.driver().borrow(-1).is_err());
    let (one, _other) = pipe();
    let high = fcntl_dupfd_cloexec(&one, HIGH).expect("dup");
    let number = high.as_raw_fd();
    let before = borrow(&mut world, &high);
    let _ = world.driver().submit(Op::Close(before));
    drop(high);
    let id = world
        .driver()
        .borrow(number)
        .expect("a number that was known is no question to the system");
    let answer = world.driver().submit(Op::Watch {
        id,
        interest: Interest::READ,
    });
    match answer {
        std::task::Poll::Ready(oxlip_core::op::Completion::Failed(_, error)) => {
            assert_eq!(
                error.raw_os_error(),
                Some(rustix::io::Errno::BADF.raw_os_error())
            );
        }
        other => panic!("{other:?}"),
    }
    world.quiet();
}

/// An array as long as that would not fit into memory.
fn nothing_is_kept_for_a_number_that_nobody_has<W: World>() {
    let mut world = W::new();
    let error = world.driver().borrow(RawFd::MAX).expect_err("not open");
    let badf = rustix::io::Errno::BADF.raw_os_error();
    assert!(
        // select: no such number can be watched.
        error.raw_os_error() == Some(badf) || error.kind() == ErrorKind::InvalidInput,
        "{error}"
    );
    world.quiet();
}

/// What epoll refuses, poll and select call ready.
#[test]
fn regular_files_are_refused_by_epoll_only() {
    fn ask<W: World>() -> Vec<Seen> {
        let mut world = W::new();
        let file: OwnedFd = std::fs::File::open("/proc/self/exe")
            .expect("a file")
            .into();
        let id = borrow(&mut world, &file);
        match world.ask(Op::Watch {
            id,
            interest: Interest::BOTH,
        }) {
            Some(Seen::Failed(_, kind)) => vec![Seen::Failed(id, kind)],
            None => world.until_any(),
            other => panic!("{other:?}"),
        }
    }
    use oxlip_driver::readiness::{Epoll, Poll, Select};
    assert!(matches!(
        ask::<Real<Epoll>>()[..],
        [Seen::Failed(_, ErrorKind::PermissionDenied)]
    ));
    assert!(matches!(
        ask::<Real<Poll>>()[..],
        [Seen::Watched(_, Interest::BOTH)]
    ));
    assert!(matches!(
        ask::<Real<Select>>()[..],
        [Seen::Watched(_, Interest::BOTH)]
    ));
}

#[test]
fn select_says_at_once_which_descriptors_are_too_many_for_it() {
    fn adopt<D: OsDriver>() -> io::Result<()> {
        let mut world = Real::<D>::new();
        let (socket, peer) = tcp_pair();
        let high = fcntl_dupfd_cloexec(socket, 2000).expect("a high number");
        let borrowed = world
            .0
            .borrow(high.as_raw_fd())
            .map_err(|error| error.kind());
        let id = world.0.adopt(high, Role::Stream).inspect_err(|_| {
            assert_eq!(borrowed, Err(ErrorKind::InvalidInput));
        })?;
        world.close(borrowed.expect("what can be adopted can be borrowed"));
        world.start(Op::RecvStart(id));
        write(&peer);
        world.until(Seen::Readable(id));
        Ok(())
    }
    use oxlip_driver::readiness::{Epoll, Poll, Select};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    )
    .expect("setrlimit");
    adopt::<Epoll>().expect("epoll takes any");
    adopt::<Poll>().expect("poll takes any");
    let error = adopt::<Select>().expect_err("select does not");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("FD_SETSIZE"), "{error}");
}
