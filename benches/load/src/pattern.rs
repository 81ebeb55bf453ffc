//! What is sent, and the check of what comes back.
//!
//! The outgoing stream of every connection is periodic: the byte at stream position `p` is
//! `bytes[(p + salt) % period]`. Any run of requests is then one slice of a shared buffer, and any
//! received byte can be checked from its position alone.

use std::net::SocketAddr;

/// Prime, so that no power of two is a multiple of it: a lost or doubled block shows.
const STREAM_PERIOD: usize = 251;

/// The outgoing bytes, shared by all connections.
pub(crate) struct Pattern {
    bytes: Vec<u8>,
    period: usize,
    request: usize,
    salted: bool,
}

impl Pattern {
    /// Messages of `size` bytes without structure; each connection starts elsewhere in the pattern.
    pub(crate) fn stream(size: usize, depth: usize) -> Self {
        let period: Vec<u8> = (0..=u8::MAX).take(STREAM_PERIOD).collect();
        Self::repeat(&period, size, depth, true)
    }

    /// Lines of `size` bytes with their newline.
    pub(crate) fn lines(size: usize, depth: usize) -> Self {
        let mut line: Vec<u8> = (b'a'..=b'z').cycle().take(size - 1).collect();
        line.push(b'\n');
        Self::repeat(&line, size, depth, false)
    }

    /// HTTP/1.1 requests that keep the connection.
    pub(crate) fn http_get(addr: SocketAddr, depth: usize) -> Self {
        let request = format!("GET / HTTP/1.1\r\nHost: {addr}\r\nAccept: */*\r\n\r\n");
        Self::repeat(request.as_bytes(), request.len(), depth, false)
    }

    fn repeat(period: &[u8], request: usize, depth: usize, salted: bool) -> Self {
        let length = period.len() + request * depth;
        Pattern {
            bytes: period.iter().copied().cycle().take(length).collect(),
            period: period.len(),
            request,
            salted,
        }
    }

    /// Length of one request in bytes.
    pub(crate) fn request_len(&self) -> usize {
        self.request
    }

    /// Where the stream of this connection starts.
    pub(crate) fn start(&self, connection: usize) -> usize {
        if self.salted {
            connection * 17 % self.period
        } else {
            0
        }
    }

    /// The `count` bytes that follow `position`; `count` at most the depth's requests.
    pub(crate) fn slice(&self, position: usize, count: usize) -> &[u8] {
        &self.bytes[position..position + count]
    }

    /// The position after `count` more bytes.
    pub(crate) fn forward(&self, position: usize, count: usize) -> usize {
        (position + count) % self.period
    }
}

/// The reply did not hold what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) &'static str);

/// The receiving side of one connection.
pub(crate) trait Replies {
    /// Takes what arrived, and says how many replies that completed.
    fn receive(&mut self, bytes: &[u8]) -> Result<usize, Fault>;
}

/// Expects the sent bytes back.
pub(crate) struct Echoed<'a> {
    pattern: &'a Pattern,
    position: usize,
    /// Bytes of the reply that is under way.
    partial: usize,
}

impl<'a> Echoed<'a> {
    pub(crate) fn new(pattern: &'a Pattern, connection: usize) -> Self {
        Echoed {
            pattern,
            position: pattern.start(connection),
            partial: 0,
        }
    }
}

impl Replies for Echoed<'_> {
    fn receive(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let [first, ..] = bytes else { return Ok(0) };
        let last = self.pattern.forward(self.position, bytes.len() - 1);
        if *first != self.pattern.bytes[self.position]
            || bytes.last() != Some(&self.pattern.bytes[last])
        {
            return Err(Fault("the echo differs from what was sent"));
        }
        self.position = self.pattern.forward(self.position, bytes.len());
        self.partial += bytes.len();
        let complete = self.partial / self.pattern.request;
        self.partial %= self.pattern.request;
        Ok(complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_counted_by_messages() {
        let pattern = Pattern::stream(100, 3);
        let start = pattern.start(5);
        let mut replies = Echoed::new(&pattern, 5);
        assert_eq!(replies.receive(pattern.slice(start, 250)), Ok(2));
        let position = pattern.forward(start, 250);
        assert_eq!(replies.receive(pattern.slice(position, 50)), Ok(1));
    }

    #[test]
    fn foreign_lost_and_doubled_bytes_are_noticed() {
        let pattern = Pattern::stream(64, 2);
        let mut replies = Echoed::new(&pattern, 1);
        let start = pattern.start(1);
        assert!(
            replies
                .receive(pattern.slice(pattern.start(2), 64))
                .is_err()
        );
        assert_eq!(replies.receive(pattern.slice(start, 64)), Ok(1));
        assert!(replies.receive(pattern.slice(start, 64)).is_err());
    }

    #[test]
    fn every_line_ends_with_its_newline() {
        let pattern = Pattern::lines(80, 2);
        let two = pattern.slice(pattern.start(3), 160);
        assert_eq!((two[79], two[159]), (b'\n', b'\n'));
        assert_eq!(two.iter().filter(|&&byte| byte == b'\n').count(), 2);
    }
}
