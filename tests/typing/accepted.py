"""What type checkers have to accept: every store, and code that is typed against the port."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import assert_type

from eventport import (
    AggregateResult,
    AllResult,
    AppendResult,
    EventStore,
    NewEvent,
    ReadResult,
    RecordedEvent,
    Session,
    Streams,
    Subscription,
    connect,
    run_in_session,
)
from eventport.adapter import BaseEventStore

from eventport_memory import MemoryEventStore
from eventport_sqlite import SQLiteEventStore


def as_event_store(store: EventStore) -> EventStore:
    return store


def as_streams(streams: Streams) -> Streams:
    return streams


def memory(store: MemoryEventStore) -> EventStore:
    return as_event_store(store)


def sqlite(store: SQLiteEventStore) -> EventStore:
    return as_event_store(store)


def any_adapter(store: BaseEventStore) -> EventStore:
    return as_event_store(store)


def stores_of_all_kinds() -> list[type[EventStore]]:
    return [MemoryEventStore, SQLiteEventStore]


async def what_connect_yields(url: str) -> None:
    async with connect(url) as store:
        assert_type(store, EventStore)
        as_event_store(store)
        as_streams(store)


def count(total: int, event: RecordedEvent) -> int:
    return total + event.version


def name(names: frozenset[str], event: RecordedEvent) -> frozenset[str]:
    """Fold events into the names of their types."""
    return names | {event.type}


async def use(store: EventStore) -> int:
    """Use all of the port, with the types that its user sees."""
    appended = await store.append("a", [NewEvent("T", 1)], expected="no_stream")
    assert_type(appended, AppendResult)
    await store.append("a", (NewEvent("T", number) for number in range(2)), expected=1)
    await store.append("a", (), expected="any")
    read = await store.read("a", from_version=1, to_version=None, backwards=True, expected=3)
    assert_type(read, ReadResult)
    folded = await store.aggregate("a", count, int)
    assert_type(folded, AggregateResult[int])
    names = await store.aggregate("a", name, frozenset[str])
    assert_type(names.state, frozenset[str])
    async for event in store.iterate("a"):
        assert_type(event, RecordedEvent)
    everything = await store.read_all(types={"T"}, prefix="a")
    assert_type(everything, AllResult)
    async for event in store.iterate_all(types=["T"]):
        assert_type(event, RecordedEvent)
    async with store.session() as session:
        assert_type(session, Session)
        as_streams(session)
        assert_type(session.position, int | None)
        await session.append("b", [NewEvent("T", 1)])
    following: AbstractAsyncContextManager[Subscription] = store.subscribe(after=0)
    async with following as subscription:
        async for event in subscription:
            assert_type(event, RecordedEvent)
            if event.position == session.position:
                break
        assert_type(subscription.position, int)

    async def in_session(streams: Streams) -> str:
        return str((await streams.read("b")).version)

    assert_type(await run_in_session(store, in_session), str)
    async with store as opened:
        as_event_store(opened)
    return folded.state
