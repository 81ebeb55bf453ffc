//! `StreamReader`: what has arrived and was not read, and who waits for more.
//!
//! Its attributes are asyncio's and may be set from outside, by asyncio's own methods above all. None
//! is borrowed while Python code runs.

use pyo3::exceptions::{PyNotImplementedError, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyIterator, PyTuple};

use super::call::{Request, StreamCall};
use super::{bytes, classes};
use crate::buffer::Data;
use crate::counts::{Counted, Kind};
use crate::{ffi, names};

/// The native half of `oxlip.StreamReader`.
#[pyclass(subclass, module = "oxlip._native")]
pub(crate) struct StreamReader {
    #[pyo3(get, set, name = "_buffer")]
    buffer: Py<PyByteArray>,
    #[pyo3(get, set, name = "_eof")]
    eof: bool,
    #[pyo3(get, set, name = "_paused")]
    paused: bool,
    #[pyo3(get, set, name = "_waiter")]
    waiter: Option<Py<PyAny>>,
    #[pyo3(get, set, name = "_exception")]
    exception: Option<Py<PyAny>>,
    #[pyo3(get, set, name = "_transport")]
    transport: Option<Py<PyAny>>,
    #[pyo3(get, set, name = "_loop")]
    event_loop: Option<Py<PyAny>>,
    /// As the program gave it.
    #[pyo3(get, name = "_limit")]
    given_limit: Option<Py<PyAny>>,
    /// In bytes; what is no number that fits is no limit.
    limit: usize,
    _counted: Counted,
}

/// What a call of one of the reading methods is after.
pub(super) enum Want {
    /// At least one byte and at most so many.
    Some(usize),
    Exactly(usize),
    /// Everything up to the separator and with it. Before `searched` it is not.
    Until {
        separator: Py<PyBytes>,
        searched: usize,
    },
    /// As `Until` a newline, and what is left at the end counts as a line.
    Line {
        searched: usize,
    },
}

impl Want {
    /// What `RuntimeError` calls it when two wait at once: asyncio's `readline()` is a `readuntil()`.
    fn name(&self) -> &'static str {
        match self {
            Self::Some(_) => "read",
            Self::Exactly(_) => "readexactly",
            Self::Until { .. } | Self::Line { .. } => "readuntil",
        }
    }
}

#[pymethods]
impl StreamReader {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        py: Python<'_>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> Self {
        Self {
            buffer: PyByteArray::new(py, &[]).unbind(),
            eof: false,
            paused: false,
            waiter: None,
            exception: None,
            transport: None,
            event_loop: None,
            given_limit: None,
            limit: usize::MAX,
            _counted: Counted::new(Kind::StreamReader),
        }
    }

    #[setter(_limit)]
    fn set_limit(&mut self, limit: Bound<'_, PyAny>) {
        self.limit = limit.extract().unwrap_or(usize::MAX);
        self.given_limit = Some(limit.unbind());
    }

    /// Appends what has arrived, and wakes who waits for it.
    fn feed_data(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        if !is_plain(slf)? || slf.borrow().eof {
            let method = classes(py)?.stock_reader.bind(py);
            let method = method.getattr(intern!(py, "feed_data"))?;
            return method.call1((slf, data)).map(drop);
        }
        let data = Data::any_buffer(data)?;
        if data.as_slice().is_empty() {
            return Ok(());
        }
        Self::feed(slf, data.as_slice())
    }

    /// Up to `n` bytes, as soon as there is one; all until the end if `n` is negative.
    #[pyo3(signature = (n = None))]
    fn read<'py>(
        slf: &Bound<'py, Self>,
        n: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match n.and_then(positive) {
            Some(size) if is_plain(slf)? => Self::call(slf, Want::Some(size)),
            _ => stock(slf, "read", n),
        }
    }

    /// Exactly `n` bytes; `IncompleteReadError` if the stream ends before.
    fn readexactly<'py>(
        slf: &Bound<'py, Self>,
        n: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match positive(n) {
            Some(size) if is_plain(slf)? => Self::call(slf, Want::Exactly(size)),
            _ => stock(slf, "readexactly", Some(n)),
        }
    }

    /// Everything up to the separator and with it; `LimitOverrunError` if that is more than the
    /// limit, `IncompleteReadError` if the stream ends before.
    #[pyo3(signature = (separator = None))]
    fn readuntil<'py>(
        slf: &Bound<'py, Self>,
        separator: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if !is_plain(slf)? {
            return stock(slf, "readuntil", separator);
        }
        let separator = match separator {
            None => PyBytes::new(slf.py(), b"\n"),
            Some(separator) => match separator.cast_exact::<PyBytes>() {
                Ok(bytes) if !bytes.as_bytes().is_empty() => bytes.clone(),
                // Several of them, other types, errors.
                _ => return stock(slf, "readuntil", Some(separator)),
            },
        };
        Self::call(
            slf,
            Want::Until {
                separator: separator.unbind(),
                searched: 0,
            },
        )
    }

    /// A line with its newline, or what there is when the stream ends; `ValueError` if it is longer
    /// than the limit.
    fn readline<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if is_plain(slf)? {
            Self::call(slf, Want::Line { searched: 0 })
        } else {
            stock(slf, "readline", None)
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.waiter)?;
        visit.call(&self.exception)?;
        visit.call(&self.transport)?;
        visit.call(&self.event_loop)?;
        visit.call(&self.given_limit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let taken = {
            let mut this = slf.borrow_mut();
            let this = &mut *this;
            [
                this.waiter.take(),
                this.exception.take(),
                this.transport.take(),
                this.event_loop.take(),
                this.given_limit.take(),
            ]
        };
        drop(taken);
    }
}

