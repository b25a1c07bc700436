"""Proves that events are documents that users can query, and come out as they went in."""

from __future__ import annotations

import math

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from bson import Int64, ObjectId
from pymongo.asynchronous.collection import AsyncCollection

from eventport import CopiedEvent, CorruptEventError, NewEvent, PayloadTooLargeError

from eventport_mongodb import MongoDBEventStore
from eventport_mongodb.heads import MAX_STREAMS, Head, Heads


Raw = AsyncCollection[dict[str, Any]]


async def test_a_commit_is_a_document_for_each_stretch_of_a_stream(
    store: MongoDBEventStore, raw: Raw
) -> None:
    before = datetime.now(UTC)
    async with store.session() as session:
        await session.append("a", [NewEvent("A", {"n": 1}, {"by": "ada"}), NewEvent("B", b"\1")])
        await session.append("a", [NewEvent("C", [1, "x"])])
        await session.append("b", [NewEvent("D", None)])
        await session.append("a", [NewEvent("E", 2**40)])
    found = await raw.find().sort("_id").to_list()
    assert [(one["_id"], one["stream"], one["version"], one["count"]) for one in found] == [
        (1, "a", 1, 3),
        (4, "b", 1, 1),
        (5, "a", 4, 1),
    ]
    first = found[0]["events"][0]
    assert first == {
        "id": first["id"],
        "type": "A",
        "data": {"n": 1},
        "metadata": {"by": "ada"},
    }
    assert type(first["id"]) is UUID
    assert found[0]["events"][1]["data"] == b"\1"
    assert type(found[0]["at"]) is Int64
    event = (await store.read("a")).events[0]
    assert (event.recorded_at - before).total_seconds() < 60
    assert [one.position for one in (await store.read("a")).events] == [1, 2, 3, 5]


TRICKY: list[Any] = [
    {"$ref": "orders", "$id": 1, "$db": "x"},
    {"a": [{"$ref": "#/definitions/x"}], "$set": {"\uff04$": 1, "\uff04": 2, "$": 3}},
    {"\uff04mark": 1, "a.b": {"": [], ".": {}}, "z": 1, "_id": 5, "a": 2},
    "$text",
    ["$text", {"plain": '"$quoted'}],
    [1, 1.0, -0.0, 2**31, 2**63 - 1, -(2**63), 5e-324, True, None, "\0"],
]


@pytest.mark.parametrize("data", TRICKY, ids=repr)
async def test_what_bson_or_the_driver_would_take_for_something_else_comes_out(
    store: MongoDBEventStore, data: Any
) -> None:
    await store.append("s", [NewEvent("A", data, {"data": data, "$ref": data})])
    (event,) = (await store.read("s")).events
    assert exact(event.data) == exact(data)
    assert exact(event.metadata) == exact({"data": data, "$ref": data})


def exact(value: Any) -> Any:
    """Turn a value into one that is equal only if types, order and signs are."""
    if isinstance(value, dict):
        return [type(value), [(key, exact(item)) for key, item in value.items()]]
    if isinstance(value, list):
        return [type(value), [exact(item) for item in value]]
    return type(value), value, math.copysign(1, value) if type(value) is float else 0


@pytest.mark.parametrize("size", [16 * 1024 * 1024, 20 * 1024 * 1024])
async def test_an_append_beyond_the_limit_is_refused(store: MongoDBEventStore, size: int) -> None:
    with pytest.raises(PayloadTooLargeError, match="split it"):
        await store.append("s", [NewEvent("Large", b"x" * size)])
    numbers = NewEvent("Wide", [0] * 1_800_000)  # 3.6 MB as JSON, more than 16 MB as BSON
    with pytest.raises(PayloadTooLargeError):
        await store.append("s", [numbers])
    assert (await store.append("s", [NewEvent("Large", b"x" * (15 * 1024 * 1024))])).position == 1


CHANGES: dict[str, dict[str, Any]] = {
    "no type": {"$unset": {"events.0.type": 1}},
    "an id of another kind": {"$set": {"events.0.id": ObjectId()}},
    "metadata is a list": {"$set": {"events.0.metadata": []}},
    "a time beyond all calendars": {"$set": {"at": 9 * 10**18}},
    "events are no list": {"$set": {"events": 3}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_what_somebody_else_has_broken_is_named(
    store: MongoDBEventStore, raw: Raw, change: dict[str, Any]
) -> None:
    await store.append("s", [NewEvent("A", {"n": 1})])
    await raw.update_one({"_id": 1}, change)
    for reading in (store.read("s"), store.read_all()):
        with pytest.raises(CorruptEventError, match="document 1 of stream 's'"):
            await reading


async def test_pages_that_begin_or_end_within_a_document_are_right(
    store: MongoDBEventStore,
) -> None:
    for number in range(4):
        await store.append("s", [NewEvent("A", [number, n]) for n in range(5)])
        await store.append("t", [NewEvent("B", n) for n in range(2)])
    everything = (await store.read_all()).events
    assert [event.position for event in everything] == list(range(1, 29))
    for after in range(29):
        for count in (1, 4, 5, 8):  # within a document, to its end, and beyond
            found = await store.read_all(after=after, max_count=count)
            assert found.events == everything[after : after + count]
            found = await store.read_all(after=after, max_count=count, types=["B"])
            wanted = [event for event in everything[after:] if event.type == "B"]
            assert found.events == wanted[:count]
    whole = (await store.read("s")).events
    for first in range(1, 22):
        for last in {first, first + 3, first + 5, 21}:
            found_ = await store.read("s", from_version=first, to_version=last)
            assert found_.events == whole[first - 1 : last]
            found_ = await store.read("s", from_version=first, to_version=last, backwards=True)
            assert found_.events == whole[first - 1 : last][::-1]


def test_few_heads_are_kept_those_that_were_used_last() -> None:
    heads = Heads()
    for number in range(MAX_STREAMS + 10):
        heads.learn(f"s-{number}", Head(1, 0))
        assert heads.version("s-0") == 1
    heads.trim()
    assert len(heads) == MAX_STREAMS
    assert heads.version("s-0") == 1
    assert heads.get("s-1") is None


async def test_a_copy_has_a_time_of_its_own_and_what_comes_after_it_is_not_earlier(
    store: MongoDBEventStore, raw: Raw
) -> None:
    future = datetime.now(UTC) + timedelta(days=400)
    past = datetime(2020, 2, 29, tzinfo=UTC)
    copied = [CopiedEvent("E", n, recorded_at=time) for n, time in enumerate((past, future))]
    async with store.session() as session:
        await session.append("s", [*copied, NewEvent("E", 2)])
        await session.append("other", [NewEvent("E", 1)])
        await session.append("s", [NewEvent("E", 3)])
    await store.append("s", [NewEvent("E", 4)])
    times = [event.recorded_at for event in (await store.read("s")).events]
    assert times == [past, *[future] * 4]
    documents = await raw.find({"stream": "s"}).sort("_id").to_list()
    assert [["at" in event for event in one["events"]] for one in documents] == [
        [True, False, False],
        [False],
        [False],
    ]
