"""Public reports about conditions and command handlers, replayed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import anyio
import pytest

from tests.toolkit.staged import Staged

from eventport import ConcurrencyError, EventStore, Match, NewEvent, Query, connect
from eventport.commands import CommandHandler, Decider
from eventport.typed import EventTypes, Tag


ABOUT_A = Query.of(Match(tags={"thing:a"}))


@dataclass(frozen=True)
class Made:
    thing: Annotated[str, Tag("thing")]


@dataclass(frozen=True)
class Named:
    thing: Annotated[str, Tag("thing")]
    name: str


class ExistsError(Exception):
    pass


def decide(command: str, names: tuple[str, ...]) -> list[Made | Named]:
    if command in names:
        raise ExistsError
    return [Made("a"), Named("a", command)]


def evolve(names: tuple[str, ...], event: Made | Named) -> tuple[str, ...]:
    return (*names, event.name) if isinstance(event, Named) else names


THINGS = Decider(
    types=EventTypes[Made | Named](Made, Named),
    initial=tuple[str, ...],
    evolve=evolve,
    decide=decide,
    boundary=lambda _: ABOUT_A,
)


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[EventStore, None]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/events.db"
    async with connect(url) as opened:
        yield opened


async def test_a_second_look_does_not_hide_that_the_stream_moved(store: EventStore) -> None:
    """Marten 3465: the second of two `FetchForWriting` took the new version for the old one."""
    await store.append("a", [NewEvent("T", n) for n in range(3)])

    async def move(expected: int) -> None:
        async with store.session() as session:
            assert (await session.read("a", expected=3)).version == 3
            await store.append("a", [NewEvent("T", 3), NewEvent("T", 4)], expected=3)
            assert (await session.read("a")).version == 3
            await session.require("a", expected)
            await session.append("b", [NewEvent("T", 0)])

    with pytest.raises(ConcurrencyError):
        await move(3)
    assert (await store.read("b")).version == 0


@pytest.mark.parametrize("gate", [False, True])
async def test_several_events_with_one_tag_do_not_conflict_with_each_other(
    store: EventStore, gate: bool
) -> None:
    """Axon 4474: the second event of an append met the condition of the first."""
    handler = CommandHandler(store, THINGS, gate=gate)
    for number in range(3):
        result = await handler.handle(f"s-{number % 2}", f"name-{number}")
        assert len(result.events) == 2
    assert len((await store.query(ABOUT_A)).events) == 6


async def test_what_saw_nothing_can_be_written_and_what_has_no_condition_always(
    store: EventStore,
) -> None:
    """Axon 4454, 4828: the marker of an empty read, and none at all, were taken for conflicts."""
    nothing = await store.query(ABOUT_A)
    tagged = NewEvent("T", 0, tags={"thing:a"})
    await store.append("a", [tagged], unless=ABOUT_A, since=nothing.token)
    for _ in range(3):
        await store.append("a", [NewEvent("T", 0, tags={"thing:a"})])
    assert (await store.read("a")).version == 4


@pytest.mark.parametrize("gate", [False, True])
async def test_what_exists_meanwhile_is_refused_and_not_tried_for_ever(
    store: EventStore, gate: bool
) -> None:
    """Axon 1210: the creation of what others had created was tried again 99 times."""
    staged = Staged(store)
    handler = CommandHandler(staged.as_store, THINGS, gate=gate)
    rival = CommandHandler(store, THINGS)
    place = 1 if gate else 3  # right after the query, or after the look at the stream
    staged.at[place] = lambda: rival.handle("s", "x")
    with pytest.raises(ExistsError):
        await handler.handle("s", "x")
    assert staged.calls.count("query") == 2


@pytest.mark.parametrize("gate", [False, True])
async def test_deliveries_at_the_same_time_are_no_errors(store: EventStore, gate: bool) -> None:
    """A webhook that was delivered several times at once gave errors to all callers but one."""
    handlers, id_ = [CommandHandler(store, THINGS, gate=gate) for _ in range(2)], uuid4()
    statuses: list[str] = []

    async def deliver(number: int) -> None:
        result = await handlers[number % 2].handle("s", "x", id=id_)
        statuses.append(result.status)

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(deliver, number)
    assert sorted(statuses) == ["already applied"] * 7 + ["executed"]
    assert (await store.read("s")).version == 2
