"""Projections and reactors go on in the store that their events have moved to."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import pytest

from anyio import Event, create_task_group, sleep_forever
from tests.toolkit.accounts import Deposit
from tests.toolkit.backends import BACKENDS
from tests.toolkit.stages import QUICK, running

from eventport import EventStore, NewEvent, RecordedEvent, StoreFencedError, connect
from eventport.command_log import CommandLog
from eventport.fencing import can_fence, set_fence, unfence
from eventport.moving import MoveReport, move_events, translate_position
from eventport.projections import (
    MemoryCheckpoints,
    Projection,
    ProjectionContext,
    ProjectionId,
    Runner,
    StreamCheckpoints,
    retry,
)
from eventport.projections.projection import OnPoison
from eventport.reactors import Reaction, Reactor, ReactorRunner

from eventport_conformance.waiting import no_hang, until


CASES = ProjectionId("cases", 2)


class Stores(NamedTuple):
    source: EventStore
    target: EventStore


@pytest.fixture(
    params=["memory-sqlite", "sqlite-postgres", "postgres-memory", "eventstoredb-memory"]
)
async def stores(request: pytest.FixtureRequest) -> AsyncGenerator[Stores]:
    async with AsyncExitStack() as stack:
        opened: list[EventStore] = []
        for name in request.param.split("-"):
            again = await stack.enter_async_context(BACKENDS[name](request))
            opened.append(await stack.enter_async_context(again()))
        yield Stores(*opened)


async def move(stores: Stores) -> MoveReport:
    with no_hang("the move ends"):
        report = await move_events(
            *stores, to="the new store", writers_stopped=not can_fence(stores.source)
        )
    assert report.is_done
    return report


def cases(handled: list[Any], **options: Any) -> Projection[None]:
    """Note what is handled; a halting event is never handled, and a bad one only in the end."""
    projection = Projection[None](CASES.name, generation=CASES.generation, batch_size=1, **options)

    @projection.on("Happened")
    async def happened(event: RecordedEvent, _: ProjectionContext[None]) -> None:
        if event.data == "halt" and "halt" not in handled:
            handled.append("halt")
            await sleep_forever()
        if event.data == "bad" and "good" not in handled:
            raise ValueError("bad")
        if event.data != "halt":
            handled.append(event.data)

    return projection


@asynccontextmanager
async def projecting(store: EventStore, projection: Projection[None]) -> AsyncGenerator[None]:
    async with create_task_group() as group:
        group.start_soon(Runner(store, projection, StreamCheckpoints(store)).run)
        yield
        group.cancel_scope.cancel()


async def append(store: EventStore, *values: object) -> None:
    for index, value in enumerate(values):
        await store.append(f"case-{index % 3}", [NewEvent("Happened", value)])


async def test_a_projection_misses_nothing_and_repeats_nothing(stores: Stores) -> None:
    source, target = stores
    handled: list[Any] = []
    await append(source, *range(7), "halt", *range(8, 15))
    async with projecting(source, cases(handled)):
        await until(lambda: "halt" in handled, "it comes to the middle")
    assert handled == [*range(7), "halt"]
    report = await move(stores)
    (carried,) = report.checkpoints
    assert (carried.projection, carried.dead_letters, carried.is_own) == ("cases@2", 0, False)
    assert await StreamCheckpoints(target).active("cases") == 2
    await append(target, "new")
    async with projecting(target, cases(handled)):
        await until(lambda: "new" in handled, "it goes on to the end")
    assert handled == [*range(7), "halt", *range(8, 15), "new"]


async def test_dead_letters_come_along(stores: Stores) -> None:
    source, target = stores
    handled: list[Any] = []
    projection = cases(handled, on_poison="dead_letter", retries=QUICK)
    await append(source, 1, "bad", 2)
    async with projecting(source, projection):
        await until(lambda: 2 in handled, "it has gone past the bad one")
        old = StreamCheckpoints(source)
        (letter,) = await old.dead_letters(CASES)

        async def is_kept() -> bool:
            return (await old.load(CASES)).position > letter.position

        await until(is_kept, "its checkpoint is kept")
    assert [one.dead_letters for one in (await move(stores)).checkpoints] == [1]
    new = StreamCheckpoints(target)
    (there,) = await new.dead_letters(CASES)
    assert (there.stream, there.version, there.error) == ("case-1", 1, letter.error)
    handled.append("good")
    await retry(target, projection, new, there.position)
    assert handled == [1, 2, "good", "bad"]
    assert not await new.dead_letters(CASES)


async def test_a_reactor_reacts_once(stores: Stores) -> None:
    source, target = stores
    reactor = Reactor("saga", retries=QUICK)

    @reactor.on("Happened")
    async def happened(event: RecordedEvent, reaction: Reaction) -> None:
        await reaction.append(f"answer-{event.data}", [NewEvent("Answered", event.data)])

    async def reacts(store: EventStore, last: int) -> None:
        async def has_answered() -> bool:
            return (await store.read(f"answer-{last}")).version > 0

        async with running(ReactorRunner(store, reactor)):
            await until(has_answered, "it answers")

    await append(source, *range(4))
    await reacts(source, 3)
    await move(stores)
    await append(target, 4)
    await reacts(target, 4)
    for number in range(5):
        assert (await target.read(f"answer-{number}")).version == 1


async def test_checkpoints_of_the_target_stay_and_those_of_a_move_do_not(stores: Stores) -> None:
    source, target = stores
    old, new = StreamCheckpoints(source), StreamCheckpoints(target)
    mine, theirs = ProjectionId("mine", 1), ProjectionId("theirs", 1)
    await append(source, 1, 2, 3)
    places = [event.position async for event in source.iterate_all()]
    await old.reset(mine, places[2])
    await old.reset(theirs, places[0])
    await new.reset(mine, 0)
    await move(stores)
    if can_fence(source):
        await unfence(source)
    await old.reset(theirs, places[1])
    report = await move(stores)
    assert [(one.projection, one.is_own) for one in report.checkpoints] == [
        ("mine@1", True),
        ("theirs@1", False),
    ]
    assert (await new.load(mine)).position == 0
    assert (await new.load(theirs)).position == await translate_position(source, target, places[1])


async def test_a_subscription_goes_on_after_a_translated_position(stores: Stores) -> None:
    source, target = stores
    await append(source, *range(10))
    async with source.subscribe() as events:
        seen = [(await anext(events)).data for _ in range(4)]
        position = events.position
    await StreamCheckpoints(target).reset(CASES, 0)  # positions are others
    await move(stores)
    async with target.subscribe(after=await translate_position(source, target, position)) as events:
        seen += [(await anext(events)).data for _ in range(6)]
    assert seen == [*range(10)]


async def test_a_command_log_knows_its_commands(stores: Stores) -> None:
    source, target = stores

    async def work(session: Any) -> None:
        await session.append("account-1", [NewEvent("Happened", 1)])

    done = await CommandLog(source).handle(Deposit(5), work)
    await move(stores)
    again = await CommandLog(target).handle(Deposit(5), work, id=done.id)
    assert again.status == "already applied"
    assert [event.id for event in again.events] == [event.id for event in done.events]


@pytest.mark.parametrize("on_poison", ["stop", "dead_letter"])
async def test_a_runner_that_works_on_the_source_ends_when_it_is_fenced(
    on_poison: OnPoison,
) -> None:
    handling, moved = Event(), Event()
    handled: list[RecordedEvent] = []
    projection = Projection[None]("cases", on_poison=on_poison, retries=QUICK)

    @projection.on("Happened")
    async def happened(event: RecordedEvent, _: ProjectionContext[None]) -> None:
        handled.append(event)
        handling.set()
        await moved.wait()

    async with connect("memory://") as source, connect("memory://") as target:
        await append(source, 1)

        async def run() -> None:
            with pytest.raises(StoreFencedError, match="have moved to the new store"):
                await Runner(source, projection, StreamCheckpoints(source)).run()

        with no_hang("it ends"):
            async with create_task_group() as group:
                group.start_soon(run)
                await handling.wait()
                await move(Stores(source, target))
                moved.set()
        assert len(handled) == 1
        checkpoint = await StreamCheckpoints(target).load(ProjectionId("cases", 1))
        assert (checkpoint.position, checkpoint.owner) == (0, None)


async def test_an_event_whose_effect_is_refused_by_a_fence_is_no_dead_letter() -> None:
    checkpoints = MemoryCheckpoints()
    reactor = Reactor("saga", retries=QUICK, on_poison="dead_letter")

    @reactor.on("Happened")
    async def happened(event: RecordedEvent, reaction: Reaction) -> None:
        await reaction.append("answer", [NewEvent("Answered", event.data)])

    async with connect("memory://") as source:
        await append(source, 1)
        await set_fence(source, None, "closed")
        with no_hang("it ends"), pytest.raises(StoreFencedError, match="closed"):
            await ReactorRunner(source, reactor, checkpoints).run()
    assert await checkpoints.dead_letters(ProjectionId("saga", 1)) == []
