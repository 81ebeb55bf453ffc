"""asyncio's locks, queues and timeouts with a native half: same classes, names and meaning.

`Lock`, `Queue` and so on derive from asyncio's. What needs no waiting is native; the coroutines
here are those of a task that waits, where every release of Python has it alike, and asyncio's own
where not. They work on any loop. After `take_over()`, asyncio's classes make objects of these.
"""

from __future__ import annotations

import asyncio
import asyncio.locks
import asyncio.queues
import asyncio.tasks
import copyreg
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from operator import attrgetter
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from . import _native
from ._prompt import prompt


def _stock_class(module: ModuleType, name: str) -> type[Any]:
    """asyncio's own class, also where a program has already put a wrapper or a class of its own in
    its place."""
    found = inspect.unwrap(getattr(module, name))
    for cls in found.__mro__ if isinstance(found, type) else ():
        if (cls.__module__, cls.__qualname__) == (module.__name__, name):
            return cls
    raise ImportError(f"{module.__name__}.{name} was replaced before oxlip was imported: {found!r}")


def _stock_function(module: ModuleType, name: str) -> Any:
    """asyncio's own function, likewise."""
    return inspect.unwrap(getattr(module, name))


def _is_of(function: Any, modules: set[str]) -> bool:
    """Whether this is a function in Python that was written in one of these modules."""
    return type(function) is FunctionType and function.__globals__["__name__"] in modules


# What is behind the names, whoever has replaced them or will.
if TYPE_CHECKING:
    _Event = asyncio.Event
    _Lock = asyncio.Lock
    _Condition = asyncio.Condition
    _Semaphore = asyncio.Semaphore
    _BoundedSemaphore = asyncio.BoundedSemaphore
    _Queue = asyncio.Queue
else:
    _Event = _stock_class(asyncio.locks, "Event")
    _Lock = _stock_class(asyncio.locks, "Lock")
    _Condition = _stock_class(asyncio.locks, "Condition")
    _Semaphore = _stock_class(asyncio.locks, "Semaphore")
    _BoundedSemaphore = _stock_class(asyncio.locks, "BoundedSemaphore")
    _Queue = _stock_class(asyncio.queues, "Queue")

_T = TypeVar("_T")

# Stands for no item, where any object may be one.
NO_ITEM = object()


class _Copied:
    """What copies and pickles get: asyncio's class and its attributes, which are native here."""

    _ATTRIBUTES: tuple[str, ...] = ()
    # Those of them that the class is made with.
    _ARGUMENTS: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        ours = type(self)
        arguments = tuple(getattr(self, name) for name in self._ARGUMENTS)
        state = self.__getstate__()
        for stock, made in REPLACEMENTS.items():
            # Then it is ours where it is read too, or works without us.
            if made is ours and _switched(stock):
                return stock, arguments, state
        return copyreg.__newobj__, (ours, *arguments), state  # type: ignore[attr-defined]

    def __getstate__(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in self._ATTRIBUTES if hasattr(self, name)}
        # asyncio has it on the object only when that has waited.
        if (event_loop := getattr(self, "_loop", None)) is not None:
            state["_loop"] = event_loop
        for name in copyreg._slotnames(type(self)):  # type: ignore[attr-defined]
            if hasattr(self, name):
                state[name] = getattr(self, name)
        return state | vars(self)

    def __setstate__(self, state: Any) -> None:
        # Also that of an object that asyncio's class has made.
        for part in state if isinstance(state, tuple) else (state,):
            for name, value in (part or {}).items():
                setattr(self, name, value)


class Event(_Copied, _native.Event, _Event):
    """As `asyncio.Event`."""

    __module__ = "oxlip"
    _ATTRIBUTES = ("_waiters", "_value")
    __init__ = object.__init__  # All is set when it is made.

    async def wait(self) -> Any:
        if self._value:
            return True
        waiter = self._arrival()
        if waiter is None:
            return await super().wait()
        try:
            await waiter
            return True
        finally:
            self._leave(waiter)


class Lock(_Copied, _native.Lock, _Lock):
    """As `asyncio.Lock`."""

    __module__ = "oxlip"
    _ATTRIBUTES = ("_waiters", "_locked")
    __init__ = object.__init__

    async def acquire(self) -> Any:
        if not self._take():
            if type(self) is not Lock:
                return await super().acquire()
            await _enter_lock(self)
        return True

    @prompt
    async def __aenter__(self) -> None:
        if self._take():
            return
        if type(self) is not Lock:
            await self.acquire()
            return
        waiter = self._arrival()
        try:
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)
        except asyncio.CancelledError:
            # Who waits behind has been passed over for this one.
            if not self._locked:
                self._wake_up_first()  # type: ignore[attr-defined]
            raise
        self._locked = True

    @prompt
    async def __aexit__(self, exc_type: object, exc: object, tb: object) -> None:
        self.release()


