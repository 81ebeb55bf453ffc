//! The receiving side of HTTP/1.1 with `Content-Length`, as far as a benchmark needs it.

use crate::pattern::{Fault, Replies};

/// What every byte of a body has to be.
const BODY: u8 = b'x';

const HEAD_LIMIT: usize = 8 * 1024;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Reads the responses of one connection and checks status, length and body.
pub(crate) struct Responses {
    size: usize,
    /// A head that has not arrived wholly; seldom used.
    head: Vec<u8>,
    /// Bytes of the body still to come; `None` while a head is awaited.
    body: Option<usize>,
}

impl Responses {
    /// Expects bodies of `size` bytes.
    pub(crate) fn new(size: usize) -> Self {
        Responses {
            size,
            head: Vec::new(),
            body: None,
        }
    }

    /// Looks for the whole head in what arrived; gives back what follows it.
    fn take_head<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Fault> {
        if self.head.is_empty() {
            if let Some(end) = find(bytes, HEAD_END) {
                check_head(&bytes[..end], self.size)?;
                return Ok(Some(&bytes[end..]));
            }
            self.head.extend_from_slice(bytes);
        } else {
            let before = self.head.len();
            self.head.extend_from_slice(bytes);
            if let Some(end) = find(&self.head, HEAD_END) {
                check_head(&self.head[..end], self.size)?;
                self.head.clear();
                return Ok(Some(&bytes[end - before..]));
            }
        }
        if self.head.len() > HEAD_LIMIT {
            return Err(Fault("the response's head has no end"));
        }
        Ok(None)
    }
}

impl Replies for Responses {
    fn receive(&mut self, mut bytes: &[u8]) -> Result<usize, Fault> {
        let mut complete = 0;
        while !bytes.is_empty() {
            let left = match self.body {
                Some(left) => left,
                None => match self.take_head(bytes)? {
                    Some(rest) => {
                        bytes = rest;
                        self.size
                    }
                    None => break,
                },
            };
            let (body, rest) = bytes.split_at(left.min(bytes.len()));
            if body.first().is_some_and(|&byte| byte != BODY)
                || body.last().is_some_and(|&byte| byte != BODY)
            {
                return Err(Fault("the response's body is another"));
            }
            bytes = rest;
            self.body = Some(left - body.len());
            if self.body == Some(0) {
                self.body = None;
                complete += 1;
            }
        }
        Ok(complete)
    }
}

/// The index after the first `needle`.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let start = haystack.windows(needle.len()).position(|w| w == needle)?;
    Some(start + needle.len())
}

fn check_head(head: &[u8], size: usize) -> Result<(), Fault> {
    if !head.starts_with(b"HTTP/1.1 200 ") {
        return Err(Fault("the response is not 200 with HTTP/1.1"));
    }
    for line in head.split(|&byte| byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            continue;
        };
        if line[..colon].eq_ignore_ascii_case(b"content-length") {
            let value = line[colon + 1..].trim_ascii();
            let length = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
            return if length == Some(size) {
                Ok(())
            } else {
                Err(Fault("the response's Content-Length is another"))
            };
        }
    }
    Err(Fault("the response has no Content-Length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nxxxHTTP/1.1 200 OK\r\nContent-Length:3\r\n\r\nxxx";

    #[test]
    fn responses_are_counted_however_they_are_cut() {
        assert_eq!(Responses::new(3).receive(TWO), Ok(2));
        for cut in 1..TWO.len() {
            let mut responses = Responses::new(3);
            let first = responses.receive(&TWO[..cut]).expect("valid");
            let second = responses.receive(&TWO[cut..]).expect("valid");
            assert_eq!(first + second, 2, "cut at {cut}");
        }
    }

    #[test]
    fn a_wrong_response_is_a_fault() {
        assert!(Responses::new(4).receive(TWO).is_err());
        for bad in [
            &b"HTTP/1.1 500 Oh\r\ncontent-length: 3\r\n\r\nxxx"[..],
            b"HTTP/1.1 200 OK\r\n\r\nxxx",
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyxx",
        ] {
            assert!(Responses::new(3).receive(bad).is_err());
        }
    }
}
