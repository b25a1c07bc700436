"""Aggregates come from their events and are saved by what they record, one or several at once."""

from __future__ import annotations

import copy

from datetime import datetime, timedelta

import anyio
import pytest

from tests.toolkit.backends import (
    OpenStore,
    with_sessions,
    without_sessions,
)
from tests.toolkit.orders import (
    EVENTS,
    ORDER,
    ItemAdded,
    Order,
    OrderEvent,
    Placed,
    Shipped,
    State,
    types,
)

from eventport import (
    ConcurrencyError,
    CopiedEvent,
    EventStore,
    InvalidArgumentError,
    InvalidArgumentTypeError,
    NewEvent,
    NotSupportedError,
)
from eventport.aggregates import (
    AggregateExistsError,
    AggregateNotFoundError,
    Folded,
    Repository,
)
from eventport.context import bind_context
from eventport.snapshots import Snapshots, StreamSnapshotStore, every

from eventport_conformance.waiting import no_hang
from eventport_memory import MemoryEventStore


async def test_what_is_recorded_is_saved_and_loaded(
    store: EventStore, orders: Repository[Order]
) -> None:
    order = Order.place("ada")
    order.add("tea", 2)
    assert (order.aggregate_id, order.aggregate_version) == (None, 0)
    assert order.pending_events == [Placed("ada"), ItemAdded("tea", 2)]
    await orders.add("42", order)
    assert (order.aggregate_id, order.aggregate_version) == ("42", 2)
    assert order.pending_events == []

    found = await orders.load("42")
    assert found == order
    assert found is not order
    assert (found.aggregate_id, found.aggregate_version) == ("42", 2)
    found.ship()
    await orders.save(found)
    assert found.aggregate_version == 3
    assert (await orders.load("42")).shipped
    assert await types(store, "order-42") == ["Placed", "ItemAdded", "Shipped"]


async def test_an_aggregate_is_saved_several_times(orders: Repository[Order]) -> None:
    order = Order.place("ada")
    await orders.add("42", order)
    for number in range(3):
        order.add("tea")
        await orders.save(order)
        assert order.aggregate_version == number + 2
    assert (await orders.load("42")).items == {"tea": 3}


async def test_an_aggregate_that_is_not_there_is_not_found(
    store: EventStore, orders: Repository[Order]
) -> None:
    with pytest.raises(AggregateNotFoundError, match="there is no order '42'") as caught:
        await orders.load("42")
    assert (caught.value.category, caught.value.aggregate_id) == ("order", "42")
    await orders.add("1", Order.place("ada"))
    with pytest.raises(AggregateNotFoundError, match="'42'"):
        await orders.load_many(["1", "42"])
    with pytest.raises(AggregateNotFoundError):
        await orders.load("1", to_version=0)
    assert [event.stream for event in (await store.read_all()).events] == ["order-1"]


async def test_an_aggregate_is_added_once(store: EventStore, orders: Repository[Order]) -> None:
    await orders.add("42", Order.place("ada"))
    late = Order.place("bob")
    with pytest.raises(AggregateExistsError, match="order '42' exists already"):
        await orders.add("42", late)
    assert (await orders.load("42")).customer == "ada"
    await orders.add("43", late)
    assert (await orders.load("43")).customer == "bob"


async def test_of_many_that_add_one_id_one_succeeds(open_store: OpenStore) -> None:
    refused: list[str] = []

    async def add(store: EventStore, customer: str) -> None:
        orders = Repository(store, "order", Order, EVENTS)
        try:
            if int(customer) % 2:
                await orders.add("42", Order.place(customer))
            else:
                async with orders.unit_of_work() as work:
                    work.add("42", Order.place(customer))
        except AggregateExistsError:
            refused.append(customer)

    with no_hang():
        async with open_store() as one, open_store() as other:
            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(add, one if number % 3 else other, str(number))
            assert len(refused) == 19
            assert (await one.read("order-42")).version == 1
            winner = await Repository(one, "order", Order, EVENTS).load("42")
            assert winner.customer not in refused


async def test_a_stale_aggregate_is_a_conflict(orders: Repository[Order]) -> None:
    await orders.add("42", Order.place("ada"))
    first, second = await orders.load("42"), await orders.load("42")
    first.add("tea")
    await orders.save(first)
    second.add("milk")
    with pytest.raises(ConcurrencyError) as caught:
        await orders.save(second)
    assert (caught.value.stream, caught.value.expected, caught.value.actual) == ("order-42", 1, 2)
    assert second.pending_events == [ItemAdded("milk")]
    assert (await orders.load("42")).items == {"tea": 1}


