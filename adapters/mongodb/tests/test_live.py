"""Proves that a change stream wakes subscriptions, and that nothing depends on it."""

from __future__ import annotations

import statistics
import time

from typing import Any

import anyio
import pytest

from adapters.mongodb.tests.conftest import FAILING
from adapters.mongodb.tests.servers import new_database, with_options

from eventport import NewEvent, connect

from eventport_conformance.waiting import no_hang, until
from eventport_mongodb import MongoDBEventStore


async def is_watching(store: MongoDBEventStore) -> None:
    await until(store._feed._pushed, "a change stream is open")


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
async def test_commits_of_others_wake_at_once(url: str, driver: Any) -> None:
    opening = MongoDBEventStore.connect(url, driver=driver)
    async with await opening as reader, await MongoDBEventStore.connect(url) as writer:
        # Polling would take longer than the test.
        feed = reader._feed
        feed.FIRST_INTERVAL = feed.LONGEST_INTERVAL = feed.PUSHED_INTERVAL = 3600
        async with reader.subscribe() as subscription:
            delays: list[float] = []
            async with anyio.create_task_group() as tasks:

                async def write() -> None:
                    await is_watching(reader)
                    for _ in range(10):
                        await anyio.sleep(0.05)  # so that it sleeps, most of the time
                        await writer.append("s", [NewEvent("Timed", time.time())])

                tasks.start_soon(write)
                with no_hang():
                    async for event in subscription:
                        delays.append(time.time() - event.data)
                        if len(delays) == 10:
                            break
    print(f"median delay {statistics.median(delays) * 1000:.1f} ms")  # noqa: T201  # for -s


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
async def test_a_change_stream_that_dies_is_opened_again(url: str, fail: Any, driver: Any) -> None:
    opening = MongoDBEventStore.connect(with_options(url, appName=FAILING), driver=driver)
    async with (
        await opening as reader,
        await MongoDBEventStore.connect(url) as writer,
        reader.subscribe() as subscription,
    ):
        waiting: list[Any] = []

        async def take() -> None:
            async for event in subscription:
                waiting.append(event.data)
                if len(waiting) == 2:
                    return

        with no_hang():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take)
                await is_watching(reader)
                # The history that it would go on with is lost: the driver does not resume.
                await fail(["getMore"], 1, errorCode=286)
                await writer.append("s", [NewEvent("A", 1)])
                await until(lambda: not reader._feed._pushed(), "the change stream is lost")
                await is_watching(reader)
                await writer.append("s", [NewEvent("A", 2)])
        assert waiting == [1, 2]


async def test_a_server_without_change_streams_is_polled(
    standalone: str,
) -> None:
    async with (
        new_database(standalone) as url,
        connect(url) as reader,
        connect(url) as writer,
        reader.subscribe() as subscription,
    ):
        with no_hang():
            for number in range(3):
                await writer.append("s", [NewEvent("A", number)])
                assert (await anext(subscription)).data == number
        assert isinstance(reader, MongoDBEventStore)
        assert reader._listener is None
