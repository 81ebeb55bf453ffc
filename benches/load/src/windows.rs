//! The measured windows: one, or one for each line on standard input, between which the client rests, and with it the
//! server. So the servers of several contestants can be measured in turns, each of them a moment at a time.

use std::fmt::Display;
use std::io;
use std::time::Instant;

use crate::meter::{Meter, Next};
use crate::options::Options;

/// Reports each window as one line of JSON on standard output.
pub(crate) struct Windows<'a> {
    options: &'a Options,
    pub(crate) meter: Meter,
}

impl<'a> Windows<'a> {
    /// The connections are open. Says so and waits, if there are turns; then the first warm-up begins.
    pub(crate) fn open(options: &'a Options) -> io::Result<Self> {
        if options.turns {
            println!("{{\"connections\": {}}}", options.connections);
            if !is_asked_for_another()? {
                return Err(io::Error::other("no window was asked for"));
            }
        }
        Ok(Self {
            options,
            meter: Meter::start(options)?,
        })
    }

    /// Moves on with the time.
    pub(crate) fn advance(&mut self, now: Instant) -> io::Result<Next> {
        let next = self.meter.advance(now)?;
        if next != Next::End {
            return Ok(next);
        }
        self.report();
        if !self.options.turns || !is_asked_for_another()? {
            return Ok(Next::End);
        }
        self.meter = Meter::start(self.options)?;
        Ok(Next::Begin)
    }

    /// Something has failed: the window ends wherever it is, and there will be no other.
    pub(crate) fn fail(mut self, error: &dyn Display) -> io::Result<()> {
        self.meter.fail(error);
        self.meter.stop()?;
        self.report();
        Ok(())
    }

    fn report(&self) {
        println!("{}", self.meter.report().to_json());
    }
}

/// Waits for a line; false at the end of the input.
fn is_asked_for_another() -> io::Result<bool> {
    Ok(io::stdin().read_line(&mut String::new())? > 0)
}
