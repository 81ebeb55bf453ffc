//! From a stream's queue to the driver, while the loop's state is borrowed: no Python code runs here.

use std::io::{self, IoSlice};
use std::task::Poll;

use oxlip_core::id::Id;
use oxlip_core::op::{Completion, MAX_BUFFERS, Op};
use oxlip_core::stream::Stream;
use oxlip_core::write_queue::Flow;
use oxlip_driver::{AnyDriver, Driver as _};

use super::outcome::Outcome;
use crate::buffer::{Chunk, Data};
use crate::loop_::Connection;

/// When queued data are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    AtOnce,
    WithWait,
}

/// Sends with nothing queued before it, and queues what is left.
#[inline(always)]
pub(super) fn send_now(
    driver: &mut AnyDriver,
    connection: &mut Connection,
    id: Id,
    data: &Data<'_>,
) -> Outcome {
    let bytes = data.as_slice();
    let sent = match driver.submit(Op::Send {
        id,
        bufs: &[IoSlice::new(bytes)],
    }) {
        Poll::Ready(Completion::Sent(_, Ok(n))) if n == bytes.len() => return Outcome::Nothing,
        Poll::Ready(Completion::Sent(_, Ok(n))) => n,
        Poll::Ready(Completion::Sent(_, Err(error)) | Completion::Failed(_, error)) => {
            return Outcome::Failed(error);
        }
        _ => {
            connection.stream.blocked();
            0
        }
    };
    let (chunk, skip) = data.to_chunk(sent);
    let told = connection.stream.push(chunk, skip);
    // After a short send the next one is pending, and that arms the driver.
    flush_connection(driver, connection, id, told, Pace::AtOnce)
}

/// Sends what is queued until it is all gone or the system takes no more.
pub(super) fn flush_connection(
    driver: &mut AnyDriver,
    connection: &mut Connection,
    id: Id,
    told: Option<Flow>,
    pace: Pace,
) -> Outcome {
    let mut told = told;
    let soon = pace == Pace::WithWait;
    while connection.stream.needs_flush() {
        match send_queued(driver, &connection.stream, id, soon) {
            Poll::Ready(Completion::Sent(_, Ok(n))) => {
                // A chunk holds an exact bytes object or a copy: dropping it runs no Python code.
                told = match (told, connection.stream.advance(n, drop)) {
                    (Some(Flow::Pause), Some(Flow::Resume)) => None,
                    (told, newer) => newer.or(told),
                };
            }
            Poll::Ready(Completion::Sent(_, Err(error)) | Completion::Failed(_, error)) => {
                return Outcome::Failed(error);
            }
            _ if soon => connection.stream.submitted(),
            _ => connection.stream.blocked(),
        }
    }
    told.map_or(Outcome::Nothing, Outcome::Tell)
}

/// One send of as much of the queue as fits into one.
#[inline]
fn send_queued(
    driver: &mut AnyDriver,
    stream: &Stream<Chunk>,
    id: Id,
    soon: bool,
) -> Poll<Completion> {
    let mut unsent = stream.unsent();
    let first = IoSlice::new(unsent.next().unwrap_or_default());
    let Some(second) = unsent.next() else {
        return submit_send(driver, id, &[first], soon);
    };
    let second = IoSlice::new(second);
    let Some(third) = unsent.next() else {
        return submit_send(driver, id, &[first, second], soon);
    };
    let mut slices = [IoSlice::new(&[]); MAX_BUFFERS];
    slices[..3].copy_from_slice(&[first, second, IoSlice::new(third)]);
    let mut count = 3;
    for (slot, bytes) in slices[3..].iter_mut().zip(unsent) {
        *slot = IoSlice::new(bytes);
        count += 1;
    }
    submit_send(driver, id, &slices[..count], soon)
}

#[inline(always)]
fn submit_send(
    driver: &mut AnyDriver,
    id: Id,
    bufs: &[IoSlice<'_>],
    soon: bool,
) -> Poll<Completion> {
    driver.submit(if soon {
        Op::SendSoon { id, bufs }
    } else {
        Op::Send { id, bufs }
    })
}

pub(super) fn shut_down(driver: &mut AnyDriver, id: Id) -> Option<io::Error> {
    match driver.submit(Op::Shutdown(id)) {
        Poll::Ready(Completion::Sent(_, Err(error)) | Completion::Failed(_, error)) => Some(error),
        _ => None,
    }
}
