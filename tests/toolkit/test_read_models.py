"""Read models of documents: one program on every database, and each event counts exactly once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any

import msgspec
import pytest

from anyio import create_task_group
from tests.toolkit.backends import BACKENDS, OpenStore
from tests.toolkit.stages import QUICK, running

from eventport import (
    CorruptEventError,
    EventStore,
    InlineProjectionError,
    InvalidArgumentError,
    InvalidArgumentTypeError,
    InvalidEventError,
    NewEvent,
    NotSupportedError,
    RecordedEvent,
)
from eventport.callbacks import InlineStore
from eventport.projections import (
    CheckpointStore,
    Projection,
    ProjectionContext,
    Runner,
    open_checkpoints,
    retry,
)
from eventport.read_models import DocumentReader, ReadModel, open_read_models
from eventport.read_models.model import HoldsDocuments
from eventport.transactions import Transaction


WITH_DOCUMENTS = [name for name in BACKENDS if not name.startswith("eventstoredb")]

with_documents = pytest.mark.parametrize("backend", WITH_DOCUMENTS)


class Status(Enum):
    PLACED = "placed"
    SHIPPED = "shipped"


@dataclass
class Order:
    customer: str
    status: Status = Status.PLACED
    count: int = 0
    due: date | None = None
    note: str | None = None


ORDERS = ReadModel("orders", Order, lookups=["customer", "status", "due", "count"])


async def project(events: Sequence[RecordedEvent], context: HoldsDocuments) -> None:
    """Read, change and put back, one event at a time: what is lost or doubled shows."""
    orders = ORDERS.within(context)
    for event in events:
        if event.type == "Cancelled":
            await orders.delete(event.stream)
            continue
        order = await orders.get(event.stream) or Order(event.data["customer"])
        order.count += 1
        if event.type == "Shipped":
            order.status = Status.SHIPPED
        await orders.put(event.stream, order)


async def place(store: EventStore, stream: str, *types: str, customer: str = "ada") -> int:
    events = [NewEvent(type_, {"customer": customer}) for type_ in types]
    return (await store.append(stream, events)).position or 0


class Place:
    """A store, its checkpoints and its documents."""

    def __init__(
        self, store: EventStore, checkpoints: CheckpointStore[Any], reader: DocumentReader
    ) -> None:
        self.store = store
        self.checkpoints = checkpoints
        self.orders = ORDERS.read(reader)
        self.reader = reader

    async def run(self, projection: Projection[Any], position: int) -> None:
        runner = Runner(self.store, projection, self.checkpoints)
        async with running(runner):
            await runner.wait_until(position)


@asynccontextmanager
async def open_place(open_store: OpenStore) -> AsyncGenerator[Place, None]:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store())
        checkpoints = await stack.enter_async_context(open_checkpoints(store))
        reader = await stack.enter_async_context(open_read_models(store))
        yield Place(store, checkpoints, reader)


@pytest.fixture
async def where(open_store: OpenStore) -> AsyncGenerator[Place, None]:
    async with open_place(open_store) as place:
        yield place


def projection(**options: Any) -> Projection[Any]:
    made: Projection[Any] = Projection("orders", retries=QUICK, **options)
    made.on_batch()(project)
    return made


@with_documents
async def test_a_projection_keeps_documents_that_are_found(where: Place) -> None:
    assert await where.orders.find() == []
    assert await where.orders.get("order-1") is None
    for number in range(12):
        customer = "ada" if number % 2 else "bob"
        position = await place(where.store, f"order-{number:02}", "Placed", customer=customer)
    position = await place(where.store, "order-03", "Shipped")
    position = await place(where.store, "order-05", "Cancelled")
    await where.run(projection(batch_size=3), position)
    orders = where.orders
    assert await orders.get("order-03") == Order("ada", Status.SHIPPED, 2)
    assert await orders.get("order-05") is None
    keys = [f"order-{number:02}" for number in range(12) if number != 5]
    assert [found.key for found in await orders.find()] == keys
    ada = [found.key for found in await orders.find(customer="ada")]
    assert ada == ["order-01", "order-03", "order-07", "order-09", "order-11"]
    page = await orders.find(customer="ada", after="order-03", max_count=2)
    assert [found.key for found in page] == ["order-07", "order-09"]
    shipped = await orders.find(customer="ada", status=Status.SHIPPED)
    assert [found.document.count for found in shipped] == [2]
    assert await orders.find(customer="bob", status=Status.SHIPPED) == []
    assert len(await orders.find(due=None, count=1)) == 10
    assert await orders.find(due=date(2026, 1, 1)) == []
    assert await orders.find(max_count=0) == []


@with_documents
async def test_keys_and_values_may_be_any_text(where: Place) -> None:
    keys = [
        "a",
        "A",
        "b",
        "é",
        "e\u0301",
        "ß",
        "日本",
        "\U0001f980",
        "\uffee",
        "%_'\"\\",
        "$1",
        "x" * 500,
    ]
    long = "long " * 1_000
    made: Projection[Any] = Projection("orders", retries=QUICK)

    @made.on("Placed")
    async def put(event: RecordedEvent, context: ProjectionContext[Any]) -> None:
        for key in keys:
            await ORDERS.within(context).put(key, Order("\0 \ud7ff", note=f"{key}\0", count=2**62))
        await ORDERS.within(context).put("long", Order(long))

    await where.run(made, await place(where.store, "order", "Placed"))
    found = await where.orders.find(customer="\0 \ud7ff")
    assert [one.key for one in found] == sorted(keys)
    assert all(one.document.note == f"{one.key}\0" for one in found)
    assert [one.key for one in await where.orders.find(customer=long)] == ["long"]
    assert len(await where.orders.find(count=2**62)) == len(keys)
    assert await where.orders.find(customer="") == []


@with_documents
async def test_a_batch_that_fails_leaves_no_document(where: Place) -> None:
    failing: Projection[Any] = Projection("orders", retries=QUICK, on_poison="dead_letter")
    fails = True

    @failing.on("Placed", "Bad")
    async def handle(event: RecordedEvent, context: ProjectionContext[Any]) -> None:
        await project([event], context)
        if event.type == "Bad" and fails:
            raise LookupError

    await place(where.store, "order-1", "Placed", "Bad", "Placed")
    position = await place(where.store, "order-2", "Bad")
    await where.run(failing, position)
    assert [(one.key, one.document.count) for one in await where.orders.find()] == [("order-1", 2)]
    fails = False
    for letter in await where.checkpoints.dead_letters(failing.id):
        await retry(where.store, failing, where.checkpoints, letter.position)
    counts = [(one.key, one.document.count) for one in await where.orders.find()]
    assert counts == [("order-1", 3), ("order-2", 1)]


@with_documents
async def test_each_generation_has_documents_of_its_own(where: Place) -> None:
    position = await place(where.store, "order-1", "Placed")
    await where.run(projection(), position)
    position = await place(where.store, "order-1", "Placed")
    await where.run(projection(generation=2), position)
    second = ORDERS.read(where.reader, generation=2)
    assert await where.orders.get("order-1") == Order("ada", count=1)
    assert await second.get("order-1") == Order("ada", count=2)


@with_documents
async def test_inline_handlers_keep_the_same_documents(where: Place) -> None:
    store = where.store
    assert isinstance(store, InlineStore)
    store.inline(project)
    seen: list[bool] = []

    @store.inline
    async def refuse(events: Sequence[RecordedEvent], transaction: Transaction) -> None:
        if events[-1].type == "Bad":
            raise LookupError
        # Others see neither the events nor the documents yet.
        found = await where.orders.get(events[-1].stream)
        seen.append(found is None or found.count < events[-1].version)

    async with create_task_group() as group:
        for number in range(30):
            group.start_soon(place, store, f"order-{number % 3}", "Placed", "Placed")
    with pytest.raises(InlineProjectionError):
        await place(store, "order-1", "Placed", "Bad")
    async with store.session() as session:
        await session.append("order-1", [NewEvent("Placed", {"customer": "ada"})])
        await session.append("order-9", [NewEvent("Placed", {"customer": "ada"})])
    counts = {one.key: one.document.count for one in await where.orders.find()}
    assert counts == {"order-0": 20, "order-1": 21, "order-2": 20, "order-9": 1}
    assert len(seen) >= 31
    assert all(seen)


@with_documents
async def test_stores_that_count_in_one_document_lose_nothing(open_store: OpenStore) -> None:
    totals = ReadModel("totals", Order)

    async def count(events: Sequence[RecordedEvent], transaction: Transaction) -> None:
        documents = totals.within(transaction)
        total = await documents.get("all") or Order("all")
        total.count += len(events)
        await documents.put("all", total)

    async with open_store() as one, open_store() as other, open_read_models(one) as reader:
        for store in {id(one): one, id(other): other}.values():
            assert isinstance(store, InlineStore)
            store.inline(count)
        async with create_task_group() as group:
            for number in range(20):
                group.start_soon(place, (one, other)[number % 2], f"order-{number}", "Placed")
        assert await totals.read(reader).get("all") == Order("all", count=20)


@pytest.mark.parametrize("backend", ["eventstoredb", "eventstoredb-23.10"])
async def test_where_no_transaction_holds_documents_they_are_refused(store: EventStore) -> None:
    with pytest.raises(NotSupportedError, match="keeps no documents: memory, a file of SQLite"):
        async with open_read_models(store):
            pass
    async with open_checkpoints(store) as checkpoints:
        with pytest.raises(NotSupportedError, match="not in a database that keeps documents"):
            await ORDERS.within(projection().context(checkpoints, None)).get("order-1")


@pytest.mark.parametrize("backend", ["memory"])
async def test_mistakes_are_refused(where: Place) -> None:
    orders = where.orders
    for bad in ("", "a\n", "x" * 501):
        with pytest.raises(InvalidArgumentError, match=r"key .*"):
            await orders.get(bad)
    with pytest.raises(InvalidArgumentError, match=r"no look-up 'note'.*customer, due, status"):
        await orders.find(note="x")
    with pytest.raises(InvalidArgumentTypeError, match="must be text, an integer"):
        await orders.find(customer=1.5)
    with pytest.raises(InvalidArgumentTypeError, match="object cannot be looked up"):
        await orders.find(customer=object())
    with pytest.raises(InvalidArgumentError, match="no field 'custmer'"):
        ReadModel("orders", Order, lookups=["custmer"])
    with pytest.raises(InvalidArgumentTypeError, match="collection of names"):
        ReadModel("orders", Order, lookups="customer")
    with pytest.raises(InvalidArgumentTypeError, match="no dataclass"):
        ReadModel("orders", int)


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
async def test_what_would_not_come_back_is_refused_and_so_is_what_does_not_fit(
    where: Place,
) -> None:
    class Tagged(msgspec.Struct):
        tags: Any

    tagged = ReadModel("orders", Tagged)
    made: Projection[Any] = Projection("orders", retries=QUICK)
    caught: list[str] = []

    @made.on("Placed")
    async def put(_: RecordedEvent, context: ProjectionContext[Any]) -> None:
        with pytest.raises(InvalidEventError, match=r"document 'a'.*Tagged\.tags") as error:
            await tagged.within(context).put("a", Tagged((1, 2)))
        caught.append(str(error.value))
        await tagged.within(context).put("b", Tagged([1, 2]))

    await where.run(made, await place(where.store, "order-1", "Placed"))
    assert caught
    assert await tagged.read(where.reader).get("b") == Tagged([1, 2])
    with pytest.raises(CorruptEventError, match="a new generation"):
        await where.orders.get("b")
