"""Proves that codecs and settings of the caller's connections change no event.

Pools commonly turn JSON into objects, or times into text, for the application's own queries.
"""

from __future__ import annotations

import json

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from eventport import NewEvent, RecordedEvent
from eventport.projections.checkpoints import DeadLetter, ProjectionId

from eventport_postgres import PostgresEventStore
from eventport_postgres.projections import PostgresCheckpoints


Init: TypeAlias = Callable[[asyncpg.Connection], Awaitable[None]]

EVENTS = [
    NewEvent("E", {"a": [1, 2.5, "ß\0"]}, {"m": 1}),
    NewEvent("F", b"\x00\x01\\x"),
    NewEvent("G", b""),
]


def codec(*names: str, **options: Any) -> Init:
    """Give a connection codecs that no statement of ours could live with."""

    async def init(connection: asyncpg.Connection) -> None:
        for name in names:
            given: dict[str, Any] = {
                "encoder": lambda value: f"<{value}>",
                "decoder": lambda text: [text],
            }
            await connection.set_type_codec(name, schema="pg_catalog", **{**given, **options})

    return init


async def as_objects(connection: asyncpg.Connection) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=json.dumps, decoder=json.loads
        )


async def odd_settings(connection: asyncpg.Connection) -> None:
    await connection.execute(
        """
        SET DateStyle = 'German, DMY'; SET TimeZone = 'Asia/Kathmandu';
        SET IntervalStyle = 'sql_standard'; SET bytea_output = 'escape';
        SET extra_float_digits = -15; SET array_nulls = off; SET quote_all_identifiers = on;
        SET transform_null_equals = on; SET row_security = off; SET lc_messages = 'C';
        """
    )


INITS: dict[str, Init] = {
    "objects": as_objects,
    "json": codec("json", "jsonb"),
    "uuid": codec("uuid", encoder=str, decoder=str),
    "times as text": codec("timestamptz", "timestamp", "interval", encoder=str, decoder=str),
    "times as numbers": codec(
        "timestamptz", format="tuple", encoder=lambda n: (int(n),), decoder=lambda one: one[0]
    ),
    "text": codec("text", "varchar", "name", "char"),
    "numbers": codec("int8", "int4", "int2", "float8", "numeric", "oid", "bool"),
    "bytes": codec("bytea"),
    "settings": odd_settings,
}


@asynccontextmanager
async def pool_of(url: str, init: Init) -> AsyncGenerator[asyncpg.Pool, None]:
    # Settings that are made by `init` are gone once a connection goes back, so they are kept.
    options: Any = {"setup": init} if init is odd_settings else {"init": init}
    async with asyncpg.create_pool(url, min_size=1, max_size=4, **options) as pool:
        yield pool


def check(found: list[RecordedEvent], expected: list[NewEvent]) -> None:
    assert [(e.type, e.data, e.metadata, e.id) for e in found] == [
        (e.type, e.data, e.metadata, e.id) for e in expected
    ]
    for event in found:
        assert (type(event.id), type(event.version), type(event.position)) == (UUID, int, int)
        assert event.recorded_at.utcoffset() == timedelta(0)
        assert abs(datetime.now(UTC) - event.recorded_at) < timedelta(hours=1)


@pytest.mark.parametrize("init", INITS.values(), ids=INITS)
async def test_codecs_of_a_pool_change_nothing(
    url: str, schema: str, admin: asyncpg.Connection, init: Init
) -> None:
    seen: list[RecordedEvent] = []

    async def hook(events: Any) -> None:
        seen.extend(events)

    async with (
        pool_of(url, init) as pool,
        await PostgresEventStore.on_pool(pool, schema=schema) as store,
    ):
        store.after_commit(hook)
        await store.append("s", EVENTS, expected=0)
        assert (await store.append("s", EVENTS, expected=0)).deduplicated
        await store.append("t", EVENTS[:1], expected=0)
        assert (await store.append("t", EVENTS[:1], expected=0)).deduplicated
        check(list((await store.read("s")).events), EVENTS)
        check(list((await store.read("s", from_version=2, max_count=9)).events), EVENTS[1:])
        check(list((await store.read_all(types=["E", "F", "G"])).events), [*EVENTS, EVENTS[0]])
        check(seen, [*EVENTS, EVENTS[0]])
        assert (await store.read("s", max_count=0)).version == 3
        async with pool.acquire() as connection, connection.transaction():
            joined = store.using(connection)
            await joined.append("u", EVENTS[:1])
            await joined.append("u", EVENTS[1:])
            check(list((await joined.read("u")).events), EVENTS)


@pytest.mark.parametrize("init", INITS.values(), ids=INITS)
async def test_codecs_of_a_pool_change_no_checkpoint(
    url: str, schema: str, admin: asyncpg.Connection, init: Init
) -> None:
    projection = ProjectionId("orders", 1)
    letter = DeadLetter(4, "s", 1, "E", "no", 1, datetime.now(UTC))
    async with pool_of(url, init) as pool:
        checkpoints = await PostgresCheckpoints.on_pool(pool, schema=schema)
        lease = await checkpoints.acquire(projection, "me", 60)
        assert lease is not None
        async with lease.advance(4, dead_letter=letter):
            pass
        assert (await checkpoints.load(projection)).position == 4
        assert await checkpoints.dead_letters(projection) == [letter]


async def test_no_bytes_are_bytes_too(store: PostgresEventStore) -> None:
    cases: dict[str, list[Any]] = {
        "alone": [b""],
        "first": [b"", {"a": 1}],
        "last": [{"a": 1}, b""],
        "twice": [b"", b""],
        "beside others": [b"", b"x"],
    }
    for name, data in cases.items():
        await store.append(name, [NewEvent("E", one) for one in data], expected=0)
        assert [event.data for event in (await store.read(name)).events] == data
    async with store.session() as session:
        await session.append("s-1", [NewEvent("E", b"")])
        await session.append("s-2", [NewEvent("E", b"")])
    assert (await store.read("s-2")).events[0].data == b""
