"""Proves that time never goes back within a stream, even if the server's clock was set back."""

from __future__ import annotations

import asyncio

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg

from eventport import CopiedEvent, NewEvent, RecordedEvent

from eventport_postgres import PostgresEventStore


async def set_back(admin: asyncpg.Connection, schema: str) -> None:
    """Make the clock of what has been written so far one that was an hour ahead."""
    await admin.execute(
        f"UPDATE \"{schema}\".events SET recorded_at = recorded_at + interval '1 hour'"
    )


async def times(store: PostgresEventStore, stream: str) -> list[datetime]:
    return [event.recorded_at for event in (await store.read(stream)).events]


async def test_time_never_goes_back_within_a_stream(
    store: PostgresEventStore, admin: asyncpg.Connection, schema: str
) -> None:
    hooked: list[RecordedEvent] = []

    @store.after_commit
    async def hook(events: Sequence[RecordedEvent]) -> None:
        hooked.extend(events)

    await store.append("s", [NewEvent("E", 1)])
    await set_back(admin, schema)
    (ahead,) = await times(store, "s")
    await store.append("s", [NewEvent("E", 2)])  # alone
    await store.append("s", [NewEvent("E", 3), NewEvent("E", 4)])  # several at once
    await asyncio.gather(*(store.append("s", [NewEvent("E", n)]) for n in range(5, 9)))
    assert await times(store, "s") == [ahead] * 8
    # Other streams follow the clock, in the same batch, too.
    async with store.session() as session:
        await session.append("s", [NewEvent("E", 9)])
        await session.append("other", [NewEvent("E", 1)])
    (other,) = await times(store, "other")
    assert other < ahead - timedelta(minutes=30)
    # Hooks get what can be read.
    read = {event.id: event for event in (await store.read_all()).events}
    assert all(read[event.id] == event for event in hooked[1:])
    assert len(hooked) == len(read)


async def test_what_comes_after_a_copy_of_the_future_is_not_earlier(
    store: PostgresEventStore,
) -> None:
    future = datetime.now(UTC) + timedelta(days=400)
    copied = CopiedEvent("E", 1, recorded_at=future)
    await store.append("mixed", [copied, NewEvent("E", 2)])
    await store.append("after", [CopiedEvent("E", 1, recorded_at=future)])
    await store.append("after", [NewEvent("E", 2)])
    async with store.session() as session:
        await session.append("session", [CopiedEvent("E", 1, recorded_at=future)])
        await session.append("session", [NewEvent("E", 2)])
        await session.append("other", [NewEvent("E", 1)])
    for stream in ("mixed", "after", "session"):
        assert await times(store, stream) == [future, future]
    (other,) = await times(store, "other")
    assert other < future