async def test_without_anything_recorded_nothing_is_written(
    store: EventStore, orders: Repository[Order]
) -> None:
    await orders.add("42", Order.place("ada"))
    order = await orders.load("42")
    order.ship()
    await orders.save(order)
    order.ship()  # it is shipped already
    await orders.save(order, order)
    await orders.save()
    assert (await store.read("order-42")).version == 2


async def test_an_aggregate_that_is_named_twice_is_saved_once(
    store: EventStore, orders: Repository[Order]
) -> None:
    await orders.add("42", Order.place("ada"))
    order = await orders.load("42")
    order.ship()
    await orders.save(order, order)
    assert (await store.read("order-42")).version == 2


async def test_saving_again_after_a_lost_answer_writes_nothing_twice(
    store: EventStore, orders: Repository[Order]
) -> None:
    await orders.add("42", Order.place("ada"))
    order = await orders.load("42")
    order.add("tea")
    twin = copy.copy(order)  # as if the answer of the first had been lost
    await orders.save(order)
    await orders.save(twin)
    assert twin.aggregate_version == 2
    assert await types(store, "order-42") == ["Placed", "ItemAdded"]


@with_sessions
async def test_several_are_saved_in_one_commit(
    store: EventStore, orders: Repository[Order]
) -> None:
    for id_ in ("1", "2", "3"):
        await orders.add(id_, Order.place("ada"))
    loaded = await orders.load_many(["3", "1", "2"])
    assert [order.aggregate_id for order in loaded] == ["3", "1", "2"]
    rival = await orders.load("2")
    rival.add("milk")
    for order in loaded:
        order.add("tea")
    await orders.save(rival)
    with pytest.raises(ConcurrencyError):
        await orders.save(*loaded)
    assert [len(await types(store, f"order-{id_}")) for id_ in (1, 2, 3)] == [1, 2, 1]
    again = await orders.load_many(["3", "1", "2"])
    for order in again:
        order.add("tea")
    await orders.save(*again)
    assert [order.aggregate_version for order in again] == [2, 2, 3]
    assert [len(await types(store, f"order-{id_}")) for id_ in (1, 2, 3)] == [2, 3, 2]


@without_sessions
async def test_without_sessions_one_is_saved_and_several_are_refused(
    store: EventStore, orders: Repository[Order]
) -> None:
    for id_ in ("1", "2"):
        await orders.add(id_, Order.place("ada"))
    async with orders.unit_of_work() as work:
        (await work.load("1")).add("milk")
        await work.load("2")
    both = await orders.load_many(["1", "2"])
    for order in both:
        order.add("tea")
    with pytest.raises(NotSupportedError, match="several streams in one commit take KurrentDB"):
        await orders.save(*both)
    assert [len(await types(store, f"order-{id_}")) for id_ in (1, 2)] == [2, 1]
    for order in both:
        await orders.save(order)
    assert [len(await types(store, f"order-{id_}")) for id_ in (1, 2)] == [3, 2]


async def test_an_aggregate_is_loaded_as_it_was_at_a_version(orders: Repository[Order]) -> None:
    order = Order.place("ada")
    order.add("tea")
    order.ship()
    await orders.add("42", order)
    was = await orders.load("42", to_version=2)
    assert (was.items, was.shipped, was.aggregate_version) == ({"tea": 1}, False, 2)
    was.add("milk")
    with pytest.raises(ConcurrencyError):
        await orders.save(was)
    assert (await orders.load("42", to_version=9)).aggregate_version == 3


async def test_an_aggregate_is_loaded_as_it_was_at_a_time(
    store: EventStore, orders: Repository[Order]
) -> None:
    order = Order.place("ada")
    await orders.add("42", order)
    for _ in range(2):
        await anyio.sleep(0.002)
        order.add("tea")
        await orders.save(order)
    times = [event.recorded_at for event in (await store.read("order-42")).events]
    moment = timedelta(microseconds=1)
    for version, time in enumerate(times, 1):
        assert (await orders.load("42", to_time=time)).aggregate_version == version
        assert (await orders.load("42", to_time=time + moment)).aggregate_version == version
    assert (await orders.load("42", to_time=times[2] - moment)).items == {"tea": 1}
    with pytest.raises(AggregateNotFoundError):
        await orders.load("42", to_time=times[0] - moment)


async def test_a_copy_is_loaded_as_it_was_at_a_time(
    store: EventStore, orders: Repository[Order]
) -> None:
    order = Order.place("ada")
    await orders.add("42", order)
    order.add("tea")
    await orders.save(order)
    first, second = (await store.read("order-42")).events
    async with MemoryEventStore() as copy:
        for event in (first, second):
            longer_ago = event.recorded_at - timedelta(days=300)
            copied = CopiedEvent(
                event.type, event.data, event.metadata, event.id, recorded_at=longer_ago
            )
            await copy.append(event.stream, [copied])
        there = Repository(copy, "order", Order, EVENTS)
        then = first.recorded_at - timedelta(days=300)
        assert (await there.load("42", to_time=then)).items == {}
        assert (await there.load("42", to_time=first.recorded_at)).items == {"tea": 1}


