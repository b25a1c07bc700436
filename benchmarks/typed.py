"""What typed appends cost on memory, in batches of 100; a program of its own.

``python benchmarks/typed.py`` prints the microseconds of the processor for each event.
"""

from __future__ import annotations

import time

from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import Any

import anyio
import msgspec
import pydantic

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


class Shipped(pydantic.BaseModel):
    """Is validated by pydantic when it is read."""

    sku: str
    weight: int


ITEMS = (Added("tea", 2, Decimal("4.50")), Added("cup", 1, Decimal("9.00")))
EVENTS: list[Any] = [
    ITEMS[0],
    Placed("ada", ITEMS),
    Packed("tea", {"fragile": True, "layers": [1, 2]}),
    Shipped(sku="tea", weight=7),
]


async def cost(event: Any) -> float:
    """Return the median of the microseconds of the processor for each event."""
    types, store, seen = EventTypes[Any](type(event)), MemoryEventStore(), list[float]()
    for number in range(60):
        begin = time.process_time()
        await store.append(f"s-{number}", [types.new(event) for _ in range(100)])
        seen.append((time.process_time() - begin) / 100 * 1e6)
    return median(seen)


async def main() -> None:
    """Print a line for each kind of class."""
    for event in EVENTS:
        print(f"{type(event).__name__}: {await cost(event):.1f} us an event")


if __name__ == "__main__":
    anyio.run(main)
