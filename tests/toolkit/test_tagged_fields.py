"""Fields of typed events that are marked as tags, and projections of what has a tag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast
from uuid import UUID

import anyio
import attrs
import msgspec
import pydantic
import pytest

from eventport import (
    InvalidArgumentError,
    InvalidArgumentTypeError,
    InvalidEventError,
    Match,
    NewEvent,
    Query,
    RecordedEvent,
    connect,
)
from eventport.projections import MemoryCheckpoints, Projection, ProjectionContext, Runner
from eventport.typed import EventTypes, Tag

from eventport_conformance.waiting import no_hang


ONE = UUID(int=1)


@dataclass(frozen=True)
class Data:
    course: Annotated[str, Tag("course")]
    students: Annotated[list[str], Tag("student")]
    room: Annotated[int | None, Tag("room")]
    note: str = ""


class Packed(msgspec.Struct, frozen=True):
    course: Annotated[str, Tag("course")]
    students: Annotated[list[str], Tag("student")]
    room: Annotated[int | None, Tag("room")]
    note: str = ""


@attrs.frozen
class Attrs:
    course: Annotated[str, Tag("course")]
    students: Annotated[list[str], Tag("student")]
    room: Annotated[int | None, Tag("room")]
    note: str = ""


class Model(pydantic.BaseModel):
    course: Annotated[str, Tag("course")]
    students: Annotated[list[str], Tag("student")]
    room: Annotated[int | None, Tag("room")]
    note: str = ""


@pytest.mark.parametrize("cls", [Data, Packed, Attrs, Model])
async def test_marked_fields_are_tags_of_all_kinds_of_classes(cls: Any) -> None:
    types = EventTypes[Any]()
    types.register(cls, tags=lambda event: {f"note:{event.note}"} if event.note else set())
    event = cls(course="1", students=["7", "8"], room=None)
    assert types.new(event).tags == {"course:1", "student:7", "student:8"}
    other = cls(course="1", students=[], room=4, note="x")
    assert types.new(other, tags={"y"}).tags == {"course:1", "room:4", "note:x", "y"}
    async with connect("memory://") as store:
        await store.append("a", [types.new(other)])
        (stored,) = (await store.query(Query.of(Match(tags={"room:4"})))).events
        assert types.decode(stored) == other


def test_ids_are_tags_and_fields_are_inherited() -> None:
    @dataclass(frozen=True)
    class Child(Data):
        id: Annotated[UUID, Tag("id")] = ONE

    assert EventTypes[Any](Child).new(Child("1", [], None)).tags == {
        "course:1",
        "id:00000000-0000-0000-0000-000000000001",
    }


def test_a_marked_field_that_nobody_can_find_is_refused() -> None:
    class Local:
        pass

    class Hidden:
        course: Annotated[Local, Tag("course")]

    class Plain:
        course: Local

    def own(cls: type) -> None:
        EventTypes[Any]().register(cls, encode=vars, decode=lambda data: cls(**data))

    own(Plain)
    with pytest.raises(InvalidArgumentError, match=r"cannot be resolved outside of the function"):
        own(Hidden)


def test_what_is_no_tag_is_refused_and_not_shown() -> None:
    class Odd(msgspec.Struct, frozen=True):
        secret: Annotated[Any, Tag("secret")]

    types = EventTypes[Odd](Odd)
    for value in (1.5, True, {"a": "hunter2"}, b"hunter2"):
        with pytest.raises(InvalidEventError) as caught:
            types.new(Odd(value))
        assert "hunter2" not in str(caught.value)
    for wrong in ("", 5):
        with pytest.raises(InvalidArgumentTypeError, match="Tag takes what stands before"):
            Tag(cast("str", wrong))


async def test_a_projection_of_what_a_query_matches() -> None:
    async with connect("memory://") as store:
        wanted = Query.of(Match(tags={"course:1"}))
        projection = Projection[None]("course", query=wanted)
        seen: list[int] = []
        last = 0

        @projection.on_batch()
        async def handle(events: Sequence[RecordedEvent], context: ProjectionContext[None]) -> None:
            seen.extend(event.data for event in events)

        for number in range(6):
            tags = {f"course:{number % 2}"}
            last = (await store.append("a", [NewEvent("T", number, tags=tags)])).position or 0
        runner = Runner(store, projection, MemoryCheckpoints())
        with no_hang():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(runner.run)
                await runner.wait_until(last)
                tasks.cancel_scope.cancel()
        assert seen == [1, 3, 5]
    with pytest.raises(InvalidArgumentTypeError, match=r"a query is Query\.of"):
        Projection("course", query=cast("Query", "course:1"))
