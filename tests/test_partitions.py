"""Projections in parts: in parallel, in order within a key, each event once, shared fairly."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from anyio import Event, create_task_group, fail_after, sleep

from eventport import EventStore, NewEvent, RecordedEvent
from eventport.errors import InvalidArgumentError
from eventport.projections import (
    CheckpointStore,
    MemoryCheckpoints,
    PartitionedRunner,
    PartitionsChangedError,
    Projection,
    ProjectionContext,
    ProjectionId,
    Retries,
    Runner,
    StreamCheckpoints,
    discard,
    list_dead_letters,
    retry,
    wait_until,
)

from eventport_memory import MemoryEventStore


pytestmark = pytest.mark.anyio

NOTED = [NewEvent("Noted", {"n": 0})]


class Notes:
    """A projection that remembers what it has handled."""

    def __init__(self, partitions: int = 4, *, generation: int = 1, **options: Any) -> None:
        self.projection = Projection[None](
            "notes", partitions=partitions, generation=generation, **options
        )
        self.seen: list[RecordedEvent] = []
        self.prepared = 0
        self.before: Callable[[RecordedEvent], Awaitable[None]] | None = None
        self.projection.prepare(self._prepare)
        self.projection.on("Noted")(self._noted)

    async def _prepare(self, context: ProjectionContext[None]) -> None:
        self.prepared += 1

    async def _noted(self, event: RecordedEvent, context: ProjectionContext[None]) -> None:
        if self.before is not None:
            await self.before(event)
        self.seen.append(event)


@asynccontextmanager
async def running(*runners: PartitionedRunner[None]) -> AsyncGenerator[None]:
    with fail_after(60):
        async with create_task_group() as group:
            for runner in runners:
                group.start_soon(runner.run)
            yield
            group.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # what it waits for notifies nobody
        await sleep(0.01)


async def filled(store: EventStore, streams: int = 8, events: int = 5) -> int:
    position = 0
    for n in range(events):
        for stream in range(streams):
            result = await store.append(f"s-{stream}", [NewEvent("Noted", {"n": n})])
            position = result.position or 0
    return position


async def test_parts_handle_keys_at_the_same_time_and_each_event_once_in_order() -> None:
    store, checkpoints, notes = MemoryEventStore(), MemoryCheckpoints(), Notes()
    last = await filled(store)
    inside, two = 0, Event()

    async def meet(_: RecordedEvent) -> None:
        nonlocal inside
        inside += 1
        if inside == 2:
            two.set()
        await two.wait()  # until another part handles an event at the same time

    notes.before = meet
    runner = PartitionedRunner(store, notes.projection, checkpoints)
    async with running(runner):
        await runner.wait_until(last)
        assert (await runner.progress()).handled == 40
    for stream in range(8):
        assert [e.version for e in notes.seen if e.stream == f"s-{stream}"] == [1, 2, 3, 4, 5]
    assert len(notes.seen) == 40


async def test_an_undivided_projection_is_its_only_part() -> None:
    store, checkpoints, notes = MemoryEventStore(), MemoryCheckpoints(), Notes(1)
    last = await filled(store)
    runner = PartitionedRunner(store, notes.projection, checkpoints)
    async with running(runner):
        await runner.wait_until(last)
        assert (await checkpoints.load(ProjectionId("notes", 1))).owner == runner.owner
    assert (len(notes.seen), notes.prepared) == (40, 1)


async def test_what_falls_to_which_part_never_changes() -> None:
    # Checkpoints that are kept rely on it.
    store, projection = MemoryEventStore(), Projection[None]("notes", partitions=8)
    await filled(store, streams=10, events=1)
    found = [projection.part_of(e) async for e in store.iterate_all()]
    assert found == [0, 6, 4, 2, 1, 7, 5, 3, 2, 4]


@pytest.mark.parametrize("make", [lambda _: MemoryCheckpoints(), StreamCheckpoints])
async def test_waiting_from_elsewhere_ends(
    make: Callable[[EventStore], CheckpointStore[None]],
) -> None:
    store, notes = MemoryEventStore(), Notes()
    checkpoints = make(store)
    runner = PartitionedRunner(store, notes.projection, checkpoints, lease=0.2)
    async with running(runner):
        last = await filled(store)
        await wait_until(checkpoints, "notes", last)
        assert len(notes.seen) == 40


async def test_it_is_prepared_once_before_its_parts_begin() -> None:
    store, checkpoints, notes = MemoryEventStore(), MemoryCheckpoints(), Notes()
    last = await filled(store)
    runner = PartitionedRunner(store, notes.projection, checkpoints)
    async with running(runner):
        await runner.wait_until(last)
    assert notes.prepared == 1


@pytest.mark.parametrize("make", [lambda _: MemoryCheckpoints(), StreamCheckpoints])
async def test_the_number_of_parts_of_a_generation_never_changes(
    make: Callable[[EventStore], CheckpointStore[None]],
) -> None:
    store = MemoryEventStore()
    checkpoints = make(store)
    id_ = ProjectionId("notes", 1)
    asked: list[int] = []

    async def divide(partitions: int) -> None:
        asked.append(await checkpoints.divide(id_, partitions))

    async with create_task_group() as group:
        for partitions in (4, 8, 2):
            group.start_soon(divide, partitions)
    assert len(set(asked)) == 1, "of three at the same time, one decides"
    (kept,) = set(asked)
    with fail_after(60):
        with pytest.raises(PartitionsChangedError, match=f"partitions={kept}, not 3; .* Raise its"):
            await PartitionedRunner(store, Notes(3).projection, checkpoints).run()
        with pytest.raises(PartitionsChangedError, match=f"partitions={kept}, not 1"):
            await Runner(store, Notes(1).projection, checkpoints).run()
    with pytest.raises(InvalidArgumentError, match=r"reset each of `Projection\.parts`"):
        await checkpoints.reset(id_, 3)
    assert (await checkpoints.load(id_)).position == 0


async def test_a_generation_that_ran_undivided_is_not_divided_later() -> None:
    store, checkpoints = MemoryEventStore(), MemoryCheckpoints()
    last = await filled(store)
    runner = Runner(store, Notes(1).projection, checkpoints)
    with fail_after(60):
        async with create_task_group() as group:
            group.start_soon(runner.run)
            await runner.wait_until(last)
            group.cancel_scope.cancel()
        with pytest.raises(PartitionsChangedError, match="partitions=1, not 4"):
            await PartitionedRunner(store, Notes(4).projection, checkpoints).run()


async def test_a_runner_of_one_refuses_a_divided_projection() -> None:
    with pytest.raises(InvalidArgumentError, match="has 4 parts: use PartitionedRunner"):
        Runner(MemoryEventStore(), Notes().projection, MemoryCheckpoints())


async def test_an_event_whose_key_cannot_be_found_is_tried_again_and_given_up_once() -> None:
    tried: Counter[int] = Counter()

    def key(event: RecordedEvent) -> str:
        tried[event.position] += 1
        return str(event.data["key"])

    store, checkpoints = MemoryEventStore(), MemoryCheckpoints()
    notes = Notes(
        partition_by=key, on_poison="dead_letter", retries=Retries(attempts=3, first_pause=0.0)
    )
    for number in range(10):
        await store.append("s", [NewEvent("Noted", {"key": f"k{number}"})])
    bad = (await store.append("s", [NewEvent("Noted", {"n": 1})])).position or 0
    last = (await store.append("s", [NewEvent("Noted", {"key": "k"})])).position or 0
    runner = PartitionedRunner(store, notes.projection, checkpoints)
    async with running(runner):
        await runner.wait_until(last)
    assert sorted(e.position for e in notes.seen) == [*range(1, 11), last]
    (letter,) = await list_dead_letters(notes.projection, checkpoints)
    assert (letter.position, letter.attempts) == (bad, 3)
    assert "KeyError in key" in letter.error
    assert tried[bad] >= 4 * 3


async def test_a_key_that_fails_for_a_time_costs_no_event() -> None:
    failures = iter(range(6))  # more than there are parts, fewer than attempts

    def key(event: RecordedEvent) -> str:
        if event.data["n"] == 3 and next(failures, None) is not None:
            raise LookupError
        return event.stream

    store, checkpoints = MemoryEventStore(), MemoryCheckpoints()
    notes = Notes(partition_by=key, retries=Retries(attempts=9, first_pause=0.0))
    last = await filled(store, streams=1)
    runner = PartitionedRunner(store, notes.projection, checkpoints)
    async with running(runner):
        await runner.wait_until(last)
    assert [e.data["n"] for e in notes.seen] == [0, 1, 2, 3, 4]


async def test_a_key_that_is_no_text_stops_every_part_before_the_event() -> None:
    store, checkpoints = MemoryEventStore(), MemoryCheckpoints()
    notes = Notes(partition_by=lambda e: e.version, retries=Retries(attempts=1))
    await store.append("s", NOTED)
    runner = PartitionedRunner(store, notes.projection, checkpoints)
    async with running(runner):
        await until(lambda: [*runner.parts.values()] == ["stopped"] * 4)
        assert runner.state == "stopped"
        assert "partition_by of" in str(getattr(runner.error, "__cause__", None))
    assert notes.seen == []


async def test_a_part_that_cannot_go_on_does_not_stop_the_others() -> None:
    async def refuse(event: RecordedEvent) -> None:
        if event.stream == "s-0":
            raise LookupError

    store, checkpoints = MemoryEventStore(), MemoryCheckpoints()
    notes = Notes(retries=Retries(attempts=1))
    notes.before = refuse
    await filled(store)
    part = notes.projection.part_of((await store.read("s-0")).events[0])
    others = {
        f"s-{n}"
        for n in range(8)
        if notes.projection.part_of((await store.read(f"s-{n}")).events[0]) != part
    }
    runner = PartitionedRunner(store, notes.projection, checkpoints)
    async with running(runner):
        await until(lambda: runner.state == "stopped")
        await until(lambda: len([e for e in notes.seen if e.stream in others]) == 5 * len(others))
        assert runner.parts[part] == "stopped"
        assert max(Counter(e.position for e in notes.seen).values()) == 1
        assert sum(state == "live" for state in runner.parts.values()) <= 3


async def test_dead_letters_of_parts_are_retried_and_dropped_by_the_whole() -> None:
    healed = False

    async def refuse(event: RecordedEvent) -> None:
        if not healed and event.data["n"] == 2:
            raise LookupError

    store, checkpoints = MemoryEventStore(), MemoryCheckpoints()
    notes = Notes(on_poison="dead_letter", retries=Retries(attempts=1))
    notes.before = refuse
    last = await filled(store)
    runner = PartitionedRunner(store, notes.projection, checkpoints)
    async with running(runner):
        await runner.wait_until(last)
    letters = await list_dead_letters(notes.projection, checkpoints)
    assert [letter.stream for letter in letters] == [f"s-{n}" for n in range(8)]
    healed = True
    for letter in letters[:4]:
        await retry(store, notes.projection, checkpoints, letter.position)
    for letter in letters[4:]:
        await discard(notes.projection, checkpoints, letter.position)
    assert await list_dead_letters(notes.projection, checkpoints) == []
    assert [e.stream for e in notes.seen if e.data["n"] == 2] == [f"s-{n}" for n in range(4)]


async def test_a_retried_event_without_a_key_leaves_the_lists_of_all_parts() -> None:
    keys: dict[int, str] = {}
    store, checkpoints = MemoryEventStore(), MemoryCheckpoints()
    notes = Notes(
        partition_by=lambda e: keys[e.position],
        on_poison="dead_letter",
        retries=Retries(attempts=1),
    )
    position = (await store.append("s", NOTED)).position or 0
    runner = PartitionedRunner(store, notes.projection, checkpoints)
    async with running(runner):
        await runner.wait_until(position)
    keys[position] = "found"
    await retry(store, notes.projection, checkpoints, position)
    assert [e.position for e in notes.seen] == [position]
    assert await list_dead_letters(notes.projection, checkpoints) == []


@pytest.mark.parametrize("make", [lambda _: MemoryCheckpoints(), StreamCheckpoints])
async def test_processes_share_the_parts_when_they_come_and_go(
    make: Callable[[EventStore], CheckpointStore[None]],
) -> None:
    store, notes = MemoryEventStore(), Notes(6)
    checkpoints = make(store)
    runners = [PartitionedRunner(store, notes.projection, checkpoints, lease=0.4) for _ in range(3)]

    def held() -> list[int]:
        return sorted(len(runner.parts) for runner in runners)

    with fail_after(60):
        async with create_task_group() as rest:
            rest.start_soon(runners[0].run)
            await until(lambda: held() == [0, 0, 6])
            async with create_task_group() as group:
                for runner in runners[1:]:
                    group.start_soon(runner.run)
                await until(lambda: held() == [2, 2, 2])
                last = await filled(store)
                await runners[2].wait_until(last)
                group.cancel_scope.cancel()
            await until(lambda: len(runners[0].parts) == 6)
            last = await filled(store)
            await runners[0].wait_until(last)
            rest.cancel_scope.cancel()
    assert len({(e.stream, e.version) for e in notes.seen}) == 80


async def test_more_processes_than_parts_stand_by() -> None:
    store, checkpoints, notes = MemoryEventStore(), MemoryCheckpoints(), Notes(2)
    runners = [PartitionedRunner(store, notes.projection, checkpoints, lease=0.4) for _ in range(3)]
    async with running(*runners):
        await until(lambda: sorted(len(runner.parts) for runner in runners) == [0, 1, 1])
        (idle,) = [runner for runner in runners if not runner.parts]
        assert idle.state == "waiting"


async def test_a_part_that_leaves_ends_its_batch_first() -> None:
    begun, go = Event(), Event()
    cancelled: list[RecordedEvent] = []

    async def hold(event: RecordedEvent) -> None:
        begun.set()
        try:
            await go.wait()
        except BaseException:
            cancelled.append(event)
            raise

    store, checkpoints, notes = MemoryEventStore(), MemoryCheckpoints(), Notes(2)
    notes.before = hold
    await filled(store, events=1)
    first, second = (
        PartitionedRunner(store, notes.projection, checkpoints, lease=2) for _ in range(2)
    )
    with fail_after(60):
        async with create_task_group() as group:
            group.start_soon(first.run)
            await begun.wait()
            group.start_soon(second.run)
            await until(lambda: len(second.parts) == 1)
            await sleep(0.7)  # for it to cut the batch short, if it did
            assert len(first.parts) == 2
            go.set()
            await until(lambda: len(first.parts) == 1)
            group.cancel_scope.cancel()
    assert {e.stream for e in notes.seen} == {f"s-{n}" for n in range(8)}
    assert cancelled == []


async def test_a_new_generation_takes_over_once_all_parts_have_caught_up() -> None:
    store, checkpoints = MemoryEventStore(), MemoryCheckpoints()
    last = await filled(store)
    old, new = Notes(4), Notes(3, generation=2)
    held = Event()
    slow = new.projection.part_of((await store.read("s-0")).events[0])

    async def hold(event: RecordedEvent) -> None:
        if new.projection.part_of(event) == slow:
            await held.wait()

    new.before = hold
    first = PartitionedRunner(store, old.projection, checkpoints, lease=0.3)
    second = PartitionedRunner(store, new.projection, checkpoints, lease=0.3)
    with fail_after(60):
        async with create_task_group() as group:
            group.start_soon(first.run)
            await first.wait_until(last)
            assert await checkpoints.active("notes") == 1
            group.start_soon(second.run)
            await until(lambda: [*second.parts.values()].count("live") == 2)
            assert await checkpoints.active("notes") == 1
            held.set()
            await until(lambda: first.state == "retired")
            group.cancel_scope.cancel()
    assert await checkpoints.active("notes") == 2
    assert len(old.seen) == len(new.seen) == 40


async def test_processes_prepare_one_after_the_other() -> None:
    store, checkpoints = MemoryEventStore(), MemoryCheckpoints()
    projection = Projection[None]("notes", partitions=2)
    inside, prepared = 0, 0

    @projection.prepare
    async def prepare(context: ProjectionContext[None]) -> None:
        nonlocal inside, prepared
        inside += 1
        assert inside == 1
        await sleep(0.01)
        inside -= 1
        prepared += 1

    @projection.on("Noted")
    async def noted(event: RecordedEvent, context: ProjectionContext[None]) -> None: ...

    runners = [PartitionedRunner(store, projection, checkpoints) for _ in range(3)]
    async with running(*runners):
        await until(lambda: prepared == 3)


async def test_parts_that_are_shared_evenly_stay_where_they_are() -> None:
    class Counting(MemoryCheckpoints):
        def __init__(self) -> None:
            super().__init__()
            self.given: Counter[str] = Counter()

        async def acquire(self, projection: ProjectionId, *args: Any, **asked: Any) -> Any:
            lease = await super().acquire(projection, *args, **asked)
            if lease is not None and "/part-" in projection.name:
                self.given[projection.name] += 1
            return lease

    store, checkpoints, notes = MemoryEventStore(), Counting(), Notes(5)
    runners = [PartitionedRunner(store, notes.projection, checkpoints, lease=2) for _ in range(2)]
    async with running(*runners):
        await until(lambda: sorted(len(runner.parts) for runner in runners) == [2, 3])
        await until(lambda: {*runners[0].parts.values(), *runners[1].parts.values()} == {"live"})
        before = dict(checkpoints.given)
        await sleep(1.2)  # in which each counts the seats twice
        assert dict(checkpoints.given) == before
