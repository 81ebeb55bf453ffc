//! `oxlip._native`: asyncio's event loop, handles and transports over `oxlip-core` and
//! `oxlip-driver`.
//!
//! Rules of this crate:
//!
//! * One thread owns a loop's state at a time (`owner.rs`); nothing relies on the GIL for that.
//! * No Python code runs while the state is borrowed. Objects that are taken out of it are dropped
//!   outside.
//! * Every class that holds Python objects shows them to the cycle collector.
//! * `PyErr` is made in `errors.rs`; below this crate there is only `io::Error`.

mod awaited;
mod buffer;
mod chains;
mod context;
mod counts;
mod errors;
mod ffi;
mod fields;
#[cfg(ends_threads)]
#[expect(non_snake_case, reason = "the names of the C API")]
mod finalizing;
mod handle;
mod kept;
mod log;
mod loop_;
mod methods;
mod names;
mod native_base;
mod owner;
mod primitives;
mod prompt;
mod py_buffer;
mod room;
mod streams;
mod tasks;
mod tls;
mod transport;

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyString, PyTuple, PyType};

/// Whether the module has been made.
static MADE: AtomicBool = AtomicBool::new(false);

/// What the module is given first of all, before a class is touched: it is made once, in the main interpreter. PyO3 asks
/// only for modules within others, and Python only for interpreters with a GIL of their own, from 3.12 on.
struct Once;

impl Once {
    /// PyO3 looks for this of all that it exports.
    const _PYO3_DEF: Self = Self;

    fn add_to_module(&self, module: &Bound<'_, PyModule>) -> PyResult<()> {
        let _ = self;
        ffi::must_be_main_interpreter(module.py())?;
        if MADE.load(Ordering::Relaxed) {
            let message = "oxlip._native cannot be imported more than once per process";
            return Err(PyImportError::new_err(message));
        }
        Ok(())
    }
}

/// The native half of oxlip.
#[pymodule(gil_used = false)]
mod _native {
    use super::{
        Bound, PyDict, PyModule, PyResult, PyString, PyTuple, PyType, Python, counts, pyfunction,
    };
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::Once;
    #[pymodule_export]
    use super::handle::{Handle, TimerHandle};
    #[pymodule_export]
    use super::loop_::{EventLoop, Pending};
    #[pymodule_export]
    use super::primitives::{
        Condition, Event, Gathering, Lock, Maker, Queue, Semaphore, TaskGroup, TaskSet, Timeout,
        Waiting,
    };
    #[pymodule_export]
    use super::prompt::PromptFunction;
    #[pymodule_export]
    use super::streams::{StreamReader, StreamWriter};
    #[pymodule_export]
    use super::tls::{TlsProtocol, TlsTransport};
    #[pymodule_export]
    use super::transport::{
        DatagramTransport, ReadPipeTransport, Server, StreamTransport, WritePipeTransport,
    };

    /// The names of the drivers that this build has, best first.
    #[pyfunction]
    fn drivers() -> Vec<&'static str> {
        oxlip_driver::NAMES.to_vec()
    }

    /// Gives a class derived from `EventLoop` scheduling methods of its own, which are called
    /// faster on its objects than inherited ones.
    #[pyfunction]
    #[pyo3(signature = (class_, /))]
    fn own_scheduling(class_: &Bound<'_, PyType>) -> PyResult<()> {
        super::loop_::fastcall::install(class_)
    }

    /// Gives the class the native methods of a base as its own, which are called faster.
    #[pyfunction]
    #[pyo3(signature = (class_, base, /))]
    fn adopt_methods(class_: &Bound<'_, PyType>, base: &Bound<'_, PyType>) -> PyResult<()> {
        super::ffi::adopt_methods(class_, base)
    }

    /// Tells which classes stand on `StreamReader` and `StreamWriter`, the protocols of streams, and asyncio's reader.
    #[pyfunction]
    #[pyo3(signature = (reader, writer, protocol, stock_protocol, stock_reader, /))]
    fn own_streams(
        reader: &Bound<'_, PyType>,
        writer: &Bound<'_, PyType>,
        protocol: &Bound<'_, PyType>,
        stock_protocol: &Bound<'_, PyType>,
        stock_reader: Option<&Bound<'_, PyType>>,
    ) -> PyResult<()> {
        super::streams::own(reader, writer, protocol, stock_protocol, stock_reader)
    }

    /// As `asyncio.timeout()`: lets what is in the asynchronous context take so many seconds.
    #[pyfunction]
    fn timeout<'py>(delay: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        super::primitives::timeout(delay)
    }

    /// As `asyncio.gather()`.
    #[pyfunction]
    #[pyo3(
        signature = (*coros_or_futures, return_exceptions=None),
        text_signature = "(*coros_or_futures, return_exceptions=False)"
    )]
    fn gather<'py>(
        coros_or_futures: &Bound<'py, PyTuple>,
        return_exceptions: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        super::primitives::gather(coros_or_futures, return_exceptions)
    }

    /// As `os.pread`, of what the system has in memory; `None` if it would have to wait.
    #[pyfunction]
    fn read_file_now(
        py: Python<'_>,
        fd: i32,
        size: usize,
        offset: u64,
    ) -> PyResult<Option<Bound<'_, pyo3::types::PyBytes>>> {
        super::loop_::files::read_now(py, fd, size, offset)
    }

    /// How many objects of each native class are alive: empty unless debug assertions are on.
    #[pyfunction]
    fn live_objects(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let counts = PyDict::new(py);
        for (name, count) in counts::live() {
            counts.set_item(name, count)?;
        }
        Ok(counts)
    }

    /// Which codec TLS connections get here (`codec`), and why (`reason`).
    #[pyfunction]
    fn tls_codec(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        super::tls::describe(py)
    }

    /// Whether this Python's tasks are known well enough for loops to make ours.
    #[pyfunction]
    fn has_tasks(py: Python<'_>) -> PyResult<bool> {
        super::tasks::supported(py)
    }

    /// Has all loops of ours make `Future` and `Task` from here on; or asyncio's again.
    #[pyfunction]
    #[pyo3(signature = (on, /))]
    fn switch_tasks(py: Python<'_>, on: bool) -> PyResult<()> {
        super::tasks::switch(py, on)
    }

    /// Looks up now what is used of asyncio and of other modules that have been imported: at the interpreter's end
    /// nothing can be imported any more.
    #[pyfunction]
    fn look_up_names(py: Python<'_>) -> PyResult<()> {
        super::names::look_up(py)
    }

    /// Has asyncio's set of all tasks know those that it was not told of yet.
    #[pyfunction]
    fn list_tasks(py: Python<'_>) -> PyResult<()> {
        super::tasks::list_all(py)
    }

    /// For `gc.callbacks`: as [`list_tasks`] when a collection begins.
    #[pyfunction]
    #[pyo3(signature = (phase, info, /))]
    fn list_tasks_to_collect(phase: &Bound<'_, PyString>, info: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = info;
        if phase.to_str()? == "start" {
            super::tasks::list_all(phase.py())?;
        }
        Ok(())
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::loop_::fastcall::install(module.getattr("EventLoop")?.cast()?)?;
        super::handle::install(module.py())?;
        super::primitives::export(module)?;
        super::prompt::export(module.py())?;
        super::tasks::export(module)?;
        super::transport::install(module.py())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        super::MADE.store(true, super::Ordering::Relaxed);
        Ok(())
    }
}
