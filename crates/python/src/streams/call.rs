//! `StreamCall`: the coroutine that `read()` and its kin and `drain()` give.
//!
//! Like a coroutine it does nothing until it is awaited, can be given to a task, cancelled and closed,
//! and runs once. It waits on a future of the loop; what it does before and after costs no Python code.

use pyo3::exceptions::{
    PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyTypeError, PyValueError,
};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use pyo3::types::{PyIterator, PyTuple, PyType};

use super::reader::{StreamReader, Want};
use super::writer::StreamWriter;

/// A call of a stream's method that is to be awaited.
#[pyclass(module = "oxlip._native")]
pub(crate) struct StreamCall {
    state: State,
    /// What was called, for people.
    name: &'static str,
}

/// What is asked of a stream.
pub(super) enum Request {
    Read(Py<StreamReader>, Want),
    Drain(Py<StreamWriter>),
}

enum State {
    Fresh(Request),
    /// A read waits on a future, through the future's iterator.
    Waiting(Py<StreamReader>, Want, Py<PyIterator>),
    /// asyncio's coroutine has taken over.
    Stock(Py<PyAny>),
    Running,
    Over,
}

/// What a step has come to.
enum Step<'py> {
    Yield(Bound<'py, PyAny>),
    Return(Bound<'py, PyAny>),
}

#[pymethods]
impl StreamCall {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match step(slf)? {
            Step::Yield(value) => Ok(Some(value)),
            Step::Return(value) if value.is_none() => Ok(None),
            Step::Return(value) => Err(PyStopIteration::new_err(value.unbind())),
        }
    }

    /// Goes on; `StopIteration` holds the result.
    #[pyo3(signature = (value, /))]
    fn send<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if !value.is_none() && matches!(slf.borrow().state, State::Fresh(_)) {
            return Err(PyTypeError::new_err(
                "can't send non-None value to a just-started coroutine",
            ));
        }
        match step(slf)? {
            Step::Yield(value) => Ok(value),
            Step::Return(value) => Err(PyStopIteration::new_err(value.unbind())),
        }
    }

    /// Raises an exception where it waits.
    #[pyo3(signature = (typ, val = None, tb = None))]
    fn throw<'py>(
        slf: &Bound<'py, Self>,
        typ: Bound<'py, PyAny>,
        val: Option<Bound<'py, PyAny>>,
        tb: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        match take(slf)? {
            State::Waiting(reader, want, iterator) => {
                let arguments: Vec<_> = [Some(typ), val, tb].into_iter().flatten().collect();
                let arguments = PyTuple::new(py, arguments)?;
                let thrown = iterator
                    .bind(py)
                    .call_method1(intern!(py, "throw"), arguments);
                match thrown {
                    // A future of another make may have its own mind.
                    Ok(value) => {
                        put(slf, State::Waiting(reader, want, iterator));
                        Ok(value)
                    }
                    Err(error) => {
                        StreamReader::end_waiting(reader.bind(py));
                        put(slf, State::Over);
                        Err(error)
                    }
                }
            }
            State::Stock(coroutine) => {
                let arguments: Vec<_> = [Some(typ), val, tb].into_iter().flatten().collect();
                let arguments = PyTuple::new(py, arguments)?;
                let thrown = coroutine
                    .bind(py)
                    .call_method1(intern!(py, "throw"), arguments);
                put(
                    slf,
                    if thrown.is_ok() {
                        State::Stock(coroutine)
                    } else {
                        State::Over
                    },
                );
                thrown
            }
            State::Fresh(_) | State::Running | State::Over => {
                put(slf, State::Over);
                Err(match val.filter(|val| !val.is_none()) {
                    Some(value) if value.is_instance_of::<pyo3::exceptions::PyBaseException>() => {
                        PyErr::from_value(value)
                    }
                    Some(value) => PyErr::from_value(typ.call1((value,))?),
                    None if typ.is_instance_of::<PyType>() => PyErr::from_value(typ.call0()?),
                    None => PyErr::from_value(typ),
                })
            }
        }
    }

    /// Ends it without a result.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let state = take(slf)?;
        put(slf, State::Over);
        match state {
            State::Waiting(reader, _, iterator) => {
                StreamReader::end_waiting(reader.bind(py));
                iterator
                    .bind(py)
                    .call_method0(intern!(py, "close"))
                    .map(drop)
            }
            State::Stock(coroutine) => coroutine
                .bind(py)
                .call_method0(intern!(py, "close"))
                .map(drop),
            State::Fresh(_) | State::Running | State::Over => Ok(()),
        }
    }

    // What tools ask a coroutine.

    #[getter]
    fn __name__(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        self.name
    }

    #[getter]
    fn cr_running(&self) -> bool {
        matches!(self.state, State::Running)
    }

    /// What it waits for.
    #[getter]
    fn cr_await(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &self.state {
            State::Waiting(_, _, iterator) => Some(iterator.clone_ref(py).into_any()),
            State::Stock(coroutine) => Some(coroutine.clone_ref(py)),
            State::Fresh(_) | State::Running | State::Over => None,
        }
    }

    /// It has none.
    #[getter]
    #[expect(clippy::unused_self, reason = "an attribute of coroutines")]
    fn cr_frame(&self) -> Option<Py<PyAny>> {
        None
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        format!(
            "<coroutine object {} at {:?}>",
            slf.borrow().name,
            slf.as_ptr()
        )
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.state {
            State::Fresh(Request::Read(reader, _)) => visit.call(reader),
            State::Fresh(Request::Drain(writer)) => visit.call(writer),
            State::Waiting(reader, _, iterator) => {
                visit.call(reader)?;
                visit.call(iterator)
            }
            State::Stock(coroutine) => visit.call(coroutine),
            State::Running | State::Over => Ok(()),
        }
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let before = std::mem::replace(&mut slf.borrow_mut().state, State::Over);
        drop(before);
    }
}

