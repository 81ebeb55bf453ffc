//! `StreamReader`: what has arrived and has not been read, and who waits for more.
//!
//! Its attributes are asyncio's and may be set from outside, by asyncio's own methods above all.
//! None is borrowed while Python code runs, which includes the finalizers of objects.

use std::ops::ControlFlow;

use pyo3::exceptions::{PyNotImplementedError, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyInt, PyNotImplemented, PyTuple};

use super::slots::{Slot, look, put};
use super::{CLASSES, bytes, waiter};
use crate::counts::{Counted, Kind};
use crate::fields::{Fields, has_fields, hold};
use crate::loop_::fastcall;
use crate::names;

type Any<'py> = Bound<'py, PyAny>;

/// The native half of `oxlip.StreamReader`.
#[pyclass(frozen, subclass, module = "oxlip._native")]
pub(crate) struct StreamReader {
    fields: Fields<StreamReaderFields>,
    _counted: Counted,
}

pub(crate) struct StreamReaderFields {
    /// A `bytearray`, unless the program has set something else.
    pub(super) buffer: Slot,
    /// Nobody else refers to the buffer.
    pub(super) private: bool,
    /// All that has arrived, in place of the buffer, which is then private and empty (`piece.rs`).
    pub(super) piece: Option<Py<PyBytes>>,
    pub(super) waiter: Slot,
    pub(super) exception: Slot,
    transport: Slot,
    event_loop: Slot,
    /// As the program gave it.
    limit: Slot,
    /// The same in bytes, if it is an `int` that fits.
    pub(super) limit_size: Option<usize>,
    pub(super) eof: bool,
    pub(super) paused: bool,
    /// How far the waiting calls have searched, by the addresses of what they wait on. Calls that had nothing to
    /// search, which are nearly all, have no entry; some that were given up still have one.
    searched: Vec<(usize, usize)>,
}

has_fields!(StreamReader, StreamReaderFields);

/// For how many waiting calls it is remembered how far they have searched. There should be only one.
const CALLS: usize = 16;

/// What the native reading methods work on.
struct Held<'py> {
    buffer: Bound<'py, PyByteArray>,
    size: usize,
    limit: usize,
    eof: bool,
}

