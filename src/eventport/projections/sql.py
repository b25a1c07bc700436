"""Checkpoints in two tables of an SQL database, in the transaction of the read model.

All but the connection and the tables' types is alike on every database: each brings a `Database`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar
from uuid import UUID

from msgspec import Struct, convert
from msgspec.structs import astuple

from eventport.projections.checkpoints import (
    Checkpoint,
    DeadLetter,
    LastEvent,
    ProjectionId,
    refuse_divided,
)
from eventport.projections.refusals import AlreadyHandledError, LeaseLostError, NoDeadLetterError
from eventport.projections.standing_by import StandBy


C = TypeVar("C")

Rows: TypeAlias = Sequence[Iterable[Any]]


def added_columns(text: str) -> list[tuple[str, str]]:
    """Return the columns that the table of the first version does not have, and their types.

    Args:
        text: The type of texts.
    """
    return [
        ("renewals", "bigint NOT NULL DEFAULT 0"),
        ("seconds", "double precision NOT NULL DEFAULT 15"),
        ("event_position", "bigint"),
        ("event_stream", text),
        ("event_version", "bigint"),
        ("event_id", text),
        ("store_id", text),
        ("partitions", "bigint NOT NULL DEFAULT 0"),
    ]


_COLUMNS: Final = ", ".join(DeadLetter.__struct_fields__)
_LAST: Final = "event_position, event_stream, event_version, event_id"


class Dialect(Struct, frozen=True):
    """How the SQL of a database is written, where databases differ.

    Where a caller's settings decide what a name means, it is qualified here.
    """

    limit_idling: str
    """An expression that limits how long the transaction may idle, to ``$4`` milliseconds."""
    equals: str = "="
    greater: str = ">"
    plus: str = "+"
    highest: str = "max"
    text: str = "text"


class Database(Protocol[C]):
    """What is different from one database to another."""

    @property
    def projections(self) -> str:
        """The name of the table of projections, as it stands in a statement."""
        ...

    @property
    def dead_letters(self) -> str:
        """The name of the table of dead letters, as it stands in a statement."""
        ...

    @property
    def dialect(self) -> Dialect:
        """How its SQL is written."""
        ...

    async def ask(self, sql: str, *values: object) -> Rows:
        """Run one statement with parameters written ``$1``, as a transaction of its own."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[C]:
        """Open a transaction that is committed at the end of the block."""
        ...

    async def fetch(self, connection: C, sql: str, *values: object) -> Rows:
        """Run one statement in the transaction that is open on a connection."""
        ...


