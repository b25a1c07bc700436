"""Decisions of many processes: each had seen all that it depends on, and no other conflicts.

EVENTPORT_TEST_DECISIONS=1000 lets eight processes make so many decisions each on every backend
that has conditions. Without it, two processes show on SQLite that the test works: clauses of the
suite do the same on all backends.
"""

from __future__ import annotations

import os

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest

from adapters.mongodb.tests.servers import new_database
from anyio import to_thread
from tests.toolkit.decisions import BOOKED, decide_and_book
from tests.toolkit.read_models import PLACES
from tests.toolkit.starting import workers

from eventport import EventStore, Match, Query, connect

from eventport_conformance.deciding import check_decisions
from eventport_conformance.helpers import collect
from eventport_conformance.scripts import go_together


LONG = int(os.environ.get("EVENTPORT_TEST_DECISIONS", "0"))
PROCESSES = 8 if LONG else 2
ROUNDS = LONG or 8
HOURS = 3 * 3600.0


@asynccontextmanager
async def place(request: pytest.FixtureRequest, backend: str) -> AsyncGenerator[str, None]:
    if backend in PLACES:
        yield PLACES[backend](request).url
    else:
        async with new_database(request.getfixturevalue("mongodb_url")) as url:
            yield url


async def check(store: EventStore, written: int) -> None:
    events = await collect(store.iterate_all())
    assert len(events) == written
    assert check_decisions(events) > 0
    for number in range(PROCESSES):
        query = Query.of(Match(types={BOOKED}, tags={f"show:{number}"}))
        assert len((await store.query(query)).events) == ROUNDS


@pytest.mark.parametrize("backend", ["sqlite", "postgres", "mongodb"] if LONG else ["sqlite"])
async def test_decisions_of_processes(request: pytest.FixtureRequest, backend: str) -> None:
    async with place(request, backend) as url, connect(url) as store:
        with workers() as start:
            processes = [start("decide", url, number, ROUNDS) for number in range(PROCESSES)]
            await to_thread.run_sync(lambda: go_together(*processes))
            ended = [await to_thread.run_sync(one.output, HOURS) for one in processes]
        await check(store, sum(map(int, ended)))


async def test_decisions_of_tasks_in_memory() -> None:
    written: list[int] = []

    async def work(number: int) -> None:
        written.append(await decide_and_book(store, str(number), ROUNDS))

    async with connect("memory://") as store:
        async with anyio.create_task_group() as tasks:
            for number in range(PROCESSES):
                tasks.start_soon(work, number)
        await check(store, sum(written))
