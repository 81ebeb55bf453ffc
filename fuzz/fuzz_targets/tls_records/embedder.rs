//! What the Python extension does between codec, machine, program and lower transport, in small.

use oxlip_core::tls::{Begin, ClosePlan, EndPlan, Shutdown, Step, WritePlan};
use oxlip_core::write_queue::Flow;

use crate::codec::{End, Garbage};
use crate::{FULL, LOW, PART, Soon, State, Told, World};

impl World {
    pub(crate) fn begin(&mut self) {
        match self.tls.begin() {
            Begin::Handshake => {
                self.timer = true;
                self.advance();
            }
            Begin::Abort => self.abort_lower(),
            Begin::Nothing => panic!("it has not begun"),
        }
    }

    fn advance(&mut self) {
        match self.codec.handshake() {
            Ok(true) => {
                assert!(self.tls.shaken());
                self.timer = false;
                if self.tls.tell_made() {
                    self.tell(Told::Made);
                }
                self.step();
            }
            Ok(false) => self.send(),
            Err(Garbage) => self.fatal(),
        }
    }

    pub(crate) fn step(&mut self) {
        match self.tls.step() {
            Step::Nothing => {}
            Step::Handshake => self.advance(),
            Step::Read => {
                self.receive();
            }
            Step::Flush => self.flush(),
            Step::Shutdown => self.shutdown(),
        }
    }

    /// `None`: there may be more. Otherwise whether all was read.
    fn receive(&mut self) -> Option<bool> {
        let received = match self.deliver() {
            Ok(received) => received,
            Err(Garbage) => {
                self.fatal();
                return Some(false);
            }
        };
        self.write_queued();
        if matches!(self.lower.state, State::Open | State::Closing) {
            match self.tls.read_flow(self.codec.incoming.len()) {
                Some(Flow::Pause) => assert!(std::mem::take(&mut self.lower.reading)),
                Some(Flow::Resume) => {
                    assert!(!std::mem::replace(&mut self.lower.reading, true));
                }
                None => {}
            }
        }
        received
    }

    fn deliver(&mut self) -> Result<Option<bool>, Garbage> {
        if !self.tls.wants_read() {
            return Ok(Some(false));
        }
        let limit = if self.buffered { 16 } else { usize::MAX };
        let (data, end) = self.codec.read(limit);
        if end.is_none() {
            self.soon.push_back(Soon::Step);
        }
        if !data.is_empty() {
            assert!(!self.paused && !self.closed, "data that nobody wants");
            assert!(!self.told.contains(&Told::Eof) && !self.told.contains(&Told::Lost));
            self.received.extend(data);
            self.react();
        }
        match end {
            None => Ok(None),
            Some(End::More) => Ok(Some(true)),
            Some(End::Failed) => Err(Garbage),
            Some(End::Closed) => {
                self.tell_eof();
                self.close();
                Ok(Some(true))
            }
        }
    }

    pub(crate) fn write(&mut self, bytes: Vec<u8>) {
        let plan = match self.tls.plan_write() {
            WritePlan::Late(_) => return,
            WritePlan::Encrypt if !self.queue.is_empty() => WritePlan::Queue,
            plan => plan,
        };
        assert!(!self.codec.farewell_sent, "a write after the farewell");
        self.written.extend(&bytes);
        let mut done = 0;
        while plan == WritePlan::Encrypt
            && done < bytes.len()
            && self.queue.is_empty()
            && self.tls.may_encrypt()
        {
            let part = &bytes[done..bytes.len().min(done + PART)];
            let Some(count) = self.codec.write(part) else {
                break;
            };
            done += count;
            if done < bytes.len() {
                self.hand_over();
            }
        }
        if done < bytes.len() {
            self.tls.queue(bytes.len() - done);
            self.queue.push_back((bytes, done));
        }
        self.write_queued();
    }

    fn write_queued(&mut self) {
        while self.tls.may_encrypt()
            && let Some((bytes, done)) = self.queue.pop_front()
        {
            let part = &bytes[done..bytes.len().min(done + PART)];
            let count = self.codec.write(part).unwrap_or(0);
            self.tls.unqueue(count);
            if done + count < bytes.len() {
                self.queue.push_front((bytes, done + count));
            }
            if count == 0 {
                break;
            }
            if self.tls.may_send() {
                self.hand_over();
            }
        }
        self.send();
    }

