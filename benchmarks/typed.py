"""What typed appends cost on memory, in batches of 100; a program of its own.

``python -m benchmarks.typed`` prints the microseconds of the processor for each event, and
the ratio to appending the same events without the check, in turns with it.
"""

from __future__ import annotations

import time

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from statistics import median
from typing import Any
from uuid import UUID

import anyio
import msgspec
import pydantic

from eventport import NewEvent
from eventport.typed import EventTypes

from eventport_memory import MemoryEventStore


@dataclass(frozen=True)
class Added:
    """Fits the short cut."""

    sku: str
    quantity: int
    price: Decimal


@dataclass(frozen=True)
class Placed:
    """Holds others."""

    customer: str
    items: tuple[Added, ...]


class Packed(msgspec.Struct):
    """Has an open field, so that it is decoded and compared."""

    sku: str
    notes: dict[str, Any]


class Line(pydantic.BaseModel):
    """Fits the short cut, too."""

    sku: str
    quantity: int


class Shipped(pydantic.BaseModel):
    """Holds others."""

    customer: str
    at: datetime
    lines: list[Line]


class Registered(pydantic.BaseModel):
    """Has many fields, of many types."""

    id: UUID
    first: str
    last: str
    email: str
    phone: str | None = None
    age: int
    visits: int = 0
    score: float = 0.0
    weight: float
    active: bool
    balance: Decimal
    at: datetime
    tags: list[str] = []
    plan: str = "free"
    language: str = "en"
    level: int = 1


class Paid(pydantic.BaseModel):
    """Is validated by code of its own, so that it is decoded and compared."""

    amount: Decimal

    @pydantic.field_validator("amount")
    @classmethod
    def _check(cls, amount: Decimal) -> Decimal:
        return abs(amount)


ITEMS = (Added("tea", 2, Decimal("4.50")), Added("cup", 1, Decimal("9.00")))
LINES = [Line(sku="tea", quantity=2), Line(sku="cup", quantity=1)]
EVENTS: list[Any] = [
    ITEMS[0],
    Placed("ada", ITEMS),
    Packed("tea", {"fragile": True, "layers": [1, 2]}),
    LINES[0],
    Shipped(customer="ada", at=datetime.now(UTC), lines=LINES),
    Registered(
        id=UUID(int=7),
        first="Ada",
        last="Lovelace",
        email="ada@example.org",
        age=36,
        weight=1.5,
        active=True,
        balance=Decimal("4.50"),
        at=datetime.now(UTC),
        tags=["x", "y"],
    ),
    Paid(amount=Decimal("4.50")),
]
ROUNDS = 100


def unchecked(event: Any) -> NewEvent:
    """Make an event as `EventTypes.new` does, but do not check that it comes back."""
    if isinstance(event, pydantic.BaseModel):
        data = event.model_dump(mode="json", by_alias=True, round_trip=True)
    else:
        data = msgspec.json.decode(msgspec.json.encode(event))
    return NewEvent(type(event).__name__, data)


async def cost(event: Any) -> tuple[float, float]:
    """Return the medians for each event, in microseconds: unchecked, and checked."""
    types, store = EventTypes[Any](type(event)), MemoryEventStore()
    ways: list[Callable[[Any], NewEvent]] = [unchecked, types.new]
    seen: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS):
        for way in (0, 1) if number % 2 else (1, 0):
            begin = time.process_time()
            await store.append(f"s-{number}-{way}", [ways[way](event) for _ in range(100)])
            seen[way].append((time.process_time() - begin) / 100 * 1e6)
    return median(seen[0]), median(seen[1])


async def main() -> None:
    """Print a line for each kind of class."""
    for event in EVENTS:
        floor, checked = await cost(event)
        print(
            f"{type(event).__name__}: {checked:.1f} us an event, {checked / floor:.2f} x unchecked"
        )


if __name__ == "__main__":
    anyio.run(main)
