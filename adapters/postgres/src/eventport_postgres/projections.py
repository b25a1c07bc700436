"""Checkpoints in PostgreSQL, in the transaction of the read model: each event counts once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final, Self, TypeAlias

import asyncpg

from msgspec.structs import astuple

from eventport.adapter import require_asyncio
from eventport.errors import LeaseLostError, NoDeadLetterError
from eventport.projections.checkpoints import Checkpoint, DeadLetter, ProjectionId

from eventport_postgres.asking import AnyConnection, ask, ask_one
from eventport_postgres.connections import Connections, OwnConnections, PoolConnections
from eventport_postgres.errors import DRIVER_ERRORS, is_lost, translated
from eventport_postgres.schema import DEFAULT_SCHEMA, LOCK, check_schema, exists, quoted
from eventport_postgres.store import check_url


Connection: TypeAlias = AnyConnection
"""What handlers write with: a connection of asyncpg, in an open transaction."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS {schema}.projections (
    name       pg_catalog.text NOT NULL,
    generation bigint          NOT NULL,
    position   bigint          NOT NULL DEFAULT 0,
    active     boolean         NOT NULL DEFAULT false, -- of several, the highest generation is
    owner      pg_catalog.text,
    fence      bigint          NOT NULL DEFAULT 0, -- counts the leases; only the last one is good
    expires_at pg_catalog.timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (name, generation)
);
CREATE TABLE IF NOT EXISTS {schema}.dead_letters (
    name       pg_catalog.text        NOT NULL,
    generation bigint                 NOT NULL,
    position   bigint                 NOT NULL,
    stream     pg_catalog.text        NOT NULL,
    version    bigint                 NOT NULL,
    type       pg_catalog.text        NOT NULL,
    error      pg_catalog.text        NOT NULL,
    attempts   bigint                 NOT NULL,
    at         pg_catalog.timestamptz NOT NULL,
    PRIMARY KEY (name, generation, position)
);
"""


class PostgresCheckpoints:
    """A `CheckpointStore` in two tables of a PostgreSQL database, that of the read model.

    What handlers write with the connection that they get is committed together with the
    checkpoint. Open one with `connect`, or on a pool of your own with `on_pool`.
    """

    def __init__(self, connections: Connections, schema: str, timeout: float) -> None:
        self._connections = connections
        self._schema = schema
        self._timeout = timeout
        self.sql = _Statements(quoted(schema))
        """The statements, for the leases."""

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str,
        *,
        schema: str = DEFAULT_SCHEMA,
        pool_size: int = 4,
        timeout: float = 30.0,  # noqa: ASYNC109  # it is not that of this call alone
        transaction_pooling: bool = False,
    ) -> AsyncGenerator[Self]:
        """Open the checkpoints in a database, and make their tables if they are not there.

        Args:
            url: As `PostgresEventStore.connect` takes it.
            schema: The schema that holds the tables; it may be that of an event store.
            pool_size: How many connections to have at the most.
            timeout: How many seconds to wait for the server.
            transaction_pooling: Whether a pooler in transaction mode is between.
        """
        require_asyncio("Postgres", "asyncpg does")
        url = check_url(url)
        connections = OwnConnections(url, pool_size, transaction_pooling=transaction_pooling)
        checkpoints = cls(connections, check_schema(schema), timeout)
        try:
            await checkpoints._create()
            yield checkpoints
        finally:
            await connections.close()

    @classmethod
    async def on_pool(
        cls,
        pool: asyncpg.Pool[Any],
        *,
        schema: str = DEFAULT_SCHEMA,
        timeout: float = 30.0,  # noqa: ASYNC109  # as above
    ) -> Self:
        """Use a pool of the caller's; a runner takes two of its connections at a time."""
        require_asyncio("Postgres", "asyncpg does")
        checkpoints = cls(PoolConnections(pool), check_schema(schema), timeout)
        await checkpoints._create()
        return checkpoints

    async def acquire(
        self, projection: ProjectionId, owner: str, seconds: float
    ) -> PostgresLease | None:
        """See `CheckpointStore.acquire`."""
        rows = await self.ask(self.sql.acquire, *projection, owner, seconds)
        return PostgresLease(self, projection, seconds, *rows[0]) if rows else None

    async def load(self, projection: ProjectionId) -> Checkpoint:
        """See `CheckpointStore.load`."""
        rows = await self.ask(self.sql.load, *projection)
        return Checkpoint(*rows[0]) if rows else Checkpoint(0, None)

    async def active(self, name: str) -> int:
        """See `CheckpointStore.active`."""
        rows = await self.ask(self.sql.active, name)
        generation: int = rows[0][0]
        return generation

    async def activate(self, projection: ProjectionId) -> None:
        """See `CheckpointStore.activate`."""
        await self.ask(self.sql.activate, *projection)

    async def dead_letters(self, projection: ProjectionId) -> list[DeadLetter]:
        """See `CheckpointStore.dead_letters`."""
        return [DeadLetter(*row) for row in await self.ask(self.sql.letters, *projection)]

    @asynccontextmanager
    async def resolve(
        self, projection: ProjectionId, position: int
    ) -> AsyncGenerator[Connection, None]:
        """See `CheckpointStore.resolve`."""
        async with self.transaction() as connection:
            # Whoever resolves the same one waits for the end of this transaction.
            if not await ask(connection, self.sql.resolve, *projection, position):
                raise NoDeadLetterError(projection, position)
            yield connection

    # What leases use.

    async def ask(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """Run one statement, which is a transaction of its own."""
        try:
            async with self._connections.reading(self._timeout) as connection:
                return await ask(connection, sql, *args, within=self._timeout)
        except DRIVER_ERRORS as exc:
            raise translated(exc) from exc

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Connection, None]:
        """Open a transaction; only the loss of the connection becomes an error of ours."""
        failure: Exception | None = None
        try:
            async with (
                self._connections.reading(self._timeout) as connection,
                connection.transaction(isolation="read_committed"),
            ):
                try:
                    yield connection
                except Exception as exc:
                    failure = exc
                    raise
        except DRIVER_ERRORS as exc:
            # What a handler raises is its own, be it some other connection of its that is lost.
            # If this connection is, then the rollback has failed, too, with another error.
            if exc is failure or not is_lost(exc):
                raise
            raise translated(exc) from exc

    async def _create(self) -> None:
        try:
            async with self.transaction() as connection:
                if (await ask_one(connection, self.sql.exist))[0]:
                    return
                await ask(connection, LOCK, f"eventport schema {self._schema}")
                name = quoted(self._schema)
                if not await exists(connection, self._schema):
                    await connection.execute(f"CREATE SCHEMA {name}")
                await connection.execute(_TABLES.replace("{schema}", name))
        except (*DRIVER_ERRORS, ValueError) as exc:
            # What asyncpg says of a URL that it does not understand holds all of it.
            raise translated(exc) from (None if isinstance(exc, ValueError) else exc)


