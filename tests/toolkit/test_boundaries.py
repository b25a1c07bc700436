"""Deciders with a boundary: typed events have tags, and a decision holds over streams."""

from __future__ import annotations

import contextlib

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import anyio
import pytest

from tests.toolkit.staged import Staged

from eventport import Capability, EventStore, Match, Query, connect
from eventport.commands import CommandHandler, Decider
from eventport.typed import EventTypes


@dataclass(frozen=True)
class Opened:
    course: str
    seats: int


@dataclass(frozen=True)
class Enrolled:
    course: str
    student: str


@dataclass(frozen=True)
class Enrol:
    course: str
    student: str


class FullError(Exception):
    """There is no seat left."""


TYPES = EventTypes[Opened | Enrolled]()
TYPES.register(Opened, tags=lambda event: {f"course:{event.course}"})
TYPES.register(Enrolled, tags=lambda event: {f"course:{event.course}", f"student:{event.student}"})


def evolve(free: int, event: Opened | Enrolled) -> int:
    return event.seats if isinstance(event, Opened) else free - 1


def decide(command: Enrol, free: int) -> list[Opened | Enrolled]:
    if not free:
        raise FullError
    return [Enrolled(command.course, command.student)]


COURSES = Decider(
    types=TYPES,
    initial=int,
    evolve=evolve,
    decide=decide,
    boundary=lambda command: Query.of(Match(tags={f"course:{command.course}"})),
)


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[EventStore, None]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/events.db"
    async with connect(url) as opened:
        yield opened


def test_typed_events_declare_their_tags() -> None:
    assert TYPES.new(Enrolled("1", "7")).tags == {"course:1", "student:7"}
    assert TYPES.new(Opened("1", 3), tags={"x"}).tags == {"course:1", "x"}
    assert EventTypes[Opened](Opened).new(Opened("1", 3)).tags == frozenset()


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("streams", [1, 8])
async def test_a_course_is_never_overbooked(store: EventStore, gate: bool, streams: int) -> None:
    await store.append("course-1", [TYPES.new(Opened("1", 3))])
    handlers = [CommandHandler(store, COURSES, gate=gate) for _ in range(2)]
    enrolled: list[int] = []

    async def enrol(student: int) -> None:
        try:
            handler, stream = handlers[student % 2], f"student-{student % streams}"
            result = await handler.handle(stream, Enrol("1", str(student)))
        except FullError:
            return
        enrolled.append(result.state)
        (event,) = (await store.read(stream, from_version=result.version, max_count=1)).events
        assert event.data["student"] == str(student)

    async with anyio.create_task_group() as tasks:
        for student in range(8):
            tasks.start_soon(enrol, student)
    assert sorted(enrolled) == [0, 1, 2]
    assert len((await store.query(Query.of(Match(types={"Enrolled"})))).events) == 3


@pytest.mark.parametrize("gate", [False, True])
async def test_a_command_that_is_delivered_again_is_applied_once(
    store: EventStore, gate: bool
) -> None:
    await store.append("course-1", [TYPES.new(Opened("1", 3))])
    handler, id_ = CommandHandler(store, COURSES, gate=gate), uuid4()
    first = await handler.handle("student-7", Enrol("1", "7"), id=id_)
    again = await handler.handle("student-7", Enrol("1", "7"), id=id_)
    assert (first.status, again.status) == ("executed", "already applied")
    assert (again.version, again.state, again.position) == (1, 2, first.position)
    assert [event.tags for event in again.events] == [{"course:1", "student:7"}]


SEATS = Decider(
    types=TYPES,
    initial=int,
    evolve=evolve,
    decide=decide,
    # It depends on what was opened, and not on what it decides itself.
    boundary=lambda command: Query.of(Match(types={"Opened"}, tags={f"course:{command.course}"})),
)


@pytest.mark.parametrize("gate", [False, True])
async def test_what_a_boundary_does_not_match_is_found_in_the_stream(
    store: EventStore, gate: bool
) -> None:
    await store.append("course-1", [TYPES.new(Opened("1", 3))])
    handler, id_ = CommandHandler(store, SEATS, gate=gate, lookback=3), uuid4()
    first = await handler.handle("student-7", Enrol("1", "7"), id=id_)
    await handler.handle("student-7", Enrol("1", "7"))
    again = await handler.handle("student-7", Enrol("1", "7"), id=id_)
    assert (first.status, again.status) == ("executed", "already applied")
    assert (again.version, again.position) == (2, first.position)
    assert again.events == first.events


@pytest.mark.parametrize("gate", [False, True])
async def test_deliveries_at_the_same_time_are_applied_once(store: EventStore, gate: bool) -> None:
    await store.append("course-1", [TYPES.new(Opened("1", 3))])
    handlers = [CommandHandler(Staged(store).as_store, SEATS, gate=gate) for _ in range(4)]
    id_, results = uuid4(), list[str]()

    async def deliver(handler: CommandHandler[int, Enrol, Opened | Enrolled]) -> None:
        results.append((await handler.handle("student-7", Enrol("1", "7"), id=id_)).status)

    async with anyio.create_task_group() as tasks:
        for handler in handlers:
            tasks.start_soon(deliver, handler)
    assert sorted(results) == ["already applied"] * 3 + ["executed"]
    assert (await store.read("student-7")).version == 1


async def test_a_gate_commits_many_commands_of_a_boundary_at_once(store: EventStore) -> None:
    """Each has a stream of its own, and some are refused."""
    await store.append("course-1", [TYPES.new(Opened("1", 40))])
    staged = Staged(store)
    handler = CommandHandler(staged.as_store, COURSES, gate=True)
    states: list[int] = []

    async def enrol(student: int) -> None:
        with contextlib.suppress(FullError):
            states.append((await handler.handle(f"student-{student}", Enrol("1", "x"))).state)

    async with anyio.create_task_group() as tasks:
        for student in range(50):
            tasks.start_soon(enrol, student)
    assert sorted(states) == list(range(40))
    assert staged.calls.count("query") <= 3
    assert (await store.read_all(types=["Enrolled"])).events[-1].stream.startswith("student-")


async def test_a_gate_decides_again_what_depends_on_what_it_has_not_seen(
    store: EventStore,
) -> None:
    await store.append("course-1", [TYPES.new(Opened("1", 1))])
    staged = Staged(store)
    handler = CommandHandler(staged.as_store, COURSES, gate=True)
    staged.at[2] = lambda: store.append("student-1", [TYPES.new(Enrolled("1", "1"))])
    with pytest.raises(FullError):
        await handler.handle("student-2", Enrol("1", "2"))
    assert staged.calls.count("query") == 2


async def test_without_sessions_a_commit_is_for_one_stream(store: EventStore) -> None:
    class Simple(Staged):
        capabilities = store.capabilities - {Capability.SESSIONS}

    await store.append("course-1", [TYPES.new(Opened("1", 40))])
    handler = CommandHandler(Simple(store).as_store, COURSES, gate=True)
    async with anyio.create_task_group() as tasks:
        for student in range(8):
            tasks.start_soon(handler.handle, f"student-{student % 3}", Enrol("1", str(student)))
    versions = [(await store.read(f"student-{one}", max_count=0)).version for one in range(3)]
    assert versions == [3, 3, 2]
