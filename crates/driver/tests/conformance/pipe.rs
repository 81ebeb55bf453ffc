//! Pipes, and sockets that are used as pipes: bytes that move by read(2) and write(2).

use std::io::{ErrorKind, IoSlice};

use oxlip_core::id::Id;
use oxlip_core::op::Op;
use oxlip_driver::{Driver, Role};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::world::{OsWorld, Play, Seen, Taken, on_os_drivers, tcp_pair};

on_os_drivers!(
    what_is_written_is_read,
    several_buffers_leave_in_order,
    the_writers_leaving_is_the_end,
    the_readers_leaving_is_readable_for_the_writer,
    a_write_without_a_reader_fails,
    a_full_pipe_is_pending_until_it_is_read,
    a_socket_can_be_a_pipe,
    a_file_that_never_blocks_is_always_ready,
    a_pipe_can_neither_connect_nor_be_shut_down,
);

/// The reading and the writing end, both adopted.
fn pipe<W: OsWorld>(world: &mut W) -> (Id, Id) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("pipe");
    let mut adopt = |fd| world.driver().adopt(fd, Role::Pipe).expect("adopt");
    (adopt(reader), adopt(writer))
}

fn what_is_written_is_read<W: OsWorld>() {
    let mut world = W::new();
    let (reader, writer) = pipe(&mut world);
    world.start(Op::RecvStart(reader));
    world.quiet();
    assert_eq!(world.take(reader).expect("take"), Taken::Nothing);
    world.send_all(writer, b"hello");
    world.until(Seen::Readable(reader));
    assert_eq!(
        world.take(reader).expect("take"),
        Taken::from(&b"hello"[..])
    );
    world.quiet();
    world.send_all(writer, b"again");
    let mut buffer = [0; 8];
    let count = world
        .driver()
        .take_into(reader, &mut buffer)
        .expect("take_into");
    assert_eq!((count, &buffer[..5]), (Some(5), &b"again"[..]));
}

fn several_buffers_leave_in_order<W: OsWorld>() {
    let mut world = W::new();
    let (reader, writer) = pipe(&mut world);
    // Much is written from where it is, little is copied together first.
    for length in [4, 16 * 1024] {
        let middle = vec![b'2'; length];
        let bufs = [b"one ", &middle[..], b"three"].map(IoSlice::new);
        let sent = world.ask(Op::Send {
            id: writer,
            bufs: &bufs,
        });
        assert_eq!(sent, Some(Seen::Sent(writer, Ok(length + 9))));
        let received = world.receive(reader, length + 9);
        assert_eq!(received, [b"one ", &middle[..], b"three"].concat());
    }
}

fn the_writers_leaving_is_the_end<W: OsWorld>() {
    let mut world = W::new();
    let (reader, writer) = pipe(&mut world);
    world.start(Op::RecvStart(reader));
    world.close(writer);
    world.until(Seen::Readable(reader));
    assert_eq!(world.take(reader).expect("take"), Taken::Eof);
    world.quiet();
}

fn the_readers_leaving_is_readable_for_the_writer<W: OsWorld>() {
    let mut world = W::new();
    let (reader, writer) = pipe(&mut world);
    world.start(Op::RecvStart(writer));
    world.send_all(writer, b"never read");
    world.quiet();
    world.close(reader);
    world.until(Seen::Readable(writer));
    world.start(Op::RecvStop(writer));
    world.quiet();
}

fn a_write_without_a_reader_fails<W: OsWorld>() {
    let mut world = W::new();
    let (reader, writer) = pipe(&mut world);
    world.close(reader);
    // Rust's runtime ignores SIGPIPE, as Python's does.
    let sent = world.ask(Op::Send {
        id: writer,
        bufs: &[IoSlice::new(b"x")],
    });
    assert_eq!(sent, Some(Seen::Sent(writer, Err(ErrorKind::BrokenPipe))));
}

fn a_full_pipe_is_pending_until_it_is_read<W: OsWorld>() {
    let mut world = W::new();
    let (reader, writer) = pipe(&mut world);
    let filled = world.fill(writer);
    world.quiet();
    world.receive(reader, filled);
    world.until(Seen::Sendable(writer));
    world.send_all(writer, b"more");
    assert_eq!(world.receive(reader, 4), b"more");
}

fn a_socket_can_be_a_pipe<W: OsWorld>() {
    let mut world = W::new();
    let (one, other) = tcp_pair();
    let one = world.driver().adopt(one, Role::Pipe).expect("adopt");
    let other = world.driver().adopt(other, Role::Pipe).expect("adopt");
    world.start(Op::RecvStart(other));
    world.send_all(one, b"hello");
    world.until(Seen::Readable(other));
    assert_eq!(world.receive(other, 5), b"hello");
    world.close(one);
    world.until(Seen::Readable(other));
    assert_eq!(world.take(other).expect("take"), Taken::Eof);
}

/// epoll refuses it.
fn a_file_that_never_blocks_is_always_ready<W: OsWorld>() {
    let mut world = W::new();
    let mut adopt = |path| {
        let file = std::fs::File::open(path).expect("a device");
        world
            .driver()
            .adopt(file.into(), Role::Pipe)
            .expect("adopt")
    };
    let (zero, null) = (adopt("/dev/zero"), adopt("/dev/null"));
    world.quiet();
    world.start(Op::RecvStart(zero));
    for _ in 0..3 {
        world.until(Seen::Readable(zero));
        let mut buffer = [1; 8];
        let count = world.driver().take_into(zero, &mut buffer);
        assert_eq!((count.expect("zeros"), buffer), (Some(8), [0; 8]));
    }
    world.start(Op::RecvStop(zero));
    world.quiet();
    world.start(Op::RecvStart(zero));
    world.until(Seen::Readable(zero));
    world.close(zero);
    world.quiet();
    world.start(Op::RecvStart(null));
    world.until(Seen::Readable(null));
    assert_eq!(world.take(null).expect("the end"), Taken::Eof);
    world.quiet();
    world.close(null);
}

fn a_pipe_can_neither_connect_nor_be_shut_down<W: OsWorld>() {
    let mut world = W::new();
    let (reader, _writer) = pipe(&mut world);
    let addr = world.nobody();
    let misused = Some(Seen::Failed(reader, ErrorKind::InvalidInput));
    assert_eq!(world.ask(Op::Shutdown(reader)), misused);
    assert_eq!(world.ask(Op::Connect { id: reader, addr }), misused);
    assert_eq!(world.ask(Op::AcceptStart(reader)), misused);
}
