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

use crate::meter::Meter;
use crate::options::Options;
use crate::windows::{self, Load};

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
    let mut visits = Visits {
        to: options.addr,
        poll: &poll,
        begun: 0,
        under_way: Vec::new(),
    };
    visits.under_way.resize_with(options.connections, || None);
    windows::run(options, &poll, &mut visits)
}

struct Visits<'a> {
    to: SocketAddr,
    poll: &'a OwnedFd,
    begun: usize,
    under_way: Vec<Option<Visit>>,
}

impl Visits<'_> {
    /// Begins one in the place of the last of this number, whose stream is closed by that, and so leaves the epoll set.
    fn begin_one(&mut self, number: usize, meter: &mut Meter) -> io::Result<()> {
        let source = Ipv4Addr::new(127, 0, 1, (1 + self.begun % ADDRESSES) as u8);
        self.begun += 1;
        meter.asked(1);
        let visit = Visit::begin(source, self.to, self.poll, number)?;
        self.under_way[number] = Some(visit);
        Ok(())
    }
}

impl Load for Visits<'_> {
    fn begin(&mut self, meter: &mut Meter) -> io::Result<()> {
        (0..self.under_way.len()).try_for_each(|number| self.begin_one(number, meter))
    }

    fn progress(&mut self, number: usize, meter: &mut Meter) -> io::Result<()> {
        let Some(visit) = &mut self.under_way[number] else {
            return Ok(());
        };
        if let Step::Wait = visit.progress()? {
            return Ok(());
        }
        meter.record(visit.began.elapsed());
        self.under_way[number] = None;
        if meter.asks() {
            self.begin_one(number, meter)?;
        }
        Ok(())
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