/// Whether the program has not derived a class, whose methods asyncio's would call.
fn is_plain(slf: &Bound<'_, StreamReader>) -> PyResult<bool> {
    Ok(slf.get_type().is(&classes(slf.py())?.reader))
}

/// A size that is worth a native call.
fn positive(n: &Bound<'_, PyAny>) -> Option<usize> {
    n.extract().ok().filter(|n: &usize| *n > 0)
}

/// asyncio's coroutine of that name.
fn stock<'py>(
    slf: &Bound<'py, StreamReader>,
    method: &str,
    argument: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let class = classes(slf.py())?.stock_reader.bind(slf.py());
    match argument {
        Some(argument) => class.call_method1(method, (slf, argument)),
        None => class.call_method1(method, (slf,)),
    }
}

impl StreamReader {
    fn call<'py>(slf: &Bound<'py, Self>, want: Want) -> PyResult<Bound<'py, PyAny>> {
        StreamCall::create(slf.py(), Request::Read(slf.clone().unbind(), want))
    }

    /// The error to raise instead of reading or draining.
    pub(super) fn error(slf: &Bound<'_, Self>) -> Option<PyErr> {
        let exception = slf.borrow().exception.as_ref()?.clone_ref(slf.py());
        Some(PyErr::from_value(exception.into_bound(slf.py())))
    }

    /// As `feed_data()` of data that is some, on an object of no derived class.
    pub(super) fn feed(slf: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        let py = slf.py();
        let (buffer, eof) = {
            let this = slf.borrow();
            (this.buffer.clone_ref(py).into_bound(py), this.eof)
        };
        if eof {
            let method = classes(py)?.stock_reader.bind(py);
            let data = PyBytes::new(py, data);
            return method
                .call_method1(intern!(py, "feed_data"), (slf, data))
                .map(drop);
        }
        ffi::append(&buffer, data)?;
        let waiter = slf.borrow_mut().waiter.take();
        if let Some(waiter) = waiter {
            let waiter = waiter.into_bound(py);
            let cancelled = ffi::call_method(intern!(py, "cancelled"), [&waiter])?;
            if !cancelled.is_truthy()? {
                let nothing = py.None().into_bound(py);
                ffi::call_method(intern!(py, "set_result"), [&waiter, &nothing])?;
            }
        }
        let too_much = {
            let this = slf.borrow();
            let much = !this.paused && buffer.len() > this.limit.saturating_mul(2);
            let transport = this.transport.as_ref().filter(|_| much);
            transport.map(|it| it.clone_ref(py).into_bound(py))
        };
        if let Some(transport) = too_much {
            match transport.call_method0(intern!(py, "pause_reading")) {
                Ok(_) => slf.borrow_mut().paused = true,
                // It can't be paused, and is not asked again.
                Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {
                    let before = slf.borrow_mut().transport.take();
                    drop(before);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What was asked for, if it is there by now; `None`: wait for more. `first`: nobody has waited yet.
    ///
    /// # Errors
    /// Those of asyncio's methods.
    pub(super) fn attempt<'py>(
        slf: &Bound<'py, Self>,
        want: &mut Want,
        first: bool,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let py = slf.py();
        if first && let Some(error) = Self::error(slf) {
            return Err(error);
        }
        let (buffer, eof, limit) = {
            let this = slf.borrow();
            (
                this.buffer.clone_ref(py).into_bound(py),
                this.eof,
                this.limit,
            )
        };
        let held = buffer.len();
        let size = match want {
            Want::Some(_) if held == 0 && !eof && first => return Ok(None),
            Want::Some(n) => *n,
            Want::Exactly(n) if held >= *n => *n,
            Want::Exactly(_) if !eof => return Ok(None),
            Want::Exactly(n) => return Err(incomplete(&buffer, Some(*n))?),
            Want::Until {
                separator,
                searched,
            } => match search(&buffer, separator.as_bytes(py), searched, limit) {
                Search::Found(end) => end,
                Search::Overrun(message, at) => return Err(overrun(py, message, at)?),
                Search::Missing if eof => return Err(incomplete(&buffer, None)?),
                Search::Missing => return Ok(None),
            },
            Want::Line { searched } => match search(&buffer, b"\n", searched, limit) {
                Search::Found(end) => end,
                Search::Overrun(message, at) => {
                    return Err(Self::drop_line(slf, &buffer, message, at)?);
                }
                // asyncio's readline() then gives the partial read as it is, and resumes nothing.
                Search::Missing if eof => return bytes::take(&buffer, held).map(Some),
                Search::Missing => return Ok(None),
            },
        };
        let data = bytes::take(&buffer, size)?;
        Self::resume_if_low(slf, &buffer)?;
        Ok(Some(data))
    }

    /// A line is too long: it is dropped, or as much of it as there is.
    fn drop_line(
        slf: &Bound<'_, Self>,
        buffer: &Bound<'_, PyByteArray>,
        message: &'static str,
        at: usize,
    ) -> PyResult<PyErr> {
        let ended = ffi::with_bytes(buffer, |bytes| bytes.get(at) == Some(&b'\n'));
        bytes::drop_front(buffer, if ended { at + 1 } else { usize::MAX })?;
        Self::resume_if_low(slf, buffer)?;
        Ok(pyo3::exceptions::PyValueError::new_err(message))
    }

    /// asyncio's `_maybe_resume_transport()`.
    fn resume_if_low(slf: &Bound<'_, Self>, buffer: &Bound<'_, PyByteArray>) -> PyResult<()> {
        let low = {
            let this = slf.borrow();
            this.paused && buffer.len() <= this.limit
        };
        if low { Self::resume(slf) } else { Ok(()) }
    }

    fn resume(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let transport = {
            let mut this = slf.borrow_mut();
            this.paused = false;
            this.transport.as_ref().map(|it| it.clone_ref(py))
        };
        match transport {
            Some(transport) => transport
                .bind(py)
                .call_method0(intern!(py, "resume_reading"))
                .map(drop),
            None => Ok(()),
        }
    }

    /// Begins to wait for data or the end: what the event loop's task is to be given.
    ///
    /// # Errors
    /// `RuntimeError` if another call waits already.
    pub(super) fn begin_waiting<'py>(
        slf: &Bound<'py, Self>,
        want: &Want,
    ) -> PyResult<Bound<'py, PyIterator>> {
        let py = slf.py();
        let (waits, paused, event_loop) = {
            let this = slf.borrow();
            let event_loop = this.event_loop.as_ref().map(|it| it.clone_ref(py));
            (this.waiter.is_some(), this.paused, event_loop)
        };
        if waits {
            return Err(PyRuntimeError::new_err(format!(
                "{}() called while another coroutine is already waiting for incoming data",
                want.name()
            )));
        }
        // Who waits while nothing comes in waits for ever: readexactly() of more than the limit.
        if paused {
            Self::resume(slf)?;
        }
        let event_loop = event_loop.ok_or_else(|| PyRuntimeError::new_err("it has no loop"))?;
        let waiter = ffi::call_method(intern!(py, "create_future"), [event_loop.bind(py)])?;
        let iterator = waiter.try_iter()?;
        let before = slf.borrow_mut().waiter.replace(waiter.unbind());
        drop(before);
        Ok(iterator)
    }

    /// The wait is over, however it ended.
    pub(super) fn end_waiting(slf: &Bound<'_, Self>) {
        let before = slf.borrow_mut().waiter.take();
        drop(before);
    }
}

