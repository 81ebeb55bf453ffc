"""What libraries and debuggers touch of loop and handles beside the documented methods."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import sys
import threading
import weakref
from typing import Any

import pytest
from support import loops
from support.ticks import turn

pytestmark = pytest.mark.sim

Loop = asyncio.AbstractEventLoop

# asyncio's own loop can be run tick by tick since 3.13.
since_313 = pytest.mark.skipif(sys.version_info < (3, 13), reason="new in Python 3.13")


def test_is_an_event_loop(loop: Loop) -> None:
    assert isinstance(loop, asyncio.AbstractEventLoop)


def test_every_method_is_there(loop: Loop) -> None:
    names = {name for name in vars(asyncio.AbstractEventLoop) if not name.startswith("_")}
    inherited = {
        name
        for name in names
        if getattr(type(loop), name) is getattr(asyncio.AbstractEventLoop, name)
    }
    assert inherited == set()


@pytest.mark.ours
def test_nothing_public_comes_from_asyncios_own_loops(loop: Loop) -> None:
    """They are a base for the sake of `isinstance`: they know nothing of our state.

    What makes children and sends files asks nothing of it, and is known to others by its frames
    (`_subprocess.py`, `_sendfile.py`).
    """
    bases = (asyncio.BaseEventLoop, asyncio.SelectorEventLoop)
    inherited = {
        name
        for base in bases
        for name in dir(base)
        if (not name.startswith("_") or name in ("__init__", "__repr__", "__del__"))
        and getattr(type(loop), name, None) is getattr(base, name)
    }
    assert inherited == {"sendfile", "subprocess_exec", "subprocess_shell"}


def test_the_same_methods_are_coroutines(loop: Loop) -> None:
    for name, method in vars(asyncio.BaseEventLoop).items():
        if inspect.iscoroutinefunction(method) and not name.startswith("_"):
            assert inspect.iscoroutinefunction(getattr(loop, name)), name


@pytest.mark.parametrize(
    "name",
    ["create_connection", "create_server", "connect_accepted_socket", "getaddrinfo"],
)
def test_arguments_have_the_names_of_asyncio(loop: Loop, name: str) -> None:
    theirs = inspect.signature(getattr(asyncio.SelectorEventLoop, name)).parameters
    ours = inspect.signature(getattr(type(loop), name)).parameters
    for place, (argument, parameter) in enumerate(theirs.items()):
        assert ours[argument].kind is parameter.kind
        assert ours[argument].default == parameter.default or argument == "self"
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            assert list(ours)[place] == argument


def test_loop_takes_attributes_and_weak_references(loop: Loop) -> None:
    loop.note = "mine"  # type: ignore[attr-defined]
    assert loop.note == "mine"  # type: ignore[attr-defined]
    assert weakref.ref(loop)() is loop
    assert hash(loop) == hash(loop)
    assert loop == loop
    assert {loop: 1}[loop] == 1


@pytest.mark.parametrize(
    "name", ["call_soon", "call_later", "call_at", "call_soon_threadsafe", "time", "create_task"]
)
def test_methods_can_be_replaced_on_the_instance(loop: Loop, name: str) -> None:
    original = getattr(loop, name)
    setattr(loop, name, lambda *arguments, **options: "replaced")
    assert getattr(loop, name)() == "replaced"
    delattr(loop, name)
    assert getattr(loop, name) == original


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_handle(loop: Loop, method: str) -> None:
    def callback(*arguments: Any) -> None: ...

    arguments = (1e9,) if method in ("call_later", "call_at") else ()
    handle = getattr(loop, method)(*arguments, callback, 1, 2)
    assert isinstance(handle, asyncio.TimerHandle if arguments else asyncio.Handle)
    assert handle._callback is callback
    assert handle._args == (1, 2)
    assert handle._cancelled is False
    assert handle.cancelled() is False
    if hasattr(asyncio.Handle, "get_context"):  # since 3.12
        assert isinstance(handle.get_context(), contextvars.Context)
    handle.cancel()
    assert handle._cancelled is True
    assert handle._callback is None
    assert handle._args is None


def test_run_of_a_handle(loop: Loop) -> None:
    seen: list[int] = []
    handle = loop.call_soon(seen.append, 1)
    handle._run()
    assert seen == [1]
    turn(loop)
    assert seen == [1, 1]


def test_repr_of_handles(loop: Loop) -> None:
    def some_callback() -> None: ...

    handle = loop.call_soon(some_callback)
    assert "some_callback" in repr(handle)
    assert "Handle" in repr(handle)
    handle.cancel()
    assert "cancelled" in repr(handle)
    timer = loop.call_later(100, some_callback)
    assert "when=" in repr(timer)
    assert "TimerHandle" in repr(timer)
    timer.cancel()
    assert "cancelled" in repr(timer)


@pytest.mark.parametrize("debug", [False, True])
def test_what_the_repr_of_handles_is_made_of(loop: Loop, debug: bool) -> None:
    """Debuggers ask for it."""
    loop.set_debug(debug)
    of_handles: list[tuple[Any, list[str]]] = [
        (loop.call_soon(print), ["Handle", "print()"]),
        (loop.call_at(1e9, print), ["TimerHandle", f"when={1e9}", "print()"]),
    ]
    for handle, first in of_handles:
        whole = repr(handle)
        assert handle._repr is None
        assert handle._repr_info()[: len(first)] == first
        assert len(handle._repr_info()) == len(first) + debug
        assert whole == f"<{' '.join(handle._repr_info())}>"
        handle.cancel()
        assert handle._repr_info()[:2] == [first[0], "cancelled"]
        assert handle._repr == (whole.replace("Handle", "Handle cancelled", 1) if debug else None)
    loop.set_debug(False)


def test_handles_take_weak_references(loop: Loop) -> None:
    handle = loop.call_soon(print)
    assert weakref.ref(handle)() is handle
    handle.cancel()


def test_executor_attributes(loop: Loop) -> None:
    assert loop._default_executor is None  # type: ignore[attr-defined]
    assert loop._executor_shutdown_called is False  # type: ignore[attr-defined]


def test_running_loop_functions_of_frameworks(loop: Loop) -> None:
    seen: list[Any] = []

    def look() -> None:
        seen.append(asyncio._get_running_loop())
        asyncio._set_running_loop(None)
        seen.append(asyncio._get_running_loop())
        asyncio._set_running_loop(loop)

    loop.call_soon(look)
    turn(loop)
    assert seen == [loop, None]


def test_set_event_loop(loop: Loop) -> None:
    asyncio.set_event_loop(loop)
    assert asyncio.get_event_loop() is loop
    asyncio.set_event_loop(None)


def test_subclass(kind: str, loop: Loop) -> None:
    class Special(type(loop)):  # type: ignore[misc]
        def time(self) -> float:
            return float(super().time()) + 1000

    special = Special(driver=loops.driver_of(kind)) if loops.is_ours(kind) else Special()
    try:
        assert special.time() >= 1000
        assert special.run_until_complete(asyncio.sleep(0, 1)) == 1
    finally:
        special.close()


def test_is_a_base_event_loop(loop: Loop) -> None:
    assert isinstance(loop, asyncio.BaseEventLoop)


def test_ready_shows_what_runs_next(loop: Any) -> None:
    first = loop.call_soon(print)
    second = loop.call_soon_threadsafe(print)
    assert list(loop._ready) == [first, second]
    assert first in loop._ready
    assert len(loop._ready) == 2
    assert loop._ready.popleft() is first
    second.cancel()
    turn(loop)
    assert not loop._ready


def test_ready_can_be_rearranged(loop: Any) -> None:
    seen: list[str] = []
    for name in "abcd":
        loop.call_soon(seen.append, name)
    loop._ready.rotate(1)
    handle = loop._ready.popleft()
    loop._ready.insert(1, handle)
    loop._ready.append(loop._ready.popleft())
    turn(loop)
    assert seen == ["d", "b", "c", "a"]


@since_313
def test_ready_can_be_rearranged_by_a_callback(loop: Any) -> None:
    seen: list[str] = []

    def jump_the_queue() -> None:
        handle = loop.call_soon(seen.append, "last")
        loop._ready.remove(handle)
        loop._ready.appendleft(handle)

    loop.call_soon(jump_the_queue)
    loop.call_soon(seen.append, "first")
    loop._run_forever_setup()
    try:
        loop._run_once()
        assert seen == ["last"]
        loop._run_once()
    finally:
        loop._run_forever_cleanup()
    assert seen == ["last", "first"]


def test_foreign_handle_in_ready(loop: Any) -> None:
    seen: list[int] = []
    handle = asyncio.Handle(seen.append, (1,), loop)
    loop._ready.append(handle)
    assert loop._ready[0] is handle
    cancelled = asyncio.Handle(seen.append, (2,), loop)
    cancelled.cancel()
    loop._add_callback(cancelled)
    turn(loop)
    assert seen == [1]


def test_scheduled_shows_the_timers(loop: Any) -> None:
    late, early = loop.call_later(200, print), loop.call_later(100, print)
    assert loop._scheduled[0] is early
    assert late in loop._scheduled
    assert not loop._ready
    early.cancel()
    late.cancel()


@since_313
def test_one_tick_at_a_time(loop: Any) -> None:
    seen: list[Any] = []

    def callback() -> None:
        seen.append((asyncio.get_running_loop(), loop.is_running(), loop._thread_id))
        loop.call_soon(seen.append, "next")

    loop.call_soon(callback)
    loop._run_forever_setup()
    try:
        loop._run_once()
        assert seen == [(loop, True, threading.get_ident())]
        loop._run_once()
    finally:
        loop._run_forever_cleanup()
    assert seen[1:] == ["next"]
    assert loop._thread_id is None
    assert not loop.is_running()


@pytest.mark.ours
def test_tick_within_a_tick(loop: Any) -> None:
    seen: list[str] = []

    def nest() -> None:
        loop.call_soon(seen.append, "inner")
        loop._run_once()
        seen.append("after the inner tick")

    loop.call_soon(nest)
    turn(loop)
    assert seen == ["inner", "after the inner tick"]


@pytest.mark.ours
def test_tick_of_a_loop_that_another_thread_runs(loop: Any) -> None:
    errors: list[BaseException] = []

    def tick() -> None:
        try:
            loop._run_once()
        except RuntimeError as exc:
            errors.append(exc)

    def start_and_wait() -> None:
        thread = threading.Thread(target=tick)
        thread.start()
        thread.join()

    loop.call_soon(start_and_wait)
    turn(loop)
    assert [str(error) for error in errors] == ["This event loop is already running"]


@pytest.mark.ours
def test_the_cycle_collector_sees_handles_taken_out_of_ready(loop: Any) -> None:
    taken: list[Any] = []

    def take() -> None:
        taken.append(loop.call_soon(print))
        assert loop._ready.pop() is taken[0]

    loop.call_soon(take)
    turn(loop)
    assert gc.is_tracked(taken[0])


@pytest.mark.ours
def test_the_cycle_collector_sees_handles_left_after_ticks_one_at_a_time(loop: Any) -> None:
    left: list[Any] = []
    loop.call_soon(lambda: left.append(loop.call_soon(print)))
    loop._run_forever_setup()
    try:
        loop._run_once()
    finally:
        loop._run_forever_cleanup()
    assert gc.is_tracked(left[0])


def test_stopping(loop: Any) -> None:
    assert loop._stopping is False
    loop.stop()
    assert loop._stopping is True
    loop.run_forever()
    assert loop._stopping is False


def test_replaced_tick_takes_effect(loop: Any) -> None:
    count = 0
    original = loop._run_once

    def counting() -> None:
        nonlocal count
        count += 1
        original()

    loop._run_once = counting
    turn(loop)
    del loop._run_once
    assert count > 0


def test_replaced_wait_is_asked(loop: Any) -> None:
    """As libraries do that have an idea of time of their own."""
    asked: list[float | None] = []
    original = loop._selector.select

    def select(timeout: float | None) -> list[Any]:
        asked.append(timeout)
        if timeout:
            loop.call_soon(loop.stop)
        return original(timeout and 0.001)  # type: ignore[no-any-return]

    loop._selector.select = select
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    assert set(asked) == {0}
    far = loop.call_later(3600, loop.stop)
    loop.run_forever()
    far.cancel()
    assert any(timeout for timeout in asked)


def test_time_of_a_subclass(loop: Any) -> None:
    """As libraries do that put a class of theirs on the loop."""

    class Jumping(type(loop)):  # type: ignore[misc]
        ahead = 0.0

        def time(self) -> float:
            return super().time() + self.ahead  # type: ignore[no-any-return]

    loop.__class__ = Jumping
    seen: list[str] = []
    loop.call_later(3600, seen.append, "an hour later")
    loop.call_at(loop.time() + 3601, seen.append, "then")
    loop.call_later(3602, loop.stop)
    loop.call_later(7200, seen.append, "too early")
    loop.call_soon(setattr, loop, "ahead", 3602)
    loop.run_forever()
    assert seen == ["an hour later", "then"]


class Clock:
    """A time that a test sets, in the place of a loop's."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.asked = 0

    def __call__(self) -> float:
        self.asked += 1
        return self.now


