"""Checkpoints in streams: a runner that has nothing to do writes nothing, and keeps its lease."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from anyio import sleep
from tests.toolkit.stages import QUICK, running

from eventport import EventStore, NewEvent, RecordedEvent
from eventport.projections import (
    Projection,
    ProjectionContext,
    ProjectionId,
    Runner,
    StreamCheckpoints,
)

from eventport_conformance.waiting import until
from eventport_memory import MemoryEventStore


LEASE = 0.3


def projection(name: str, seen: list[str]) -> Projection[Any]:
    made: Projection[Any] = Projection(name, retries=QUICK)

    @made.on("Placed")
    async def note(event: RecordedEvent, _: ProjectionContext[Any]) -> None:
        seen.append(event.stream)

    return made


class Counting(StreamCheckpoints):
    """Counts how often leases are renewed."""

    def __init__(self, store: EventStore) -> None:
        super().__init__(store)
        self.renewals: Counter[str] = Counter()

    async def acquire(
        self, projection: ProjectionId, owner: str, seconds: float, store_id: str | None = None
    ) -> Any:
        lease = await super().acquire(projection, owner, seconds, store_id)
        if lease is not None:
            renew = lease.renew

            async def counted(position: int) -> None:
                await renew(position)
                self.renewals[owner] += 1

            lease.renew = counted  # type: ignore[method-assign]  # to count
        return lease


async def head(store: EventStore) -> int:
    return (await store.read_all()).position


async def test_idle_runners_of_several_projections_write_nothing() -> None:
    async with MemoryEventStore() as store:
        checkpoints, seen = Counting(store), list[str]()
        runners = [
            Runner(store, projection(name, seen), checkpoints, lease=LEASE)
            for name in ("one", "other")
        ]
        async with running(*runners):
            await store.append("order-1", [NewEvent("Placed", {}), NewEvent("Other", {})])
            last = (await store.append("order-2", [NewEvent("Other", {})])).position or 0
            for runner in runners:
                await runner.wait_until(last)

            async def renewed(times: int) -> None:
                before = Counter(checkpoints.renewals)
                await until(
                    lambda: all(
                        checkpoints.renewals[r.owner] >= before[r.owner] + times for r in runners
                    ),
                    "the leases were renewed",
                )

            await renewed(3)  # what was passed is kept once
            before = await head(store)
            await renewed(5)
            assert await head(store) == before
            for name in ("one", "other"):
                kept = await checkpoints.load(ProjectionId(name, 1))
                assert kept.position >= last
            await store.append("order-3", [NewEvent("Placed", {})])
            await until(lambda: seen.count("order-3") == 2, "both handle what comes later")


async def test_a_runner_keeps_its_lease_from_one_that_stands_by() -> None:
    async with MemoryEventStore() as store:
        seen: list[str] = []
        first = Runner(store, projection("one", seen), Counting(store), lease=LEASE)
        second = Runner(store, projection("one", seen), StreamCheckpoints(store), lease=LEASE)
        async with running(first):
            await until(lambda: first.state == "live", "the first one runs")
            async with running(second):
                stream = "eventport/projection/one/1"

                async def asked() -> bool:
                    events = (await store.read(stream)).events
                    return [event.type for event in events].count(
                        "eventport.ProjectionLeaseAsked"
                    ) >= 3

                await until(asked, "the second one has asked three times")
                assert second.state == "waiting"
                owner = (await StreamCheckpoints(store).load(ProjectionId("one", 1))).owner
                assert owner == first.owner


@pytest.mark.parametrize("answers", [True, False])
async def test_a_question_does_not_take_the_lease_by_itself(answers: bool) -> None:
    async with MemoryEventStore() as store:
        id_ = ProjectionId("one", 1)
        lease = await StreamCheckpoints(store).acquire(id_, "first", 0.2)
        assert lease is not None
        stand_by = StreamCheckpoints(store)
        async with lease.advance(3):  # the question comes while a batch is handled
            while (await store.read("eventport/projection/one/1")).version == 1:
                assert await stand_by.acquire(id_, "second", 0.2) is None
                await sleep(0.02)
        assert (await stand_by.load(id_)).position == 3
        if answers:
            assert await stand_by.acquire(id_, "second", 0.2) is None
            return
        taken = None
        while taken is None:
            taken = await stand_by.acquire(id_, "second", 0.2)
            await sleep(0.02)
        assert taken.checkpoint.position == 3
