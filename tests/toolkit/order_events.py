"""Events of every kind of class, and one whose class has changed since it was stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID, uuid4

import attrs
import msgspec
import pydantic

from eventport import RecordedEvent
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


@dataclass(frozen=True)
class Renamed:
    """The third version of an event that was first stored long ago."""

    first: str
    last: str
    title: str | None


def split_name(data: dict[str, Any]) -> dict[str, Any]:
    first, _, last = data.pop("name").partition(" ")
    return {**data, "first": first, "last": last}


def add_title(data: dict[str, Any]) -> dict[str, Any]:
    data["title"] = None
    return data


@dataclass
class Checked:
    total: int

    def __post_init__(self) -> None:
        if self.total < 0:
            raise ArithmeticError("a total is not negative")


def stored(type_: str, data: object, metadata: dict[str, Any]) -> RecordedEvent:
    return RecordedEvent("s", 7, 9, type_, data, metadata, uuid4(), NOW)
