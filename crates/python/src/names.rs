//! Python objects that are looked up once: asyncio's classes and functions.

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};

use crate::ffi::dict_version;

/// An attribute of an importable module, imported at its first use.
pub(crate) struct Imported {
    module: &'static str,
    name: &'static str,
    cell: PyOnceLock<Py<PyAny>>,
}

impl Imported {
    const fn new(module: &'static str, name: &'static str) -> Self {
        Self {
            module,
            name,
            cell: PyOnceLock::new(),
        }
    }

    /// The object.
    ///
    /// # Errors
    /// The import fails.
    #[inline]
    pub(crate) fn get<'py>(&'static self, py: Python<'py>) -> PyResult<&'py Bound<'py, PyAny>> {
        let object = self.cell.get_or_try_init(py, || {
            py.import(self.module)?
                .getattr(self.name)
                .map(Bound::unbind)
        })?;
        Ok(object.bind(py))
    }
}

pub(crate) static HANDLE: Imported = Imported::new("asyncio", "Handle");
/// From 3.14 on.
pub(crate) static THREAD_SAFE_HANDLE: Imported =
    Imported::new("asyncio.events", "_ThreadSafeHandle");
pub(crate) static GET_RUNNING_LOOP: Imported = Imported::new("asyncio.events", "_get_running_loop");
pub(crate) static FUNCTION_TYPE: Imported = Imported::new("types", "FunctionType");
pub(crate) static COROUTINE_TYPE: Imported = Imported::new("types", "CoroutineType");
pub(crate) static ALLOCATE_LOCK: Imported = Imported::new("_thread", "allocate_lock");
pub(crate) static TIMER_HANDLE: Imported = Imported::new("asyncio", "TimerHandle");

/// Looks up what loops need of asyncio. At the interpreter's end nothing can be imported any more, and a
/// program's `__del__` may still run a loop there, for the first time.
///
/// # Errors
/// An import fails.
pub(crate) fn load(py: Python<'_>) -> PyResult<()> {
    for name in [
        &HANDLE,
        &TIMER_HANDLE,
        &GET_RUNNING_LOOP,
        &C_FUTURE,
        &C_TASK,
        &CANCELLED_ERROR,
        &BUFFERED_PROTOCOL,
        &SOCKET,
        &TRANSPORT_SOCKET,
        &FORMAT_SOURCE,
        &FORMAT_HANDLE,
        &EXTRACT_STACK,
        &IS_COROUTINE,
        &WARN,
        &GETFRAME,
    ] {
        name.get(py)?;
    }
    FUTURE.get(py)?;
    TASK.get(py)?;
    LOGGER.get(py)?;
    Ok(())
}

/// Looks up what locks, queues, tasks and functions of tasks need, for the same reason, in the modules that have been
/// imported. Not every Python has all of it.
///
/// # Errors
/// Out of memory.
pub(crate) fn load_primitives(py: Python<'_>) -> PyResult<()> {
    let modules = py.import("sys")?.getattr("modules")?;
    for name in [
        &STOCK_EVENT,
        &STOCK_LOCK,
        &STOCK_CONDITION,
        &STOCK_SEMAPHORE,
        &STOCK_BOUNDED_SEMAPHORE,
        &STOCK_QUEUE,
        &STOCK_TASK_GROUP,
        &STOCK_GATHER,
        &OUR_EVENT,
        &OUR_LOCK,
        &OUR_CONDITION,
        &OUR_SEMAPHORE,
        &OUR_BOUNDED_SEMAPHORE,
        &OUR_QUEUE,
        &OUR_TASK_GROUP,
        &OUR_TIMEOUT,
        &LOCK_ACQUIRE,
        &WAIT_FOR_LOCK,
        &GIVEN,
        &NO_ITEM,
        &TIMEOUT_STATES,
        &DEQUE,
        &QUEUE_FULL,
        &QUEUE_EMPTY,
        &TIMEOUT_ERROR,
        &INVALID_STATE_ERROR,
        &LOOP_OF,
        &RELEASE_WAITER,
        &PYTHON_FUTURE,
        &FUTURE_REPR,
        &TASK_REPR,
        &TASK_GET_STACK,
        &TASK_PRINT_STACK,
        &TASKS_MODULE,
        &CURRENT_TASKS,
        &SCHEDULED_TASKS,
        &C_CURRENT_TASK,
        &REGISTER_TASK,
        &UNREGISTER_TASK,
        &C_GET_RUNNING_LOOP,
        &C_SET_RUNNING_LOOP,
        &SWAP_CURRENT_TASK,
        &REGISTER_EAGER_TASK,
        &UNREGISTER_EAGER_TASK,
        &ADD_TO_AWAITED_BY,
        &DISCARD_FROM_AWAITED_BY,
        &GET_EVENT_LOOP,
        &EXTRACT,
        &IS_FINALIZING,
        &IS_GENERATOR,
        &GET_ORIGIN_DEPTH,
        &SET_ORIGIN_DEPTH,
        &THREAD_SAFE_HANDLE,
        &IS_COROUTINE_FUNCTION,
        &BORROWED_SOCKET,
    ] {
        if modules.contains(name.module)? {
            let _ = name.get(py);
        }
    }
    for name in [
        &CURRENT_TASK,
        &ENSURE_FUTURE,
        &GATHERING_FUTURE,
        &ANY_ADD_TO_AWAITED_BY,
        &ANY_DISCARD_FROM_AWAITED_BY,
    ] {
        if modules.contains(name.module)? {
            let _ = name.get(py);
        }
    }
    Ok(())
}

