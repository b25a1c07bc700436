"""A unit of work: an identity map over one session, committed as one or not at all."""

from __future__ import annotations

import anyio
import pytest

from tests.toolkit.backends import OpenStore, with_sessions
from tests.toolkit.orders import (
    EVENTS,
    Order,
    RefusedError,
)

from eventport import (
    ConcurrencyError,
    EventStore,
    Session,
    run_in_session,
)
from eventport.aggregates import (
    AggregateExistsError,
    AggregateNotFoundError,
    Repository,
)
from eventport.keys import DuplicateKeyError, UniqueKeys

from eventport_conformance.waiting import no_hang


async def test_in_a_unit_of_work_an_id_is_one_object(orders: Repository[Order]) -> None:
    async with orders.unit_of_work() as work:
        placed = Order.place("ada")
        work.add("42", placed)
        assert await work.load("42") is placed
        with pytest.raises(AggregateExistsError):
            work.add("42", Order.place("bob"))
    assert placed.aggregate_version == 1
    async with orders.unit_of_work() as work:
        order = await work.load("42")
        order.add("tea")
        assert (await work.load_many(["42", "42"])) == [order, order]
        assert await work.load("42") is order
        (await work.load("42")).add("milk")
    assert order.aggregate_version == 3
    assert (await orders.load("42")).items == {"tea": 1, "milk": 1}


@with_sessions
async def test_a_unit_of_work_is_one_commit_or_nothing(
    store: EventStore, orders: Repository[Order]
) -> None:
    await orders.add("1", Order.place("ada"))

    async def work_and_fail() -> None:
        async with orders.unit_of_work() as work:
            (await work.load("1")).add("tea")
            work.add("2", Order.place("bob"))
            raise RefusedError

    async def work_and_lose() -> None:
        async with orders.unit_of_work() as work:
            work.add("2", Order.place("bob"))
            (await work.load("1")).add("tea")
            rival = await orders.load("1")
            rival.add("milk")
            await orders.save(rival)

    with pytest.raises(RefusedError):
        await work_and_fail()
    with pytest.raises(ConcurrencyError):
        await work_and_lose()
    assert (await orders.load("1")).items == {"milk": 1}
    assert not (await store.read("order-2")).exists


@with_sessions
async def test_a_unit_of_work_shares_a_session_with_keys_and_other_repositories(
    store: EventStore, orders: Repository[Order]
) -> None:
    emails = UniqueKeys("email")
    invoices = Repository(store, "invoice", Order, EVENTS)

    async def order(session: Session, id_: str) -> None:
        async with orders.unit_of_work(session) as work:
            work.add(id_, Order.place("ada"))
            async with invoices.unit_of_work(work.session) as more:
                more.add(id_, Order.place("ada"))
        await emails.claim(session, "ada@example.org", orders.stream(id_))

    await run_in_session(store, lambda session: order(session, "1"))
    assert await emails.find_by(store, "ada@example.org") == "order-1"
    assert (await invoices.load("1")).customer == "ada"
    with pytest.raises(DuplicateKeyError, match="belongs to 'order-1'"):
        await run_in_session(store, lambda session: order(session, "2"))
    with pytest.raises(AggregateExistsError):
        await run_in_session(store, lambda session: order(session, "1"))
    streams = {event.stream for event in (await store.read_all()).events}
    assert streams == {"order-1", "invoice-1", "eventport/key/email/ada@example.org"}


async def test_a_unit_of_work_sees_what_its_session_has_in_mind(
    store: EventStore, orders: Repository[Order]
) -> None:
    async with store.session() as session:
        async with orders.unit_of_work(session) as work:
            work.add("42", Order.place("ada"))
        async with orders.unit_of_work(session) as work:
            (await work.load("42")).add("tea")
        with pytest.raises(AggregateNotFoundError):
            await orders.load("42")
    assert (await orders.load("42")).items == {"tea": 1}


async def test_units_of_work_at_the_same_time_lose_no_update(open_store: OpenStore) -> None:
    async def add(store: EventStore, orders: Repository[Order]) -> None:
        async def change(session: Session) -> None:
            async with orders.unit_of_work(session) as work:
                (await work.load("42")).add("tea")

        await run_in_session(store, change, attempts=1_000)

    with no_hang():
        async with open_store() as one, open_store() as other:
            repositories = [Repository(store, "order", Order, EVENTS) for store in (one, other)]
            await repositories[0].add("42", Order.place("ada"))
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    for store, orders in zip((one, other), repositories, strict=True):
                        group.start_soon(add, store, orders)
            assert (await repositories[1].load("42")).items == {"tea": 20}


async def test_tasks_of_one_unit_of_work_share_the_object(orders: Repository[Order]) -> None:
    await orders.add("42", Order.place("ada"))
    async with orders.unit_of_work() as work:

        async def add() -> None:
            (await work.load("42")).add("tea")

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(add)
    assert (await orders.load("42")).items == {"tea": 5}
