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

/// Declares names, and the list of all of them.
macro_rules! names {
    ($kind:ident in $list:ident: $($(#[$doc:meta])* $name:ident = $module:literal $attribute:literal;)*) => {
        $($(#[$doc])* pub(crate) static $name: $kind = $kind::new($module, $attribute);)*
        static $list: &[&$kind] = &[$(&$name),*];
    };
}

names! { Imported in IMPORTED:
    HANDLE = "asyncio" "Handle";
    /// From 3.14 on.
    THREAD_SAFE_HANDLE = "asyncio.events" "_ThreadSafeHandle";
    GET_RUNNING_LOOP = "asyncio.events" "_get_running_loop";
    FUNCTION_TYPE = "types" "FunctionType";
    COROUTINE_TYPE = "types" "CoroutineType";
    ALLOCATE_LOCK = "_thread" "allocate_lock";
    TIMER_HANDLE = "asyncio" "TimerHandle";
    /// `asyncio.StreamReader`, whatever its name stands for by now.
    STOCK_READER = "oxlip._streams" "_Reader";
    INCOMPLETE_READ_ERROR = "asyncio" "IncompleteReadError";
    LIMIT_OVERRUN_ERROR = "asyncio" "LimitOverrunError";
    /// asyncio's classes, whatever their names stand for by now, and those that stand on our native halves.
    STOCK_EVENT = "oxlip._locks" "_Event";
    STOCK_LOCK = "oxlip._locks" "_Lock";
    STOCK_CONDITION = "oxlip._locks" "_Condition";
    STOCK_SEMAPHORE = "oxlip._locks" "_Semaphore";
    STOCK_BOUNDED_SEMAPHORE = "oxlip._locks" "_BoundedSemaphore";
    STOCK_QUEUE = "oxlip._queues" "_Queue";
    OUR_EVENT = "oxlip._locks" "Event";
    OUR_LOCK = "oxlip._locks" "Lock";
    OUR_CONDITION = "oxlip._locks" "Condition";
    /// `Lock.acquire` of ours, whatever is put in its place.
    LOCK_ACQUIRE = "oxlip._locks" "LOCK_ACQUIRE";
    /// The coroutine of who waits for a lock, and what it awaits if its future has been given before.
    WAIT_FOR_LOCK = "oxlip._locks" "wait_for_lock";
    GIVEN = "oxlip._prompt" "given";
    OUR_SEMAPHORE = "oxlip._locks" "Semaphore";
    OUR_BOUNDED_SEMAPHORE = "oxlip._locks" "BoundedSemaphore";
    OUR_QUEUE = "oxlip._queues" "Queue";
    OUR_TIMEOUT = "oxlip._timeouts" "Timeout";
    /// What stands for no item of a queue.
    NO_ITEM = "oxlip._queues" "NO_ITEM";
    STOCK_TASK_GROUP = "oxlip._groups" "_TaskGroup";
    OUR_TASK_GROUP = "oxlip._groups" "TaskGroup";
    /// asyncio's function, whoever has replaced it.
    STOCK_GATHER = "oxlip._groups" "_gather";
    LOOP_OF = "asyncio.futures" "_get_loop";
    RELEASE_WAITER = "asyncio.tasks" "_release_waiter";
    TIMEOUT_STATES = "oxlip._timeouts" "TIMEOUT_STATES";
    C_FUTURE = "_asyncio" "Future";
    C_TASK = "_asyncio" "Task";
    /// asyncio's future in Python, which knows what its release does.
    PYTHON_FUTURE = "asyncio.futures" "_PyFuture";
    FUTURE_REPR = "asyncio.base_futures" "_future_repr";
    TASK_REPR = "asyncio.base_tasks" "_task_repr";
    TASK_GET_STACK = "asyncio.base_tasks" "_task_get_stack";
    TASK_PRINT_STACK = "asyncio.base_tasks" "_task_print_stack";
    /// Before 3.14.
    CURRENT_TASKS = "_asyncio" "_current_tasks";
    SCHEDULED_TASKS = "_asyncio" "_scheduled_tasks";
    /// From 3.14 on.
    ADD_TO_AWAITED_BY = "_asyncio" "future_add_to_awaited_by";
    DISCARD_FROM_AWAITED_BY = "_asyncio" "future_discard_from_awaited_by";
    C_CURRENT_TASK = "_asyncio" "current_task";
    TASKS_MODULE = "asyncio" "tasks";
    REGISTER_TASK = "_asyncio" "_register_task";
    UNREGISTER_TASK = "_asyncio" "_unregister_task";
    C_GET_RUNNING_LOOP = "_asyncio" "_get_running_loop";
    C_SET_RUNNING_LOOP = "_asyncio" "_set_running_loop";
    SWAP_CURRENT_TASK = "_asyncio" "_swap_current_task";
    REGISTER_EAGER_TASK = "_asyncio" "_register_eager_task";
    UNREGISTER_EAGER_TASK = "_asyncio" "_unregister_eager_task";
    GET_EVENT_LOOP = "asyncio.events" "get_event_loop";
    CANCELLED_ERROR = "asyncio" "CancelledError";
    EXTRACT = "traceback" "extract_stack";
    IS_FINALIZING = "sys" "is_finalizing";
    IS_GENERATOR = "inspect" "isgenerator";
    INVALID_STATE_ERROR = "asyncio" "InvalidStateError";
    DEQUE = "collections" "deque";
    QUEUE_FULL = "asyncio" "QueueFull";
    QUEUE_EMPTY = "asyncio" "QueueEmpty";
    TRANSPORT = "asyncio" "Transport";
    DATAGRAM_TRANSPORT = "asyncio" "DatagramTransport";
    READ_TRANSPORT = "asyncio" "ReadTransport";
    BUFFERED_PROTOCOL = "asyncio" "BufferedProtocol";
    SOCKET = "socket" "socket";
    TRANSPORT_SOCKET = "asyncio.trsock" "TransportSocket";
    FORMAT_SOURCE = "asyncio.format_helpers" "_format_callback_source";
    FORMAT_HANDLE = "asyncio.base_events" "_format_handle";
    EXTRACT_STACK = "asyncio.format_helpers" "extract_stack";
    IS_COROUTINE = "asyncio" "iscoroutine";
    /// asyncio's, or from 3.14 on that of `inspect`.
    IS_COROUTINE_FUNCTION = "oxlip._signals" "iscoroutinefunction";
    BORROWED_SOCKET = "oxlip._borrowed_socket" "BorrowedSocket";
    GET_ORIGIN_DEPTH = "sys" "get_coroutine_origin_tracking_depth";
    SET_ORIGIN_DEPTH = "sys" "set_coroutine_origin_tracking_depth";
    GETFRAME = "sys" "_getframe";
    WARN = "warnings" "warn";
    MEMORY_BIO = "ssl" "MemoryBIO";
    SSL_CONTEXT = "_ssl" "_SSLContext";
    SSL_WANT_READ = "ssl" "SSLWantReadError";
    SSL_SYSCALL = "ssl" "SSLSyscallError";
    CERTIFICATE_ERROR = "ssl" "CertificateError";
    TIMEOUT_ERROR = "asyncio" "TimeoutError";
    SENDFILE_MODE = "asyncio.constants" "_SendfileMode";
    SENDFILE_NOT_AVAILABLE = "asyncio" "SendfileNotAvailableError";
}

names! { Replaceable in REPLACEABLE:
    FUTURE = "asyncio.futures" "Future";
    ENSURE_FUTURE = "asyncio.tasks" "ensure_future";
    GATHERING_FUTURE = "asyncio.tasks" "_GatheringFuture";
    ANY_ADD_TO_AWAITED_BY = "asyncio.futures" "future_add_to_awaited_by";
    ANY_DISCARD_FROM_AWAITED_BY = "asyncio.futures" "future_discard_from_awaited_by";
    CURRENT_TASK = "asyncio.tasks" "current_task";
    TASK = "asyncio.tasks" "Task";
    LOGGER = "asyncio.base_events" "logger";
}

/// Looks up all of them in the modules that have been imported, and in ours. At the interpreter's end nothing can be
/// imported any more, and a program's `__del__` may still run a loop there, for the first time. Not every Python has
/// all of the names.
///
/// # Errors
/// A module of ours cannot be imported.
pub(crate) fn look_up(py: Python<'_>) -> PyResult<()> {
    let modules = py.import("sys")?.getattr("modules")?;
    let is_there = |module: &str| {
        if module.starts_with("oxlip.") {
            py.import(module)?;
        }
        modules.contains(module)
    };
    for name in IMPORTED {
        if is_there(name.module)? {
            let _ = name.get(py);
        }
    }
    for name in REPLACEABLE {
        if is_there(name.module)? {
            let _ = name.get(py);
        }
    }
    Ok(())
}