/// A name of a module that programs replace (nest_asyncio puts Python's own `Task` there): looked up
/// at each use, as asyncio's loops do.
pub(crate) struct Replaceable {
    module: &'static str,
    name: &'static str,
    cell: PyOnceLock<(Py<PyDict>, Py<PyString>)>,
    /// What was found there last, when the module's dict had this version.
    found: AtomicPtr<ffi::PyObject>,
    version: AtomicU64,
}

impl Replaceable {
    const fn new(module: &'static str, name: &'static str) -> Self {
        Self {
            module,
            name,
            cell: PyOnceLock::new(),
            found: AtomicPtr::new(std::ptr::null_mut()),
            version: AtomicU64::new(0),
        }
    }

    /// What the name stands for now.
    ///
    /// # Errors
    /// The import fails, or the name was deleted.
    #[inline]
    pub(crate) fn get<'py>(&'static self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (names, name) = self.cell.get_or_try_init(py, || {
            let names = py.import(self.module)?.dict().unbind();
            PyResult::Ok((names, PyString::intern(py, self.name).unbind()))
        })?;
        let names = names.bind(py);
        // Both are written with the GIL held: where there is none, there is no version.
        let version = dict_version(names);
        if version != 0 && version == self.version.load(Ordering::Relaxed) {
            let found = self.found.load(Ordering::Relaxed);
            // SAFETY: the dict is as it was then, so that it still refers to the object.
            return Ok(unsafe { Bound::from_borrowed_ptr(py, found) });
        }
        let found = names
            .get_item(name)?
            .ok_or_else(|| PyAttributeError::new_err(self.name))?;
        self.found.store(found.as_ptr(), Ordering::Relaxed);
        self.version.store(version, Ordering::Relaxed);
        Ok(found)
    }
}

pub(crate) static FUTURE: Replaceable = Replaceable::new("asyncio.futures", "Future");
/// `asyncio.StreamReader`, whatever its name stands for by now.
pub(crate) static STOCK_READER: Imported = Imported::new("oxlip._streams", "_Reader");
pub(crate) static INCOMPLETE_READ_ERROR: Imported = Imported::new("asyncio", "IncompleteReadError");
pub(crate) static LIMIT_OVERRUN_ERROR: Imported = Imported::new("asyncio", "LimitOverrunError");
/// asyncio's classes, whatever their names stand for by now, and those that stand on our native halves.
pub(crate) static STOCK_EVENT: Imported = Imported::new("oxlip._locks", "_Event");
pub(crate) static STOCK_LOCK: Imported = Imported::new("oxlip._locks", "_Lock");
pub(crate) static STOCK_CONDITION: Imported = Imported::new("oxlip._locks", "_Condition");
pub(crate) static STOCK_SEMAPHORE: Imported = Imported::new("oxlip._locks", "_Semaphore");
pub(crate) static STOCK_BOUNDED_SEMAPHORE: Imported =
    Imported::new("oxlip._locks", "_BoundedSemaphore");