class PostgresLease:
    """A `Lease` on a projection of `PostgresCheckpoints`."""

    def __init__(
        self,
        checkpoints: PostgresCheckpoints,
        projection: ProjectionId,
        seconds: float,
        fence: int,
        position: int,
    ) -> None:
        self._checkpoints = checkpoints
        self._sql = checkpoints.sql
        self._projection = projection
        self._seconds = seconds
        self._fence = fence
        self.position = position
        """See `Lease.position`."""

    async def renew(self, position: int) -> None:
        """See `Lease.renew`."""
        row = await self._checkpoints.ask(
            self._sql.renew, *self._projection, self._fence, position, self._seconds
        )
        self._require(row)

    @asynccontextmanager
    async def advance(
        self, position: int, *, dead_letter: DeadLetter | None = None
    ) -> AsyncGenerator[Connection, None]:
        """See `Lease.advance`.

        The server ends the transaction if it idles for longer than the lease: a runner that was
        stopped half-way must not hold the locks that the next one needs.
        """
        key = (*self._projection, self._fence)
        async with self._checkpoints.transaction() as connection:
            idle = str(max(1, round(self._seconds * 1000)))
            self._require(await ask(connection, self._sql.begin, *key, idle))
            yield connection
            if dead_letter is not None:
                values = astuple(dead_letter)
                await ask(connection, self._sql.give_up, *self._projection, *values)
            self._require(await ask(connection, self._sql.renew, *key, position, self._seconds))

    async def release(self) -> None:
        """See `Lease.release`."""
        await self._checkpoints.ask(self._sql.release, *self._projection, self._fence)

    def _require(self, rows: list[asyncpg.Record]) -> None:
        if not rows:
            raise LeaseLostError(self._projection)