#[pymethods]
impl StreamReader {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            fields: Fields::new(StreamReaderFields {
                buffer: None,
                private: true,
                piece: None,
                waiter: None,
                exception: None,
                transport: None,
                event_loop: None,
                limit: None,
                limit_size: None,
                eof: false,
                paused: false,
                searched: Vec::new(),
            }),
            _counted: Counted::new(Kind::StreamReader),
        }
    }

    /// Appends what has arrived, and wakes who waits for it.
    fn feed_data(slf: &Bound<'_, Self>, data: &Any<'_>) -> PyResult<()> {
        let kept = data.cast_exact::<PyBytes>().ok();
        let kept = kept.and_then(|bytes| Self::keep(slf, bytes));
        let after = match kept {
            Some(kept) => Some(kept),
            None => Self::append(slf, data)?,
        };
        let Some((size, limit)) = after else {
            return Ok(());
        };
        Self::wake(slf)?;
        if size > limit.saturating_mul(2) {
            Self::pause(slf)?;
        }
        Ok(())
    }

    // The reading methods return bytes; or an object to wait on, and to pass to the next call; or
    // `NotImplemented`, where asyncio's method has to answer. A caller that gives up sets `_waiter` to `None`.

    /// Up to `n` bytes.
    fn _some<'py>(
        slf: &Bound<'py, Self>,
        n: &Any<'py>,
        waited: Option<&Any<'py>>,
    ) -> PyResult<Any<'py>> {
        let (held, n) = match Self::ask_for(slf, n, waited, |size, n| size <= n)? {
            ControlFlow::Continue(asked) => asked,
            ControlFlow::Break(answer) => return Ok(answer),
        };
        if waited.is_none() && held.size == 0 && !held.eof {
            return Self::wait(slf, "read", 0);
        }
        Self::take(slf, &held, n)
    }

    /// Exactly `n` bytes.
    ///
    /// # Errors
    /// `IncompleteReadError` at an early end.
    fn _exactly<'py>(
        slf: &Bound<'py, Self>,
        n: &Any<'py>,
        waited: Option<&Any<'py>>,
    ) -> PyResult<Any<'py>> {
        let (held, n) = match Self::ask_for(slf, n, waited, |size, n| size == n)? {
            ControlFlow::Continue(asked) => asked,
            ControlFlow::Break(answer) => return Ok(answer),
        };
        if held.size >= n {
            Self::take(slf, &held, n)
        } else if held.eof {
            Err(incomplete(&held, Some(n))?)
        } else {
            Self::wait(slf, "readexactly", 0)
        }
    }

    /// The data up to and including the separator.
    ///
    /// # Errors
    /// `IncompleteReadError` at an early end, `LimitOverrunError` if it comes too late.
    fn _until<'py>(
        slf: &Bound<'py, Self>,
        separator: &Any<'py>,
        waited: Option<&Any<'py>>,
    ) -> PyResult<Any<'py>> {
        // Several separators, other types and none are asyncio's.
        let separator = separator.cast_exact::<PyBytes>().ok();
        let separator = separator.filter(|separator| !separator.as_bytes().is_empty());
        if let Some(separator) = separator
            && let Some(all) = Self::whole(slf, waited, |piece, limit| {
                ends_with_first(piece, separator.as_bytes(), limit)
            })?
        {
            return Ok(all);
        }
        let Some((held, separator)) = Self::ask(slf, waited)?.zip(separator) else {
            return not_ours(slf);
        };
        match search(&held, separator.as_bytes(), Self::searched(slf, waited)) {
            Search::Found(end) => Self::take(slf, &held, end),
            Search::Overrun(message, at) => Err(overrun(slf.py(), message, at)?),
            Search::Missing(_) if held.eof => Err(incomplete(&held, None)?),
            Search::Missing(searched) => Self::wait(slf, "readuntil", searched),
        }
    }

    /// As `_until` with a newline; at the end of the stream the rest is a line.
    ///
    /// # Errors
    /// `LimitOverrunError` if it is too long.
    fn _line<'py>(slf: &Bound<'py, Self>, waited: Option<&Any<'py>>) -> PyResult<Any<'py>> {
        let is_line = |piece: &[u8], limit| ends_with_first(piece, b"\n", limit);
        if let Some(line) = Self::whole(slf, waited, is_line)? {
            return Ok(line);
        }
        let Some(held) = Self::ask(slf, waited)? else {
            return not_ours(slf);
        };
        match search(&held, b"\n", Self::searched(slf, waited)) {
            Search::Found(end) => Self::take(slf, &held, end),
            Search::Overrun(message, at) => Err(overrun(slf.py(), message, at)?),
            // asyncio's readline() then gives the partial read as it is, and resumes nothing.
            Search::Missing(_) if held.eof => {
                bytes::take(&held.buffer, held.size).map(Bound::into_any)
            }
            Search::Missing(searched) => Self::wait(slf, "readuntil", searched),
        }
    }

    // asyncio's attributes.

    #[getter(_buffer)]
    fn buffer<'py>(slf: &Bound<'py, Self>) -> PyResult<Any<'py>> {
        Self::fill(slf)?;
        hold(slf).private = false;
        Ok(look(slf, |this| &this.buffer))
    }

    #[setter(_buffer)]
    fn set_buffer(slf: &Bound<'_, Self>, buffer: Option<Any<'_>>) {
        let before = {
            let mut this = hold(slf);
            // The first one comes from asyncio's `__init__()`.
            this.private &= this.buffer.is_none();
            this.piece.take()
        };
        drop(before);
        put(slf, |this| &mut this.buffer, buffer);
    }

    #[getter(_waiter)]
    fn waiter<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        look(slf, |this| &this.waiter)
    }

    #[setter(_waiter)]
    fn set_waiter(slf: &Bound<'_, Self>, waiter: Option<Any<'_>>) {
        put(slf, |this| &mut this.waiter, waiter);
    }

    #[getter(_exception)]
    fn exception<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        look(slf, |this| &this.exception)
    }

    #[setter(_exception)]
    fn set_exception(slf: &Bound<'_, Self>, exception: Option<Any<'_>>) {
        put(slf, |this| &mut this.exception, exception);
    }

    #[getter(_transport)]
    fn transport<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        look(slf, |this| &this.transport)
    }

    #[setter(_transport)]
    fn set_transport(slf: &Bound<'_, Self>, transport: Option<Any<'_>>) {
        put(slf, |this| &mut this.transport, transport);
    }

    #[getter(_loop)]
    fn event_loop<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        look(slf, |this| &this.event_loop)
    }

    #[setter(_loop)]
    fn set_event_loop(slf: &Bound<'_, Self>, event_loop: Option<Any<'_>>) {
        put(slf, |this| &mut this.event_loop, event_loop);
    }

    #[getter(_limit)]
    fn limit<'py>(slf: &Bound<'py, Self>) -> Any<'py> {
        look(slf, |this| &this.limit)
    }

    #[setter(_limit)]
    fn set_limit(slf: &Bound<'_, Self>, limit: Option<Any<'_>>) {
        let size = limit.as_ref().and_then(|limit| {
            let exact = limit.cast_exact::<PyInt>().ok()?;
            exact.extract().ok()
        });
        hold(slf).limit_size = size;
        put(slf, |this| &mut this.limit, limit);
    }

    #[getter(_eof)]
    fn eof(slf: &Bound<'_, Self>) -> bool {
        hold(slf).eof
    }

    #[setter(_eof)]
    fn set_eof(slf: &Bound<'_, Self>, eof: &Any<'_>) -> PyResult<()> {
        let eof = eof.is_truthy()?;
        hold(slf).eof = eof;
        Ok(())
    }

    #[getter(_paused)]
    fn paused(slf: &Bound<'_, Self>) -> bool {
        hold(slf).paused
    }

    #[setter(_paused)]
    fn set_paused(slf: &Bound<'_, Self>, paused: &Any<'_>) -> PyResult<()> {
        let paused = paused.is_truthy()?;
        hold(slf).paused = paused;
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.fields.traverse(&visit, |fields, visit| {
            visit.call(&fields.buffer)?;
            // The piece is of bytes, which are in no cycle.
            visit.call(&fields.waiter)?;
            visit.call(&fields.exception)?;
            visit.call(&fields.transport)?;
            visit.call(&fields.event_loop)?;
            visit.call(&fields.limit)
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let taken = {
            let mut this = hold(slf);
            let this = &mut *this;
            [
                this.buffer.take(),
                this.waiter.take(),
                this.exception.take(),
                this.transport.take(),
                this.event_loop.take(),
                this.limit.take(),
            ]
        };
        drop(taken);
    }
}

impl StreamReader {
    /// Whether it is of no derived class.
    pub(super) fn is_plain(slf: &Bound<'_, Self>) -> bool {
        let classes = CLASSES.get(slf.py());
        classes.is_some_and(|classes| slf.get_type().is(&classes.reader))
    }

    /// The data that are there, or `None` if the reader is not as asyncio makes it: if it is of a derived class, or
    /// has another kind of buffer or limit.
    ///
    /// # Errors
    /// Out of memory.
    #[inline]
    fn held<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Held<'py>>> {
        let py = slf.py();
        if !Self::is_plain(slf) {
            return Ok(None);
        }
        Self::fill(slf)?;
        let this = hold(slf);
        let buffer = this.buffer.as_ref().map(|buffer| buffer.bind(py));
        let buffer = buffer.and_then(|buffer| buffer.cast_exact::<PyByteArray>().ok());
        Ok(buffer.zip(this.limit_size).map(|(buffer, limit)| Held {
            size: buffer.len(),
            limit,
            eof: this.eof,
            buffer: buffer.clone(),
        }))
    }

    /// Appends to the buffer. Returns its length and the limit, or `None` if there is nothing more to do.
    fn append(slf: &Bound<'_, Self>, data: &Any<'_>) -> PyResult<Option<(usize, usize)>> {
        let held = Self::held(slf)?.filter(|held| !held.eof);
        let (Some(held), Ok(bytes)) = (held, data.cast_exact::<PyBytes>()) else {
            let stock = names::STOCK_READER.get(slf.py())?;
            stock.call_method1(intern!(slf.py(), "feed_data"), (slf, data))?;
            return Ok(None);
        };
        let data = bytes.as_bytes();
        if data.is_empty() {
            return Ok(None);
        }
        bytes::append(&held.buffer, data)?;
        Ok(Some((held.buffer.len(), held.limit)))
    }

    /// The same for a reading method, which looks for an error only if it has not waited.
    #[inline]
    fn ask<'py>(slf: &Bound<'py, Self>, waited: Option<&Any<'py>>) -> PyResult<Option<Held<'py>>> {
        if waited.is_some() {
            put(slf, |this| &mut this.waiter, None);
        } else if hold(slf).exception.is_some() {
            return Ok(None);
        }
        Self::held(slf)
    }

    /// An object to wait on for more data or the end. Everything before `searched` has been searched.
    ///
    /// # Errors
    /// asyncio's `RuntimeError` if another call waits already.
    fn wait<'py>(slf: &Bound<'py, Self>, caller: &str, searched: usize) -> PyResult<Any<'py>> {
        let (waits, paused) = {
            let this = hold(slf);
            (this.waiter.is_some(), this.paused)
        };
        if waits {
            return Err(PyRuntimeError::new_err(format!(
                "{caller}() called while another coroutine is already waiting for incoming data"
            )));
        }
        // A call that waits while reading is paused would wait for ever: readexactly() of more than the limit.
        if paused {
            Self::resume(slf)?;
        }
        let event_loop = look(slf, |this| &this.event_loop);
        let waiter = fastcall::create_future(&event_loop)?;
        Self::forget_searched(slf, &waiter);
        if searched > 0 {
            let mut this = hold(slf);
            if this.searched.len() == CALLS {
                this.searched.remove(0);
            }
            this.searched.push((waiter.as_ptr() as usize, searched));
        }
        put(slf, |this| &mut this.waiter, Some(waiter.clone()));
        Ok(waiter)
    }

    /// How far the call that has waited on this object had searched.
    #[inline]
    fn searched(slf: &Bound<'_, Self>, waited: Option<&Any<'_>>) -> usize {
        waited.map_or(0, |waited| Self::forget_searched(slf, waited))
    }

    #[inline]
    fn forget_searched(slf: &Bound<'_, Self>, waiter: &Any<'_>) -> usize {
        let mut this = hold(slf);
        let known = this.searched.iter();
        let mut known = known.map(|(of, _)| *of == waiter.as_ptr() as usize);
        match known.position(|is_it| is_it) {
            Some(at) => this.searched.remove(at).1,
            None => 0,
        }
    }

    /// What is there for a call that wants so many bytes, and how many; or at once what it gives, which is all that
    /// has come, if `suits` says so of its size and of that number.
    #[inline]
    fn ask_for<'py>(
        slf: &Bound<'py, Self>,
        n: &Any<'py>,
        waited: Option<&Any<'py>>,
        suits: impl FnOnce(usize, usize) -> bool,
    ) -> PyResult<ControlFlow<Any<'py>, (Held<'py>, usize)>> {
        let n = positive(n);
        let suits = |piece: &[u8], _| n.is_some_and(|n| suits(piece.len(), n));
        if let Some(all) = Self::whole(slf, waited, suits)? {
            return Ok(ControlFlow::Break(all));
        }
        Ok(match Self::ask(slf, waited)?.zip(n) {
            Some(asked) => ControlFlow::Continue(asked),
            None => ControlFlow::Break(not_ours(slf)?),
        })
    }

    /// Whether `drain()` has nothing to learn from this reader.
    pub(super) fn is_fine(slf: &Bound<'_, Self>) -> bool {
        Self::is_plain(slf) && hold(slf).exception.is_none()
    }

    /// The first `n` bytes, or all there are. The transport resumes if that leaves few.
    fn take<'py>(slf: &Bound<'py, Self>, held: &Held<'py>, n: usize) -> PyResult<Any<'py>> {
        let data = bytes::take(&held.buffer, n)?;
        let low = hold(slf).paused && held.buffer.len() <= held.limit;
        if low {
            Self::resume(slf)?;
        }
        Ok(data.into_any())
    }

    /// asyncio's `_wakeup_waiter()`.
    fn wake(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let Some(waiter) = hold(slf).waiter.take() else {
            return Ok(());
        };
        waiter::wake(&waiter.into_bound(py))
    }

    /// There is too much: pauses the transport, if it can be paused.
    fn pause(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let transport = look(slf, |this| &this.transport);
        let paused = hold(slf).paused;
        if paused || transport.is_none() {
            return Ok(());
        }
        match transport.call_method0(intern!(py, "pause_reading")) {
            Ok(_) => hold(slf).paused = true,
            // It cannot, and is not asked again.
            Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {
                put(slf, |this| &mut this.transport, None);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(super) fn resume(slf: &Bound<'_, Self>) -> PyResult<()> {
        hold(slf).paused = false;
        let transport = look(slf, |this| &this.transport);
        transport
            .call_method0(intern!(slf.py(), "resume_reading"))
            .map(drop)
    }
}

fn not_ours<'py>(slf: &Bound<'py, StreamReader>) -> PyResult<Any<'py>> {
    Ok(PyNotImplemented::get(slf.py()).to_owned().into_any())
}

