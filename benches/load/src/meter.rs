//! One measured window: warm-up, counting, end, and the report.
//!
//! Counting starts and ends with the server at rest, every request answered, so that all the work of the counted
//! requests is in the figure and nothing else. The kernel brings a thread's time up to date when it stops running, and
//! otherwise only at its tick, every 4 ms with `CONFIG_HZ=250`.

use std::fmt::Display;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::histogram::Histogram;
use crate::options::Options;
use crate::server_cpu;

/// In so much time after its last answer a server has gone to sleep.
const REST: Duration = Duration::from_millis(1);

enum Phase {
    WarmUp,
    Counting,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    GoOn,
    /// The server is at rest: ask as many requests as are to be outstanding.
    Begin,
    End,
}

/// A point in time with the CPU time used up to it.
#[derive(Clone, Copy)]
struct Edge {
    at: Instant,
    server_cpu: Option<u64>,
    own_cpu: Duration,
}

/// Counts requests within the measured window.
pub(crate) struct Meter {
    phase: Phase,
    /// False once the phase's time is up: what is outstanding is still waited for.
    asks: bool,
    outstanding: usize,
    warm_up: Duration,
    length: Duration,
    limit: u64,
    server_pid: Option<u32>,
    first: Edge,
    last: Edge,
    latencies: Histogram,
    requests: u64,
    errors: u64,
    first_error: Option<String>,
}

impl Meter {
    /// The warm-up begins now.
    pub(crate) fn start(options: &Options) -> io::Result<Self> {
        let now = edge(options.server_pid)?;
        Ok(Meter {
            phase: Phase::WarmUp,
            asks: true,
            outstanding: 0,
            warm_up: options.warm_up,
            length: options.seconds,
            limit: options.requests,
            server_pid: options.server_pid,
            first: now,
            last: now,
            latencies: Histogram::new(),
            requests: 0,
            errors: 0,
            first_error: None,
        })
    }

    /// Whether an answer is to be followed by another request.
    #[inline]
    pub(crate) fn asks(&self) -> bool {
        self.asks
    }

    /// So many requests were made.
    #[inline]
    pub(crate) fn asked(&mut self, count: usize) {
        self.outstanding += count;
    }

    /// One request was answered.
    #[inline]
    pub(crate) fn record(&mut self, latency: Duration) {
        self.latencies.record(latency);
        self.outstanding -= 1;
        self.requests += 1;
    }

    /// A request or connection failed; errors of the warm-up count as well.
    pub(crate) fn fail(&mut self, error: &dyn Display) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    /// Moves on with the time.
    pub(crate) fn advance(&mut self, now: Instant) -> io::Result<Next> {
        let elapsed = now - self.first.at;
        let is_over = match self.phase {
            Phase::WarmUp => elapsed >= self.warm_up,
            Phase::Counting => elapsed >= self.length || self.requests >= self.limit,
        };
        self.asks &= !is_over;
        if self.asks || self.outstanding > 0 {
            return Ok(Next::GoOn);
        }
        thread::sleep(REST);
        match self.phase {
            Phase::WarmUp => {
                self.phase = Phase::Counting;
                self.asks = true;
                self.latencies.clear();
                self.requests = 0;
                self.first = edge(self.server_pid)?;
                Ok(Next::Begin)
            }
            Phase::Counting => {
                self.stop()?;
                Ok(Next::End)
            }
        }
    }

    /// Ends the window wherever it is.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        self.last = edge(self.server_pid)?;
        Ok(())
    }

    /// What was counted.
    pub(crate) fn report(&self) -> Report {
        let elapsed = self.last.at - self.first.at;
        Report {
            requests: self.requests,
            elapsed,
            p50: self.latencies.quantile(0.5),
            p99: self.latencies.quantile(0.99),
            max: self.latencies.max(),
            errors: self.errors,
            first_error: self.first_error.clone(),
            server_cpu: self
                .last
                .server_cpu
                .zip(self.first.server_cpu)
                .map(|(last, first)| last.saturating_sub(first)),
            own_cpu: self.last.own_cpu.saturating_sub(self.first.own_cpu),
        }
    }
}