pub(crate) static STOCK_QUEUE: Imported = Imported::new("oxlip._queues", "_Queue");
pub(crate) static OUR_EVENT: Imported = Imported::new("oxlip._locks", "Event");
pub(crate) static OUR_LOCK: Imported = Imported::new("oxlip._locks", "Lock");
pub(crate) static OUR_CONDITION: Imported = Imported::new("oxlip._locks", "Condition");
/// `Lock.acquire` of ours, whatever is put in its place.
pub(crate) static LOCK_ACQUIRE: Imported = Imported::new("oxlip._locks", "LOCK_ACQUIRE");
/// The coroutine of who waits for a lock, and what it awaits if its future has been given before.
pub(crate) static WAIT_FOR_LOCK: Imported = Imported::new("oxlip._locks", "wait_for_lock");
pub(crate) static GIVEN: Imported = Imported::new("oxlip._prompt", "given");
pub(crate) static OUR_SEMAPHORE: Imported = Imported::new("oxlip._locks", "Semaphore");
pub(crate) static OUR_BOUNDED_SEMAPHORE: Imported =
    Imported::new("oxlip._locks", "BoundedSemaphore");
pub(crate) static OUR_QUEUE: Imported = Imported::new("oxlip._queues", "Queue");
pub(crate) static OUR_TIMEOUT: Imported = Imported::new("oxlip._timeouts", "Timeout");
/// What stands for no item of a queue.
pub(crate) static NO_ITEM: Imported = Imported::new("oxlip._queues", "NO_ITEM");
pub(crate) static STOCK_TASK_GROUP: Imported = Imported::new("oxlip._groups", "_TaskGroup");
pub(crate) static OUR_TASK_GROUP: Imported = Imported::new("oxlip._groups", "TaskGroup");
/// asyncio's function, whoever has replaced it.
pub(crate) static STOCK_GATHER: Imported = Imported::new("oxlip._groups", "_gather");
pub(crate) static ENSURE_FUTURE: Replaceable = Replaceable::new("asyncio.tasks", "ensure_future");
pub(crate) static GATHERING_FUTURE: Replaceable =
    Replaceable::new("asyncio.tasks", "_GatheringFuture");
pub(crate) static LOOP_OF: Imported = Imported::new("asyncio.futures", "_get_loop");
pub(crate) static RELEASE_WAITER: Imported = Imported::new("asyncio.tasks", "_release_waiter");
pub(crate) static TIMEOUT_STATES: Imported = Imported::new("oxlip._timeouts", "TIMEOUT_STATES");
pub(crate) static C_FUTURE: Imported = Imported::new("_asyncio", "Future");
pub(crate) static C_TASK: Imported = Imported::new("_asyncio", "Task");
/// asyncio's future in Python, which knows what its release does.
pub(crate) static PYTHON_FUTURE: Imported = Imported::new("asyncio.futures", "_PyFuture");
pub(crate) static FUTURE_REPR: Imported = Imported::new("asyncio.base_futures", "_future_repr");
pub(crate) static TASK_REPR: Imported = Imported::new("asyncio.base_tasks", "_task_repr");
pub(crate) static TASK_GET_STACK: Imported = Imported::new("asyncio.base_tasks", "_task_get_stack");
pub(crate) static TASK_PRINT_STACK: Imported =
    Imported::new("asyncio.base_tasks", "_task_print_stack");
/// Before 3.14.
pub(crate) static CURRENT_TASKS: Imported = Imported::new("_asyncio", "_current_tasks");
pub(crate) static SCHEDULED_TASKS: Imported = Imported::new("_asyncio", "_scheduled_tasks");
/// From 3.14 on.
pub(crate) static ADD_TO_AWAITED_BY: Imported =
    Imported::new("_asyncio", "future_add_to_awaited_by");
pub(crate) static DISCARD_FROM_AWAITED_BY: Imported =
    Imported::new("_asyncio", "future_discard_from_awaited_by");
pub(crate) static ANY_ADD_TO_AWAITED_BY: Replaceable =
    Replaceable::new("asyncio.futures", "future_add_to_awaited_by");
pub(crate) static ANY_DISCARD_FROM_AWAITED_BY: Replaceable =
    Replaceable::new("asyncio.futures", "future_discard_from_awaited_by");
pub(crate) static C_CURRENT_TASK: Imported = Imported::new("_asyncio", "current_task");
pub(crate) static TASKS_MODULE: Imported = Imported::new("asyncio", "tasks");
pub(crate) static REGISTER_TASK: Imported = Imported::new("_asyncio", "_register_task");
pub(crate) static UNREGISTER_TASK: Imported = Imported::new("_asyncio", "_unregister_task");
pub(crate) static C_GET_RUNNING_LOOP: Imported = Imported::new("_asyncio", "_get_running_loop");
pub(crate) static C_SET_RUNNING_LOOP: Imported = Imported::new("_asyncio", "_set_running_loop");
pub(crate) static SWAP_CURRENT_TASK: Imported = Imported::new("_asyncio", "_swap_current_task");
pub(crate) static REGISTER_EAGER_TASK: Imported = Imported::new("_asyncio", "_register_eager_task");
pub(crate) static UNREGISTER_EAGER_TASK: Imported =
    Imported::new("_asyncio", "_unregister_eager_task");
