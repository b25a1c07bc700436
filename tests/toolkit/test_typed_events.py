"""Events are instances of the program's classes, on every backend, also those stored long ago."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from uuid import UUID, uuid4

import attrs
import msgspec
import pydantic

from eventport import EventStore
from eventport.folding import Fold, replay
from eventport.typed import EventTypes


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass(frozen=True)
class Line:
    sku: str
    sizes: tuple[Size, ...] = ()


@dataclass(frozen=True)
class Placed:
    customer: str
    at: datetime
    lines: tuple[Line, ...] = ()
    notes: dict[int, str] = field(default_factory=dict)


@attrs.frozen
class Paid:
    amount: Decimal
    receipt: UUID


class Packed(msgspec.Struct, frozen=True):
    boxes: frozenset[int]
    label: bytes = b""


class Address(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)

    lines: tuple[str, ...]
    since: datetime | None = None


class Shipped(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)

    ship_to: Address = pydantic.Field(alias="shipTo")
    weight: Decimal


OrderEvent = Placed | Paid | Packed | Shipped

NOW = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=UTC)
EVENTS: list[OrderEvent] = [
    Placed("ada", NOW, (Line("tea", (Size.SMALL, Size.LARGE)),), {1: "first"}),
    Paid(Decimal("12.50"), uuid4()),
    Packed(frozenset({1, 2}), b"\x00\xff"),
    Shipped(shipTo=Address(lines=("Main Street 1", "London"), since=NOW), weight=Decimal("0.300")),
]


def order_types() -> EventTypes[OrderEvent]:
    return EventTypes[OrderEvent](Placed, Paid, Packed, Shipped)


async def test_what_goes_in_comes_out_equal(store: EventStore) -> None:
    types = order_types()
    await store.append("order-1", [types.new(event) for event in EVENTS])
    found = [types.typed(event) async for event in store.iterate("order-1")]
    assert [event.data for event in found] == EVENTS
    assert [event.type for event in found] == ["Placed", "Paid", "Packed", "Shipped"]
    assert [event.version for event in found] == [1, 2, 3, 4]


async def test_a_typed_event_is_otherwise_the_stored_one(store: EventStore) -> None:
    types, id_ = order_types(), uuid4()
    await store.append("order-1", [types.new(EVENTS[0], metadata={"user": "ada"}, id=id_)])
    stored = (await store.read("order-1")).events[0]
    found = types.typed(stored)
    assert (found.id, found.metadata) == (id_, {"user": "ada"})
    assert found == msgspec.structs.replace(stored, data=EVENTS[0])


async def test_a_stream_folds_into_a_state(store: EventStore) -> None:
    types = order_types()
    fold = Fold[list[OrderEvent], OrderEvent](types, list, lambda state, event: [*state, event])
    missing = await replay.load(store, "order-1", fold)
    assert (missing.state, missing.version, missing.exists) == ([], 0, False)
    await store.append("order-1", [types.new(event) for event in EVENTS])
    whole = await replay.load(store, "order-1", fold)
    assert (whole.state, whole.version, whole.exists) == (EVENTS, 4, True)
    part = await replay.load(store, "order-1", fold, to_version=2)
    assert (part.state, part.version) == (EVENTS[:2], 2)
    async with store.session() as session:
        await session.append("order-1", [types.new(EVENTS[0])])
        assert (await replay.load(session, "order-1", fold)).state == [*EVENTS, EVENTS[0]]