async def test_functions_do_what_a_class_does(store: EventStore) -> None:
    orders = Repository.of_fold(store, "order", ORDER.fold)
    order = Folded[State, OrderEvent](ORDER.fold)
    order.record(Placed("ada"))
    await orders.add("42", order)
    async with orders.unit_of_work() as work:
        found = await work.load("42")
        assert found.state == State("ada")
        found.record(ItemAdded("tea", 3))
        found.record(Shipped())
        assert found.state == State("ada", 3, shipped=True)
    assert (await orders.load("42")).state == State("ada", 3, shipped=True)
    assert (await orders.load("42", to_version=2)).state == State("ada", 3)
    assert await types(store, "order-42") == ["Placed", "ItemAdded", "Shipped"]


async def test_snapshots_serve_classes_and_functions(store: EventStore) -> None:
    of_class = Snapshots(StreamSnapshotStore(store), Order, policy=every(10))
    of_state = Snapshots(StreamSnapshotStore(store, name="state"), State, policy=every(10))
    orders = Repository(store, "order", Order, EVENTS, loader=of_class)
    states = Repository.of_fold(store, "order", ORDER.fold, loader=of_state)
    order = Order.place("ada")
    for _ in range(11):
        order.add("tea")
    await orders.add("42", order)
    for _ in range(2):
        found, state = await orders.load("42"), await states.load("42")
        assert (found.items, state.state) == ({"tea": 12 - 1}, State("ada", 11))
        assert found.aggregate_version == state.aggregate_version == 12
    for stats in (of_class.stats, of_state.stats):
        assert (stats.used, stats.taken, stats.events, stats.failed) == (1, 1, 12, 0)
    found = await orders.load("42")
    found.ship()
    await orders.save(found)
    assert (await orders.load("42")).shipped
    assert (await states.load("42")).state.shipped
    assert await of_class.snapshot_now(store, orders.stream("42"), orders.fold) == 13


async def test_streams_may_have_other_names(store: EventStore) -> None:
    orders = Repository(
        store, "order", Order, EVENTS, name_stream=lambda category, id_: f"{category}/{id_}/v2"
    )
    await orders.add("42", Order.place("ada"))
    assert orders.stream("42") == "order/42/v2"
    assert (await orders.load("42")).customer == "ada"
    assert await types(store, "order/42/v2") == ["Placed"]


async def test_events_say_what_they_are_due_to(
    store: EventStore, orders: Repository[Order]
) -> None:
    with bind_context(correlation_id="request-7", causation_id="click-1"):
        await orders.add("42", Order.place("ada"))
    event = (await store.read("order-42")).events[0]
    assert event.metadata == {"correlation_id": "request-7", "causation_id": "click-1"}


async def test_bad_calls_are_named_with_the_remedy(
    store: EventStore, orders: Repository[Order]
) -> None:
    with pytest.raises(InvalidArgumentError, match="has no id yet: add it"):
        await orders.save(Order.place("ada"))
    with pytest.raises(InvalidArgumentError, match="record its first event"):
        await orders.add("42", Order())
    with pytest.raises(InvalidArgumentTypeError, match="an id of 'order' must be text, not 42 "):
        await orders.load(42)  # type: ignore[arg-type]
    order = Order.place("ada")
    await orders.add("42", order)
    with pytest.raises(InvalidArgumentError, match="was loaded or saved before"):
        await orders.add("43", order)
    with pytest.raises(InvalidArgumentError, match="give it a timezone"):
        await orders.load("42", to_time=datetime(2026, 1, 1))  # noqa: DTZ001  # that is the point
    with pytest.raises(InvalidArgumentError, match="not both"):
        await orders.load("42", to_time=datetime.now().astimezone(), to_version=1)
    await store.append("order-7", [NewEvent("Unheard", {})])
    with pytest.raises(LookupError, match="Unheard"):
        await orders.load("7")


@with_sessions
async def test_saving_returns_the_version_and_where_the_last_event_is(
    store: EventStore, orders: Repository[Order]
) -> None:
    one, two = Order.place("ada"), Order.place("bob")
    added = await orders.add("1", one)
    assert added.version == (await store.read("order-1")).version
    assert added.position == (await store.read("order-1")).events[-1].position
    nothing = await orders.save(one)
    assert (nothing.version, nothing.position) == (added.version, None)
    await orders.add("2", two)
    for order in (one, two):
        order.add("shoes")
    both = await orders.save(one, two)
    last = (await store.read("order-2")).events[-1]
    assert (both.version, both.position) == (last.version, last.position)
