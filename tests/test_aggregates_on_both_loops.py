"""Aggregates, snapshots and unique keys run on trio as they do on asyncio."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from tests.toolkit.orders import EVENTS, Order

from eventport import Session, run_in_session
from eventport.aggregates import Repository
from eventport.keys import DuplicateKeyError, UniqueKeys
from eventport.snapshots import MemorySnapshotStore, Snapshots, every

from eventport_conformance.waiting import no_hang
from eventport_memory import MemoryEventStore


async def test_fifty_tasks_claim_one_key() -> None:
    names = UniqueKeys("name")
    owners: list[str] = []
    async with MemoryEventStore() as store:
        orders = Repository(store, "order", Order, EVENTS)
        await orders.add("shared", Order.place("all"))

        async def run(id_: str) -> None:
            async def change(session: Session) -> None:
                async with orders.unit_of_work(session) as work:
                    (await work.load("shared")).add("tea")
                    work.add(id_, Order.place(id_))
                await anyio.lowlevel.checkpoint()
                await names.claim(session, "ada", id_)

            try:
                await run_in_session(store, change)
            except DuplicateKeyError as error:
                owners.append(error.owner)

        with no_hang():
            async with anyio.create_task_group() as group:
                for number in range(50):
                    group.start_soon(run, str(number))
        assert len(owners) == 49
        (winner,) = set(owners)
        assert (await orders.load(winner)).customer == winner
        assert (await orders.load("shared")).items == {"tea": 1}


async def test_snapshots_are_taken_beside_the_loads() -> None:
    group = anyio.create_task_group()
    snapshots = Snapshots(MemorySnapshotStore(), Order, policy=every(5), task_group=group)
    async with MemoryEventStore() as store:
        orders = Repository(store, "order", Order, EVENTS, loader=snapshots)
        await orders.add("1", Order.place("ada"))
        with no_hang():
            async with group:
                for _ in range(12):
                    order = await orders.load("1")
                    order.add("tea")
                    await orders.save(order)
                    await anyio.wait_all_tasks_blocked()
        assert (await orders.load("1")).items == {"tea": 12}
    assert snapshots.stats.taken == 2
    assert snapshots.stats.failed == 0
