"""Proves that a server killed in the middle of appends loses and doubles nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest

from adapters.mongodb.tests.conftest import drops_refused_sockets
from adapters.mongodb.tests.servers import Server, new_database
from anyio import to_thread

from eventport import NewEvent, RecordedEvent, connect
from eventport.protocols import EventStore

from eventport_conformance.chaos import seeded_random
from eventport_conformance.waiting import HANG_SECONDS, START_SECONDS, no_hang, until


KILLS = 4
WRITTEN = 20  # appends between two of them
TASKS = 6

Acknowledged = tuple[str, int, int, list[UUID]]  # stream, version, position, ids


@drops_refused_sockets
@pytest.mark.parametrize("driver", ["pymongo", "motor"])
async def test_what_was_acknowledged_survives_kill_9_of_the_server(
    tmp_path: Path, driver: str
) -> None:
    chosen = seeded_random()
    server = Server(tmp_path)
    await to_thread.run_sync(server.start)
    acknowledged: list[Acknowledged] = []
    enough = anyio.Event()

    async def append(store: EventStore, task: int) -> None:
        version = 0
        while not enough.is_set():
            new = [NewEvent("Written", [task, n]) for n in range(1 + version % 3)]
            result = await store.append(f"own-{task}", new, expected=version)
            version = result.version
            note(f"own-{task}", result, new)
            new = [NewEvent("Written", [task, n]) for n in range(2)]
            note("shared", await store.append("shared", new), new)
            async with store.session() as session:
                ids = [NewEvent("Left", task), NewEvent("Right", task)]
                left = await session.append(f"left-{task}", ids[:1])
                right = await session.append(f"right-{task}", ids[1:])
            assert left.version == right.version
            assert session.position is not None
            acknowledged.append((f"right-{task}", right.version, session.position, [ids[1].id]))
            acknowledged.append((f"left-{task}", left.version, session.position - 1, [ids[0].id]))

    def note(stream: str, result: Any, events: list[NewEvent]) -> None:
        ids = [event.id for event in events]
        acknowledged.append((stream, result.version, result.position, ids))

    async def write_enough() -> None:
        enough = len(acknowledged) + WRITTEN
        await until(lambda: len(acknowledged) >= enough, "appends succeed")

    try:
        async with new_database(server.url) as url:
            with no_hang(seconds=10 * HANG_SECONDS):
                async with connect(url, driver=driver, timeout=START_SECONDS) as store:
                    async with anyio.create_task_group() as tasks:
                        for task in range(TASKS):
                            tasks.start_soon(append, store, task)
                        for _ in range(KILLS):
                            await write_enough()
                            await anyio.sleep(chosen.uniform(0, 0.1))
                            await to_thread.run_sync(server.kill)
                            await to_thread.run_sync(server.start)
                        await write_enough()
                        enough.set()
                    events = [event async for event in store.iterate_all()]
    finally:
        server.kill()

    check(events, acknowledged)


def check(events: list[RecordedEvent], acknowledged: list[Acknowledged]) -> None:
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    assert len({event.id for event in events}) == len(events), "an event is there twice"
    places = {event.id: event for event in events}
    for stream, version, position, ids in acknowledged:
        for back, id_ in enumerate(reversed(ids)):
            event = places[id_]
            assert (event.stream, event.version, event.position) == (
                stream,
                version - back,
                position - back,
            )
    # All that was tried has been acknowledged in the end, so there is nothing else.
    assert sum(len(ids) for *_, ids in acknowledged) == len(events)
