"""The heads of many streams are those that reads give, and take few round trips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pytest

from eventport import EventStore, InvalidStreamNameError, NewEvent, StoreClosedError
from eventport.adapter import ReadsHeads, Store, StreamPage, StreamQuery
from eventport.catalogue import HeadReader
from eventport.errors import EventportError
from eventport.placing import write_batch
from eventport.protocols import Streams


def events(count: int = 2) -> list[NewEvent]:
    return [NewEvent("Opened", {}) for _ in range(count)]


class Placed(NamedTuple):
    """An event to write."""

    stream: str
    version: int
    event: NewEvent
    size: int = 10


class WrongPlaceError(EventportError):
    """What the batches of these tests are refused with."""


def refuse(placed: Placed, there: int) -> EventportError:
    return WrongPlaceError(f"{placed.stream} {placed.version}: {there}")


def reader(streams: Streams) -> HeadReader:
    assert isinstance(streams, HeadReader)
    return streams


async def test_heads_are_those_that_a_read_gives(store: EventStore) -> None:
    names = [f"order-{number}" for number in range(40)]
    for number, name in enumerate(names[:20]):
        await store.append(name, events(1 + number % 2))
    wanted = [*reversed(names), names[3]]
    heads = await reader(store).heads(wanted)
    assert list(heads) == names[::-1]
    assert heads == {name: (await store.read(name)).version for name in names}
    assert await reader(store).heads([]) == {}


async def test_a_session_pins_the_streams(store: EventStore) -> None:
    await store.append("a", events())
    await store.append("b", events())
    async with store.session() as session:
        await session.append("b", events(), expected=2)
        assert await reader(session).heads(["a", "b", "c"]) == {"a": 2, "b": 4, "c": 0}
        await store.append("a", events())
        await store.append("c", events())
        assert await reader(session).heads(["c", "a"]) == {"c": 0, "a": 2}
        assert (await session.read("a")).version == 2
    assert await reader(store).heads(["a", "b", "c"]) == {"a": 4, "b": 4, "c": 2}


async def test_bad_names_and_a_closed_store_are_refused(store: EventStore) -> None:
    with pytest.raises(InvalidStreamNameError):
        await reader(store).heads(["a", ""])
    async with store.session() as session:
        pass
    with pytest.raises(StoreClosedError):
        await reader(session).heads(["a"])


async def test_a_new_batch_over_many_streams_reads_none_of_them(
    store: EventStore, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(store, Store)
    if not isinstance(store.engine, ReadsHeads):
        assert backend == "memory" or backend.startswith("eventstoredb"), "it asks for each stream"
        return
    asked: list[int] = []
    find_heads, read = store.engine.read_heads, store.engine.read_stream

    async def count(streams: Sequence[str], /) -> Mapping[str, int]:
        asked.append(len(streams))
        return await find_heads(streams)

    async def count_one(query: StreamQuery, /) -> StreamPage:
        asked.append(1)
        return await read(query)

    monkeypatch.setattr(store.engine, "read_heads", count)
    monkeypatch.setattr(store.engine, "read_stream", count_one)
    batches = [
        [Placed(f"s-{n}", version, NewEvent("T", n)) for n in range(200)] for version in (1, 2)
    ]
    for batch in batches:
        assert await write_batch(store, batch, refuse) == batch
    assert asked == [200, 200]

    grown = [*batches[1], Placed("s-7", 3, NewEvent("T", {}))]
    assert await write_batch(store, grown, refuse) == grown[-1:]
    for version, message in ((9, "9: 3"), (2, "2: 3")):
        wrong = [Placed("s-7", version, NewEvent("T", {})), Placed("new", 1, NewEvent("T", {}))]
        with pytest.raises(WrongPlaceError, match=message):
            await write_batch(store, wrong, refuse)
    assert (await store.read("new")).version == 0
