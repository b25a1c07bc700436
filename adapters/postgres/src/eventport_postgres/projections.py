"""Checkpoints in PostgreSQL, in the transaction of the read model: each event counts once."""

from __future__ import annotations

import asyncio

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Self, TypeAlias

import asyncpg

from anyio import CancelScope

from eventport.adapter import limit_wait, require_asyncio
from eventport.errors import ConfigurationError
from eventport.projections.sql import Dialect, SqlCheckpoints, added_columns
from eventport.transactions import DocumentWriter

from eventport_postgres.asking import AnyConnection, ask
from eventport_postgres.connections import Connections, OwnConnections, PoolConnections
from eventport_postgres.documents import documents_on
from eventport_postgres.errors import DRIVER_ERRORS, is_lost, translated
from eventport_postgres.places import check_url
from eventport_postgres.schema import DEFAULT_SCHEMA, LOCK, check_schema, exists, load_sql, quoted


Connection: TypeAlias = AnyConnection
"""What handlers write with: a connection of asyncpg, in an open transaction."""

_ADDED: Final = "".join(
    f"ALTER TABLE {{schema}}.projections ADD COLUMN IF NOT EXISTS {name} {declaration};\n"
    for name, declaration in added_columns("pg_catalog.text")
)

_COMPLETE: Final = """
SELECT pg_catalog.to_regclass($2) IS NOT NULL AND NOT EXISTS (
    SELECT FROM pg_catalog.unnest($3::pg_catalog.text[]) AS wanted(name)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_attribute
        WHERE attrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1)::pg_catalog.oid
        AND attname::pg_catalog.text OPERATOR(pg_catalog.=) wanted.name
    )
)
"""

_DIALECT: Final = Dialect(
    equals="OPERATOR(pg_catalog.=)",
    greater="OPERATOR(pg_catalog.>)",
    plus="OPERATOR(pg_catalog.+)",
    highest="pg_catalog.max",
    text="pg_catalog.text",
    # The server ends a transaction that idles: one of a runner that was halted, for example.
    limit_idling="pg_catalog.set_config('idle_in_transaction_session_timeout', $4, true)",
)
"""No name in it is resolved by the caller's search_path."""


class PostgresCheckpoints(SqlCheckpoints[Connection]):
    """A `CheckpointStore` in two tables of a PostgreSQL database, that of the read model.

    What handlers write with the connection that they get is committed together with the
    checkpoint. Open one with `connect`, or on a pool of your own with `on_pool`.
    """

    def __init__(self, database: _Tables) -> None:
        super().__init__(database)
        self._place = database.schema

    def documents(self, connection: Connection, /) -> DocumentWriter:
        """See `KeepsDocuments.documents`."""
        return documents_on(connection, self._place)

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
        create: bool = True,
    ) -> AsyncGenerator[Self]:
        """Open the checkpoints in a database, and make their tables if they are not there.

        Args:
            url: As `PostgresEventStore.connect` takes it.
            schema: The schema that holds the tables; it may be that of an event store.
            pool_size: How many connections to have at most.
            timeout: How many seconds to wait for the server.
            transaction_pooling: Whether a pooler in transaction mode is between.
            create: Whether to make the schema and the tables if there are none.

        Raises:
            ConfigurationError: there are no checkpoints, and none are to be made.
        """
        require_asyncio("Postgres", "asyncpg does")
        url = check_url(url)
        connections = OwnConnections(url, pool_size, transaction_pooling=transaction_pooling)
        async with cls.on_connections(
            connections, check_schema(schema), timeout, create=create
        ) as checkpoints:
            yield checkpoints

    @classmethod
    @asynccontextmanager
    async def on_connections(
        cls,
        connections: Connections,
        schema: str,
        timeout: float,  # noqa: ASYNC109  # as above
        *,
        create: bool = True,
    ) -> AsyncGenerator[Self]:
        """Open the checkpoints through connections, and close these at the end."""
        tables = _Tables(connections, schema, timeout)
        try:
            if not create:
                await tables.require()
            await tables.create()
            yield cls(tables)
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
        tables = _Tables(PoolConnections(pool), check_schema(schema), timeout)
        await tables.create()
        return cls(tables)