class SqlCheckpoints(Generic[C]):
    """A `CheckpointStore` in two tables of a database, that of the read model.

    What handlers write with the connection that they get is committed together with the
    checkpoint.
    """

    def __init__(self, database: Database[C]) -> None:
        self._database = database
        self._sql = _Statements(database)
        self._stand_by = StandBy()

    async def acquire(
        self, projection: ProjectionId, owner: str, seconds: float, store_id: str | None = None
    ) -> SqlLease[C] | None:
        """See `CheckpointStore.acquire`."""
        rows = await self._database.ask(self._sql.look, *projection)
        fence, renewals, holder, lasts = rows[0] if rows else (0, 0, None, 0.0)
        if holder not in {None, owner} and not self._stand_by.has_run_out(
            projection, (fence, renewals), lasts
        ):
            return None
        values = (*projection, owner, seconds, store_id, fence, renewals)
        rows = await self._database.ask(self._sql.acquire, *values)
        if not rows:
            return None  # another runner was faster, or it was renewed in this moment
        fence, *columns = rows[0]
        return SqlLease(self._database, self._sql, projection, seconds, fence, _checkpoint(columns))

    async def load(self, projection: ProjectionId) -> Checkpoint:
        """See `CheckpointStore.load`."""
        rows = await self._database.ask(self._sql.load, *projection)
        return _checkpoint(rows[0]) if rows else Checkpoint()

    async def reset(self, projection: ProjectionId, position: int) -> None:
        """See `CheckpointStore.reset`."""
        refuse_divided(projection, await self.load(projection))
        await self._database.ask(self._sql.reset, *projection, position)

    async def divide(self, projection: ProjectionId, partitions: int) -> int:
        """See `CheckpointStore.divide`."""
        await self._database.ask(self._sql.divide, *projection, partitions)
        return (await self.load(projection)).partitions

    async def active(self, name: str) -> int:
        """See `CheckpointStore.active`."""
        ((generation,),) = await self._database.ask(self._sql.active, name)
        return int(generation)

    async def activate(self, projection: ProjectionId) -> None:
        """See `CheckpointStore.activate`."""
        await self._database.ask(self._sql.activate, *projection)

    async def dead_letters(self, projection: ProjectionId) -> list[DeadLetter]:
        """See `CheckpointStore.dead_letters`."""
        rows = await self._database.ask(self._sql.letters, *projection)
        fields = DeadLetter.__struct_fields__
        return [convert(dict(zip(fields, row, strict=True)), DeadLetter) for row in rows]

    @asynccontextmanager
    async def resolve(self, projection: ProjectionId, position: int) -> AsyncGenerator[C, None]:
        """See `CheckpointStore.resolve`."""
        async with self._database.transaction() as connection:
            # A second caller that resolves the same letter waits for the end of this transaction.
            sql = self._sql.resolve
            if not await self._database.fetch(connection, sql, *projection, position):
                raise NoDeadLetterError(projection, position)
            yield connection


class SqlLease(Generic[C]):
    """A `Lease` on a projection of `SqlCheckpoints`."""

    def __init__(
        self,
        database: Database[C],
        sql: _Statements,
        projection: ProjectionId,
        seconds: float,
        fence: int,
        checkpoint: Checkpoint,
    ) -> None:
        self._database = database
        self._sql = sql
        self._projection = projection
        self._key = (*projection, fence)
        self._idle = str(max(1, round(seconds * 1000)))
        self.checkpoint = checkpoint
        """See `Lease.checkpoint`."""

    async def renew(self, position: int) -> None:
        """See `Lease.renew`."""
        self._require(
            await self._database.ask(self._sql.renew, *self._key, position, None, None, None)
        )

    @asynccontextmanager
    async def advance(
        self,
        position: int,
        *,
        last_event: LastEvent | None = None,
        dead_letter: DeadLetter | None = None,
    ) -> AsyncGenerator[C, None]:
        """See `Lease.advance`.

        Where the server can, it ends the transaction if it idles for longer than the lease: a
        runner that was halted must not hold the locks that the next one needs.

        A transaction whose commit was not answered may end while this one is open. It has
        moved the checkpoint then, so that the last statement of this one finds nothing to renew.
        """
        last: tuple[object, ...] = (None, None, None)
        if last_event is not None:
            last = (last_event.stream, last_event.version, str(last_event.id))
        fetch = self._database.fetch
        async with self._database.transaction() as connection:
            rows = await fetch(connection, self._sql.hold, *self._key, self._idle)
            self._require(rows)
            if last_event is not None and next(iter(rows[0])) >= position:
                raise AlreadyHandledError
            yield connection
            if dead_letter is not None:
                values = astuple(dead_letter)
                await fetch(connection, self._sql.give_up, *self._projection, *values)
            self._require(await fetch(connection, self._sql.renew, *self._key, position, *last))

    async def release(self) -> None:
        """See `Lease.release`."""
        await self._database.ask(self._sql.release, *self._key)

    def _require(self, rows: Rows) -> None:
        if not rows:
            raise LeaseLostError(self._projection)


def _checkpoint(columns: Iterable[Any]) -> Checkpoint:
    position, owner, store_id, partitions, at, stream, version, id_ = columns
    last_event = None if stream is None else LastEvent(at, stream, version, UUID(id_))
    return Checkpoint(position, owner, last_event, store_id, partitions)


