"""What others reported of serialisers, upcasters and snapshots, replayed on typed events.

The reports are listed in docs/reports-of-others.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest

from anyio import create_task_group

from eventport import EventStore, InvalidEventError, NewEvent, RecordedEvent
from eventport.commands import CommandHandler, Decider
from eventport.folding import Fold
from eventport.projections import (
    MemoryCheckpoints,
    Projection,
    ProjectionContext,
    Retries,
    Runner,
    retry,
)
from eventport.snapshot_stores import MemorySnapshotStore
from eventport.snapshots import Snapshots, every
from eventport.typed import EventTypes, Upcaster

from eventport_conformance.waiting import no_hang


class Keyed(pydantic.BaseModel):
    flags: dict[tuple[int, str], bool]


class Wrapped(pydantic.BaseModel):
    values: dict[str, pydantic.Json[list[int]]]


class Exact(pydantic.BaseModel):
    value: Decimal


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    age: int = 1


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    age: float = 1.0


class Adopted(pydantic.BaseModel):
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]
    either: int | float | str = 0


class Camel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(alias_generator=str.upper, populate_by_name=True)

    order_id: int


class Root(pydantic.RootModel[list[int]]):
    pass


@dataclass
class Base:
    number: int


@dataclass
class Derived(Base):
    more: int = 0


class Node(msgspec.Struct):
    name: str
    below: list[Node] = []


class Shape(msgspec.Struct, tag=True):
    pass


class Circle(Shape):
    radius: int


class Drawn(msgspec.Struct):
    shape: Shape


@dataclass
class Timed:
    at: datetime


PRECISE = Decimal("1.234567890123456789012345678901234567890")

KEPT: list[object] = [
    Wrapped.model_validate({"values": {"a": "[1, 2]"}}),
    Exact(value=PRECISE),
    Adopted(pet=Dog(), either=1.0),
    Adopted(pet=Cat(), either="1"),
    Camel(order_id=7),
    Root([1, 2]),
    Base(1),
    Derived(1, 2),
    Node("a", [Node("b", [Node("c")])]),
    Timed(datetime(2026, 1, 2, 3, 4, 5, 6)),  # noqa: DTZ001  # what is reported
]


@pytest.mark.parametrize("event", KEPT, ids=lambda event: type(event).__name__)
async def test_what_others_lose_comes_back(store: EventStore, event: object) -> None:
    types = EventTypes[Any](*{type(kept): kept for kept in KEPT})
    events = types.on(store)
    await events.append("reported", [event])
    (back,) = (await events.read("reported")).events
    assert repr(back.data) == repr(event)


REFUSED: dict[str, tuple[object, str]] = {
    "keys that are tuples": (Keyed(flags={(1, "a"): True}), "Keyed.flags"),
    "a struct of a subclass": (Drawn(Circle(2)), "Drawn"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_come_back_is_never_written(store: EventStore, name: str) -> None:
    event, path = REFUSED[name]
    with pytest.raises(InvalidEventError, match=path):
        await EventTypes[Any](type(event)).on(store).append("reported", [event])
    assert not (await store.read("reported")).exists


@dataclass
class Moved:
    street: str
    city: str


def split(data: dict[str, str]) -> dict[str, str]:
    street, city = data["address"].split(", ")
    return {"street": street, "city": city}


def addresses(upcaster: Upcaster, seen: list[Moved]) -> tuple[EventTypes[Moved], Projection[None]]:
    """Return event types with an upcaster, and a projection that notes what it gets."""
    types = EventTypes[Moved]()
    types.register(Moved, name="Moved", aliases=["moved"], version=2, upcasters={1: upcaster})
    projection = Projection[None](
        "addresses", types=types, on_poison="dead_letter", retries=Retries(1, 0.0, 0.0)
    )

    @projection.on(Moved)
    async def moved(event: RecordedEvent[Moved], _: ProjectionContext[None]) -> None:
        seen.append(event.data)

    return types, projection


async def follow(store: EventStore, projection: Projection[None], kept: MemoryCheckpoints) -> None:
    """Run a projection up to the newest event."""
    last = (await store.read_all()).position
    runner = Runner(store, projection, kept)
    with no_hang():
        async with create_task_group() as tasks:
            tasks.start_soon(runner.run)
            await runner.wait_until(last)
            tasks.cancel_scope.cancel()


async def test_projections_get_upcast_events_of_renamed_types(store: EventStore) -> None:
    seen: list[Moved] = []
    types, projection = addresses(split, seen)
    await store.append("person-1", [NewEvent("moved", {"address": "Main St 1, Ulm"})])
    await types.on(store).append("person-1", [Moved("High St 2", "Bonn")])
    await follow(store, projection, MemoryCheckpoints())
    assert seen == [Moved("Main St 1", "Ulm"), Moved("High St 2", "Bonn")]


async def test_dead_letters_of_a_wrong_upcaster_are_retried_by_a_right_one(
    store: EventStore,
) -> None:
    seen: list[Moved] = []
    await store.append("person-1", [NewEvent("moved", {"address": "Main St 1, Ulm"})])
    kept = MemoryCheckpoints()
    _, wrong = addresses(lambda data: {"street": data["place"], "city": ""}, seen)
    await follow(store, wrong, kept)
    assert not seen
    _, right = addresses(split, seen)
    (letter,) = await kept.dead_letters(right.id)
    await retry(store, right, kept, letter.position)
    assert seen == [Moved("Main St 1", "Ulm")]
    assert not await kept.dead_letters(right.id)


class Cart(msgspec.Struct, frozen=True):
    """A state that nothing changes in place."""

    count: int = 0
    skus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Added:
    sku: str


def evolve(cart: Cart, event: Added) -> Cart:
    return Cart(cart.count + 1, (*cart.skus, event.sku))


CART: Decider[Cart, str, Added] = Decider(
    types=EventTypes[Added](Added),
    initial=Cart,
    evolve=evolve,
    decide=lambda sku, _: [Added(sku)],
)


async def test_no_event_is_applied_twice_or_left_out_around_snapshots(store: EventStore) -> None:
    loader = Snapshots(MemorySnapshotStore(), Cart, policy=every(2))
    handler = CommandHandler(store, CART, loader=loader)
    for number in range(1, 8):
        result = await handler.handle("cart-1", f"sku-{number}")
        skus = tuple(f"sku-{each}" for each in range(1, number + 1))
        assert (result.state, result.version) == (Cart(number, skus), number)
        loaded = await loader.load(store, "cart-1", Fold(CART.types, Cart, evolve))
        assert (loaded.state, loaded.version) == (result.state, result.version)
    assert loader.stats.used
