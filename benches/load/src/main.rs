//! The native load generator of the benchmarks.
//!
//! One thread, one epoll instance, nothing allocated per request: the client has to be much cheaper
//! than any server it measures. It prints one line of JSON for each window; `--help` lists the modes.
//! Replies are checked: their length wholly, their bytes at both ends of every receive.

mod connect;
mod datagram;
mod exchange;
mod histogram;
mod http;
mod idle;
mod line;
mod meter;
mod options;
mod pattern;
mod server_cpu;
mod windows;

use std::io;
use std::process::ExitCode;

use http::Responses;
use options::{Mode, Options};
use pattern::{Echoed, Pattern};

fn main() -> ExitCode {
    let options = match options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    let depth = options.in_flight;
    match options.mode {
        Mode::Echo => {
            let pattern = Pattern::stream(options.size, depth);
            exchange::run(options, &pattern, |salt| Echoed::new(&pattern, salt))
        }
        Mode::Line => {
            let pattern = Pattern::lines(options.size, depth);
            exchange::run(options, &pattern, |salt| Echoed::new(&pattern, salt))
        }
        Mode::Http => {
            let pattern = Pattern::http_get(options.addr, depth);
            exchange::run(options, &pattern, |_| Responses::new(options.size))
        }
        Mode::Connect => connect::run(options),
        Mode::Udp => datagram::echo(options),
        Mode::Flood => datagram::flood(options),
        Mode::Idle => idle::run(options),
    }
}
