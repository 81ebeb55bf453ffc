"""redis-py with a real server: pipelines, transactions, subscriptions, broken connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import databases
from support.databases import Redis
from support.observing import Program

redis = pytest.importorskip("redis.asyncio")
from redis.asyncio.retry import Retry  # noqa: E402
from redis.backoff import NoBackoff  # noqa: E402

Same = Callable[[Program], Any]


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with databases.redis() as address:
        yield address


@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_pipeline(same_as_stock: Same, server: Redis, way: str) -> None:
    where: dict[str, Any] = {"host": server.host, "port": server.port}
    if way == "unix":
        where = {"unix_socket_path": server.path}

    async def program() -> list[Any]:
        async with redis.Redis(**where) as client:
            await client.flushall()
            async with client.pipeline(transaction=False) as pipe:
                for number in range(100):
                    pipe.set(f"key {number}", b"%d" % number * 100)
                    pipe.get(f"key {number}")
                answers = await pipe.execute()
            big = bytes(range(256)) * 4000
            await client.set("big", big)
            together = await asyncio.gather(*(client.incr("count") for _ in range(50)))
            return [answers, await client.get("big") == big, sorted(together)]

    answers, same, together = same_as_stock(program)
    assert answers[199] == b"99" * 100
    assert same
    assert together == list(range(1, 51))


def test_transaction_that_is_overtaken(same_as_stock: Same, server: Redis) -> None:
    async def program() -> list[Any]:
        async with redis.Redis(host=server.host, port=server.port) as client:
            await client.flushall()
            async with client.pipeline() as pipe:
                await pipe.watch("balance")
                await client.set("balance", 5)
                pipe.multi()
                pipe.incr("balance")
                with pytest.raises(redis.WatchError):
                    await pipe.execute()
                return [await pipe.incr("balance").get("balance").execute()]

    assert same_as_stock(program) == [[6, b"6"]]


def test_subscriptions(same_as_stock: Same, server: Redis) -> None:
    async def program() -> list[Any]:
        async with redis.Redis(host=server.host, port=server.port) as client:
            async with client.pubsub() as subscriber:
                await subscriber.subscribe("news")
                await subscriber.psubscribe("ne?s")
                assert (await anext(subscriber.listen()))["type"] == "subscribe"
                assert (await anext(subscriber.listen()))["type"] == "psubscribe"
                for number in range(20):
                    await client.publish("news", f"number {number}")
                seen = [await anext(subscriber.listen()) for _ in range(40)]
                await subscriber.unsubscribe()
                return [*seen, await anext(subscriber.listen())]

    assert same_as_stock(program)[-2]["data"] == b"number 19"


def test_connection_that_is_killed(same_as_stock: Same, server: Redis) -> None:
    async def program() -> list[Any]:
        address: dict[str, Any] = {"host": server.host, "port": server.port}
        once = Retry(NoBackoff(), 0)
        async with redis.Redis(**address, retry=once) as client, redis.Redis(**address) as killer:
            await client.flushall()
            number = await client.client_id()
            waiting = asyncio.ensure_future(client.blpop(["nothing"]))
            while b"blpop" not in str(await killer.client_list()).encode():
                await asyncio.sleep(0)
            assert await killer.client_kill_filter(_id=number) == 1
            await asyncio.wait([waiting])
            return [type(waiting.exception()).__name__, await client.set("after", 1)]

    assert same_as_stock(program) == ["ConnectionError", True]


def test_wait_that_is_cancelled(same_as_stock: Same, server: Redis) -> None:
    async def program() -> list[Any]:
        async with redis.Redis(host=server.host, port=server.port) as client:
            await client.flushall()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.blpop(["nothing"]), 0.01)
            await client.rpush("something", b"x")
            return [await client.blpop(["something"])]

    assert same_as_stock(program) == [(b"something", b"x")]
