"""What the loop's own operations cost, without any I/O: CPU nanoseconds per operation.

`python benches/scheduling.py --loop NAME` runs every case in this process, one after the other; see
inprocess.py. The runner starts one such process per contestant and round.
"""

import asyncio
import socket
import sys
import threading

from inprocess import BATCH, Case, main

MILLION = 1_000_000


def nothing() -> None:
    """The callback of the cases."""


async def nothing_soon() -> None:
    """The coroutine of the cases."""


async def call_soon(count: int) -> int:
    """Callbacks scheduled a hundred at a time: what one costs once the tick is paid for."""
    loop = asyncio.get_running_loop()
    for _ in range(count // BATCH):
        for _ in range(BATCH):
            loop.call_soon(nothing)
        await asyncio.sleep(0)
    return count // BATCH * BATCH


async def tick(count: int) -> int:
    """A callback that schedules itself: what a whole tick costs."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = count

    def again() -> None:
        nonlocal left
        left -= 1
        if left > 0:
            loop.call_soon(again)
        else:
            done.set_result(None)

    loop.call_soon(again)
    await done
    return count


async def call_later_cancel(count: int) -> int:
    """Timers that are cancelled before they are due, as those of requests that end in time are."""
    loop = asyncio.get_running_loop()
    for _ in range(count // BATCH):
        handles = [loop.call_later(60, nothing) for _ in range(BATCH)]
        for handle in handles:
            handle.cancel()
        await asyncio.sleep(0)
    return count // BATCH * BATCH


async def sleep_zero(count: int) -> int:
    """A hundred tasks that give way to each other."""

    async def give_way() -> None:
        for _ in range(count // BATCH):
            await asyncio.sleep(0)

    await asyncio.wait([asyncio.ensure_future(give_way()) for _ in range(BATCH)])
    return count // BATCH * BATCH


async def task_spawn(count: int) -> int:
    """Tasks whose coroutine ends at once, awaited one by one."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        await loop.create_task(nothing_soon())
    return count


async def gather(count: int) -> int:
    """`gather` of a hundred coroutines; one operation is one of them."""
    for _ in range(count // BATCH):
        await asyncio.gather(*[nothing_soon() for _ in range(BATCH)])
    return count // BATCH * BATCH


async def ping_pong(count: int) -> int:
    """Two tasks that wake each other by futures; one operation is there and back."""
    loop = asyncio.get_running_loop()
    ping: asyncio.Future[None] = loop.create_future()
    pong: asyncio.Future[None] = loop.create_future()

    async def returner() -> None:
        nonlocal ping
        for _ in range(count):
            await ping
            ping = loop.create_future()
            pong.set_result(None)

    task = asyncio.ensure_future(returner())
    for _ in range(count):
        pong = loop.create_future()
        ping.set_result(None)
        await pong
    await task
    return count


async def threadsafe(count: int) -> int:
    """Callbacks that another thread schedules as fast as it can."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def schedule() -> None:
        for _ in range(count):
            loop.call_soon_threadsafe(nothing)
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=schedule)
    thread.start()
    await done
    thread.join()
    return count


async def sleep_alone(count: int) -> int:
    """A task that gives way, and is the only one."""
    for _ in range(count):
        await asyncio.sleep(0)
    return count


async def lock(count: int) -> int:
    """`async with` a lock that nobody else wants."""
    free = asyncio.Lock()
    for _ in range(count):
        async with free:
            pass
    return count


async def lock_contended(count: int) -> int:
    """Two tasks that both want a lock and give way while they have it: one always waits."""
    wanted = asyncio.Lock()

    async def work() -> None:
        for _ in range(count // 2):
            async with wanted:
                await asyncio.sleep(0)

    await asyncio.wait([asyncio.ensure_future(work()) for _ in range(2)])
    return count // 2 * 2


async def semaphore(count: int) -> int:
    """`async with` a semaphore that has room."""
    room = asyncio.Semaphore(10)
    for _ in range(count):
        async with room:
            pass
    return count


async def event(count: int) -> int:
    """One task sets an event that another waits for; one operation is there and back."""
    ping, pong = asyncio.Event(), asyncio.Event()

    async def returner() -> None:
        for _ in range(count):
            await ping.wait()
            ping.clear()
            pong.set()

    task = asyncio.ensure_future(returner())
    for _ in range(count):
        ping.set()
        await pong.wait()
        pong.clear()
    await task
    return count


async def event_set(count: int) -> int:
    """Waiting for an event that is set."""
    ready = asyncio.Event()
    ready.set()
    for _ in range(count):
        await ready.wait()
    return count


async def condition(count: int) -> int:
    """One task notifies another that waits for it."""
    changed = asyncio.Condition()
    turn = 0

    async def other() -> None:
        nonlocal turn
        async with changed:
            for _ in range(count):
                while turn != 1:
                    await changed.wait()
                turn = 0
                changed.notify()

    task = asyncio.ensure_future(other())
    async with changed:
        for _ in range(count):
            turn = 1
            changed.notify()
            while turn != 0:
                await changed.wait()
    await task
    return count


async def queue(count: int) -> int:
    """One task puts, another gets, and the queue holds ten: both wait now and then."""
    items: asyncio.Queue[int] = asyncio.Queue(10)

    async def put() -> None:
        for number in range(count):
            await items.put(number)

    task = asyncio.ensure_future(put())
    for _ in range(count):
        await items.get()
    await task
    return count


async def queue_ping_pong(count: int) -> int:
    """Two tasks that wait for each other's item; one operation is there and back."""
    ping: asyncio.Queue[int] = asyncio.Queue()
    pong: asyncio.Queue[int] = asyncio.Queue()

    async def returner() -> None:
        for _ in range(count):
            await pong.put(await ping.get())

    task = asyncio.ensure_future(returner())
    for number in range(count):
        await ping.put(number)
        await pong.get()
    await task
    return count


async def queue_nowait(count: int) -> int:
    """`put_nowait` and `get_nowait`, a hundred items at a time."""
    items: asyncio.Queue[int] = asyncio.Queue()
    for _ in range(count // BATCH):
        for number in range(BATCH):
            items.put_nowait(number)
        for _ in range(BATCH):
            items.get_nowait()
    return count // BATCH * BATCH


async def wait_for_future(count: int) -> int:
    """`wait_for` of a future that is done in the next tick."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        future: asyncio.Future[None] = loop.create_future()
        loop.call_soon(future.set_result, None)
        await asyncio.wait_for(future, 60)
    return count


async def wait_for_coroutine(count: int) -> int:
    """`wait_for` of a coroutine that gives way once."""
    for _ in range(count):
        await asyncio.wait_for(asyncio.sleep(0), 60)
    return count


async def wait(count: int) -> int:
    """`wait` for a hundred tasks; one operation is one of them."""
    loop = asyncio.get_running_loop()
    for _ in range(count // BATCH):
        await asyncio.wait([loop.create_task(nothing_soon()) for _ in range(BATCH)])
    return count // BATCH * BATCH


async def executor(count: int) -> int:
    """A function that does nothing, in the default executor, one at a time: there and back."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        await loop.run_in_executor(None, nothing)
    return count


async def literal(count: int) -> int:
    """The socket addresses of an address that is not a name."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    return count


async def timers(count: int) -> int:
    """Timers that are due at once, a hundred at a time."""
    loop = asyncio.get_running_loop()
    for _ in range(count // BATCH):
        done: asyncio.Future[None] = loop.create_future()
        for _ in range(BATCH - 1):
            loop.call_later(0, nothing)
        loop.call_later(0, done.set_result, None)
        await done
    return count // BATCH * BATCH


async def a_million() -> list[asyncio.TimerHandle]:
    """A million timers that will not be due, in no order."""
    loop = asyncio.get_running_loop()
    # A prime as stride: every second between one hour and two, none twice in a row.
    return [loop.call_later(3600 + number * 7919 % 3600, nothing) for number in range(MILLION)]


CASES: dict[str, Case] = {
    "call_soon": call_soon,
    "tick": tick,
    "call_later_cancel": call_later_cancel,
    "sleep_zero": sleep_zero,
    "task_spawn": task_spawn,
    "gather": gather,
    "ping_pong": ping_pong,
    "threadsafe": threadsafe,
    "sleep_alone": sleep_alone,
    "lock": lock,
    "lock_contended": lock_contended,
    "semaphore": semaphore,
    "event": event,
    "event_set": event_set,
    "condition": condition,
    "queue": queue,
    "queue_ping_pong": queue_ping_pong,
    "queue_nowait": queue_nowait,
    "wait_for_future": wait_for_future,
    "wait_for_coroutine": wait_for_coroutine,
    "wait": wait,
    "executor": executor,
    "literal": literal,
    "timers": timers,
    "timers_million": timers,
}

if sys.version_info >= (3, 11):

    async def timeout(count: int) -> int:
        """`timeout` around something that is over before it."""
        for _ in range(count):
            async with asyncio.timeout(60):
                pass
        return count

    async def task_group(count: int) -> int:
        """A group of a hundred tasks; one operation is one of them."""
        for _ in range(count // BATCH):
            async with asyncio.TaskGroup() as group:
                for _ in range(BATCH):
                    group.create_task(nothing_soon())
        return count // BATCH * BATCH

    CASES.update(timeout=timeout, task_group=task_group)


if __name__ == "__main__":
    main(CASES, "CPU nanoseconds per scheduling operation.", prepared={"timers_million": a_million})
