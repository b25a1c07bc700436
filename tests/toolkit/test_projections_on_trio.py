"""A projection with what needs no asyncio, on trio."""

from __future__ import annotations

import pytest

from anyio import create_task_group

from eventport import NewEvent, RecordedEvent
from eventport.projections import (
    CheckpointStore,
    MemoryCheckpoints,
    Projection,
    ProjectionContext,
    Runner,
    StreamCheckpoints,
)

from eventport_conformance.waiting import no_hang
from eventport_memory import MemoryEventStore


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "trio"


@pytest.mark.parametrize("kind", ["memory", "streams"])
async def test_a_projection_follows_a_store(kind: str) -> None:
    async with MemoryEventStore() as store:
        kinds: dict[str, CheckpointStore[None]] = {
            "memory": MemoryCheckpoints(),
            "streams": StreamCheckpoints(store),
        }
        seen: list[int] = []
        projection = Projection("numbers")

        @projection.on("Counted")
        async def counted(event: RecordedEvent, context: ProjectionContext) -> None:
            seen.append(event.data)

        runner = Runner(store, projection, kinds[kind])
        with no_hang():
            async with create_task_group() as group:
                group.start_soon(runner.run)
                for number in range(9):
                    await store.append("numbers", [NewEvent("Counted", number)])
                result = await store.append("numbers", [NewEvent("Counted", 9)])
                await runner.wait_until(result.position or 0)
                group.cancel_scope.cancel()
        assert seen == list(range(10))
        assert (await kinds[kind].load(projection.id)).owner is None