    fn send(&mut self) {
        if self.tls.may_send() {
            self.hand_over();
        }
        let pending = self.codec.outgoing.len();
        let queued: usize = self
            .queue
            .iter()
            .map(|(bytes, done)| bytes.len() - done)
            .sum();
        assert_eq!(self.tls.unsent(pending), queued + pending);
        let Some(flow) = self.tls.write_flow(pending) else {
            return;
        };
        let pause = flow == Flow::Pause;
        assert_ne!(std::mem::replace(&mut self.writing_paused, pause), pause);
        if !self.told.contains(&Told::Lost) {
            self.react();
        }
    }

    fn hand_over(&mut self) {
        let records = std::mem::take(&mut self.codec.outgoing);
        if !matches!(self.lower.state, State::Open | State::Closing) {
            return;
        }
        self.lower.buffered += records.len();
        self.lower.wire.extend(records);
        if self.lower.buffered > FULL && !std::mem::replace(&mut self.lower.full, true) {
            self.tls.lower_full();
        }
    }

    pub(crate) fn close(&mut self) {
        match self.tls.close() {
            ClosePlan::Nothing => {}
            ClosePlan::Abort => self.abort_lower(),
            ClosePlan::Flush => {
                self.timer = true;
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        let drained = loop {
            if let Some(all) = self.receive() {
                break all;
            }
        };
        if self.tls.start_shutdown(drained) {
            self.shutdown();
        }
    }

    fn shutdown(&mut self) {
        match self.tls.shutdown() {
            Shutdown::Nothing => {}
            Shutdown::Finish => self.finish(true),
            Shutdown::Unwrap => match self.codec.unwrap() {
                Ok(true) => self.finish(true),
                Ok(false) => self.send(),
                Err(true) => self.finish(false),
                Err(false) => self.fatal(),
            },
        }
    }

    fn finish(&mut self, parted: bool) {
        if !self.tls.finish() {
            return;
        }
        self.send();
        if parted {
            self.tell_eof();
            self.soon.push_back(Soon::CloseLower);
        } else {
            self.close_lower();
        }
    }

    fn tell_eof(&mut self) {
        if self.tls.tell_eof() {
            self.tell(Told::Eof);
        }
    }

    pub(crate) fn fatal(&mut self) {
        self.failed = true;
        self.tls.abort();
        self.hand_over();
        self.abort_lower();
    }

    // The lower transport.

    pub(crate) fn abort_lower(&mut self) {
        if matches!(self.lower.state, State::Open | State::Closing) {
            self.lower.state = State::Gone;
            self.soon.push_back(Soon::LowerLost);
        }
    }

    pub(crate) fn close_lower(&mut self) {
        if self.lower.state == State::Open {
            self.lower.state = State::Closing;
            self.drain(0);
        }
    }

    pub(crate) fn drain(&mut self, n: usize) {
        if !matches!(self.lower.state, State::Open | State::Closing) {
            return;
        }
        self.lower.buffered -= n.min(self.lower.buffered);
        if self.lower.full && self.lower.buffered <= LOW {
            self.lower.full = false;
            self.tls.lower_drained();
            self.write_queued();
        }
        if self.lower.state == State::Closing && self.lower.buffered == 0 {
            self.lower.state = State::Gone;
            self.soon.push_back(Soon::LowerLost);
        }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if self.lower.state == State::Open && self.lower.reading && !self.ended {
            self.fed.extend(bytes);
            self.codec.incoming.extend(bytes);
            self.step();
        }
    }

    pub(crate) fn end(&mut self) {
        if self.lower.state != State::Open || !self.lower.reading || self.ended {
            return;
        }
        self.ended = true;
        self.failed |= !self.codec.farewell_heard;
        let keep = match self.tls.end() {
            EndPlan::Nothing => false,
            EndPlan::Keep => true,
            EndPlan::Fail => {
                self.timer = false;
                self.fatal();
                false
            }
            EndPlan::Flush => {
                self.flush();
                self.tls.keeps_open()
            }
            EndPlan::Shutdown => {
                self.shutdown();
                false
            }
        };
        if !keep {
            self.close_lower();
        }
    }
}