class _Statements:
    """The statements on the two tables. None of them uses a clock."""

    def __init__(self, database: Database[Any]) -> None:
        projections, letters = database.projections, database.dead_letters
        sql = database.dialect
        this = f"name {sql.equals} $1 AND generation {sql.equals} $2"
        mine = f"{this} AND fence {sql.equals} $3"
        checkpoint = f"position, owner, store_id, partitions, {_LAST}"
        position, stream = "CAST($4 AS bigint)", f"CAST($5 AS {sql.text})"
        self.look = f"SELECT fence, renewals, owner, seconds FROM {projections} WHERE {this}"  # noqa: S608  # no value goes into the text
        self.acquire = f"""
            INSERT INTO {projections} AS p (name, generation, owner, seconds, store_id, fence)
            VALUES ($1, $2, $3, $4, $5, 1)
            ON CONFLICT (name, generation) DO UPDATE
            SET owner = excluded.owner, seconds = excluded.seconds, fence = p.fence {sql.plus} 1,
                store_id = coalesce(p.store_id, excluded.store_id)
            WHERE p.fence {sql.equals} $6 AND p.renewals {sql.equals} $7
            RETURNING fence, {checkpoint}
        """  # noqa: S608  # as above
        self.hold = f"SELECT position, {sql.limit_idling} FROM {projections} WHERE {mine}"  # noqa: S608  # as above
        self.renew = f"""
            UPDATE {projections}
            SET position = CASE WHEN {position} {sql.greater} position
                    THEN {position} ELSE position END,
                renewals = renewals {sql.plus} 1,
                event_position = CASE WHEN {stream} IS NULL THEN event_position ELSE {position} END,
                event_stream = coalesce({stream}, event_stream),
                event_version = coalesce(CAST($6 AS bigint), event_version),
                event_id = coalesce(CAST($7 AS {sql.text}), event_id)
            WHERE {mine} AND ({stream} IS NULL OR {position} {sql.greater} position)
            RETURNING fence
        """  # noqa: S608  # as above
        self.release = f"UPDATE {projections} SET owner = NULL WHERE {mine}"  # noqa: S608  # as above
        self.load = f"SELECT {checkpoint} FROM {projections} WHERE {this}"  # noqa: S608  # as above
        self.reset = f"""
            INSERT INTO {projections} AS p (name, generation, position) VALUES ($1, $2, $3)
            ON CONFLICT (name, generation) DO UPDATE
            SET position = excluded.position, owner = NULL, fence = p.fence {sql.plus} 1,
                store_id = NULL,
                event_position = NULL, event_stream = NULL, event_version = NULL, event_id = NULL
        """  # noqa: S608  # as above
        self.divide = f"""
            INSERT INTO {projections} AS p (name, generation, partitions) VALUES ($1, $2, $3)
            ON CONFLICT (name, generation) DO UPDATE SET partitions = excluded.partitions
            WHERE p.partitions {sql.equals} 0 AND p.fence {sql.equals} 0
                AND p.position {sql.equals} 0
        """  # noqa: S608  # as above
        self.active = f"""
            SELECT coalesce({sql.highest}(generation), 0) FROM {projections}
            WHERE name {sql.equals} $1 AND active
        """  # noqa: S608  # as above
        self.activate = f"""
            INSERT INTO {projections} (name, generation, active) VALUES ($1, $2, true)
            ON CONFLICT (name, generation) DO UPDATE SET active = true
        """  # noqa: S608  # as above
        self.letters = f"SELECT {_COLUMNS} FROM {letters} WHERE {this} ORDER BY position"  # noqa: S608  # as above
        self.give_up = f"""
            INSERT INTO {letters} (name, generation, {_COLUMNS})
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING
        """  # noqa: S608  # as above
        self.resolve = f"""
            DELETE FROM {letters} WHERE {this} AND position {sql.equals} $3 RETURNING position
        """  # noqa: S608  # as above
