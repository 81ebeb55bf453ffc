"""A program: a library has replaced a part of the pool before the loop is imported.

    executor_replaced.py KIND PART

It prints that the library has seen the call.
"""

from __future__ import annotations

import concurrent.futures._base as futures
import concurrent.futures.thread as pools
import sys
from typing import Any

Pool = pools.ThreadPoolExecutor
submit, part = Pool.submit, sys.argv[2]


def seen() -> None:
    sys.stdout.write("seen\n")


def seen_and_submitted(self: Any, fn: Any, /, *args: Any) -> Any:
    seen()
    return submit(self, fn, *args)


def copied(self: Any, fn: Any, /, *args: Any) -> Any:
    assert pools._WorkItem
    return seen_and_submitted(self, fn, *args)


class Wrapped:
    """As wrapt's, which has all that it wraps has."""

    def __getattr__(self, name: str) -> Any:
        return getattr(submit, name)

    def __get__(self, instance: Any, _owner: type) -> Any:
        return self if instance is None else seen_and_submitted.__get__(instance)


class OwnPool(Pool):
    submit = seen_and_submitted  # type: ignore[assignment]


class OwnFuture(futures.Future):  # type: ignore[type-arg]
    def __init__(self) -> None:
        seen()
        super().__init__()


def code(self: Any, fn: Any, /, *args: Any, **keywords: Any) -> Any:
    import sys

    sys.stdout.write("seen\n")
    assert _WorkItem  # type: ignore[name-defined] # noqa: F821
    call = _base.Future()  # type: ignore[name-defined] # noqa: F821
    call.set_result(1)
    return call


def kept(self: Any, fn: Any, /, *args: Any, **keywords: Any) -> Any:
    import sys

    sys.stdout.write("seen\n")
    call = _base.Future()  # type: ignore[name-defined] # noqa: F821
    call.set_result(1)
    return call


Item = pools._WorkItem


def item(*args: Any) -> Any:
    seen()
    return Item(*args)


class OwnItem(Item):  # type: ignore[type-arg]
    def __init__(self, future: Any, *work: Any) -> None:
        seen()
        assert isinstance(future, futures.Future)
        super().__init__(future, *work)


if part == "submit":
    Pool.submit = seen_and_submitted  # type: ignore[method-assign, assignment]
elif part == "copied":
    Pool.submit = copied  # type: ignore[method-assign, assignment]
elif part == "wrapped":
    Pool.submit = Wrapped()  # type: ignore[method-assign, assignment]
elif part == "code":
    Pool.submit.__code__ = code.__code__
elif part == "code_of_the_file":
    # As ddtrace does it.
    made = kept.__code__.replace(co_filename=submit.__code__.co_filename)
    Pool.submit.__code__ = made
elif part == "pool":
    import concurrent.futures

    concurrent.futures.ThreadPoolExecutor = pools.ThreadPoolExecutor = OwnPool  # type: ignore[misc]
elif part == "future":
    futures.Future = OwnFuture  # type: ignore[misc]
elif part == "item":
    pools._WorkItem = item  # type: ignore[misc, assignment]
elif part == "item's class":
    pools._WorkItem = OwnItem  # type: ignore[misc]
elif part == "gone":
    # As a later Python may have it.
    Pool.submit = seen_and_submitted  # type: ignore[method-assign, assignment]
    pools._OtherItem = pools._WorkItem  # type: ignore[attr-defined]
    submit.__code__ = submit.__code__.replace(
        co_names=tuple(name.replace("_WorkItem", "_OtherItem") for name in submit.__code__.co_names)
    )
    del pools._WorkItem

from support import loops  # noqa: E402

loop = loops.factory(sys.argv[1])()
assert loop.run_until_complete(loop.run_in_executor(None, abs, -1)) == 1
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
