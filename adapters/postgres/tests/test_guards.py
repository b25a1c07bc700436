"""Proves conditions where transactions overlap, and that the locks of a commit are bounded."""

from __future__ import annotations

import asyncio

from typing import Final
from uuid import uuid4

import asyncpg
import pytest

from eventport import BoundaryError, Match, NewEvent, Query
from eventport.adapter import Commit, Committed, EncodedEvent, StreamWrite

from eventport_conformance.waiting import no_hang
from eventport_postgres import PostgresEventStore


SEAT: Final = Query.of(Match(tags={"seat:1"}))


def tagged(*tags: str) -> NewEvent:
    return NewEvent("Taken", None, tags=set(tags))


async def test_an_event_that_becomes_visible_below_one_that_was_seen(
    store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    transaction = admin.transaction()
    await transaction.start()
    slow = await store.using(admin).append("slow", [tagged("seat:1")])
    fast = await store.append("fast", [tagged("seat:1")])
    assert (slow.position or 0) < (fast.position or 0)
    seen = await store.query(SEAT)
    assert [event.stream for event in seen.events] == ["fast"]  # though its order is not stable yet
    newest = await store.query(SEAT, backwards=True, max_count=1)
    await transaction.commit()
    for token in (seen.token, newest.token):
        with pytest.raises(BoundaryError) as caught:
            await store.append("mine", [tagged("x")], unless=SEAT, since=token)
        assert caught.value.event.stream == "slow"
    fresh = await store.query(SEAT)
    await store.append("mine", [tagged("x")], unless=SEAT, since=fresh.token)


async def test_own_fresh_events_are_no_conflict_while_a_transaction_is_open(
    store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    async with admin.transaction():
        await store.using(admin).append("open", [NewEvent("Plain", None)])
        for number in range(3):
            seen = await store.query(SEAT)
            assert len(seen.events) == number
            await store.append("mine", [tagged("seat:1")], unless=SEAT, since=seen.token)


async def test_a_long_transaction_holds_up_only_conditions_on_its_tags(
    store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    async with no_hang():
        async with admin.transaction():
            await store.using(admin).append("slow", [tagged("seat:1")])
            waiting = asyncio.create_task(store.append("mine", [tagged("x")], unless=SEAT))
            for number in range(20):
                tag = f"other:{number}"
                free = Query.of(Match(tags={tag}))
                await store.append(f"s{number}", [tagged(tag, "seat:1")], unless=free)
                await store.append("plain", [NewEvent("Plain", None)])
            assert not waiting.done()
        with pytest.raises(BoundaryError):
            await waiting


async def test_a_conflict_leaves_the_callers_transaction_open(
    store: PostgresEventStore, admin: asyncpg.Connection
) -> None:
    await store.append("s", [tagged("seat:1")])
    async with admin.transaction():
        joined = store.using(admin)
        with pytest.raises(BoundaryError):
            await joined.append("mine", [tagged("x")], unless=SEAT)
        seen = await joined.query(SEAT)
        await joined.append("mine", [tagged("seat:1")], unless=SEAT, since=seen.token)
        assert len((await joined.query(SEAT)).events) == 2
    assert len((await store.query(SEAT)).events) == 2


def to_many_streams(prefix: str, count: int) -> Commit:
    return Commit(
        [
            StreamWrite(f"{prefix}{n}", "any", (EncodedEvent("E", "1", "{}", uuid4(), 3),))
            for n in range(count)
        ]
    )


async def test_commits_to_20_000_streams_alone_and_two_at_once(
    store: PostgresEventStore, url: str, schema: str
) -> None:
    (alone,) = await store._postgres.commit([to_many_streams("a", 20_000)])
    assert isinstance(alone, Committed)
    async with await PostgresEventStore.connect(url, schema=schema) as other:
        rivals = await asyncio.gather(
            store.append("between", [NewEvent("E", 1)]),
            *(write(one, f"{n}-") for n, one in enumerate((store, other))),
        )
    assert len(rivals) == 3
    assert (await store.read("1-19999")).version == 1


async def write(store: PostgresEventStore, prefix: str) -> None:
    committed = await store._submit(to_many_streams(prefix, 20_000))
    assert len(committed.writes) == 20_000
