//! Connections that are open and silent, to measure what one costs the server in memory.

use std::io::{self, Read, Write};

use crate::line::Opener;
use crate::options::Options;
use crate::pattern::{Echoed, Pattern, Replies};

/// Opens the connections, has one message echoed on each, says so, and holds them until stdin ends.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let pattern = Pattern::stream(options.size, 1);
    let opener = Opener::new(options);
    let mut held = Vec::with_capacity(options.connections);
    let mut buffer = vec![0; options.size];
    for index in 0..options.connections {
        let mut stream = opener.open()?;
        stream.write_all(pattern.slice(pattern.start(index), options.size))?;
        stream.flush()?;
        let mut replies = Echoed::new(&pattern, index);
        loop {
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                return Err(io::Error::other("the server closed the connection"));
            }
            match replies.receive(&buffer[..length]) {
                Ok(0) => {}
                Ok(_) => break,
                Err(fault) => return Err(io::Error::other(fault.0)),
            }
        }
        held.push(stream);
    }
    println!("{{\"connections\": {}}}", held.len());
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
