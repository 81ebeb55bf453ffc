//! The command line.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

const HELP: &str = "\
load MODE --port PORT [OPTIONS]      prints one line of JSON for each window

modes
  echo      send --size bytes, expect them back
  line      the same with lines of --size bytes, the newline included
  http      GET with keep-alive, expect a body of --size bytes
  connect   connect, one byte there and back, close, again
  udp       send datagrams of --size bytes, expect them back
  flood     send datagrams, expect an answer to every 64th
  idle      open --connections, one exchange on each, hold them until stdin ends

options
  --port N          the server's port on 127.0.0.1
  --unix PATH       connect there instead (echo, line, http, idle)
  --tls             speak TLS, whoever answers (the same modes)
  --size BYTES      of one message or response body (1024)
  --connections N   (50)
  --in-flight N     requests outstanding on each connection (1)
  --joined N        datagrams of a flood that leave as one message, for the kernel to cut (1)
  --pause SECS      between an answer and the next request of the only connection (0)
  --warm-up SECS    before counting begins (0.3)
  --seconds SECS    to count for (1)
  --requests N      stop earlier, after so many
  --turns           open the connections and say so; then one window for each line of stdin
  --server-pid PID  report the CPU time that this process took meanwhile
";

/// What to do to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Echo,
    Line,
    Http,
    Connect,
    Udp,
    Flood,
    Idle,
}

/// The parsed command line.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    pub(crate) addr: SocketAddr,
    pub(crate) unix: Option<PathBuf>,
    pub(crate) tls: bool,
    pub(crate) size: usize,
    pub(crate) connections: usize,
    pub(crate) in_flight: usize,
    pub(crate) joined: usize,
    pub(crate) pause: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) seconds: Duration,
    pub(crate) requests: u64,
    pub(crate) turns: bool,
    pub(crate) server_pid: Option<u32>,
}

/// Reads the command line; `None` when help was asked for and has been printed.
pub(crate) fn parse() -> Result<Option<Options>, lexopt::Error> {
    parse_from(Parser::from_env())
}

fn parse_from(mut parser: Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut mode = None;
    let mut port: Option<u16> = None;
    let mut options = Options {
        mode: Mode::Echo,
        addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        unix: None,
        tls: false,
        size: 1024,
        connections: 50,
        in_flight: 1,
        joined: 1,
        pause: Duration::ZERO,
        warm_up: Duration::from_millis(300),
        seconds: Duration::from_secs(1),
        requests: u64::MAX,
        turns: false,
        server_pid: None,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Value(value) if mode.is_none() => mode = Some(value.parse_with(parse_mode)?),
            Arg::Long("port") => port = Some(parser.value()?.parse()?),
            Arg::Long("unix") => options.unix = Some(parser.value()?.into()),
            Arg::Long("tls") => options.tls = true,
            Arg::Long("size") => options.size = parser.value()?.parse_with(positive)?,
            Arg::Long("connections") => {
                options.connections = parser.value()?.parse_with(positive)?;
            }
            Arg::Long("in-flight") => options.in_flight = parser.value()?.parse_with(positive)?,
            Arg::Long("joined") => options.joined = parser.value()?.parse_with(positive)?,
            Arg::Long("pause") => options.pause = parser.value()?.parse_with(seconds)?,
            Arg::Long("warm-up") => options.warm_up = parser.value()?.parse_with(seconds)?,
            Arg::Long("seconds") => options.seconds = parser.value()?.parse_with(seconds)?,
            Arg::Long("requests") => options.requests = parser.value()?.parse()?,
            Arg::Long("turns") => options.turns = true,
            Arg::Long("server-pid") => options.server_pid = Some(parser.value()?.parse()?),
            Arg::Long("help") | Arg::Short('h') => {
                print!("{HELP}");
                return Ok(None);
            }
            other => return Err(other.unexpected()),
        }
    }
    options.mode = mode.ok_or("which mode? (echo, line, http, connect, udp, flood, idle)")?;
    if options.tls && options.unix.is_some() {
        return Err("--tls is over TCP only".into());
    }
    if matches!(options.mode, Mode::Connect | Mode::Udp | Mode::Flood)
        && (options.tls || options.unix.is_some())
    {
        return Err("--tls and --unix do not suit this mode".into());
    }
    if !options.pause.is_zero() && (options.connections, options.in_flight) != (1, 1) {
        return Err("--pause needs one connection with one request at a time".into());
    }
    options.addr.set_port(port.ok_or("--port is needed")?);
    Ok(Some(options))
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    match text {
        "echo" => Ok(Mode::Echo),
        "line" => Ok(Mode::Line),
        "http" => Ok(Mode::Http),
        "connect" => Ok(Mode::Connect),
        "udp" => Ok(Mode::Udp),
        "flood" => Ok(Mode::Flood),
        "idle" => Ok(Mode::Idle),
        _ => Err(format!("unknown mode {text:?}")),
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Option<Options>, lexopt::Error> {
        parse_from(Parser::from_args(line.split_whitespace()))
    }

    #[test]
    fn options_are_read() {
        let options = parse_line("line --port 7 --size 80 --seconds 0.5 --requests 9")
            .expect("parses")
            .expect("not help");
        assert_eq!(options.mode, Mode::Line);
        assert_eq!(options.addr.port(), 7);
        assert_eq!(options.size, 80);
        assert_eq!(options.seconds, Duration::from_millis(500));
        assert_eq!(options.requests, 9);
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        for line in [
            "",
            "echo",
            "--port 7",
            "fly --port 7",
            "echo --port 7 --size 0",
            "echo --port 7 --seconds -1",
            "echo line --port 7",
            "udp --port 7 --tls",
            "echo --port 7 --tls --unix /path",
            "echo --port 7 --pause 0.1",
        ] {
            assert!(parse_line(line).is_err(), "{line:?}");
        }
    }
}
