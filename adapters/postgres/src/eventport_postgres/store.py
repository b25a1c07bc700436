"""The store in PostgreSQL: what opens it, and what only it can do."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

import asyncpg

from msgspec import Meta

from eventport import ConfigurationError, NotSupportedError, StoreClosedError
from eventport.adapter import Store, checks_options, open_to_end, redact, require_asyncio
from eventport.transactions import DocumentReader, InlineHandler

from eventport_postgres import schema as schemas
from eventport_postgres.asking import AnyConnection
from eventport_postgres.connections import Connections, OwnConnections, PoolConnections
from eventport_postgres.documents import open_documents
from eventport_postgres.engine import ListeningPostgresEngine, PostgresEngine
from eventport_postgres.errors import DRIVER_ERRORS, StandbyError, translated
from eventport_postgres.inline import Connection
from eventport_postgres.joined import JoinedEventStore
from eventport_postgres.looking import find_landmark
from eventport_postgres.places import check_url
from eventport_postgres.projections import PostgresCheckpoints
from eventport_postgres.schema import DEFAULT_SCHEMA
from eventport_postgres.servers import check_server


Migrate: TypeAlias = Literal["auto", "explicit"]
"""Whether opening a store creates and upgrades its schema, or demands that it is there."""

Pool: TypeAlias = "asyncpg.Pool[Any]"
PoolSize: TypeAlias = Annotated[int, Meta(ge=1, le=1000)]
Timeout: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]
"""Seconds."""

_UPGRADE_TIMEOUT: Final = 30.0
"""How many seconds the server has to let `PostgresSchema` in."""


class PostgresEventStore(Store):
    """An event store in one schema of a PostgreSQL database. It runs under asyncio.

    Any number of stores, in one process or in many, work on one schema. Make one with `connect`,
    or on a pool of your own with `on_pool`.
    """

    def __init__(self, engine: PostgresEngine) -> None:
        super().__init__(engine, batching="contended")
        self._postgres = engine

    @classmethod
    @checks_options
    async def connect(
        cls,
        url: str,
        *,
        schema: str = DEFAULT_SCHEMA,
        migrate: Migrate = "auto",
        pool_size: PoolSize = 4,
        timeout: Timeout = 30.0,  # noqa: ASYNC109  # it is not that of this call alone
        transaction_pooling: bool = False,
    ) -> Self:
        """Open the store that a URL names: ``postgres://user:password@host:5432/database``.

        Args:
            url: As libpq and asyncpg understand it; what it leaves out comes from ``PGHOST`` and
                the like.
            schema: The schema that holds the tables.
            migrate: ``auto`` creates and upgrades the schema; ``explicit`` demands that it is
                there, made by ``eventport schema upgrade``.
            pool_size: How many connections read at the same time, at most. There are two more,
                one that writes and one that listens.
            timeout: How many seconds to wait for the server, if it is out of reach or busy.
            transaction_pooling: Whether a pooler in transaction mode, such as PgBouncer, is
                between. It takes away prepared statements and notifications.

        Raises:
            ConfigurationError: the URL or an option is wrong, or the server does not let us in.
            IncompatibleStoreError: the schema is of a newer version, or belongs to something
                else, or is not there.
            NotSupportedError: the server cannot do what is needed, or this is not asyncio.
            StoreUnavailableError: the server cannot be reached.
        """
        require_asyncio("Postgres", "asyncpg does")
        url = check_url(url)
        own = OwnConnections(url, pool_size, transaction_pooling=transaction_pooling)
        return await cls._open(
            redact(url), own, schema, migrate, timeout, transaction_pooling=transaction_pooling
        )

    @classmethod
    @checks_options
    async def on_pool(
        cls,
        pool: Pool,
        *,
        schema: str = DEFAULT_SCHEMA,
        migrate: Migrate = "auto",
        timeout: Timeout = 30.0,  # noqa: ASYNC109  # it is not that of this call alone
        transaction_pooling: bool = False,
    ) -> Self:
        """Open a store that uses a pool of the caller's, which it does not close.

        It holds one of its connections to listen, and takes another one for each commit and for
        each read, so the pool must have at least two. Behind a pooler in transaction mode it
        does not listen, and one will do.
        """
        require_asyncio("Postgres", "asyncpg does")
        if pool.get_max_size() < 2 and not transaction_pooling:
            message = (
                f"this pool has max_size={pool.get_max_size()}; the store holds one connection to "
                "listen and needs another one to work: create the pool with max_size=2 or more"
            )
            raise ConfigurationError(message)
        connections = PoolConnections(pool)
        return await cls._open(
            "a pool", connections, schema, migrate, timeout, transaction_pooling=transaction_pooling
        )

    @classmethod
    async def _open(
        cls,
        address: str,
        connections: Connections,
        schema: str,
        migrate: Migrate,
        timeout: float,  # noqa: ASYNC109  # as above
        *,
        transaction_pooling: bool,
    ) -> Self:
        schema = schemas.check_schema(schema)

        async def opening() -> Self:
            try:
                async with connections.writing(timeout) as connection:
                    await check_server(connection)
                    if migrate == "auto":
                        await schemas.upgrade(connection, schema)
                    else:
                        await schemas.require_current(connection, schema)
                    place = await schemas.find_place(connection, schema)
                    landmark = await find_landmark(connection, schema)
            except BaseException as exc:
                await connections.close()
                if isinstance(exc, StandbyError):
                    raise NotSupportedError(str(exc)) from exc
                if isinstance(exc, Exception):
                    # What asyncpg says of a URL that it does not understand holds all of it.
                    raise translated(exc) from (None if isinstance(exc, ValueError) else exc)
                raise
            where = (address, connections, schema, place, landmark)
            if transaction_pooling:
                return cls(PostgresEngine(*where, timeout=timeout, transaction_pooling=True))
            return cls(ListeningPostgresEngine(*where, timeout=timeout))

        return await open_to_end(opening)

    @property
    def store_id(self) -> str:
        """The store's own id: made with it, and kept by backups, restores and renames."""
        return self._postgres.store_id

    def using(self, connection: AnyConnection) -> JoinedEventStore:
        """Return a store that works inside the transaction that is open on a connection.

        What it appends is committed, or rolled back, together with everything else that the
        caller does in that transaction. See `JoinedEventStore`.

        Raises:
            StoreClosedError: this store has been closed.
        """
        if self.closed:
            message = f"{self!r} has been closed"
            raise StoreClosedError(message)
        return JoinedEventStore(self._postgres.joined(connection))

    def inline(self, handler: InlineHandler[Connection]) -> InlineHandler[Connection]:
        """Register a handler that runs in the transaction of each commit of this store.

        See `InlineStore.inline`. Its connection is asyncpg's. Handlers also run in stores that
        `using` returns.

        Raises:
            InvalidArgumentTypeError: it cannot be called.
        """
        self._postgres.inline.add(handler)
        return handler

    def checkpoints(self) -> AbstractAsyncContextManager[PostgresCheckpoints]:
        """Open the checkpoints in the same schema, on connections of their own or on the pool."""
        engine = self._postgres
        return PostgresCheckpoints.on_connections(
            engine.connections.separate(), engine.schema, engine.timeout
        )

    def read_models(self) -> AbstractAsyncContextManager[DocumentReader]:
        """Open the documents in the same schema; see `open_read_models`."""
        engine = self._postgres
        return open_documents(engine.connections.separate(), engine.schema, engine.timeout)


class PostgresSchema:
    """What the command line does about the schema of a store."""

    @staticmethod
    def sql(*, schema: str = DEFAULT_SCHEMA, since: int = 0) -> str:
        """Return the SQL that brings a schema from a version to the newest."""
        return schemas.migration_sql(schemas.check_schema(schema), since)

    @staticmethod
    async def upgrade(
        url: str, *, schema: str = DEFAULT_SCHEMA, transaction_pooling: bool = False
    ) -> tuple[int, int]:
        """Bring a schema to the newest version; return the one that was there, and that.

        It also repairs what a rename or a restore in part has left: functions that name
        another schema, a sequence behind its events, a lost identity.
        """
        url = check_url(url)
        schema = schemas.check_schema(schema)
        connections = OwnConnections(url, 1, transaction_pooling=transaction_pooling)
        try:
            async with connections.writing(_UPGRADE_TIMEOUT) as connection:
                await check_server(connection)
                before = await schemas.upgrade(connection, schema, repair=True)
                return before, schemas.SCHEMA_VERSION
        except (*DRIVER_ERRORS, ValueError) as exc:
            raise translated(exc) from (None if isinstance(exc, ValueError) else exc)
        finally:
            await connections.close()