fn edge(server_pid: Option<u32>) -> io::Result<Edge> {
    let own = clock_gettime(ClockId::ProcessCPUTime);
    let server_cpu = server_pid.map(server_cpu::nanos).transpose()?;
    Ok(Edge {
        at: Instant::now(),
        server_cpu,
        own_cpu: Duration::try_from(own).expect("CPU time is not negative"),
    })
}

/// The outcome of a run.
pub(crate) struct Report {
    requests: u64,
    elapsed: Duration,
    p50: Duration,
    p99: Duration,
    max: Duration,
    errors: u64,
    first_error: Option<String>,
    server_cpu: Option<u64>,
    own_cpu: Duration,
}

impl Report {
    /// One line of JSON: times in the unit that ends the name, `null` for what was not asked.
    pub(crate) fn to_json(&self) -> String {
        let seconds = self.elapsed.as_secs_f64();
        let rate = if seconds > 0.0 {
            self.requests as f64 / seconds
        } else {
            0.0
        };
        format!(
            "{{\"requests\": {}, \"seconds\": {seconds:.6}, \"rps\": {rate:.1}, \
             \"p50_us\": {:.1}, \"p99_us\": {:.1}, \"max_us\": {:.1}, \
             \"errors\": {}, \"first_error\": {}, \
             \"server_cpu_ns\": {}, \"client_cpu_ns\": {}}}",
            self.requests,
            micros(self.p50),
            micros(self.p99),
            micros(self.max),
            self.errors,
            self.first_error.as_deref().map_or("null".into(), quoted),
            self.server_cpu.map_or("null".into(), |ns| ns.to_string()),
            self.own_cpu.as_nanos(),
        )
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// A JSON string; control characters become spaces.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Mode;
    use std::net::{Ipv4Addr, SocketAddr};

    fn options(requests: u64) -> Options {
        Options {
            mode: Mode::Echo,
            unix: None,
            tls: false,
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            size: 1,
            connections: 1,
            in_flight: 1,
            joined: 1,
            pause: Duration::ZERO,
            warm_up: Duration::from_secs(1),
            seconds: Duration::from_secs(2),
            requests,
            turns: false,
            server_pid: None,
        }
    }

    #[test]
    fn the_warm_up_is_forgotten_and_the_limit_ends_the_window() {
        let mut meter = Meter::start(&options(2)).expect("starts");
        let start = meter.first.at;
        meter.asked(1);
        meter.record(Duration::from_secs(9));
        let next = meter.advance(start + Duration::from_secs(1));
        assert_eq!(next.expect("runs"), Next::Begin);
        meter.asked(2);
        meter.record(Duration::from_micros(5));
        let soon = meter.first.at + Duration::from_millis(1);
        assert_eq!(meter.advance(soon).expect("runs"), Next::GoOn);
        meter.record(Duration::from_micros(6));
        assert_eq!(meter.advance(soon).expect("runs"), Next::End);
        let report = meter.report();
        assert_eq!(report.requests, 2);
        assert_eq!(report.max, Duration::from_micros(6));
    }

    #[test]
    fn what_is_outstanding_is_waited_for() {
        let mut meter = Meter::start(&options(u64::MAX)).expect("starts");
        let late = meter.first.at + Duration::from_secs(1);
        meter.asked(1);
        assert_eq!(meter.advance(late).expect("runs"), Next::GoOn);
        assert!(!meter.asks());
        meter.record(Duration::from_micros(5));
        assert_eq!(meter.advance(late).expect("runs"), Next::Begin);
        assert!(meter.asks());
        let end = meter.first.at + Duration::from_secs(2);
        assert_eq!(meter.advance(end).expect("runs"), Next::End);
    }

    #[test]
    fn the_report_is_json() {
        let mut meter = Meter::start(&options(1)).expect("starts");
        meter.fail(&"a \"quoted\"\nline");
        meter.stop().expect("stops");
        let json = meter.report().to_json();
        assert!(json.contains("\"errors\": 1"), "{json}");
        assert!(
            json.contains(r#""first_error": "a \"quoted\" line""#),
            "{json}"
        );
        assert!(json.contains("\"server_cpu_ns\": null"), "{json}");
    }
}
