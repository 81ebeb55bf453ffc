//! A codec without a cipher: records in the format of TLS, with a handshake, data and farewells.

use std::collections::VecDeque;

pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;
pub(crate) const ALERT: u8 = 21;
pub(crate) const FAREWELL: [u8; 2] = [1, 0];
/// What the codec puts into one record.
const FRAGMENT: usize = 50;
pub(crate) fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u16).to_be_bytes();
    [&[kind, 3, 3, len[0], len[1]], body].concat()
}

/// A record's kind and body, and how long it is in all.
pub(crate) type Record<'a> = (u8, &'a [u8], usize);

/// The first record of some bytes.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Record<'_>>, Garbage> {
    let Some((header, rest)) = bytes.split_at_checked(5) else {
        return Ok(None);
    };
    if !(20..=24).contains(&header[0]) || header[1] != 3 {
        return Err(Garbage);
    }
    let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if len > 0x4100 {
        return Err(Garbage);
    }
    Ok(rest.get(..len).map(|body| (header[0], body, 5 + len)))
}

#[derive(Debug)]
pub(crate) struct Garbage;

/// What a read has come to.
pub(crate) enum End {
    More,
    Closed,
    Failed,
}

#[derive(Default)]
pub(crate) struct Codec {
    pub(crate) incoming: VecDeque<u8>,
    pub(crate) outgoing: Vec<u8>,
    /// Decrypted, and not read yet.
    plain: VecDeque<u8>,
    greeted: bool,
    shaken: bool,
    /// It has to hear from the peer before it encrypts.
    pub(crate) waits: bool,
    pub(crate) farewell_sent: bool,
    pub(crate) farewell_heard: bool,
}

impl Codec {
    fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, Garbage> {
        let Some((kind, body, len)) = parse(self.incoming.make_contiguous())? else {
            return Ok(None);
        };
        let body = body.to_vec();
        self.incoming.drain(..len);
        Ok(Some((kind, body)))
    }

    pub(crate) fn handshake(&mut self) -> Result<bool, Garbage> {
        if !std::mem::replace(&mut self.greeted, true) {
            self.outgoing.extend(record(HANDSHAKE, b"hello"));
        }
        while !self.shaken {
            match self.next()? {
                None => return Ok(false),
                Some((HANDSHAKE, body)) if body.first() == Some(&20) => self.shaken = true,
                Some((HANDSHAKE, _)) => self.outgoing.extend(record(HANDSHAKE, b"more")),
                Some(_) => return Err(Garbage),
            }
        }
        Ok(true)
    }

    /// Decrypts up to `limit` bytes.
    pub(crate) fn read(&mut self, limit: usize) -> (Vec<u8>, Option<End>) {
        let mut end = None;
        while self.plain.len() < limit && end.is_none() {
            end = if self.farewell_heard {
                Some(End::Closed)
            } else {
                match self.next() {
                    Err(Garbage) => Some(End::Failed),
                    Ok(None) => Some(End::More),
                    Ok(Some((DATA, body))) => {
                        self.plain.extend(body);
                        None
                    }
                    Ok(Some((HANDSHAKE, body))) => {
                        self.waits = body.len() % 2 == 1;
                        None
                    }
                    Ok(Some((ALERT, body))) if body == FAREWELL => {
                        self.farewell_heard = true;
                        None
                    }
                    Ok(Some(_)) => Some(End::Failed),
                }
            };
        }
        let count = self.plain.len().min(limit);
        (self.plain.drain(..count).collect(), end)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        assert!(self.shaken && !self.farewell_sent, "not the time to write");
        if self.waits {
            return None;
        }
        for part in bytes.chunks(FRAGMENT) {
            self.outgoing.extend(record(DATA, part));
        }
        Some(bytes.len())
    }

    /// Says farewell and looks for the peer's. An error: `true` for data that came too late.
    pub(crate) fn unwrap(&mut self) -> Result<bool, bool> {
        if !std::mem::replace(&mut self.farewell_sent, true) {
            self.outgoing.extend(record(ALERT, &FAREWELL));
        }
        if !self.plain.is_empty() {
            return Err(true);
        }
        while !self.farewell_heard {
            match self.next() {
                Err(Garbage) => return Err(false),
                Ok(None) => return Ok(false),
                Ok(Some((HANDSHAKE, _))) => {}
                Ok(Some((ALERT, body))) if body == FAREWELL => self.farewell_heard = true,
                Ok(Some((kind, _))) => return Err(kind == DATA),
            }
        }
        Ok(true)
    }
}