def test_time_set_on_the_loop(loop: Any) -> None:
    loop.time = clock = Clock()
    seen: list[str] = []
    later = loop.call_later(50, seen.append, "later")
    at = loop.call_at(1010.0, seen.append, "at")
    assert (later.when(), at.when()) == (1050.0, 1010.0)
    turn(loop, 2)
    assert seen == []
    clock.now = 1010.0
    turn(loop, 2)
    assert seen == ["at"]
    clock.now = 1049.9
    turn(loop, 2)
    assert seen == ["at"]
    clock.now = 1050.0
    turn(loop, 2)
    assert seen == ["at", "later"]


def test_time_set_on_a_running_loop_and_taken_away(loop: Any) -> None:
    async def main() -> None:
        original = loop.time
        loop.time = Clock()
        assert loop.call_later(1, int).when() == 1001.0
        loop.time = original
        assert loop.call_later(1, int).when() >= original() + 0.5
        loop.time = Clock(2000.0)
        sleeper = asyncio.ensure_future(asyncio.sleep(5))
        await asyncio.sleep(0)
        loop.time.now = 2005.0
        await sleeper
        del loop.time
        assert abs(loop.call_later(1, int).when() - original() - 1) < 0.5
        await asyncio.sleep(0.001)

    loop.run_until_complete(main())


