"""Projections in parts: in parallel, in order within a key, each event once."""

from __future__ import annotations

import pytest

from anyio import Event, create_task_group, fail_after

from eventport import NewEvent, RecordedEvent
from eventport.errors import InvalidArgumentError
from eventport.projections import (
    MemoryCheckpoints,
    Projection,
    ProjectionContext,
    partition,
    run_partitions,
)

from eventport_memory import MemoryEventStore


pytestmark = pytest.mark.anyio


async def test_parts_handle_keys_in_parallel_and_each_event_once_in_order() -> None:
    store, checkpoints = MemoryEventStore(), MemoryCheckpoints()
    for number in range(5):
        for stream in range(8):
            await store.append(f"s-{stream}", [NewEvent("Noted", {"n": number})])
    seen: list[tuple[str, int]] = []
    inside, done, two = 0, Event(), Event()
    whole = Projection[None]("notes")

    @whole.on("Noted")
    async def noted(event: RecordedEvent, context: ProjectionContext[None]) -> None:
        nonlocal inside
        inside += 1
        if inside == 2:
            two.set()
        await two.wait()  # until another part handles an event at the same time
        seen.append((event.stream, event.data["n"]))
        if len(seen) == 40:
            done.set()

    with fail_after(60):
        async with create_task_group() as group:
            for _ in range(2):  # as two processes would
                group.start_soon(run_partitions, store, partition(whole, 4), checkpoints)
            await done.wait()
            group.cancel_scope.cancel()
    for stream in range(8):
        assert [n for name, n in seen if name == f"s-{stream}"] == [0, 1, 2, 3, 4]


async def test_another_number_of_parts_is_refused() -> None:
    store, checkpoints = MemoryEventStore(), MemoryCheckpoints()
    whole = Projection[None]("notes")
    await partition(whole, 4)[0].check_count(checkpoints)
    with pytest.raises(InvalidArgumentError, match="begun with 4 partitions, not 8"):
        await run_partitions(store, partition(whole, 8), checkpoints)
