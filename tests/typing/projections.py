"""What type checkers have to infer, and refuse, of projections."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_type

from eventport import EventStore, RecordedEvent
from eventport.projections import (
    CheckpointStore,
    Lease,
    MemoryCheckpoints,
    PartitionedRunner,
    Projection,
    ProjectionContext,
    Runner,
    StreamCheckpoints,
)
from eventport.typed import EventTypes

from eventport_postgres.projections import Connection as PostgresConnection
from eventport_postgres.projections import PostgresCheckpoints
from eventport_sqlite.projections import Connection as SQLiteConnection
from eventport_sqlite.projections import SQLiteCheckpoints


@dataclass
class Opened:
    owner: str


@dataclass
class Closed:
    reason: str


TYPES = EventTypes[Opened | Closed](Opened, Closed)


def handlers_get_events_and_connections_of_their_types() -> None:
    projection = Projection[PostgresConnection]("accounts", types=TYPES)

    @projection.on(Opened)
    async def opened(
        event: RecordedEvent[Opened], context: ProjectionContext[PostgresConnection]
    ) -> None:
        assert_type(event.data.owner, str)
        assert_type(context.connection, PostgresConnection)

    @projection.on(Opened, Closed)
    async def both(
        event: RecordedEvent[Opened | Closed], context: ProjectionContext[PostgresConnection]
    ) -> None: ...

    @projection.on("Frozen")
    async def frozen(
        event: RecordedEvent, context: ProjectionContext[PostgresConnection]
    ) -> None: ...

    @projection.on_batch(Closed)
    async def closed(
        events: Sequence[RecordedEvent[Closed]], context: ProjectionContext[PostgresConnection]
    ) -> None: ...

    @projection.on(Opened)  # type: ignore[arg-type]
    async def of_another_class(
        event: RecordedEvent[Closed], context: ProjectionContext[PostgresConnection]
    ) -> None: ...

    @projection.on(Opened)  # type: ignore[arg-type]
    async def of_another_database(
        event: RecordedEvent[Opened], context: ProjectionContext[SQLiteConnection]
    ) -> None: ...


async def checkpoints_fit_the_handlers(
    store: EventStore, postgres: PostgresCheckpoints, sqlite: SQLiteCheckpoints
) -> None:
    on_sqlite = Projection[SQLiteConnection]("accounts")
    anywhere = Projection("accounts")
    Runner(store, on_sqlite, sqlite)
    Runner(store, anywhere, StreamCheckpoints(store))
    Runner(store, anywhere, MemoryCheckpoints())
    PartitionedRunner(store, on_sqlite, sqlite)
    kept: CheckpointStore[PostgresConnection] = postgres
    lease: Lease[PostgresConnection] | None = await kept.acquire(anywhere.id, "me", 1)
    assert lease is not None
    async with lease.advance(1) as connection:
        assert_type(connection, PostgresConnection)


def checkpoints_that_do_not_fit(
    store: EventStore, postgres: CheckpointStore[PostgresConnection]
) -> None:
    on_sqlite = Projection[SQLiteConnection]("accounts")
    Runner[SQLiteConnection](store, on_sqlite, postgres)  # type: ignore[arg-type]