enum Search {
    /// Where the separator ends.
    Found(usize),
    Overrun(&'static str, usize),
    Missing,
}

/// Looks for the separator behind `searched`, which is set to where it may still begin.
fn search(
    buffer: &Bound<'_, PyByteArray>,
    separator: &[u8],
    searched: &mut usize,
    limit: usize,
) -> Search {
    let held = buffer.len();
    if held.saturating_sub(*searched) < separator.len() {
        return Search::Missing;
    }
    match bytes::find(buffer, separator, *searched) {
        Some(at) if at > limit => {
            Search::Overrun("Separator is found, but chunk is longer than limit", at)
        }
        Some(at) => Search::Found(at + separator.len()),
        None => {
            *searched = (held + 1).saturating_sub(separator.len());
            if *searched > limit {
                return Search::Overrun(
                    "Separator is not found, and chunk exceed the limit",
                    *searched,
                );
            }
            Search::Missing
        }
    }
}

/// The stream has ended too early: what was there is in the error.
fn incomplete(buffer: &Bound<'_, PyByteArray>, expected: Option<usize>) -> PyResult<PyErr> {
    let py = buffer.py();
    let partial = bytes::take(buffer, usize::MAX)?;
    let error = names::INCOMPLETE_READ_ERROR
        .get(py)?
        .call1((partial, expected))?;
    Ok(PyErr::from_value(error))
}

fn overrun(py: Python<'_>, message: &'static str, consumed: usize) -> PyResult<PyErr> {
    let error = names::LIMIT_OVERRUN_ERROR
        .get(py)?
        .call1((message, consumed))?;
    Ok(PyErr::from_value(error))
}