class _Tables:
    """The two tables of a schema, as a `Database`."""

    dialect: Dialect = _DIALECT

    def __init__(self, connections: Connections, schema: str, timeout: float) -> None:
        self._connections = connections
        self.schema = schema
        self._timeout = timeout
        self.projections = f"{quoted(schema)}.projections"
        """See `Database.projections`."""
        self.dead_letters = f"{quoted(schema)}.dead_letters"
        """See `Database.dead_letters`."""

    async def ask(self, sql: str, *values: object) -> list[asyncpg.Record]:
        """See `Database.ask`."""
        try:
            async with self._connections.reading(self._timeout) as connection:
                return await ask(connection, sql, *values, within=self._timeout)
        except DRIVER_ERRORS as exc:
            raise translated(exc) from exc

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Connection, None]:
        """See `Database.transaction`; only the loss of the connection becomes our error.

        Its beginning and its end have a deadline each. How long the block takes is the caller's
        business.
        """
        failure: Exception | None = None
        try:
            async with self._connections.reading(self._timeout) as connection:
                transaction = connection.transaction(isolation="read_committed")
                await self._in_time(transaction.start)
                try:
                    yield connection
                except BaseException as exc:
                    failure = exc if isinstance(exc, Exception) else None
                    await self._end(connection, transaction.rollback)
                    raise
                await self._end(connection, transaction.commit)
        except DRIVER_ERRORS as exc:
            # What a handler raises is its own, even if another connection of its is lost.
            # If this connection is, then the rollback has failed, too, with another error.
            if exc is failure or not is_lost(exc):
                raise
            raise translated(exc) from exc

    async def fetch(
        self, connection: Connection, sql: str, *values: object
    ) -> list[asyncpg.Record]:
        """See `Database.fetch`."""
        return await ask(connection, sql, *values, within=self._timeout)

    async def _end(self, connection: Connection, end: Callable[[], Awaitable[None]]) -> None:
        try:
            with CancelScope(shield=True):
                await self._in_time(end)
        except asyncio.CancelledError:  # asyncio's own kind: nobody may get what is half ended
            connection.terminate()
            raise

    async def _in_time(self, call: Callable[[], Awaitable[None]]) -> None:
        async with limit_wait(self._timeout):
            await call()

    async def require(self) -> None:
        """Raise `ConfigurationError` unless the tables are there, in this or an earlier version."""
        rows = await self.ask("SELECT pg_catalog.to_regclass($1) IS NOT NULL", self.projections)
        if not rows[0][0]:
            message = (
                f"there are no checkpoints in schema {self.schema!r}: check the names of the "
                "database and of the schema, or run a projection first"
            )
            raise ConfigurationError(message)

    async def create(self) -> None:
        """Make the tables, or bring those of an earlier version up to date."""
        try:
            async with self.transaction() as connection:
                columns = [name for name, _ in added_columns("pg_catalog.text")]
                names = self.projections, self.dead_letters, columns
                (row,) = await self.fetch(connection, _COMPLETE, *names)
                if row[0]:
                    return
                await self.fetch(connection, LOCK, f"eventport schema {self.schema}")
                name = quoted(self.schema)
                async with limit_wait(self._timeout):
                    if not await exists(connection, self.schema):
                        await connection.execute(f"CREATE SCHEMA {name}")
                    await connection.execute(load_sql("checkpoints.sql", name))
                    await connection.execute(_ADDED.replace("{schema}", name))
        except (*DRIVER_ERRORS, ValueError) as exc:
            # What asyncpg says of a URL that it does not understand holds all of it.
            raise translated(exc) from (None if isinstance(exc, ValueError) else exc)
