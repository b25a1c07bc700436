"""The store in PostgreSQL."""

from __future__ import annotations

import asyncio

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import (
    Any,
    ClassVar,
    Concatenate,
    Final,
    Literal,
    ParamSpec,
    Self,
    TypeAlias,
    TypeVar,
    get_args,
)

import asyncpg

from eventport.adapter import (
    AllPage,
    BaseEventStore,
    Commit,
    Committed,
    Failed,
    Outcome,
    StreamPage,
)
from eventport.configuration import redact
from eventport.errors import (
    ConfigurationError,
    InvalidArgumentTypeError,
)
from eventport.group_commit import GroupCommit
from eventport.opening import open_to_end, require_asyncio
from eventport.protocols import Capability

from eventport_postgres import schema as schemas
from eventport_postgres.connections import (
    Connections,
    OwnConnections,
    PoolConnections,
    check_server,
    not_used_again_if_lost,
)
from eventport_postgres.errors import DRIVER_ERRORS, StreamBusyError, is_lost, translated
from eventport_postgres.inline import InlineHandler, InlineProjections
from eventport_postgres.joined import JoinedEventStore
from eventport_postgres.push import Push
from eventport_postgres.reading import Reader
from eventport_postgres.schema import DEFAULT_SCHEMA, AnyConnection
from eventport_postgres.writing import Writer


P = ParamSpec("P")
T = TypeVar("T")

Migrate: TypeAlias = Literal["auto", "explicit"]
"""Whether opening a store creates and upgrades its schema, or demands that it is there."""

_MAX_SECONDS: Final = 86_400.0
_PAUSE: Final = 0.02
"""How many seconds to wait before the server is tried again."""