# What a condition's lock does directly when it is free.
LOCK_ACQUIRE = Lock.acquire


class Condition(_Copied, _native.Condition, _Condition):
    """As `asyncio.Condition`."""

    __module__ = "oxlip"
    _ATTRIBUTES = ("_lock", "_waiters")
    _ARGUMENTS = ("_lock",)
    _OF_THE_LOCK = ("locked", "acquire", "release")

    def __init__(self, lock: Any = None, **others: Any) -> None:
        super().__init__(Lock() if lock is None else lock, **others)

    async def wait(self) -> Any:
        waiter = self._arrival()
        if waiter is None:
            return await super().wait()
        try:
            await waiter
            if self._return(waiter):
                return True
        except BaseException as error:
            disturbed = _Disturbed(self, waiter, waited=[error])
        else:
            try:
                await self.acquire()
                return True
            except BaseException as error:
                disturbed = _Disturbed(self, None, acquired=[error])
        return await _stock_wait(disturbed)

    @prompt
    async def __aenter__(self) -> None:
        if not self._take():
            await self.acquire()

    @prompt
    async def __aexit__(self, exc_type: object, exc: object, tb: object) -> None:
        self.release()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        # A copy has those of its own lock, and `copy` makes none of a native one's.
        for name in self._OF_THE_LOCK:
            method = getattr(self, name, None)
            if method is not None and method != getattr(self._lock, name, None):
                state[name] = method
        return state

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        for name in self._OF_THE_LOCK:
            if not hasattr(self, name):
                setattr(self, name, getattr(self._lock, name))


_stock_wait: Any = inspect.unwrap(_Condition.wait)


class _Disturbed:
    """What asyncio's own `wait()` runs on to the end when an exception has come into ours.

    It does again what was done, which is nothing here, finds the same exception where that came,
    and does what the running Python does then.
    """

    def __init__(
        self,
        condition: Condition,
        waiter: Any,
        waited: Sequence[BaseException] = (),
        acquired: Sequence[BaseException] = (),
    ) -> None:
        self._condition = condition
        # None: it is no waiter any more.
        self._waiter = waiter
        # Of what the future or the lock has raised; gone when it is raised, as it will know this.
        self._waited = list(waited)
        self._acquired = list(acquired)

    def locked(self) -> bool:
        return True

    def release(self) -> None:
        """It was."""

    @property
    def _waiters(self) -> Any:
        return self

    def _get_loop(self) -> Any:
        return self

    def create_future(self) -> Any:
        return self

    def append(self, waiter: Any) -> None:
        """It was there."""

    def remove(self, waiter: Any) -> None:
        if self._waiter is not None:
            self._condition._waiters.remove(self._waiter)

    def __await__(self) -> Iterator[Any]:
        if self._waited:
            raise self._waited.pop()
        return iter(())

    async def acquire(self) -> Any:
        if self._acquired:
            raise self._acquired.pop()
        return await self._condition.acquire()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._condition, name)


# The one in Python: it is about to wait.
_enter_lock: Any = inspect.unwrap(Lock.__aenter__)


class _NativeSemaphore(_Copied, _native.Semaphore):
    """In front of a class of asyncio's."""

    _ATTRIBUTES = ("_value", "_waiters", "_bound_value")

    async def acquire(self) -> Any:
        if self._take():
            return True
        return await super().acquire()  # type: ignore[misc]

    @prompt
    async def __aenter__(self) -> None:
        if not self._take():
            ours = type(self) is Semaphore or type(self) is BoundedSemaphore
            await (super().acquire() if ours else self.acquire())  # type: ignore[misc]

    @prompt
    async def __aexit__(self, exc_type: object, exc: object, tb: object) -> None:
        self.release()


class Semaphore(_NativeSemaphore, _Semaphore):
    """As `asyncio.Semaphore`."""

    __module__ = "oxlip"


class BoundedSemaphore(_NativeSemaphore, _BoundedSemaphore):
    """As `asyncio.BoundedSemaphore`."""

    __module__ = "oxlip"


