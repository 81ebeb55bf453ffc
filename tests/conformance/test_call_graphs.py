"""Who waits for whom, and which tasks there are, as Python 3.14 and later know it.

Before the switch and after it, on every loop: `gather()`, `wait()` and `TaskGroup` note it
themselves.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import gc
import io
import re
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from support import loops
from support.primitives import BOTH, behind_names_if
from support.tasks import awaits, fail, native_tasks, nothing
from support.ticks import pause

if sys.version_info < (3, 14):
    pytest.skip("asyncio has it since 3.14", allow_module_level=True)

pytestmark = pytest.mark.sim

Loop = asyncio.AbstractEventLoop


@pytest.fixture(params=BOTH, autouse=True)
def switch(request: pytest.FixtureRequest) -> Iterator[str]:
    with behind_names_if(request.param):
        yield request.param


def waiters(future: Any) -> set[Any]:
    return set(future._asyncio_awaited_by or ())


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def cancelled(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await pause(3)


async def test_of_a_future(loop: Loop) -> None:
    future = loop.create_future()
    assert future._asyncio_awaited_by is None  # type: ignore[attr-defined]
    tasks = [loop.create_task(awaits(future)) for _ in range(3)]
    assert not waiters(future)
    await pause()
    assert waiters(future) == set(tasks)
    tasks[0].cancel()
    await pause()
    # asyncio's forget only when the future is done, which it is: it was cancelled.
    assert not waiters(future)
    await pause()


async def test_of_one_that_is_cancelled(loop: Loop) -> None:
    """The future goes on, in a shield."""
    future = loop.create_future()
    shielding = loop.create_task(awaits(asyncio.shield(future)))
    task = loop.create_task(awaits(future))
    await pause()
    assert task in waiters(future)
    shielding.cancel()
    await pause(3)
    assert waiters(future) == {task}
    future.set_result(None)
    await pause(3)
    assert not waiters(future)


@pytest.mark.parametrize("outcome", ["result", "exception", "cancelled"])
async def test_of_a_task(loop: Loop, outcome: str) -> None:
    future = loop.create_future()
    inner = loop.create_task(awaits(future))
    outer = loop.create_task(awaits(inner))
    await pause(2)
    assert waiters(future) == {inner}
    assert waiters(inner) == {outer}
    assert not waiters(outer)
    if outcome == "result":
        future.set_result(None)
    elif outcome == "exception":
        future.set_exception(KeyError())
    else:
        inner.cancel()
    await pause()
    assert not waiters(future)
    assert waiters(inner) == {outer}
    await pause()
    assert not waiters(inner)
    assert outer.done()
    outer.cancelled() or outer.exception()


async def test_of_other_classes(loop: Loop) -> None:
    class Own(asyncio.Future):  # type: ignore[type-arg]
        pass

    class OwnTask(asyncio.Task):  # type: ignore[type-arg]
        pass

    made: list[Any] = [Own(loop=loop), asyncio.Future(loop=loop)]
    made.append(OwnTask(forever(), loop=loop))
    made.append(asyncio.Task(forever(), loop=loop))
    for future in made:
        task = loop.create_task(awaits(future))
        theirs: Any = asyncio.Task(awaits(future), loop=loop)
        await pause()
        assert waiters(future) == {task, theirs}
        await cancelled(future)
        assert not waiters(future)
    python: Any = asyncio.futures._PyFuture(loop=loop)  # type: ignore[attr-defined]
    task = loop.create_task(awaits(python))
    await pause()
    assert not waiters(python)
    await cancelled(python, task)


async def test_of_what_is_gathered(loop: Loop) -> None:
    future = loop.create_future()
    done = loop.create_future()
    done.set_result(None)

    async def program() -> Any:
        return await asyncio.gather(forever(), future, task, nothing(), done)

    task = loop.create_task(forever())
    outer = loop.create_task(program())
    await pause()
    others = asyncio.all_tasks() - {outer, task, asyncio.current_task()}
    assert len(others) == 2
    assert not waiters(done)
    for child in (future, task, *others):
        assert waiters(child) == {outer}
    await pause(2)
    (left,) = (child for child in others if not child.done())
    assert not any(waiters(child) for child in others - {left})
    future.set_result(None)
    await pause()
    assert not waiters(future)
    assert waiters(left) == waiters(task) == {outer}
    await cancelled(left)
    # The call has ended, which the releases of 3.14 see differently.
    forgets = hasattr(asyncio.tasks, "_discard_awaited_by")
    assert waiters(task) == (set() if forgets else {outer})
    assert outer.cancelled()
    await cancelled(task)
    assert not waiters(task)


async def test_of_what_is_gathered_with_exceptions(loop: Loop) -> None:
    tasks = [loop.create_task(forever()) for _ in range(3)]

    async def program() -> Any:
        return await asyncio.gather(*tasks, return_exceptions=True)

    outer = loop.create_task(program())
    await pause()
    await cancelled(tasks[0])
    assert [waiters(task) for task in tasks] == [set(), {outer}, {outer}]
    outer.cancel()
    await pause(4)
    assert not any(map(waiters, tasks))
    assert outer.done()


def test_gathered_without_a_task(loop: Loop) -> None:
    tasks = [loop.create_task(nothing()), loop.create_task(nothing())]
    outer = asyncio.gather(*tasks)
    assert not any(map(waiters, tasks))
    loop.run_until_complete(outer)
    seen: list[Any] = []

    def in_a_callback() -> None:
        task = loop.create_task(nothing())
        seen.append(asyncio.gather(task))
        assert not waiters(task)
        loop.stop()

    loop.call_soon(in_a_callback)
    loop.run_forever()
    loop.run_until_complete(seen[0])


@pytest.mark.parametrize("until", ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"])
async def test_of_what_is_waited_for(loop: Loop, until: str) -> None:
    done = loop.create_task(nothing())
    failing = loop.create_task(fail(KeyError()))
    await pause()
    later, future = loop.create_task(forever()), loop.create_future()
    for among in ([later, future], [later, future, done]):
        outer = loop.create_task(asyncio.wait(among, timeout=0.01, return_when=until))
        await pause()
        if until != "FIRST_COMPLETED":
            assert waiters(later) == waiters(future) == {outer}
        await outer
        assert not any(map(waiters, among))
    outer = loop.create_task(asyncio.wait([later, future, failing], return_when=until))
    await pause()
    assert waiters(later) == {outer}
    await pause(3)
    assert waiters(later) == ({outer} if until == "ALL_COMPLETED" else set())
    future.set_result(None)
    await pause()
    assert not waiters(future)
    await cancelled(later)
    await outer
    assert not waiters(later)
    failing.exception()


async def test_of_a_group(loop: Loop) -> None:
    made = []

    async def program() -> None:
        async with asyncio.TaskGroup() as group:
            made.append(group.create_task(forever()))
            made.append(group.create_task(forever(), name="named"))
            made.append(group.create_task(nothing()))

    outer = loop.create_task(program())
    await pause()
    assert [waiters(task) for task in made] == [{outer}] * 3
    await pause(2)
    assert [waiters(task) for task in made] == [{outer}, {outer}, set()]
    made[0].cancel()
    await pause(2)
    assert [waiters(task) for task in made] == [set(), {outer}, set()]
    outer.cancel()
    await pause(4)
    assert [waiters(task) for task in made] == [set()] * 3
    assert outer.cancelled()


async def test_of_a_group_that_fails(loop: Loop) -> None:
    made = []

    async def program() -> None:
        async with asyncio.TaskGroup() as group:
            made.append(group.create_task(forever()))
            made.append(group.create_task(fail(KeyError())))

    outer = loop.create_task(program())
    await asyncio.wait([outer])
    assert type(outer.exception()).__name__ == "ExceptionGroup"
    assert not any(map(waiters, made))


async def test_options_of_a_groups_tasks(loop: Loop) -> None:
    async with asyncio.TaskGroup() as group:
        seen = []
        eager = group.create_task(awaits(pause()), eager_start=True)
        seen.append(eager.get_coro() is not None)
        ended = group.create_task(nothing(), eager_start=True)
        seen += [ended.done(), ended.get_coro()]
        later = group.create_task(nothing(), eager_start=False, name="later")
        seen += [later.done(), later.get_name()]
        assert seen == [True, True, None, False, "later"]
        coro = nothing()
        with pytest.raises(TypeError):
            group.create_task(coro, unknown=1)
        coro.close()


async def test_nobody_is_kept(loop: Loop) -> None:
    """A future that outlives who has waited for it."""
    future = loop.create_future()
    task = loop.create_task(awaits(asyncio.wait([future], timeout=0.01)))
    await task
    assert not waiters(future)
    gathering = asyncio.gather(future, nothing())
    assert waiters(future) == {asyncio.current_task()}
    gathering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gathering
    assert not waiters(future)


GRAPH = r"(id=0x)[0-9a-f]+"


async def graph_of_all() -> str:
    """Everything that is seen of a program, from inside of it."""
    shown = []

    async def leaf() -> None:
        shown.append(asyncio.format_call_graph())  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        text = io.StringIO()
        asyncio.print_call_graph(file=text)  # type: ignore[attr-defined]
        shown.append(text.getvalue())
        await forever()

    async def branch() -> None:
        await asyncio.gather(
            asyncio.create_task(leaf(), name="leaf"),
            asyncio.create_task(asyncio.wait_for(forever(), 3600), name="limited"),
        )

    async def trunk() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(branch(), name="branch")
            await asyncio.wait([asyncio.create_task(forever(), name="waited")])

    root = asyncio.create_task(trunk(), name="root")
    await pause(6)
    tasks = asyncio.all_tasks()
    assert len(tasks) == 7
    for task in sorted(tasks, key=lambda it: it.get_name()):
        shown.append(asyncio.format_call_graph(task))  # type: ignore[attr-defined]
        task.get_name() == "waited" and task.cancel()
    root.cancel()
    await pause(6)
    lines = re.sub(GRAPH, r"\1", "\n".join(shown)).splitlines()
    # `wait()` and `wait_for()` are other functions after the switch.
    return "\n".join(line for line in lines if "File" not in line or __file__ in line)


def test_as_asyncio_shows_it(kind: str) -> None:
    """The same text as of asyncio's own classes on asyncio's own loop."""
    text = shown_on(kind)
    assert all(name in text for name in ("'root'", "'limited'", "'waited'", "leaf()", "trunk()"))
    with behind_names_if("asyncio"):
        assert text == shown_on(loops.STOCK)


def shown_on(kind: str) -> str:
    with asyncio.Runner(loop_factory=loops.factory(kind)) as runner:

        async def named() -> str:
            return await asyncio.create_task(graph_of_all(), name="main")

        text = runner.run(named())
    return re.sub(r"name='Task-\d+'", "name=''", text)


def test_the_collector_sees_who_waits(loop: Loop) -> None:
    class Own(asyncio.Future):  # type: ignore[type-arg]
        pass

    for make in (loop.create_future, lambda: Own(loop=loop)):
        futures: list[Any] = [make() for _ in range(4)]
        for future in futures:
            for other in futures:
                asyncio.future_add_to_awaited_by(future, other)  # type: ignore[attr-defined]
        single = make()
        asyncio.future_add_to_awaited_by(single, single)  # type: ignore[attr-defined]
        gone = [weakref.ref(future) for future in (*futures, single)]
        assert waiters(futures[0]) == set(futures)
        assert waiters(single) == {single}
        del futures, single, future, other
        gc.collect()
        assert [it() for it in gone] == [None] * 5


# The list of all tasks, and the current one.


async def test_all_tasks(loop: Loop) -> None:
    me = asyncio.current_task()
    tasks = [loop.create_task(forever()) for _ in range(3)]
    assert asyncio.all_tasks() == {me, *tasks}
    short = loop.create_task(nothing())
    assert short in asyncio.all_tasks(loop)
    await short
    assert asyncio.all_tasks() == {me, *tasks}
    await cancelled(tasks.pop(1))
    assert asyncio.all_tasks() == {me, *tasks}
    for task in tasks:
        asyncio.tasks._unregister_task(task)  # type: ignore[attr-defined]
        asyncio.tasks._unregister_task(task)  # type: ignore[attr-defined]
    assert asyncio.all_tasks() == {me}
    asyncio.tasks._register_task(tasks[0])  # type: ignore[attr-defined]
    asyncio.tasks._register_task(tasks[0])  # type: ignore[attr-defined]
    assert asyncio.all_tasks() == {me, tasks[0]}
    await cancelled(*tasks)


async def test_an_eager_task_is_listed(loop: Loop) -> None:
    seen = []

    async def look() -> None:
        seen.append((asyncio.current_task() in asyncio.all_tasks(), asyncio.current_task()))
        await pause()

    me = asyncio.current_task()
    task = loop.create_task(look(), eager_start=True)
    assert seen == [(True, task)]
    assert asyncio.current_task() is me
    assert asyncio.all_tasks() == {me, task}
    await task
    assert asyncio.all_tasks() == {me}


def test_tasks_that_outlive_their_thread(loop: Loop) -> None:
    if "sim" in str(getattr(loop, "driver", "")):
        pytest.skip("other threads are not of its time")
    made: list[Any] = []

    def run() -> None:
        made.extend(loop.create_task(nothing(), name=name) for name in ("kept", "ended", "freed"))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert asyncio.all_tasks(loop) == set(made)
    freed: Any = made.pop()
    coro = freed.get_coro()
    loop.run_until_complete(made.pop())
    assert freed.done() == made[0].done()
    del freed, coro
    gc.collect()
    assert asyncio.all_tasks(loop) == set()
    loop.run_until_complete(made[0])


async def test_the_task_of_another_thread(loop: Loop, kind: str) -> None:
    if kind.endswith("sim"):
        pytest.skip("other threads are not of its time")
    me, seen = asyncio.current_task(), []

    def look() -> None:
        seen.append(asyncio.current_task(loop))
        try:
            asyncio.tasks._enter_task(loop, me)  # type: ignore[attr-defined, arg-type]
        except RuntimeError as error:
            seen.append("is not the running loop" in str(error))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [me, True]


async def test_entering_and_leaving(loop: Loop) -> None:
    me = asyncio.current_task()
    other = loop.create_task(nothing())
    enter, leave = asyncio.tasks._enter_task, asyncio.tasks._leave_task  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match=r"Cannot enter into task .* while another task"):
        enter(loop, other)
    with pytest.raises(RuntimeError, match=r"Invalid attempt to leave task .* is entered"):
        leave(loop, other)
    leave(loop, me)
    assert asyncio.current_task() is None
    enter(loop, me)
    assert asyncio.current_task() is me
    await other


def test_what_a_task_is_made_of_is_there_for_others(loop: Loop) -> None:
    """asyncio's own functions find it in its own fields, as another process does."""
    coro = nothing()
    task = loop.create_task(coro, name="named")
    assert asyncio.Task.get_coro(task) is coro
    assert asyncio.Task.get_name(task) == "named"
    task.set_name("other")
    assert asyncio.Task.get_name(task) == task.get_name() == "other"
    unnamed = loop.create_task(nothing())
    assert asyncio.Task.get_name(unnamed) == unnamed.get_name()
    loop.run_until_complete(asyncio.wait([task, unnamed]))


def test_there_are_tasks_of_ours() -> None:
    """On every Python with a GIL that is known."""
    known = sys.version_info < (3, 16) and getattr(sys, "_is_gil_enabled", lambda: True)()
    assert native_tasks() == (known and not loops.STOCK_ONLY)