class PostgresEventStore(BaseEventStore):
    """An event store in one schema of a PostgreSQL database. It runs under asyncio.

    Any number of stores, in one process or in many, work on one schema. Make one with `connect`,
    or on a pool of your own with `on_pool`.
    """

    limitations: ClassVar[dict[Capability, str]] = {
        Capability.PUSH: "a pooler in transaction mode passes no notifications on; subscriptions "
        "look again and again",
    }

    def __init__(
        self,
        name: str,
        connections: Connections,
        schema: str,
        timeout: float,
        namespace: int,
        head: int,
        *,
        transaction_pooling: bool,
    ) -> None:
        super().__init__()
        self.capabilities = frozenset(Capability)
        self._name = name
        self._connections = connections
        self._schema = schema
        self._timeout = timeout
        self._reader = Reader(schema)
        self._inline = InlineProjections()
        self._writer, self._patient_writer = (
            Writer(
                connections,
                schema,
                timeout,
                head,
                self._inline,
                transaction_pooling=transaction_pooling,
                patient=patient,
            )
            for patient in (False, True)
        )
        self._waiting = GroupCommit(self._commit_patiently)
        self._awaited: Counter[str] = Counter()
        """The streams of the commits that are there."""
        self._push: Push | None = None
        if transaction_pooling:
            self.capabilities -= {Capability.PUSH}
        else:
            # Channels belong to a database, and so do the numbers of its sequences.
            self._push = Push(connections, f"eventport_{namespace}", self.wake, timeout)

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        schema: str = DEFAULT_SCHEMA,
        migrate: Migrate = "auto",
        pool_size: int = 4,
        timeout: float = 30.0,  # noqa: ASYNC109  # it is not that of this call alone
        transaction_pooling: bool = False,
    ) -> Self:
        """Open the store that a URL names: ``postgres://user:password@host:5432/database``.

        Args:
            url: As libpq and asyncpg understand it; what it leaves out comes from ``PGHOST`` and
                the like.
            schema: The schema that holds the tables.
            migrate: ``auto`` creates and upgrades the schema; ``explicit`` demands that it is
                there, made by ``eventport schema upgrade``.
            pool_size: How many connections read at the same time, at the most. There are two
                more, one that writes and one that listens, and a third one once an append has
                to wait for a stream that another transaction keeps locked.
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
        _check_options(migrate, pool_size, timeout)
        check_url(url)
        own = OwnConnections(url, pool_size, transaction_pooling=transaction_pooling)
        return await cls._open(
            redact(url), own, schema, migrate, timeout, transaction_pooling=transaction_pooling
        )

    @classmethod
    async def on_pool(
        cls,
        pool: asyncpg.Pool[Any],
        *,
        schema: str = DEFAULT_SCHEMA,
        migrate: Migrate = "auto",
        timeout: float = 30.0,  # noqa: ASYNC109  # it is not that of this call alone
        transaction_pooling: bool = False,
    ) -> Self:
        """Open a store that uses a pool of the caller's, which it does not close.

        It holds one of its connections to listen, and takes another one for each commit and for
        each read, so the pool must have at least two. Behind a pooler in transaction mode it
        does not listen, and one will do.
        """
        require_asyncio("Postgres", "asyncpg does")
        _check_options(migrate, 1, timeout)
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
        name: str,
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
                    namespace, head = await schemas.find_place(connection, schema)
            except BaseException as exc:
                await connections.close()
                if isinstance(exc, Exception):
                    # What asyncpg says of a URL that it does not understand holds all of it.
                    raise translated(exc) from (None if isinstance(exc, ValueError) else exc)
                raise
            return cls(
                name,
                connections,
                schema,
                timeout,
                namespace,
                head,
                transaction_pooling=transaction_pooling,
            )

        return await open_to_end(opening)

    def __repr__(self) -> str:
        """Show the place, without a password."""
        return f"<PostgresEventStore: {self._name}, schema {self._schema}>"

    def using(self, connection: AnyConnection) -> JoinedEventStore:
        """Return a store that works inside the transaction that is open on a connection.

        What it appends is committed, or rolled back, together with everything else that the
        caller does in that transaction. See `JoinedEventStore`.
        """
        self._check_open()
        return JoinedEventStore(connection, self._schema, self._inline)

    def inline(self, handler: InlineHandler) -> InlineHandler:
        """Register a handler that runs in the transaction of each commit of this store.

        It is called with the connection that is in that transaction, and with the events of the
        one commit as they will be read. What it writes and the events become visible together,
        or not at all: if it raises, the append raises `InlineProjectionError`. It may be called
        again for a commit whose first transaction was undone. Handlers run in the order of
        registration, also in stores that `using` returns. It also serves as a decorator.

        Raises:
            InvalidArgumentTypeError: it cannot be called.
        """
        self._inline.add(handler)
        return handler

    async def _dispatch(self, commit: Commit) -> Outcome:
        """Hand one commit over.

        If a stream of it is locked by a long transaction, it waits on a connection apart,
        together with those that come later, so that it holds up nobody who wants other streams.
        With handlers all do, since these may wait for locks of their own.
        """
        if self._inline:
            self._inline.refuse_within()
            return await self._waiting.submit(commit)
        streams = {write.stream for write in commit.writes}
        if self._awaited.keys().isdisjoint(streams):
            outcome = await super()._dispatch(commit)
            if not (isinstance(outcome, Failed) and isinstance(outcome.error, StreamBusyError)):
                return outcome
        self._awaited.update(streams)
        try:
            return await self._waiting.submit(commit)
        finally:
            self._awaited -= Counter(streams)

    async def _commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        outcomes = await self._writer.commit(commits)
        self._announce(outcomes)
        return outcomes

    async def _commit_patiently(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        self._patient_writer.head = max(self._patient_writer.head, self._writer.head)
        outcomes = await self._patient_writer.commit(commits)
        self._announce(outcomes)
        self.wake()
        return outcomes

    def _announce(self, outcomes: Sequence[Outcome]) -> None:
        if self._push is not None and any(isinstance(one, Committed) for one in outcomes):
            self._push.notify()

    async def _read_stream(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        return await self._read(self._reader.stream, stream, first, last, max_count, backwards)

    async def _read_all(
        self,
        after: int,
        max_count: int,
        types: frozenset[str] | None,
        prefix: str | None,
    ) -> AllPage:
        if self._push is not None:
            self._push.start()
        return await self._read(self._reader.all, after, max_count, types, prefix)

    async def _last_position(self, near: int) -> int:  # noqa: ARG002  # as in the base
        return await self._read(self._reader.last_position)

    async def _close(self) -> None:
        await self._waiting.drain()
        if self._push is not None:
            await self._push.close()
        await self._connections.close()

    async def _read(
        self,
        query: Callable[Concatenate[AnyConnection, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a query; it can be asked again if the connection is lost."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._timeout
        while True:
            try:
                async with (
                    self._connections.reading(max(deadline - clock(), 0.01)) as connection,
                    not_used_again_if_lost(connection),
                ):
                    return await query(connection, *args, **kwargs)
            except DRIVER_ERRORS as exc:
                self._check_open()
                if not is_lost(exc) or clock() > deadline:
                    raise translated(exc) from exc
            await asyncio.sleep(_PAUSE)
            self._check_open()


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
        """Bring a schema to the newest version; return the one that was there, and that."""
        check_url(url)
        schema = schemas.check_schema(schema)
        connections = OwnConnections(url, 1, transaction_pooling=transaction_pooling)
        try:
            async with connections.writing(30) as connection:
                await check_server(connection)
                return await schemas.upgrade(connection, schema), schemas.SCHEMA_VERSION
        except (*DRIVER_ERRORS, ValueError) as exc:
            raise translated(exc) from (None if isinstance(exc, ValueError) else exc)
        finally:
            await connections.close()


def check_url(url: object) -> None:
    """Raise `ConfigurationError` unless this is a URL of ours."""
    if not isinstance(url, str):
        message = f"a URL must be text, not {type(url).__name__}"
        raise InvalidArgumentTypeError(message)
    if url.partition("://")[0].lower() not in {"postgres", "postgresql"}:
        message = f"{redact(url)!r} must begin with postgres:// or postgresql://"
        raise ConfigurationError(message)


def _check_options(migrate: object, pool_size: object, timeout: object) -> None:
    if migrate not in get_args(Migrate):
        message = f"migrate must be one of {get_args(Migrate)}, not {migrate!r}"
        raise ConfigurationError(message)
    if type(pool_size) is not int or not 1 <= pool_size <= 1000:
        message = f"pool_size must be from 1 to 1000, not {pool_size!r}"
        raise ConfigurationError(message)
    if not isinstance(timeout, int | float) or not 0 < timeout <= _MAX_SECONDS:
        message = f"timeout must be above 0 and up to {_MAX_SECONDS:.0f} s, not {timeout!r}"
        raise ConfigurationError(message)
