"""What others reported of aggregates, snapshots and commands, replayed here.

The reports are listed in docs/reports-of-others.md.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from anyio import create_task_group
from tests.toolkit.accounts import ACCOUNT, Deposit, Withdraw
from tests.toolkit.backends import OpenStore
from tests.toolkit.orders import EVENTS, Order

from eventport import ConcurrencyError, EventStore, InvalidEventError
from eventport.aggregates import Repository
from eventport.commands import CommandHandler
from eventport.snapshot_stores import StreamSnapshotStore
from eventport.snapshots import Snapshots, every
from eventport.typed import EventTypes


def orders_on(store: EventStore) -> Repository[Order]:
    """Return a repository that takes a snapshot at each load of something new."""
    snapshots = Snapshots(StreamSnapshotStore(store), Order, policy=every(1))
    return Repository(store, "order", Order, EVENTS, loader=snapshots)


async def test_an_event_is_applied_once_to_what_is_loaded_changed_and_loaded_again(
    store: EventStore,
) -> None:
    orders = orders_on(store)
    await orders.add("42", Order.place("ada"))
    for number in range(1, 6):
        order = await orders.load("42")
        order.add("tea")
        assert order.items == {"tea": number}
        await orders.save(order)
        await orders.save(order)  # nothing is left to save
        assert (order.items, order.aggregate_version) == ({"tea": number}, number + 1)
        again = await orders.load("42")
        assert (again.items, again.aggregate_version) == ({"tea": number}, number + 1)


async def test_snapshots_of_several_instances_are_never_stale_or_ahead(
    open_store: OpenStore,
) -> None:
    async with open_store() as first, open_store() as second, open_store() as third:
        instances = [orders_on(first), orders_on(second), orders_on(third)]
        await instances[0].add("42", Order.place("ada"))
        for number in range(1, 8):
            order = await instances[number % 3].load("42")
            order.add("tea")
            await instances[number % 3].save(order)
            for instance in instances[::2]:  # one of them sees less than the others
                found = await instance.load("42")
                assert (found.items, found.aggregate_version) == ({"tea": number}, number + 1)


async def test_a_conflict_is_not_forgotten_by_saving_again(store: EventStore) -> None:
    orders = orders_on(store)
    await orders.add("42", Order.place("ada"))
    first, second = await orders.load("42"), await orders.load("42")
    first.ship()
    await orders.save(first)
    second.add("milk")
    for _ in range(3):
        with pytest.raises(ConcurrencyError):
            await orders.save(second)
    assert (await orders.load("42")).items == {}


async def test_one_command_delivered_to_several_nodes_at_once_takes_effect_once(
    open_store: OpenStore,
) -> None:
    async with open_store() as first, open_store() as second:
        nodes = [CommandHandler(store, ACCOUNT, attempts=50) for store in (first, second)]
        ids = [uuid4() for _ in range(4)]

        async def deliver(node: CommandHandler[Any, Any, Any], id_: UUID) -> None:
            await node.handle("account-1", Deposit(10), id=id_)

        async with create_task_group() as tasks:
            for id_ in ids * 2:
                for node in nodes:
                    tasks.start_soon(deliver, node, id_)
        assert (await first.read("account-1")).version == len(ids)
        for node in nodes:  # delivered again, after other commands
            await node.handle("account-1", Withdraw(1), id=None)
            again = await node.handle("account-1", Deposit(10), id=ids[0])
            assert again.status == "already applied"
        assert (await first.read("account-1")).version == len(ids) + 2


async def test_an_encoding_that_leaves_what_is_no_json_writes_nothing(store: EventStore) -> None:
    types = EventTypes[Deposit]()
    types.register(
        Deposit,
        encode=lambda event: {"amount": {event.amount}},
        decode=lambda data: Deposit(*data["amount"]),
    )
    with pytest.raises(InvalidEventError, match=r"data\['amount'\] is a set"):
        await types.on(store).append("account-1", [Deposit(1)])
    assert not (await store.read("account-1")).exists