impl StreamCall {
    pub(super) fn create(py: Python<'_>, request: Request) -> PyResult<Bound<'_, PyAny>> {
        let name = match &request {
            Request::Read(_, Want::Some(_)) => "StreamReader.read",
            Request::Read(_, Want::Exactly(_)) => "StreamReader.readexactly",
            Request::Read(_, Want::Until { .. }) => "StreamReader.readuntil",
            Request::Read(_, Want::Line { .. }) => "StreamReader.readline",
            Request::Drain(_) => "StreamWriter.drain",
        };
        let state = State::Fresh(request);
        Ok(Bound::new(py, Self { state, name })?.into_any())
    }
}

/// A call that nobody awaited is a mistake, of which Python warns.
impl Drop for StreamCall {
    fn drop(&mut self) {
        if !matches!(self.state, State::Fresh(_)) {
            return;
        }
        Python::attach(|py| {
            // The object may go while an exception is on its way.
            let pending = PyErr::take(py);
            let message = format!("coroutine '{}' was never awaited\0", self.name);
            let message = std::ffi::CStr::from_bytes_with_nul(message.as_bytes());
            let warned = message.map(|message| {
                PyErr::warn(py, py.get_type::<PyRuntimeWarning>().as_any(), message, 1)
            });
            if let Ok(Err(error)) = warned {
                error.write_unraisable(py, None);
            }
            if let Some(pending) = pending {
                pending.restore(py);
            }
        });
    }
}

/// Takes the state out for a step. Nothing is borrowed while Python code runs.
fn take(slf: &Bound<'_, StreamCall>) -> PyResult<State> {
    match std::mem::replace(&mut slf.borrow_mut().state, State::Running) {
        State::Running => Err(PyValueError::new_err("coroutine already executing")),
        state => Ok(state),
    }
}

fn put(slf: &Bound<'_, StreamCall>, state: State) {
    let before = std::mem::replace(&mut slf.borrow_mut().state, state);
    drop(before);
}

fn step<'py>(slf: &Bound<'py, StreamCall>) -> PyResult<Step<'py>> {
    let py = slf.py();
    let (next, outcome) = match take(slf)? {
        State::Fresh(Request::Read(reader, mut want)) => {
            match StreamReader::attempt(reader.bind(py), &mut want, true) {
                Ok(Some(data)) => (State::Over, Ok(Step::Return(data.into_any()))),
                Ok(None) => wait(reader.into_bound(py), want),
                Err(error) => (State::Over, Err(error)),
            }
        }
        State::Waiting(reader, want, iterator) => {
            go_on(reader.into_bound(py), want, iterator.into_bound(py))
        }
        State::Fresh(Request::Drain(writer)) => drain(writer.bind(py)),
        State::Stock(coroutine) => hand_on(coroutine.into_bound(py)),
        State::Running | State::Over => (
            State::Over,
            Err(PyRuntimeError::new_err(
                "cannot reuse already awaited coroutine",
            )),
        ),
    };
    put(slf, next);
    outcome
}

/// There is not enough: waits for more.
fn wait<'py>(reader: Bound<'py, StreamReader>, want: Want) -> (State, PyResult<Step<'py>>) {
    match StreamReader::begin_waiting(&reader, &want) {
        Ok(iterator) => go_on(reader, want, iterator),
        Err(error) => (State::Over, Err(error)),
    }
}

/// Asks the future, and while it is done and there is not enough, waits on another.
fn go_on<'py>(
    reader: Bound<'py, StreamReader>,
    mut want: Want,
    iterator: Bound<'py, PyIterator>,
) -> (State, PyResult<Step<'py>>) {
    let nothing = reader.py().None().into_bound(reader.py());
    match iterator.send(&nothing) {
        Ok(PySendResult::Next(future)) => (
            State::Waiting(reader.unbind(), want, iterator.unbind()),
            Ok(Step::Yield(future)),
        ),
        Ok(PySendResult::Return(_)) => {
            StreamReader::end_waiting(&reader);
            match StreamReader::attempt(&reader, &mut want, false) {
                Ok(Some(data)) => (State::Over, Ok(Step::Return(data.into_any()))),
                Ok(None) => wait(reader, want),
                Err(error) => (State::Over, Err(error)),
            }
        }
        Err(error) => {
            StreamReader::end_waiting(&reader);
            (State::Over, Err(error))
        }
    }
}

fn drain<'py>(writer: &Bound<'py, StreamWriter>) -> (State, PyResult<Step<'py>>) {
    let py = writer.py();
    match StreamWriter::is_drained(writer) {
        Ok(true) => (State::Over, Ok(Step::Return(py.None().into_bound(py)))),
        Ok(false) => match StreamWriter::stock_drain(writer) {
            Ok(coroutine) => hand_on(coroutine),
            Err(error) => (State::Over, Err(error)),
        },
        Err(error) => (State::Over, Err(error)),
    }
}

/// A step of asyncio's coroutine.
fn hand_on(coroutine: Bound<'_, PyAny>) -> (State, PyResult<Step<'_>>) {
    let py = coroutine.py();
    match coroutine.call_method1(intern!(py, "send"), (py.None(),)) {
        Ok(value) => (State::Stock(coroutine.unbind()), Ok(Step::Yield(value))),
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
            let value = error.value(py).getattr(intern!(py, "value"));
            (State::Over, value.map(Step::Return))
        }
        Err(error) => (State::Over, Err(error)),
    }
}
