"""asyncpg with a real server: transactions, COPY, cancelled queries, TLS, broken connections."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from support import databases, tls
from support.observing import Program

asyncpg = pytest.importorskip("asyncpg")

# asyncpg does not wait for the end of TLS. A connection that is still ending when the loop is
# closed is left open, also by asyncio's loop.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed (transport|<socket):ResourceWarning")

Same = Callable[[Program], Any]


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, Any]]:
    with databases.postgresql() as where:
        yield where


@pytest.fixture(params=["plain", "tls"])
def where(server: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    return server | {"ssl": tls.client_context() if request.param == "tls" else False}


def test_transaction_and_cursor(same_as_stock: Same, where: dict[str, Any]) -> None:
    async def program() -> list[Any]:
        connection = await asyncpg.connect(**where)
        try:
            await connection.execute("CREATE TEMP TABLE numbers (n int PRIMARY KEY, t text)")
            rows = [(number, "ü" * number) for number in range(200)]
            await connection.executemany("INSERT INTO numbers VALUES ($1, $2)", rows)
            with pytest.raises(asyncpg.UniqueViolationError):
                async with connection.transaction():
                    await connection.execute("DELETE FROM numbers WHERE n > 50")
                    await connection.execute("INSERT INTO numbers VALUES (1, '')")
            async with connection.transaction():
                found = [tuple(row) async for row in connection.cursor("SELECT * FROM numbers")]
            return [found == rows, await connection.fetchval("SELECT count(*) FROM numbers")]
        finally:
            await connection.close()

    assert same_as_stock(program) == [True, 200]


def test_copy_in_and_out(same_as_stock: Same, where: dict[str, Any]) -> None:
    if where["ssl"] and sys.version_info < (3, 11):
        pytest.skip("asyncio's TLS goes on delivering while reading is paused, before 3.11")

    async def lines() -> AsyncIterator[bytes]:
        for number in range(2000):
            yield b"%d\t%s\n" % (number, b"x" * 1000)

    async def program() -> list[Any]:
        connection = await asyncpg.connect(**where)
        out = bytearray()

        async def keep(data: bytes) -> None:
            out.extend(data)
            await asyncio.sleep(0)

        try:
            await connection.execute("CREATE TEMP TABLE copied (n int, t text)")
            said = await connection.copy_to_table("copied", source=lines())
            await connection.copy_from_table("copied", output=keep)
            return [said, len(out), bytes(out[-2000:])]
        finally:
            await connection.close()

    assert same_as_stock(program)[0] == "COPY 2000"


def test_query_that_is_cancelled(same_as_stock: Same, where: dict[str, Any]) -> None:
    async def program() -> list[Any]:
        connection = await asyncpg.connect(**where)
        watcher = await asyncpg.connect(**where)
        running = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'"
        try:
            sleeping = asyncio.ensure_future(connection.execute("SELECT pg_sleep(100)"))
            # Asked for earlier, the server would forget it.
            while not await watcher.fetchval(running, connection.get_server_pid()):
                pass
            sleeping.cancel()
            await asyncio.wait([sleeping])
            return [sleeping.cancelled(), await connection.fetchval("SELECT 6 * 7")]
        finally:
            await connection.close()
            await watcher.close()

    assert same_as_stock(program) == [True, 42]


def test_connection_that_is_killed(same_as_stock: Same, where: dict[str, Any]) -> None:
    async def program() -> list[Any]:
        async with asyncpg.create_pool(**where, min_size=2, max_size=2) as pool:
            async with pool.acquire() as victim, pool.acquire() as killer:
                ended = asyncio.get_running_loop().create_future()
                victim.add_termination_listener(lambda _: ended.set_result(None))
                await killer.execute("SELECT pg_terminate_backend($1)", victim.get_server_pid())
                await ended
                with pytest.raises(asyncpg.InterfaceError):
                    await victim.execute("SELECT 1")
            return [await asyncio.gather(*(pool.fetchval("SELECT $1::int", n) for n in range(9)))]

    assert same_as_stock(program) == [list(range(9))]


def test_notifications(same_as_stock: Same, where: dict[str, Any]) -> None:
    async def program() -> list[Any]:
        listener = await asyncpg.connect(**where)
        sender = await asyncpg.connect(**where)
        heard: asyncio.Queue[str] = asyncio.Queue()
        try:
            await listener.add_listener("news", lambda *it: heard.put_nowait(it[-1]))
            for number in range(20):
                await sender.execute(f"NOTIFY news, 'number {number}'")
            return [await heard.get() for _ in range(20)]
        finally:
            await listener.close()
            await sender.close()

    assert same_as_stock(program)[-1] == "number 19"
