//! Requests and replies over connections that stay open.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::line::{Line, Opener};
use crate::meter::Meter;
use crate::options::Options;
use crate::pattern::{Pattern, Replies};
use crate::windows::{self, Load};

const RECEIVE_BUFFER: usize = 256 * 1024;

/// How many connections are opened before the last one has to answer: then the server has accepted
/// all of them. Opened faster, they overflow its backlog, and each retry takes a second or more.
const UNANSWERED: usize = 128;

struct Connection<R> {
    line: Line,
    replies: R,
    /// Where in the pattern the next byte to be sent is.
    position: usize,
    /// Bytes of asked requests that the socket has not taken.
    unsent: usize,
    /// When each outstanding request was asked, oldest first.
    asked: VecDeque<Instant>,
}

/// Keeps `in_flight` requests outstanding on every connection until the last window is over.
pub(crate) fn run<R: Replies>(
    options: &Options,
    pattern: &Pattern,
    replies: impl Fn(usize) -> R,
) -> io::Result<()> {
    // Registered once for both directions, edge-triggered: no further epoll_ctl.
    let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut connections = Vec::with_capacity(options.connections);
    let opener = Opener::new(options);
    let mut buffer = vec![0; RECEIVE_BUFFER];
    for index in 0..options.connections {
        let mut connection = Connection {
            line: opener.open()?,
            replies: replies(index),
            position: pattern.start(index),
            unsent: 0,
            asked: VecDeque::with_capacity(options.in_flight),
        };
        if index % UNANSWERED == UNANSWERED - 1 {
            connection.exchange(pattern, &mut buffer)?;
        }
        connection.line.set_nonblocking()?;
        let number = EventData::new_u64(index as u64);
        epoll::add(&poll, &connection.line, number, interest)?;
        connections.push(connection);
    }

    let mut exchanges = Exchanges {
        options,
        pattern,
        buffer,
        connections,
    };
    windows::run(options, &poll, &mut exchanges)
}

struct Exchanges<'a, R> {
    options: &'a Options,
    pattern: &'a Pattern,
    buffer: Vec<u8>,
    connections: Vec<Connection<R>>,
}

impl<R: Replies> Load for Exchanges<'_, R> {
    fn begin(&mut self, meter: &mut Meter) -> io::Result<()> {
        for connection in &mut self.connections {
            meter.asked(self.options.in_flight);
            connection.ask(self.pattern, self.options.in_flight, Instant::now())?;
        }
        Ok(())
    }

    #[inline]
    fn progress(&mut self, number: usize, meter: &mut Meter) -> io::Result<()> {
        self.connections[number].progress(self.pattern, self.options.pause, &mut self.buffer, meter)
    }
}

impl<R: Replies> Connection<R> {
    /// One request and its reply, while the line still blocks.
    fn exchange(&mut self, pattern: &Pattern, buffer: &mut [u8]) -> io::Result<()> {
        let length = pattern.request_len();
        self.line.write_all(pattern.slice(self.position, length))?;
        self.line.flush()?;
        self.position = pattern.forward(self.position, length);
        loop {
            let length = match self.line.read(buffer)? {
                0 => return Err(io::Error::other("the server closed the connection")),
                length => length,
            };
            let received = self.replies.receive(&buffer[..length]);
            if received.map_err(|fault| io::Error::other(fault.0))? > 0 {
                return Ok(());
            }
        }
    }

    /// Reads what is there, asks as many requests again, and sends what the socket takes.
    fn progress(
        &mut self,
        pattern: &Pattern,
        pause: Duration,
        buffer: &mut [u8],
        meter: &mut Meter,
    ) -> io::Result<()> {
        loop {
            let length = match self.line.read(buffer) {
                Ok(0) => return Err(io::Error::other("the server closed the connection")),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let answered = self
                .replies
                .receive(&buffer[..length])
                .map_err(|fault| io::Error::other(fault.0))?;
            let mut now = Instant::now();
            for _ in 0..answered {
                let asked = self.asked.pop_front();
                let asked = asked.ok_or_else(|| io::Error::other("a reply too many"))?;
                meter.record(now - asked);
            }
            if answered > 0 && !pause.is_zero() {
                thread::sleep(pause);
                now = Instant::now();
            }
            if meter.asks() {
                meter.asked(answered);
                self.ask(pattern, answered, now)?;
            }
            if length < buffer.len() && self.line.is_emptied_by_short_reads() {
                return Ok(());
            }
        }
        self.send(pattern)
    }

    fn ask(&mut self, pattern: &Pattern, count: usize, now: Instant) -> io::Result<()> {
        self.unsent += count * pattern.request_len();
        for _ in 0..count {
            self.asked.push_back(now);
        }
        self.send(pattern)
    }

    fn send(&mut self, pattern: &Pattern) -> io::Result<()> {
        while self.unsent > 0 {
            match self.line.write(pattern.slice(self.position, self.unsent)) {
                Ok(sent) => {
                    self.unsent -= sent;
                    self.position = pattern.forward(self.position, sent);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