class _Statements:
    """What is asked of one schema. All of it goes by the clock of the server."""

    def __init__(self, schema: str) -> None:
        projections, letters = f"{schema}.projections", f"{schema}.dead_letters"
        equals, now = "OPERATOR(pg_catalog.=)", "pg_catalog.clock_timestamp()"
        until = f"({now} OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => {{}}))"
        this = f"name {equals} $1 AND generation {equals} $2"
        mine = f"{this} AND fence {equals} $3"
        literal = schema.replace("'", "''")
        self.exist = (
            f"SELECT pg_catalog.to_regclass('{literal}.projections') IS NOT NULL "
            f"AND pg_catalog.to_regclass('{literal}.dead_letters') IS NOT NULL"
        )
        self.acquire = f"""
            INSERT INTO {projections} AS p (name, generation, owner, fence, expires_at)
            VALUES ($1, $2, $3, 1, {until.format("$4")})
            ON CONFLICT (name, generation) DO UPDATE
            SET owner = $3, fence = p.fence OPERATOR(pg_catalog.+) 1,
                expires_at = {until.format("$4")}
            WHERE p.expires_at OPERATOR(pg_catalog.<=) {now} OR p.owner {equals} $3
            RETURNING fence, position
        """  # noqa: S608  # it is quoted
        self.begin = f"""
            SELECT pg_catalog.set_config('idle_in_transaction_session_timeout', $4, true)
            FROM {projections} WHERE {mine}
        """  # noqa: S608  # as above
        self.renew = f"""
            UPDATE {projections}
            SET position = greatest(position, $4), expires_at = {until.format("$5")}
            WHERE {mine} RETURNING fence
        """  # noqa: S608  # as above
        self.release = f"""
            UPDATE {projections} SET owner = NULL, expires_at = '-infinity' WHERE {mine}
        """  # noqa: S608  # as above
        self.load = f"""
            SELECT position, CASE WHEN expires_at OPERATOR(pg_catalog.>) {now} THEN owner END
            FROM {projections} WHERE {this}
        """  # noqa: S608  # as above
        self.active = f"""
            SELECT coalesce(pg_catalog.max(generation), 0) FROM {projections}
            WHERE name {equals} $1 AND active
        """  # noqa: S608  # as above
        self.activate = f"""
            INSERT INTO {projections} (name, generation, active) VALUES ($1, $2, true)
            ON CONFLICT (name, generation) DO UPDATE SET active = true
        """  # noqa: S608  # as above
        columns = ", ".join(DeadLetter.__struct_fields__)
        self.letters = f"""
            SELECT {columns} FROM {letters}
            WHERE {this} ORDER BY position
        """  # noqa: S608  # as above
        self.give_up = f"""
            INSERT INTO {letters} (name, generation, {columns})
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING
        """  # noqa: S608  # as above
        self.resolve = f"""
            DELETE FROM {letters} WHERE {this} AND position {equals} $3
            RETURNING position
        """  # noqa: S608  # as above
