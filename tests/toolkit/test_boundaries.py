"""Deciders with a boundary: typed events have tags, and a decision holds over streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import anyio
import pytest

from eventport import EventStore, Match, Query, connect
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


async def test_a_course_is_never_overbooked(store: EventStore) -> None:
    await store.append("course-1", [TYPES.new(Opened("1", 3))])
    handler = CommandHandler(store, COURSES)
    enrolled: list[int] = []

    async def enrol(student: int) -> None:
        try:
            result = await handler.handle(f"student-{student}", Enrol("1", str(student)))
        except FullError:
            return
        enrolled.append(result.state)

    async with anyio.create_task_group() as tasks:
        for student in range(8):
            tasks.start_soon(enrol, student)
    assert sorted(enrolled) == [0, 1, 2]
    assert len((await store.query(Query.of(Match(types={"Enrolled"})))).events) == 3


async def test_a_command_that_is_delivered_again_is_applied_once(store: EventStore) -> None:
    await store.append("course-1", [TYPES.new(Opened("1", 3))])
    handler, id_ = CommandHandler(store, COURSES), uuid4()
    first = await handler.handle("student-7", Enrol("1", "7"), id=id_)
    again = await handler.handle("student-7", Enrol("1", "7"), id=id_)
    assert (first.status, again.status) == ("executed", "already applied")
    assert (again.version, again.state, again.position) == (1, 2, first.position)
    assert [event.tags for event in again.events] == [{"course:1", "student:7"}]