class Queue(_Copied, _native.Queue, _Queue[_T]):
    """As `asyncio.Queue`."""

    __module__ = "oxlip"
    _ATTRIBUTES = (
        *("_maxsize", "_queue", "_getters", "_putters", "_finished", "_unfinished_tasks"),
        *(("_is_shutdown",) if sys.version_info >= (3, 13) else ()),
    )

    async def put(self, item: _T) -> None:
        while not self._put_soon(item):
            putter = self._putter()
            if putter is None:
                return await super().put(item)
            try:
                await putter
            except:
                self._leave(putter, self._putters)
                if not self.full() and not putter.cancelled():
                    self._wakeup_next(self._putters)  # type: ignore[attr-defined]
                raise

    async def get(self) -> _T:
        while (item := self._get_soon()) is NO_ITEM:
            getter = self._getter()
            if getter is None:
                return await super().get()
            try:
                await getter
            except:
                self._leave(getter, self._getters)
                if not self.empty() and not getter.cancelled():
                    self._wakeup_next(self._getters)  # type: ignore[attr-defined]
                raise
        return item  # type: ignore[no-any-return]

    @staticmethod
    def _leave(waiter: asyncio.Future[None], waiters: Any) -> None:
        """A waiter that something else than its turn has woken is none any more."""
        waiter.cancel()
        try:
            waiters.remove(waiter)
        except ValueError:
            pass  # Its turn had come too.


for _ours, _half in (
    (Event, _native.Event),
    (Lock, _native.Lock),
    (Condition, _native.Condition),
    (Semaphore, _native.Semaphore),
    (BoundedSemaphore, _native.Semaphore),
    (Queue, _native.Queue),
):
    _native.adopt_methods(_ours, _half)

# asyncio's class → ours.
REPLACEMENTS: dict[type[Any], type[Any]] = {
    _Event: Event,
    _Lock: Lock,
    _Condition: Condition,
    _Semaphore: Semaphore,
    _BoundedSemaphore: BoundedSemaphore,
    _Queue: Queue,
}

# asyncio's functions that have another here: name → (asyncio's, module, ours).
FUNCTIONS: dict[str, tuple[Any, ModuleType, Any]] = {}

if sys.version_info >= (3, 11):
    import asyncio.timeouts

    if TYPE_CHECKING:
        _Timeout = asyncio.Timeout
    else:
        _Timeout = _stock_class(asyncio.timeouts, "Timeout")
    TIMEOUT_STATES = tuple(asyncio.timeouts._State)  # type: ignore[attr-defined]

    class Timeout(_Copied, _native.Timeout, _Timeout):  # type: ignore[misc]
        """As `asyncio.Timeout`."""

        _ATTRIBUTES = ("_state", "_timeout_handler", "_task", "_when", "_cancelling")
        _ARGUMENTS = ("_when",)

        # All is set when it is made.
        __init__ = object.__init__  # type: ignore[assignment]

        async def __aenter__(self) -> Any:
            if self._enter():
                return self
            return await super().__aenter__()

        @prompt
        async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> Any:
            if self._leave():
                return None
            return await super().__aexit__(exc_type, exc_val, exc_tb)

    _native.adopt_methods(Timeout, _native.Timeout)
    timeout = _native.timeout

    def timeout_at(when: float | None) -> asyncio.Timeout:
        """As `asyncio.timeout_at()`."""
        return Timeout(when)

    REPLACEMENTS[_Timeout] = Timeout
    FUNCTIONS |= {
        name: (_stock_function(asyncio.timeouts, name), asyncio.timeouts, ours)
        for name, ours in {"timeout": timeout, "timeout_at": timeout_at}.items()
    }

if sys.version_info >= (3, 12):
    _wait_for = _stock_function(asyncio.tasks, "wait_for")

    async def wait_for(fut: Awaitable[_T], timeout: float | None) -> _T:
        """As `asyncio.wait_for()`."""
        if timeout is not None and timeout <= 0:
            return await _wait_for(fut, timeout)  # type: ignore[no-any-return]
        limit = _native.timeout(timeout)
        try:
            if not limit._enter():
                await limit.__aenter__()  # It says why.
            try:
                result = await fut
            except BaseException as error:
                if not limit._leave():
                    await limit.__aexit__(type(error), error, error.__traceback__)
                raise
            if not limit._leave():
                await limit.__aexit__(None, None, None)
            return result
        finally:
            # It knows the task, whose exception knows this frame.
            del limit

    FUNCTIONS["wait_for"] = (_wait_for, asyncio.tasks, wait_for)