pub(crate) static GET_EVENT_LOOP: Imported = Imported::new("asyncio.events", "get_event_loop");
pub(crate) static CANCELLED_ERROR: Imported = Imported::new("asyncio", "CancelledError");
pub(crate) static EXTRACT: Imported = Imported::new("traceback", "extract_stack");
pub(crate) static IS_FINALIZING: Imported = Imported::new("sys", "is_finalizing");
pub(crate) static IS_GENERATOR: Imported = Imported::new("inspect", "isgenerator");
pub(crate) static INVALID_STATE_ERROR: Imported = Imported::new("asyncio", "InvalidStateError");
pub(crate) static DEQUE: Imported = Imported::new("collections", "deque");
pub(crate) static QUEUE_FULL: Imported = Imported::new("asyncio", "QueueFull");
pub(crate) static QUEUE_EMPTY: Imported = Imported::new("asyncio", "QueueEmpty");
pub(crate) static CURRENT_TASK: Replaceable = Replaceable::new("asyncio.tasks", "current_task");
pub(crate) static TASK: Replaceable = Replaceable::new("asyncio.tasks", "Task");
pub(crate) static TRANSPORT: Imported = Imported::new("asyncio", "Transport");
pub(crate) static DATAGRAM_TRANSPORT: Imported = Imported::new("asyncio", "DatagramTransport");
pub(crate) static READ_TRANSPORT: Imported = Imported::new("asyncio", "ReadTransport");
pub(crate) static BUFFERED_PROTOCOL: Imported = Imported::new("asyncio", "BufferedProtocol");
pub(crate) static SOCKET: Imported = Imported::new("socket", "socket");
pub(crate) static TRANSPORT_SOCKET: Imported = Imported::new("asyncio.trsock", "TransportSocket");
pub(crate) static FORMAT_SOURCE: Imported =
    Imported::new("asyncio.format_helpers", "_format_callback_source");
pub(crate) static FORMAT_HANDLE: Imported = Imported::new("asyncio.base_events", "_format_handle");
pub(crate) static LOGGER: Replaceable = Replaceable::new("asyncio.base_events", "logger");
pub(crate) static EXTRACT_STACK: Imported =
    Imported::new("asyncio.format_helpers", "extract_stack");
pub(crate) static IS_COROUTINE: Imported = Imported::new("asyncio", "iscoroutine");
/// asyncio's, or from 3.14 on that of `inspect`.
pub(crate) static IS_COROUTINE_FUNCTION: Imported =
    Imported::new("oxlip._signals", "iscoroutinefunction");
pub(crate) static BORROWED_SOCKET: Imported =
    Imported::new("oxlip._borrowed_socket", "BorrowedSocket");
pub(crate) static GET_ORIGIN_DEPTH: Imported =
    Imported::new("sys", "get_coroutine_origin_tracking_depth");
pub(crate) static SET_ORIGIN_DEPTH: Imported =
    Imported::new("sys", "set_coroutine_origin_tracking_depth");
pub(crate) static GETFRAME: Imported = Imported::new("sys", "_getframe");
pub(crate) static WARN: Imported = Imported::new("warnings", "warn");
pub(crate) static MEMORY_BIO: Imported = Imported::new("ssl", "MemoryBIO");
pub(crate) static SSL_CONTEXT: Imported = Imported::new("_ssl", "_SSLContext");
pub(crate) static SSL_WANT_READ: Imported = Imported::new("ssl", "SSLWantReadError");
pub(crate) static SSL_SYSCALL: Imported = Imported::new("ssl", "SSLSyscallError");
pub(crate) static CERTIFICATE_ERROR: Imported = Imported::new("ssl", "CertificateError");
pub(crate) static TIMEOUT_ERROR: Imported = Imported::new("asyncio", "TimeoutError");
pub(crate) static SENDFILE_MODE: Imported = Imported::new("asyncio.constants", "_SendfileMode");
pub(crate) static SENDFILE_NOT_AVAILABLE: Imported =
    Imported::new("asyncio", "SendfileNotAvailableError");
