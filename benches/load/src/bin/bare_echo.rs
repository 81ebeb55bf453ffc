//! The bare echo server: what the kernel alone costs, the limit for every event loop.
//!
//! Level-triggered epoll, one shared buffer, one recv and one send for what is readable; no timers,
//! no queue, no objects. It prints its port as a line of JSON and serves until it is killed.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

const BUFFER: usize = 256 * 1024;
const EVENTS: usize = 256;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    println!("{{\"port\": {}}}", listener.local_addr()?.port());
    serve(&listener)
}

fn serve(listener: &TcpListener) -> io::Result<()> {
    let set = epoll::create(CreateFlags::CLOEXEC)?;
    let listening = u64::try_from(listener.as_raw_fd()).expect("descriptors are not negative");
    epoll::add(
        &set,
        listener,
        EventData::new_u64(listening),
        EventFlags::IN,
    )?;
    // By descriptor number.
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut buffer = vec![0; BUFFER];
    let mut events = [Event {
        flags: EventFlags::empty(),
        data: EventData::new_u64(0),
    }; EVENTS];
    loop {
        let count = match epoll::wait(&set, &mut events[..], None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        for event in &events[..count] {
            if event.data.u64() == listening {
                accept(listener, &set, &mut streams)?;
                continue;
            }
            let slot = &mut streams[event.data.u64() as usize];
            let Some(stream) = slot else { continue };
            // An error ends this connection as an end of file does.
            if !matches!(echo(stream, &mut buffer), Ok(true)) {
                *slot = None;
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    set: &OwnedFd,
    streams: &mut Vec<Option<TcpStream>>,
) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let number = usize::try_from(stream.as_raw_fd()).expect("descriptors are not negative");
        epoll::add(
            set,
            &stream,
            EventData::new_u64(number as u64),
            EventFlags::IN,
        )?;
        if streams.len() <= number {
            streams.resize_with(number + 1, || None);
        }
        streams[number] = Some(stream);
    }
}

/// Sends back what is there; false at the end of the stream.
fn echo(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<bool> {
    let length = match stream.read(buffer) {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
        Err(error) => return Err(error),
    };
    let mut rest = &buffer[..length];
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(sent) => rest = &rest[sent..],
            // Waiting for this one peer only is safe: the load generator always reads.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(stream, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(length > 0)
}