# Counting natively pays where the tasks that are counted are ours.
if sys.version_info >= (3, 12) and _native.has_tasks():
    import asyncio.taskgroups

    if TYPE_CHECKING:
        _TaskGroup = asyncio.TaskGroup
    else:
        _TaskGroup = _stock_class(asyncio.taskgroups, "TaskGroup")

    class TaskGroup(_Copied, _native.TaskGroup, _TaskGroup):
        """As `asyncio.TaskGroup`."""

        _ATTRIBUTES = (
            "_entered",
            "_exiting",
            "_aborting",
            "_loop",
            "_tasks",
            "_on_completed_fut",
        )

    _native.adopt_methods(TaskGroup, _native.TaskGroup)
    REPLACEMENTS[_TaskGroup] = TaskGroup

    _gather = _stock_function(asyncio.tasks, "gather")
    _wait = _stock_function(asyncio.tasks, "wait")

    async def wait(
        fs: Any, *, timeout: float | None = None, return_when: str = asyncio.ALL_COMPLETED
    ) -> Any:
        """As `asyncio.wait()`."""
        waiting = _native.Waiting.of(fs, return_when)
        if waiting is None:
            return await _wait(fs, timeout=timeout, return_when=return_when)
        waiter = waiting.begin(asyncio.get_running_loop(), timeout)
        try:
            await waiter
        finally:
            waiting.end()
        return waiting.split()

    FUNCTIONS |= {
        "gather": (_gather, asyncio.tasks, _native.gather),
        "wait": (_wait, asyncio.tasks, wait),
    }


def take_over() -> None:
    """From here on, asyncio's classes make objects of ours, in every loop of the process.

    A function that somebody else has put in the place of asyncio's stays.
    """
    for stock, ours in REPLACEMENTS.items():
        if not _switched(stock):
            maker: Any = _maker(stock, ours)
            if sys.version_info < (3, 11):
                # `inspect` there takes the arguments of any `__new__` in Python for those of a
                # class, before those of its own `__init__`.
                maker = maker.__call__
                stock.__signature__ = _Signature(stock)
            stock.__new__ = staticmethod(maker)
            _MAKERS[stock] = maker
    for name, (stock, module, ours) in FUNCTIONS.items():
        if _is_of(stock, {module.__name__}):
            for place in (asyncio, module):
                if getattr(place, name, None) is stock:
                    setattr(place, name, ours)
    make_native(task_set())


def task_set() -> Any:
    """Where asyncio keeps all tasks; from Python 3.14 on, those that are not of its own class."""
    name = "_all_tasks" if sys.version_info < (3, 12) else "_scheduled_tasks"
    return getattr(asyncio.tasks, name, None)


def make_native(tasks: Any) -> bool:
    """Lets what goes into the set and leaves it do so by native functions. False: it is not the set
    whose functions these are, which Python 3.14 has made simpler, or somebody has changed it."""
    if type(tasks) is not WeakSet or vars(tasks).keys() != _FIELDS_OF_A_SET:
        return False
    native = _native.TaskSet(tasks)
    vars(tasks).update(add=native.add, _remove=native.remove)
    return True


_FIELDS_OF_A_SET = {"data", "_remove", "_pending_removals", "_iterating"}


class _Signature:
    """Of a class, and of none that derives from it."""

    def __init__(self, cls: type[Any]) -> None:
        signature = inspect.signature(cls.__init__)
        _, *parameters = signature.parameters.values()
        self._cls = cls
        self._signature = signature.replace(parameters=parameters)

    def __get__(self, instance: object, cls: type[Any] | None = None) -> inspect.Signature:
        if instance is None and cls is self._cls:
            return self._signature
        raise AttributeError("__signature__")


# asyncio's class → the `__new__` that it got here.
_MAKERS: dict[type[Any], Any] = {}


def _switched(stock: type[Any]) -> bool:
    return stock in _MAKERS and stock.__new__ is _MAKERS[stock]


# What a class has that is no method of asyncio's.
_NO_METHODS = {
    "__new__",
    "__class_getitem__",
    "__init_subclass__",
    "__annotate__",
    "__annotate_func__",
}


def _methods(stock: type[Any]) -> tuple[Callable[[type[Any]], Any], Any]:
    """What gets asyncio's methods, and what it got here: nothing if they were replaced before."""
    found = {
        name
        for cls in stock.__mro__[:-1]
        for name, value in vars(cls).items()
        if callable(value) and name not in _NO_METHODS
    }
    get = attrgetter(*sorted(found))
    modules = {cls.__module__ for cls in stock.__mro__}
    own = all(_is_of(method, modules) for method in get(stock))
    return get, get(stock) if own else None


_METHODS = {stock: _methods(stock) for stock in REPLACEMENTS}


def _maker(stock: type[Any], ours: type[Any]) -> Callable[..., Any]:
    """A `__new__` of asyncio's class, for itself and for what derives from it."""
    methods, own = _METHODS[stock]

    def others(cls: type[Any], *args: Any, **kwargs: Any) -> Any:
        make = super(stock, cls).__new__
        return make(cls) if make is object.__new__ else make(cls, *args, **kwargs)

    return _native.Maker(
        stock,
        ours,
        # Who has replaced one of asyncio's methods means it: the native ones would not call it.
        lambda: methods(stock) == own,
        others,
        ours.__init__ is object.__init__,
        # Who asks for the arguments of the class gets those of its `__init__`, as before.
        inspect.signature(stock.__init__),
    )
