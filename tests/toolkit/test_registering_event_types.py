"""Classes are registered once, under their names and aliases; what fits no store is refused."""

from __future__ import annotations

import math

from dataclasses import dataclass
from typing import Any, cast

import pydantic
import pytest

from tests.toolkit.order_events import (
    NOW,
    Line,
    Paid,
    Placed,
    Renamed,
    add_title,
    order_types,
    split_name,
    stored,
)

from eventport import (
    EventStore,
    InvalidArgumentError,
    InvalidArgumentTypeError,
    InvalidEventError,
    NewEvent,
    RecordedEvent,
)
from eventport.projections import Projection
from eventport.typed import EventTypes, UnknownEventTypeError


def test_a_class_may_be_registered_where_it_stands() -> None:
    types = EventTypes[Any]()

    @types.register
    @dataclass
    class Opened:
        by: str

    @types.register(name="DoorClosed", version=2, upcasters={1: add_title})
    @dataclass
    class Closed:
        title: str | None

    assert types.names == {"Opened", "DoorClosed"}
    assert types.new(Opened("ada")).type == "Opened"
    assert types.decode(stored("DoorClosed", {}, {})) == Closed(None)


def test_names_and_classes_are_registered_once() -> None:
    types = EventTypes[Any](Placed)
    with pytest.raises(InvalidArgumentError, match="Placed is registered as 'Placed' already"):
        types.register(Placed, name="Placed again")
    with pytest.raises(InvalidArgumentError, match="Placed is registered as 'Placed' already"):
        types.register(Paid, name="Placed")
    assert types.names == {"Placed"}


async def test_a_renamed_type_is_written_under_the_newest_name_and_read_from_all(
    store: EventStore,
) -> None:
    types = EventTypes[Any]()
    types.register(
        Renamed,
        name="CustomerRenamed",
        aliases=["customer_renamed", "name_changed"],
        version=3,
        upcasters={1: split_name, 2: add_title},
    )
    await store.append(
        "customer-1",
        [
            NewEvent("name_changed", {"name": "Ada King"}),
            NewEvent("customer_renamed", {"first": "Ada", "last": "B."}, {"schema_version": 2}),
            types.new(Renamed("Ada", "Lovelace", None)),
            NewEvent("Lost", {}),
        ],
    )
    found = await store.read_all(types=types.names_of(Renamed))
    assert [event.type for event in found.events] == [
        "name_changed",
        "customer_renamed",
        "CustomerRenamed",
    ]
    assert [types.decode(event).last for event in found.events] == ["King", "B.", "Lovelace"]
    assert types.names == types.names_of(Renamed)
    handled: list[str] = []
    projection = Projection[Any]("names", types=types)

    @projection.on(Renamed)
    async def note(event: RecordedEvent[Renamed], _: object) -> None:
        handled.append(event.data.last)

    assert projection.event_types == types.names
    await projection.handle(found.events, cast("Any", None))
    assert handled == ["King", "B.", "Lovelace"]


def test_an_alias_belongs_to_one_class() -> None:
    types = EventTypes[Any](Placed)
    with pytest.raises(InvalidArgumentError, match="Placed is registered as 'Placed' already"):
        types.register(Paid, aliases=["Placed"])
    for aliases in (["Paid"], ["a", "a"]):
        with pytest.raises(InvalidArgumentError, match="aliases twice, or is the newest one"):
            types.register(Paid, aliases=aliases)
    with pytest.raises(InvalidArgumentTypeError, match="aliases must be a collection of names"):
        types.register(Paid, aliases="paid")
    assert types.names == {"Placed"}


def test_what_cannot_be_an_event_type_is_refused() -> None:
    class Plain:
        pass

    @dataclass
    class Ambiguous:
        either: Line | Placed

    for cls, reason in (
        (Plain, "Plain is no dataclass, attrs class, msgspec.Struct or pydantic model"),
        ("Placed", r"a class is needed here, not 'Placed' \(str\)"),
        (Ambiguous, "Ambiguous cannot be turned into JSON and back: .*more than one dataclass"),
    ):
        with pytest.raises(InvalidArgumentTypeError, match=reason):
            EventTypes[Any](cast("type", cls))
    with pytest.raises(InvalidArgumentError, match="unknown must be 'raise' or 'raw'"):
        EventTypes[Any](Placed, unknown=cast("Any", "ignore"))
    with pytest.raises(InvalidEventError, match="control character"):
        EventTypes[Any]().register(Placed, name="a\nb")


def test_an_event_of_a_class_that_is_not_registered_is_refused() -> None:
    @dataclass(frozen=True)
    class Special(Placed):
        pass

    with pytest.raises(UnknownEventTypeError, match=r"'.*Special'"):
        order_types().new(Special("ada", NOW))


def test_what_no_store_can_hold_is_refused() -> None:
    @dataclass
    class Strange:
        value: Any

    types = EventTypes[Any](Strange)
    with pytest.raises(
        InvalidEventError,
        match=r"event 'Strange' would not .*: Strange\.value: cannot be .*complex",
    ):
        types.new(Strange(1j))
    with pytest.raises(InvalidEventError, match="the key 'schema_version' of metadata is taken"):
        types.new(Strange(1), metadata={"schema_version": 1})


async def test_not_a_number_is_refused_and_not_stored_as_nothing(store: EventStore) -> None:
    @dataclass
    class Measured:
        value: float

    class Weighed(pydantic.BaseModel):
        value: float

    types = EventTypes[Measured | Weighed](Measured, Weighed)
    for event in (Measured(math.nan), Weighed(value=math.nan)):
        with pytest.raises(
            InvalidEventError,
            match=r"\.value: could not be read again: (Expected `float`|float type)",
        ):
            await store.append("s", [types.new(event)])
    assert not (await store.read("s")).exists