/// A size that the native methods can handle.
fn positive(n: &Any<'_>) -> Option<usize> {
    let n = n.cast_exact::<PyInt>().ok()?;
    n.extract().ok().filter(|n: &usize| *n > 0)
}

/// Whether these bytes are all up to the first separator, and it comes within the limit.
fn ends_with_first(bytes: &[u8], separator: &[u8], limit: usize) -> bool {
    bytes::find_in(bytes, separator)
        .is_some_and(|at| at <= limit && at + separator.len() == bytes.len())
}

enum Search {
    /// Where the separator ends.
    Found(usize),
    Overrun(&'static str, usize),
    /// Where it may still begin.
    Missing(usize),
}

fn search(held: &Held<'_>, separator: &[u8], searched: usize) -> Search {
    if held.size.saturating_sub(searched) < separator.len() {
        return Search::Missing(searched);
    }
    if let Some(at) = bytes::find(&held.buffer, separator, searched) {
        return if at > held.limit {
            Search::Overrun("Separator is found, but chunk is longer than limit", at)
        } else {
            Search::Found(at + separator.len())
        };
    }
    let searched = (held.size + 1).saturating_sub(separator.len());
    if searched > held.limit {
        return Search::Overrun(
            "Separator is not found, and chunk exceed the limit",
            searched,
        );
    }
    Search::Missing(searched)
}

/// The error for a stream that has ended too early, with the data that were there.
fn incomplete(held: &Held<'_>, expected: Option<usize>) -> PyResult<PyErr> {
    let partial = bytes::take(&held.buffer, held.size)?;
    let error = names::INCOMPLETE_READ_ERROR.get(held.buffer.py())?;
    let arguments = (partial.unbind(), expected);
    Ok(PyErr::from_type(error.cast()?.clone(), arguments))
}

fn overrun(py: Python<'_>, message: &'static str, consumed: usize) -> PyResult<PyErr> {
    let error = names::LIMIT_OVERRUN_ERROR.get(py)?;
    Ok(PyErr::from_type(error.cast()?.clone(), (message, consumed)))
}
