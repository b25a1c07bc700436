"""A snapshot of a state whose class has changed since is passed over, without a number to raise."""

from __future__ import annotations

import sys

from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import anyio
import msgspec
import pydantic
import pytest

from eventport import NewEvent
from eventport.folding import Fold
from eventport.snapshots import MemorySnapshotStore, Snapshots, every
from eventport.typed import EventTypes
from eventport.typed.shape import shape_of

from eventport_memory import MemoryEventStore


@dataclass
class Moved:
    amount: int


TYPES = EventTypes[Moved](Moved)


class Before(Enum):
    OPEN = "open"


class After(Enum):
    OPEN = "open"
    CLOSED = "closed"


def state_class(*fields: Any) -> type:
    return make_dataclass("Account", fields)


def fold_of(cls: type) -> Fold[Any, Moved]:
    def evolve(state: Any, event: Moved) -> Any:
        state.total += event.amount
        if hasattr(state, "count"):
            state.count += 1
        return state

    return Fold(TYPES, cls, evolve)


TOTAL = ("total", int, field(default=0))
CHANGES: dict[str, tuple[Any, ...]] = {
    "a field with a default": (TOTAL, ("count", int, field(default=0))),
    "another type": (("total", float, field(default=0)),),
    "another name": (TOTAL, ("sum", int, field(default=0))),
    "a nested class": (TOTAL, ("of", list[state_class(TOTAL)] | None, None)),  # type: ignore[misc]  # made here
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_changed_class_is_replayed_from_the_beginning(change: str) -> None:
    store, kept = MemoryEventStore(), MemorySnapshotStore()
    await store.append("a", [TYPES.new(Moved(2)), TYPES.new(Moved(3))])
    old = state_class(TOTAL)
    await Snapshots(kept, old, policy=every(1)).load(store, "a", fold_of(old))
    new = state_class(*CHANGES[change])
    snapshots = Snapshots(kept, new, policy=every(1))
    found = await snapshots.load(store, "a", fold_of(new))
    assert (snapshots.stats.outdated, snapshots.stats.events) == (1, 2)
    assert found.state.total == 5
    assert getattr(found.state, "count", 2) == 2


async def test_the_same_class_in_another_process_is_the_same_shape() -> None:
    code = (
        "from dataclasses import *\nfrom eventport.typed.shape import shape_of\n"
        "fields = [('n', set[int], field(default_factory=set)), ('m', object, field)]\n"
        "print(shape_of(make_dataclass('Account', fields)))"
    )
    runs = [await anyio.run_process([sys.executable, "-c", code]) for _ in range(2)]
    shapes = {run.stdout for run in runs}
    assert len(shapes) == 1


class Node(msgspec.Struct):
    value: int
    left: Node | None = None


class Renamed(msgspec.Struct, rename="camel"):
    the_value: int


class Model(pydantic.BaseModel):
    total: int = 0


DIFFERENT: list[Any] = [
    int, float, Decimal, str, bytes, datetime, list[int], set[int], frozenset[int],
    tuple[int, ...], tuple[int, int], dict[str, int], dict[int, int], int | None, Before, After,
    Node, Renamed, Model, Any,
    msgspec.defstruct("Renamed", [("the_value", int)]),
    msgspec.defstruct("Renamed", [("the_value", int)], tag=True),
    msgspec.defstruct("Renamed", [("the_value", int)], array_like=True),
    msgspec.defstruct("Renamed", [("the_value", int, 3)], omit_defaults=True),
    msgspec.defstruct("Renamed", [("the_value", int, 4)], omit_defaults=True),
]  # fmt: skip


def test_types_that_encode_differently_have_different_shapes() -> None:
    assert len({shape_of(kind) for kind in DIFFERENT}) == len(DIFFERENT)


async def test_a_pydantic_model_can_be_a_state() -> None:
    store, kept = MemoryEventStore(), MemorySnapshotStore()
    await store.append("a", [TYPES.new(Moved(2)), NewEvent("Moved", {"amount": 3})])
    snapshots = Snapshots(kept, Model, policy=every(1))
    for _ in range(2):
        assert (await snapshots.load(store, "a", fold_of(Model))).state == Model(total=5)
    assert (snapshots.stats.taken, snapshots.stats.used) == (1, 1)


async def test_a_state_that_would_not_come_back_is_not_kept_and_not_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cls = state_class(
        TOTAL, ("seen", Any, None), ("hidden", Any, field(default=None, compare=False))
    )
    store, kept = MemoryEventStore(), MemorySnapshotStore()
    await store.append("a", [TYPES.new(Moved(2))])

    def evolve(state: Any, _: Moved) -> Any:
        state.hidden = {"secret@example.org": datetime(2026, 1, 1, tzinfo=UTC)}
        return state

    snapshots = Snapshots(kept, cls, policy=every(1))
    await snapshots.load(store, "a", Fold(TYPES, cls, evolve))
    assert (snapshots.stats.failed, await kept.latest("a")) == (1, None)
    assert "Account.hidden[key 1]: comes back as str, not as datetime" in caplog.text
    assert "secret" not in caplog.text
