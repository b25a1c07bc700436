"""Proves what a lock table does that is full for a moment, or too small for a commit."""

from __future__ import annotations

import asyncio

from collections.abc import AsyncGenerator, Generator
from uuid import uuid4

import asyncpg
import pytest

from adapters.postgres.tests.server import Server, bare_connection, running_server

from eventport import NewEvent, PayloadTooLargeError
from eventport.adapter import Commit, EncodedEvent, StreamWrite

from eventport_conformance.waiting import no_hang, until
from eventport_postgres import PostgresEventStore


SMALL = "fsync = off\nmax_connections = 15\nmax_locks_per_transaction = 10\n"


@pytest.fixture(scope="module")
def small() -> Generator[Server]:
    """Run a server with room for 150 locks, and what it spares."""
    with running_server(SMALL) as server:
        yield server


@pytest.fixture
async def store(small: Server, schema: str) -> AsyncGenerator[PostgresEventStore, None]:
    async with await PostgresEventStore.connect(small.url, schema=schema) as opened:
        await opened.append("warm", [NewEvent("E", 0)])
        yield opened


async def fill(admin: asyncpg.Connection) -> None:
    """Take locks in the open transaction until there is room for none."""
    first = 0
    for count in (100, 10, 1):
        while True:
            try:
                async with admin.transaction():
                    await admin.execute(
                        "SELECT pg_advisory_xact_lock(1, n) FROM generate_series($1::int, $2) n",
                        first,
                        first + count - 1,
                    )
            except asyncpg.OutOfMemoryError:
                break
            first += count


async def test_an_append_waits_until_there_is_room_for_its_lock(
    small: Server, store: PostgresEventStore
) -> None:
    remote = store._remote
    assert remote is not None
    async with no_hang(), bare_connection(small.url) as admin:
        transaction = admin.transaction()
        await transaction.start()
        await fill(admin)
        appending = [
            asyncio.create_task(store.append(f"s-{number}", [NewEvent("E", number)]))
            for number in range(3)
        ]
        reading = asyncio.create_task(store.read("warm"))
        await until(lambda: remote.losses > 0 or appending[0].done(), "the table was full")
        await transaction.rollback()
        assert [(await each).version for each in appending] == [1, 1, 1]
        assert (await reading).version == 1


async def test_a_commit_with_more_locks_than_one_can_count_on_is_too_large(
    small: Server, store: PostgresEventStore
) -> None:
    async with no_hang(), bare_connection(small.url) as admin:
        transaction = admin.transaction()
        await transaction.start()
        await fill(admin)  # what the server spares, too
        event = (EncodedEvent("E", "1", "{}", uuid4(), 3),)
        commit = Commit([StreamWrite(f"s-{number}", "any", event) for number in range(200)])
        with pytest.raises(PayloadTooLargeError, match=r"201 .* at most 150: .*max_locks_per_tr"):
            await store._submit(commit)
        await transaction.rollback()
    assert not (await store.read("s-1")).exists
    await store.append("s-1", [NewEvent("E", 1)], expected=0)
