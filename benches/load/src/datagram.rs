//! Datagrams: each one sent back, or a flood of which the server acknowledges every 64th.
//!
//! A flood's datagrams leave one by one, or several as one message which the kernel cuts.
//!
//! Nothing is sent twice: over loopback a datagram is lost only if a socket's buffer is full, and
//! the options are to be such that it is not. One that is lost ends in the meter's time limit.

use std::collections::VecDeque;
use std::io;
use std::iter::repeat_n;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Instant;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::UdpGsoSegment;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::meter::Meter;
use crate::options::Options;
use crate::windows::{self, Load};

/// In a flood, one answer is for so many.
const ACKNOWLEDGED: usize = 64;

struct Sender {
    socket: UdpSocket,
    datagram: Vec<u8>,
    /// As many as leave as one message, one behind the other.
    message: Vec<u8>,
    /// When each outstanding datagram was sent, oldest first.
    sent: VecDeque<Instant>,
}

/// Keeps `in_flight` datagrams outstanding on every socket, and expects each back.
pub(crate) fn echo(options: &Options) -> io::Result<()> {
    run(options, 1)
}

/// The same, with an answer for every 64th only.
pub(crate) fn flood(options: &Options) -> io::Result<()> {
    run(options, ACKNOWLEDGED)
}

fn run(options: &Options, per_answer: usize) -> io::Result<()> {
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut senders = Vec::with_capacity(options.connections);
    for index in 0..options.connections {
        let sender = Sender::new(options, index)?;
        epoll::add(
            &poll,
            &sender.socket,
            EventData::new_u64(index as u64),
            EventFlags::IN,
        )?;
        senders.push(sender);
    }
    let mut datagrams = Datagrams {
        in_flight: options.in_flight,
        per_answer,
        buffer: vec![0; 64 * 1024],
        senders,
    };
    windows::run(options, &poll, &mut datagrams)
}

struct Datagrams {
    in_flight: usize,
    per_answer: usize,
    buffer: Vec<u8>,
    senders: Vec<Sender>,
}

impl Load for Datagrams {
    fn begin(&mut self, meter: &mut Meter) -> io::Result<()> {
        for sender in &mut self.senders {
            meter.asked(self.in_flight);
            sender.send(self.in_flight)?;
        }
        Ok(())
    }

    #[inline]
    fn progress(&mut self, number: usize, meter: &mut Meter) -> io::Result<()> {
        self.senders[number].progress(self.per_answer, &mut self.buffer, meter)
    }
}

impl Sender {
    fn new(options: &Options, index: usize) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(options.addr)?;
        socket.set_nonblocking(true)?;
        if options.joined > 1 {
            let length = i32::try_from(options.size).map_err(io::Error::other)?;
            setsockopt(&socket, UdpGsoSegment, &length)?;
        }
        let first = (index % 251) as u8;
        let datagram: Vec<_> = (0..options.size)
            .map(|at| first.wrapping_add(at as u8))
            .collect();
        Ok(Self {
            socket,
            message: datagram.repeat(options.joined),
            datagram,
            sent: VecDeque::with_capacity(options.in_flight),
        })
    }

    fn send(&mut self, count: usize) -> io::Result<()> {
        let most = self.message.len();
        let mut left = count * self.datagram.len();
        while left > 0 {
            let length = left.min(most);
            let now = Instant::now();
            self.sent
                .extend(repeat_n(now, length / self.datagram.len()));
            self.socket.send(&self.message[..length])?;
            left -= length;
        }
        Ok(())
    }

    /// Takes the answers that are there, and sends as many again as they answer.
    fn progress(
        &mut self,
        per_answer: usize,
        buffer: &mut [u8],
        meter: &mut Meter,
    ) -> io::Result<()> {
        loop {
            let length = match self.socket.recv(buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            if per_answer == 1 && buffer[..length] != self.datagram[..] {
                return Err(io::Error::other("the echo differs from what was sent"));
            }
            let now = Instant::now();
            for _ in 0..per_answer {
                let sent = self.sent.pop_front();
                let sent = sent.ok_or_else(|| io::Error::other("an answer too many"))?;
                meter.record(now - sent);
            }
            if meter.asks() {
                meter.asked(per_answer);
                self.send(per_answer)?;
            }
        }
    }
}
