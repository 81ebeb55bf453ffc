//! The measured windows: one, or one for each line on standard input, between which the client rests, and with it the
//! server. So the servers of several contestants can be measured in turns, each of them a moment at a time.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::line::PATIENCE;
use crate::meter::{Meter, Next};
use crate::options::Options;

/// As many events as one wait gives.
const EVENTS: usize = 256;

/// What a mode does with its open connections.
pub(crate) trait Load {
    /// Asks as many requests as are to be outstanding.
    fn begin(&mut self, meter: &mut Meter) -> io::Result<()>;

    /// Something has happened on the connection of this number: answers are taken, and as many requests asked again.
    fn progress(&mut self, number: usize, meter: &mut Meter) -> io::Result<()>;
}

/// Loads the server over the connections of this epoll set, and prints one line of JSON for each window. What fails
/// ends it, and is reported.
pub(crate) fn run(options: &Options, poll: &impl AsFd, load: &mut impl Load) -> io::Result<()> {
    if options.turns {
        println!("{{\"connections\": {}}}", options.connections);
    }
    while !options.turns || is_asked_for_another()? {
        let mut meter = Meter::start(options)?;
        let measured = measure(poll, load, &mut meter);
        if let Err(error) = &measured {
            meter.fail(error);
            meter.stop()?;
        }
        println!("{}", meter.report().to_json());
        if !options.turns || measured.is_err() {
            break;
        }
    }
    Ok(())
}

/// One window, with its warm-up.
fn measure(poll: &impl AsFd, load: &mut impl Load, meter: &mut Meter) -> io::Result<()> {
    let mut events = [empty_event(); EVENTS];
    load.begin(meter)?;
    loop {
        let count = wait(poll, &mut events)?;
        for event in &events[..count] {
            load.progress(event.data.u64() as usize, meter)?;
        }
        match meter.advance(Instant::now())? {
            Next::GoOn => {}
            Next::Begin => load.begin(meter)?,
            Next::End => return Ok(()),
        }
    }
}

/// Waits for a line; false at the end of the input.
fn is_asked_for_another() -> io::Result<bool> {
    Ok(io::stdin().read_line(&mut String::new())? > 0)
}

/// Waits for events, for no longer than a server may be silent.
fn wait(poll: &impl AsFd, events: &mut [Event; EVENTS]) -> io::Result<usize> {
    let limit = Timespec::try_from(PATIENCE).expect("a few seconds");
    loop {
        match epoll::wait(poll, &mut events[..], Some(&limit)) {
            Err(Errno::INTR) => {}
            Ok(0) => return Err(io::Error::other("the server has stopped answering")),
            other => return Ok(other?),
        }
    }
}

fn empty_event() -> Event {
    Event {
        flags: EventFlags::empty(),
        data: EventData::new_u64(0),
    }
}
