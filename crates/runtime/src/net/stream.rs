//! A connected stream.
//!
//! What is written leaves at the end of the handle that wrote it. `Op::SendSoon` is not used: it is
//! for an embedder that holds all writes back until its next call is the wait. Here `write_all`
//! reports the error of its own send, and a future that goes on to compute keeps no peer waiting.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, Op};
use oxlip_core::stream::{ClosePlan, EofPlan, Progress, Stream, Then, WritePlan};
use oxlip_core::write_queue::Flow;
use oxlip_driver::{AnySocket, Driver, Role, net};

use super::{connect, wake};
use crate::local::{Loop, Resource};

/// A TCP connection. Nagle's algorithm is off.
///
/// One future may read while another writes. Dropping the stream closes it, after what has been
/// written is sent.
pub struct TcpStream(Rc<Connection>);

impl TcpStream {
    /// Connects.
    ///
    /// # Errors
    /// Those of socket(2) and connect(2).
    pub async fn connect(lp: &Loop, addr: SocketAddr) -> io::Result<Self> {
        Self::connect_any(lp, &[addr]).await
    }

    /// Connects to the first of several addresses of one peer that answers ("happy eyeballs",
    /// RFC 8305).
    ///
    /// # Errors
    /// That of the only address; or one that names every address with its error, of the kind of
    /// the first. `InvalidInput` without addresses.
    pub async fn connect_any(lp: &Loop, addrs: &[SocketAddr]) -> io::Result<Self> {
        let id = connect::race(lp, addrs).await?;
        Ok(Self::connected(lp, id))
    }

    pub(super) fn adopt(lp: &Loop, socket: AnySocket, role: Role) -> io::Result<Self> {
        let id = lp.with_driver(|driver| driver.adopt(socket, role))?;
        Ok(Self::connected(lp, id))
    }

    /// Over a stream that the driver has connected.
    fn connected(lp: &Loop, id: Id) -> Self {
        let mut machine = Stream::new();
        machine.start();
        // Nobody reads yet.
        machine.pause_reading();
        let connection = Rc::new(Connection {
            lp: lp.clone(),
            id,
            machine: RefCell::new(machine),
            readable: Cell::new(false),
            choked: Cell::new(false),
            listed: Cell::new(false),
            dropped: Cell::new(false),
            error: Cell::new(None),
            reader: Cell::new(None),
            writer: Cell::new(None),
        });
        lp.register(id, connection.clone());
        // Best effort: whatever is not TCP has no such algorithm.
        let _ = lp.with_driver(|driver| driver.descriptor(id).map(net::set_nodelay));
        Self(connection)
    }

    /// Reads what is there into the buffer, once something is: how many bytes, 0 at the end.
    ///
    /// # Errors
    /// Those of recv(2); after one of them the connection is lost.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.0.poll_read(cx, buffer)).await
    }

    /// Writes all of it: to the kernel, or into a queue that is sent as the peer takes it. Waits
    /// only while more than 64 KiB are queued, until 16 KiB are left.
    ///
    /// What is written within one poll of a task leaves together at its end; but a task that writes
    /// once sends at once.
    ///
    /// # Errors
    /// Those of send(2), possibly of an earlier write; `BrokenPipe` after [`TcpStream::shutdown`].
    pub async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.write(bytes)?;
        poll_fn(|cx| self.0.poll_until(cx, |connection| !connection.choked.get())).await
    }

    /// Waits until the kernel has all that was written.
    ///
    /// # Errors
    /// Those of send(2).
    pub async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| {
            self.0
                .poll_until(cx, |connection| connection.machine.borrow().buffered() == 0)
        })
        .await
    }

    /// Sends the end of the stream after all that was written. Reading goes on.
    ///
    /// # Errors
    /// Those of send(2) and shutdown(2).
    pub async fn shutdown(&self) -> io::Result<()> {
        let plan = self.0.machine.borrow_mut().write_eof();
        if plan == EofPlan::Shutdown {
            self.0.shutdown();
        }
        self.flush().await
    }

    /// The address of this side, while the stream is open.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.0.lp.with_driver(|driver| driver.local_addr(self.0.id))
    }

    /// The address of the peer, while connected.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.0.lp.with_driver(|driver| driver.peer_addr(self.0.id))
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream")
            .field("peer", &self.peer_addr())
            .finish_non_exhaustive()
    }
}

/// What the loop keeps of a stream: longer than the user, if bytes are still to be sent.
pub(crate) struct Connection {
    lp: Loop,
    id: Id,
    machine: RefCell<Stream<Vec<u8>>>,
    /// There may be something to take: a receive is worth trying.
    readable: Cell<bool>,
    /// More is queued than the high-water mark allows.
    choked: Cell<bool>,
    /// To be flushed when the handle that runs is over.
    listed: Cell<bool>,
    /// The user is gone.
    dropped: Cell<bool>,
    /// Why the connection was lost, until somebody is told.
    error: Cell<Option<io::Error>>,
    reader: Cell<Option<Waker>>,
    writer: Cell<Option<Waker>>,
}

