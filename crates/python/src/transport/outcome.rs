//! The outcome of a write or a flush, and acting on it once nothing is borrowed: notifying the
//! protocol, raising an error, ending the connection.

use std::io;

use oxlip_core::write_queue::Flow;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::body::{Body, LATE_WRITES_BEFORE_WARNING};
use super::link::Link;
use super::{end, flow};
use crate::errors::os_error;
use crate::log;

/// What a write or a flush led to, to be acted on outside the borrow.
pub(super) enum Outcome {
    Nothing,
    Tell(Flow),
    /// The method that was called.
    Refused(&'static str),
    /// The connection is lost; this is the nth write since.
    Late(u32),
    Failed(io::Error),
}

impl Body {
    /// A write after `connection_lost`; losing the connection counts as the first.
    pub(super) fn late_write(&self) -> Outcome {
        Outcome::Late(self.count_late_write())
    }
}

/// asyncio's error for a write after `write_eof()` or while a file is being sent.
#[cold]
pub(super) fn refusal(transport: Link<'_, '_>, method: &str) -> PyErr {
    let this = transport.get();
    let eof = this.with_state(|state| {
        let connection = state.resources.connection(this.id)?;
        Some(connection.stream.eof_requested())
    });
    PyRuntimeError::new_err(match eof {
        Ok(Some(Some(false))) => format!("unable to {method}; sendfile is in progress"),
        _ => format!("Cannot call {method}() after write_eof()"),
    })
}

#[inline(always)]
pub(super) fn act(transport: Link<'_, '_>, outcome: Outcome) -> PyResult<()> {
    match outcome {
        Outcome::Nothing => Ok(()),
        Outcome::Tell(flow) => flow::tell(transport, Some(flow)),
        Outcome::Refused(method) => Err(refusal(transport, method)),
        Outcome::Late(nth) => {
            if nth >= LATE_WRITES_BEFORE_WARNING {
                log::warning(transport.py(), transport.late_write_warning(), &[])?;
            }
            Ok(())
        }
        Outcome::Failed(error) => {
            if let Link::WritePipe(_) = transport {
                transport.get().late_write();
            }
            end::fatal(transport, os_error(error), transport.write_failure())
        }
    }
}
