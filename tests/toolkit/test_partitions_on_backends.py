"""A divided projection on the checkpoints of each backend, run by two runners."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from anyio import create_task_group
from tests.toolkit.backends import OpenStore
from tests.toolkit.counted import COUNTS, Count

from eventport import NewEvent, RecordedEvent
from eventport.projections import (
    PartitionedRunner,
    Projection,
    ProjectionContext,
    StreamCheckpoints,
    open_checkpoints,
    wait_until,
)
from eventport.read_models import open_read_models

from eventport_conformance.waiting import no_hang


async def test_two_runners_count_each_event_in_order(open_store: OpenStore) -> None:
    listed: defaultdict[str, list[int]] = defaultdict(list)
    async with open_store() as store, open_checkpoints(store) as checkpoints:
        transactional = not isinstance(checkpoints, StreamCheckpoints)
        projection: Projection[Any] = Projection(
            "counted", prefix="order-", partitions=3, batch_size=4
        )

        @projection.on("Placed")
        async def placed(event: RecordedEvent, context: ProjectionContext[Any]) -> None:
            if not transactional:
                listed[event.stream].append(event.version)
                return
            counts = COUNTS.within(context)
            found = await counts.get(event.stream) or Count()
            assert found.last == event.version - 1, "an event came too early"
            await counts.put(event.stream, Count(found.events + 1, event.version))

        last = 0
        for number in range(40):
            new = [NewEvent("Placed", number)]
            last = (await store.append(f"order-{number % 5}", new)).position or 0
        runners = [PartitionedRunner(store, projection, checkpoints, lease=2) for _ in range(2)]
        with no_hang():
            async with create_task_group() as group:
                for runner in runners:
                    group.start_soon(runner.run)
                await wait_until(checkpoints, "counted", last)
                group.cancel_scope.cancel()
        expected = {f"order-{number}": 8 for number in range(5)}
        if transactional:
            async with open_read_models(store) as reader:
                found = {one.key: one.document for one in await COUNTS.read(reader).find()}
            assert found == {stream: Count(head, head) for stream, head in expected.items()}
        else:
            first = {stream: list(dict.fromkeys(versions)) for stream, versions in listed.items()}
            assert first == {stream: [*range(1, head + 1)] for stream, head in expected.items()}
