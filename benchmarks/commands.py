"""Commands (load an aggregate of 100 events, decide, append) against a bare read and append."""

from __future__ import annotations

import asyncio

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final, Literal, TypeAlias
from uuid import uuid4

from adapters.postgres.tests.server import server_url  # what the tests start, too
from benchmarks.measure import Figure, rates
from msgspec import Struct

from eventport import EventStore, NewEvent
from eventport.command_log import CommandLog
from eventport.commands import CommandHandler, Decider
from eventport.context import bind_context
from eventport.snapshots import MemorySnapshotStore, Snapshots, StreamSnapshotStore, every
from eventport.typed import EventTypes

from eventport_postgres import PostgresEventStore
from eventport_sqlite import SQLiteEventStore


EVENTS: Final = 100
AGGREGATES: Final = 64
ROUNDS: Final = 9
SNAPSHOT_EVERY: Final = 50
DATA: Final = {"sku": "abc", "quantity": 2, "price": 12.5, "note": "as a gift"}

Work: TypeAlias = Callable[[str], Awaitable[object]]
"""What is done to one aggregate."""


class ItemAdded(Struct, frozen=True):
    """The one kind of event."""

    sku: str
    quantity: int
    price: float
    note: str


class Order(Struct):
    """The state."""

    items: int = 0
    total: float = 0


def evolve(order: Order, event: ItemAdded) -> Order:
    """Count and add up."""
    return Order(order.items + 1, order.total + event.quantity * event.price)


def decide(command: Literal["add"], order: Order) -> list[ItemAdded]:  # noqa: ARG001  # all do it
    """Add one item."""
    return [ItemAdded("abc", 2, 12.5, "as a gift")]


ORDERS: Final = Decider(
    types=EventTypes[ItemAdded](ItemAdded), initial=Order, evolve=evolve, decide=decide
)


async def figures(folder: Path) -> AsyncIterator[Figure]:
    """Measure commands on SQLite and Postgres."""
    async with await SQLiteEventStore.open(folder / "commands.db", synchronous="full") as sqlite:
        async for figure in _figures("SQLite", sqlite):
            yield figure
    with server_url() as url:
        async with await PostgresEventStore.connect(url, schema=f"bench_{uuid4().hex}") as postgres:
            async for figure in _figures("Postgres", postgres):
                yield figure


async def _figures(name: str, store: EventStore) -> AsyncIterator[Figure]:
    plain = CommandHandler(store, ORDERS)
    logged = CommandHandler(store, ORDERS, log=CommandLog(store))
    kept = Snapshots(StreamSnapshotStore(store), Order, policy=every(SNAPSHOT_EVERY))
    cached = Snapshots(MemorySnapshotStore(), Order, policy=every(1))
    with_kept = CommandHandler(store, ORDERS, loader=kept)
    with_cached = CommandHandler(store, ORDERS, loader=cached)

    async def bare(stream: str) -> None:
        version = (await store.read(stream)).version
        await store.append(stream, [NewEvent("ItemAdded", DATA)], expected=version)

    async def with_log(stream: str) -> None:
        with bind_context(user=stream):
            await logged.handle(stream, "add", id=uuid4())

    works: dict[str, Work] = {
        "command": lambda stream: plain.handle(stream, "add"),
        "command, snapshots": lambda stream: with_kept.handle(stream, "add"),
        "command, cached": lambda stream: with_cached.handle(stream, "add"),
        "command with id": lambda stream: plain.handle(stream, "add", id=uuid4()),
        "command with id and log": with_log,
    }
    for tasks in (1, AGGREGATES):
        for what, work in works.items():
            ours, floor = await compare(store, work, bare, tasks)
            count = "one task" if tasks == 1 else f"{tasks} tasks"
            yield Figure(f"{name}, {count}, {what} / bare read, append", ours, floor, 0)
    for what, snapshots in (("in streams", kept), ("in memory", cached)):
        stats = snapshots.stats
        mean = stats.events / stats.loads
        print(f"{name}, events folded a command, snapshots {what}: {mean:.1f}; {stats}")
    print(f"{name}, events folded a command without: {EVENTS + (ROUNDS - 1) / 2:.1f}")


async def compare(store: EventStore, ours: Work, bare: Work, tasks: int) -> tuple[float, float]:
    """Let both work on aggregates of their own, which are alike."""
    rows = [[f"{uuid4()}" for _ in range(AGGREGATES)] for _ in (ours, bare)]
    for stream in (*rows[0], *rows[1]):
        await store.append(stream, [NewEvent("ItemAdded", DATA) for _ in range(EVENTS)])

    async def go(work: Work, streams: list[str]) -> int:
        share = AGGREGATES // tasks

        async def task(number: int) -> None:
            for stream in streams[number * share : (number + 1) * share]:
                await work(stream)

        async with asyncio.TaskGroup() as group:
            for number in range(tasks):
                group.create_task(task(number))
        return len(streams)

    ours_rate, bare_rate = await rates(
        [lambda _: go(ours, rows[0]), lambda _: go(bare, rows[1])], ROUNDS
    )
    return ours_rate, bare_rate
