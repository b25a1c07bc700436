"""A projection counts each event once, also if the answer to its COMMIT is lost."""

from __future__ import annotations

import asyncio

from collections.abc import Generator
from typing import Any

import pytest

from adapters.postgres.tests.server import Server, bare_connection, running_server

from eventport import NewEvent, RecordedEvent
from eventport.projections import Projection, ProjectionContext, Retries, Runner

from eventport_conformance.proxy import open_proxy
from eventport_conformance.waiting import no_hang
from eventport_postgres import PostgresEventStore
from eventport_postgres.projections import PostgresCheckpoints


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    """A server of our own, so that its socket is known."""
    with running_server("fsync = off\n") as running:
        yield running


@pytest.mark.parametrize("on_poison", ["stop", "dead_letter"])
@pytest.mark.parametrize("lost", [b"COMMIT;", b"BEGIN"])
async def test_an_answer_that_is_lost_counts_nothing_twice(
    server: Server, schema: str, lost: bytes, on_poison: Any
) -> None:
    projection: Projection[Any] = Projection(
        "seen", on_poison=on_poison, retries=Retries(first_pause=0.01, max_pause=0.1)
    )
    table = f'"{schema}".seen'

    @projection.on("E")
    async def note(event: RecordedEvent, context: ProjectionContext[Any]) -> None:
        await context.connection.execute(
            f"/* INSERT INTO seen */ INSERT INTO {table} VALUES ($1)", event.position
        )

    async with (
        bare_connection(server.url) as admin,
        open_proxy(server.socket) as line,
        no_hang(),
    ):
        url = f"postgresql://postgres@127.0.0.1:{line.port}/postgres"
        async with (
            await PostgresEventStore.connect(server.url, schema=schema) as store,
            PostgresCheckpoints.connect(url, schema=schema) as checkpoints,
        ):
            await admin.execute(f"CREATE TABLE {table} (position bigint)")
            runner = Runner(store, projection, checkpoints)
            running = asyncio.create_task(runner.run())
            await runner.wait_until((await store.append("s", [NewEvent("E", 0)])).position or 0)
            for number in range(5):
                line.lose(lost, "answer")
                appended = await store.append("s", [NewEvent("E", number)])
                await runner.wait_until(appended.position or 0)
            running.cancel()
            await asyncio.wait([running])
            positions = [event.position async for event in store.iterate_all()]
            rows = await admin.fetch(f"SELECT position FROM {table} ORDER BY position")
            assert [row[0] for row in rows] == positions
            assert not await checkpoints.dead_letters(projection.id)
    assert line.cuts == 5
