"""What libraries and debuggers touch of loop and handles beside the documented methods."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import weakref
from typing import Any

import pytest
from support import loops
from support.ticks import turn

pytestmark = pytest.mark.sim

Loop = asyncio.AbstractEventLoop


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