impl Connection {
    fn poll_read(&self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.readable.get() {
            match self
                .lp
                .with_driver(|driver| driver.take_into(self.id, buffer))
            {
                Ok(Some(count)) => {
                    // A short read emptied the kernel's buffer. The end stays where it is.
                    self.readable.set(count == buffer.len() || count == 0);
                    return Poll::Ready(Ok(count));
                }
                Ok(None) => self.readable.set(false),
                Err(error) => {
                    self.machine.borrow_mut().abort();
                    return Poll::Ready(Err(error));
                }
            }
        }
        if self.machine.borrow().is_lost() {
            return Poll::Ready(Err(self.lost()));
        }
        self.reader.set(Some(cx.waker().clone()));
        if self.machine.borrow_mut().resume_reading() {
            let _ = self.lp.submit(Op::RecvStart(self.id));
        }
        Poll::Pending
    }

    fn poll_until(
        &self,
        cx: &Context<'_>,
        reached: impl Fn(&Self) -> bool,
    ) -> Poll<io::Result<()>> {
        if self.machine.borrow().is_lost() {
            return Poll::Ready(Err(self.lost()));
        }
        if reached(self) {
            return Poll::Ready(Ok(()));
        }
        self.writer.set(Some(cx.waker().clone()));
        Poll::Pending
    }

    fn write(self: &Rc<Self>, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let plan = self.machine.borrow_mut().plan_write(self.lp.current_run());
        match plan {
            WritePlan::Now => match self.lp.submit(Op::Send {
                id: self.id,
                bufs: &[IoSlice::new(bytes)],
            }) {
                Poll::Ready(Completion::Sent(_, Ok(sent))) if sent == bytes.len() => {}
                Poll::Ready(Completion::Sent(_, Ok(sent))) => self.queue(&bytes[sent..]),
                Poll::Ready(Completion::Sent(_, Err(error)) | Completion::Failed(_, error)) => {
                    self.fail(error);
                    return Err(self.lost());
                }
                Poll::Ready(_) | Poll::Pending => {
                    self.queue(bytes);
                    self.machine.borrow_mut().blocked();
                }
            },
            WritePlan::Later => self.queue(bytes),
            WritePlan::Refused => return Err(io::ErrorKind::BrokenPipe.into()),
            WritePlan::Lost(_) => return Err(self.lost()),
        }
        Ok(())
    }

    fn queue(self: &Rc<Self>, bytes: &[u8]) {
        let flow = self.machine.borrow_mut().push(bytes.to_vec(), 0);
        self.choke(flow);
        if !self.listed.replace(true) {
            self.lp.flush_later(self.clone());
        }
    }

    /// Sends what is queued, as far as it goes.
    pub(crate) fn flush(&self) {
        self.listed.set(false);
        while self.machine.borrow().needs_flush() {
            let answer = {
                let machine = self.machine.borrow();
                let mut bufs = Vec::new();
                machine.buffers(&mut bufs);
                self.lp.submit(Op::Send {
                    id: self.id,
                    bufs: &bufs,
                })
            };
            match answer {
                Poll::Ready(Completion::Sent(_, Ok(sent))) => self.sent(sent),
                Poll::Ready(Completion::Sent(_, Err(error)) | Completion::Failed(_, error)) => {
                    self.fail(error);
                }
                Poll::Ready(_) | Poll::Pending => self.machine.borrow_mut().blocked(),
            }
        }
    }

    fn sent(&self, count: usize) {
        let Progress { flow, then } = self.machine.borrow_mut().sent(count);
        self.choke(flow);
        match then {
            // This embedder reserves no stream.
            Then::Nothing | Then::Yours => {}
            Then::Shutdown => self.shutdown(),
            Then::Lost => self.lp.close(self.id),
        }
        if !self.choked.get() {
            wake(&self.writer);
        }
    }

    fn choke(&self, flow: Option<Flow>) {
        match flow {
            Some(Flow::Pause) => self.choked.set(true),
            Some(Flow::Resume) => self.choked.set(false),
            None => {}
        }
    }

    fn shutdown(&self) {
        if let Poll::Ready(Completion::Sent(_, Err(error))) = self.lp.submit(Op::Shutdown(self.id))
        {
            self.fail(error);
        }
    }

    /// The user is gone: what is queued is sent, then the connection is closed.
    fn close(&self) {
        self.dropped.set(true);
        let plan = self.machine.borrow_mut().close();
        match plan {
            ClosePlan::Flushing => {
                let _ = self.lp.submit(Op::RecvStop(self.id));
            }
            ClosePlan::Lost | ClosePlan::Already => self.lp.close(self.id),
        }
    }

    fn fail(&self, error: io::Error) {
        if self.machine.borrow_mut().abort() {
            self.error.set(Some(error));
            self.choked.set(false);
            if self.dropped.get() {
                self.lp.close(self.id);
            }
        }
        wake(&self.reader);
        wake(&self.writer);
    }

    /// The first who asks is told the reason.
    fn lost(&self) -> io::Error {
        self.error
            .take()
            .unwrap_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Resource for Connection {
    fn completed(self: Rc<Self>, completion: Completion) {
        match completion {
            Completion::Readable(_) => {
                self.readable.set(true);
                if !wake(&self.reader) && self.machine.borrow_mut().pause_reading() {
                    let _ = self.lp.submit(Op::RecvStop(self.id));
                }
            }
            Completion::Sendable(_) => {
                self.machine.borrow_mut().unblocked();
                self.flush();
            }
            Completion::Failed(_, error) => self.fail(error),
            _ => {}
        }
    }
}