def test_wait_goes_by_the_time_set_on_the_loop(loop: Any) -> None:
    """A million seconds ahead, timers are neither missed nor polled for."""
    original = loop.time
    asked = 0

    def ahead() -> float:
        nonlocal asked
        asked += 1
        return 1e6 + original()  # type: ignore[no-any-return]

    loop.time = ahead
    loop.run_until_complete(asyncio.sleep(0.02))
    assert 0 < asked < 30


def test_time_of_a_subclass_before_the_first_run(loop: Any) -> None:
    class Standing(type(loop)):  # type: ignore[misc]
        def time(self) -> float:
            return 5.0

    other = Standing()
    try:
        assert other.call_later(2, int).when() == 7.0
    finally:
        other.close()


def test_time_that_raises_ends_the_run(loop: Any) -> None:
    def failing() -> float:
        raise ZeroDivisionError

    loop.call_soon(setattr, loop, "time", failing)
    loop.call_soon(loop.call_soon, int)
    with pytest.raises(ZeroDivisionError):
        loop.run_forever()
    with pytest.raises(ZeroDivisionError):
        loop.call_later(1, int)
    del loop.time
    loop.run_until_complete(asyncio.sleep(0.001))


def test_slow_callbacks_go_by_the_time_set_on_the_loop(
    loop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(True)
    loop.time = clock = Clock()
    loop.call_soon(setattr, clock, "now", 1005.0)
    turn(loop)
    assert "took 5.000 seconds" in caplog.text


@pytest.mark.parametrize("where", ["instance", "subclass"])
def test_call_later_goes_through_a_replaced_call_at(loop: Any, where: str) -> None:
    original = loop.call_at
    asked: list[tuple[Any, ...]] = []

    def call_at(when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        asked.append((callback, args, context))
        return original(when, callback, *args, context=context)  # type: ignore[no-any-return]

    if where == "instance":
        loop.call_at = call_at
    else:
        loop.__class__ = type("Own", (type(loop),), {"call_at": staticmethod(call_at)})
    context = contextvars.copy_context()
    handle = loop.call_later(3600, print, 1, 2, context=context)
    assert loop.time() < handle.when() < loop.time() + 3601
    loop.call_later(3600, print)
    assert asked == [(print, (1, 2), context), (print, (), None)]


def test_attributes_that_cannot_be_set_or_deleted(loop: Any) -> None:
    with pytest.raises(AttributeError):
        del loop.time
    with pytest.raises(AttributeError):
        del loop.nothing_of_this_name


def test_replaced_call_soon_takes_effect_for_tasks(loop: Any) -> None:
    seen: list[str] = []
    original = loop.call_soon

    def call_soon(callback: Any, *arguments: Any, **options: Any) -> asyncio.Handle:
        seen.append(type(getattr(callback, "__self__", None)).__name__)
        return original(callback, *arguments, **options)  # type: ignore[no-any-return]

    loop.call_soon = call_soon
    loop.run_until_complete(asyncio.sleep(0))
    del loop.call_soon
    assert len(seen) >= 2


def test_other_private_attributes(loop: Any) -> None:
    assert loop._closed is False
    assert loop._debug is False
    assert loop._task_factory is None
    assert loop._exception_handler is not None
    assert 0 < loop._clock_resolution < 1
    assert list(loop._asyncgens) == []
    loop._write_to_self()
    turn(loop)


@pytest.mark.parametrize("name", ["select", "_run_once"])
async def test_replaced_while_the_loop_runs(loop: Any, name: str) -> None:
    place = loop if name == "_run_once" else loop._selector
    original = getattr(place, name)
    calls = []

    def replacement(*args: Any) -> Any:
        calls.append(args)
        return original(*args)

    for _ in range(2):
        setattr(place, name, replacement)
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        assert calls
        delattr(place, name)
        await asyncio.sleep(0)
        calls.clear()
        await asyncio.sleep(0.001)
        assert not calls
