//! Short connections: connect, one byte there and back, close, and again.
//!
//! The client ends first, so that the waiting of TIME_WAIT is on its side and the server's close is
//! the ordinary one after an end of file. It takes its addresses in turns: one alone has 28,000 ports,
//! each to be used again after a second, and the servers are faster than that.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use crate::exchange::{EVENTS, SILENT, empty_event, wait};
use crate::meter::Next;
use crate::options::Options;
use crate::windows::Windows;

const BYTE: u8 = b'!';
/// How many addresses of 127.0.1.0/24 the client has.
const ADDRESSES: usize = 16;

/// One of the connections that are under way at a time.
struct Visit {
    stream: TcpStream,
    began: Instant,
    answered: bool,
}

enum Step {
    Wait,
    Done,
}

/// Keeps `connections` short connections under way until the last window is over.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut visits: Vec<Option<Visit>> = Vec::new();
    visits.resize_with(options.connections, || None);
    let mut windows = Windows::open(options)?;
    let mut events = [empty_event(); EVENTS];
    let mut sources = (1..=ADDRESSES).cycle();
    let mut source = || Ipv4Addr::new(127, 0, 1, sources.next().expect("endless") as u8);
    loop {
        for (index, visit) in visits.iter_mut().enumerate() {
            windows.meter.asked(1);
            *visit = Some(Visit::begin(source(), options.addr, &poll, index)?);
        }
        let next = loop {
            let count = wait(&poll, &mut events)?;
            if count == 0 {
                return windows.fail(&SILENT);
            }
            for event in &events[..count] {
                let index = event.data.u64() as usize;
                let slot = &mut visits[index];
                let Some(visit) = slot else { continue };
                match visit.progress() {
                    Ok(Step::Wait) => continue,
                    Ok(Step::Done) => windows.meter.record(visit.began.elapsed()),
                    Err(error) => return windows.fail(&error),
                }
                // The old stream is closed by this, which also takes it out of the epoll set.
                *slot = None;
                if windows.meter.asks() {
                    windows.meter.asked(1);
                    *slot = Some(Visit::begin(source(), options.addr, &poll, index)?);
                }
            }
            match windows.advance(Instant::now())? {
                Next::GoOn => {}
                next => break next,
            }
        };
        if next == Next::End {
            return Ok(());
        }
    }
}

impl Visit {
    /// On loopback the kernel alone completes a connect: there is nothing to wait for.
    fn begin(from: Ipv4Addr, to: SocketAddr, poll: &OwnedFd, index: usize) -> io::Result<Self> {
        let began = Instant::now();
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        bind(&socket, &SocketAddr::from((from, 0)))?;
        connect(&socket, &to)?;
        let mut stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        stream.write_all(&[BYTE])?;
        epoll::add(
            poll,
            &stream,
            EventData::new_u64(index as u64),
            EventFlags::IN,
        )?;
        Ok(Visit {
            stream,
            began,
            answered: false,
        })
    }

    fn progress(&mut self) -> io::Result<Step> {
        let mut bytes = [0; 2];
        match self.stream.read(&mut bytes) {
            Ok(0) if self.answered => Ok(Step::Done),
            Ok(1) if !self.answered && bytes[0] == BYTE => {
                self.answered = true;
                self.stream.shutdown(Shutdown::Write)?;
                Ok(Step::Wait)
            }
            Ok(_) => Err(io::Error::other("the echo of one byte was another")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Step::Wait),
            Err(error) => Err(error),
        }
    }
}
