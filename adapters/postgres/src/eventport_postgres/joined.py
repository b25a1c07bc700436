"""A store inside a transaction of the caller's."""

from __future__ import annotations

import asyncio

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Concatenate, Final, ParamSpec, TypeVar

from anyio import Lock

from eventport import Capability, NotSupportedError, StoreUnavailableError, StreamInfo
from eventport.adapter import (
    AllPage,
    AllQuery,
    Commit,
    JoinedStore,
    MatchPage,
    MatchQuery,
    NameQuery,
    Outcome,
    StreamPage,
    StreamQuery,
    limit_wait,
)

from eventport_postgres.asking import AnyConnection
from eventport_postgres.batches import Statements, write_batch
from eventport_postgres.errors import DRIVER_ERRORS, translated
from eventport_postgres.guards import independent_parts
from eventport_postgres.inline import InlineProjections, undo_within
from eventport_postgres.reading import Reader
from eventport_postgres.schema import Place


P = ParamSpec("P")
T = TypeVar("T")

# There is no such savepoint. The driver asks the server to cancel a statement, which may have
# ended before; this aborts the transaction in any case.
_ABORT: Final = "ROLLBACK TO SAVEPOINT eventport_cancelled"


class JoinedEventStore(JoinedStore):
    """An `EventStore` whose effects belong to the transaction that is open on a connection.

    Reads of a stream see what the transaction has appended. The order of the whole store, which
    `read_all` gives, holds only what has been committed, and ends below this transaction: as
    long as it is open, it keeps other readers from going beyond the place where it began. So
    keep it short. An error of the server aborts the transaction, as any statement's would; a
    conflict does not. An append that is cancelled leaves nothing: with inline handlers it alone is
    undone if it can be, and without any the transaction is aborted, as by a cancelled statement.

    There are no after-commit hooks and no subscriptions, since it does not see the commit.
    """


class PostgresJoinedEngine:
    """Works inside the transaction that is open on a connection.

    Args:
        connection: The connection.
        schema: The schema, not quoted.
        place: The store that was found there.
        inline: What runs with each commit.
        written: Called with the connection when something was written.
        timeout: How many seconds a call may take.
    """

    capabilities: frozenset[Capability] = frozenset(
        {
            Capability.SESSIONS,
            Capability.GLOBAL_ORDER,
            Capability.GUARDS,
            Capability.CONDITIONS,
            Capability.TIMES,
            Capability.CATALOGUE,
        }
    )
    limitations: Mapping[Capability, str] = MappingProxyType(
        {
            Capability.PUSH: "a transaction gets no notifications",
            Capability.SHARED: "the transaction belongs to one connection",
            Capability.DURABLE: "the transaction may be rolled back",
        }
    )

    def __init__(
        self,
        connection: AnyConnection,
        schema: str,
        place: Place,
        inline: InlineProjections,
        written: Callable[[AnyConnection], None],
        timeout: float,
    ) -> None:
        self.name: Final = f"schema {schema}"
        self._connection = connection
        self._inline = inline
        self._written = written
        self._timeout = timeout
        self._reader = Reader(schema, place)
        self._statements = Statements(schema, place)
        self._lock = Lock()  # a connection does one thing at a time

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        """See `Engine.commit`."""
        outcomes: list[Outcome] = []
        for part in independent_parts(batch):
            outcomes += await self._ask(self._write, part)
        self._written(self._connection)
        return outcomes

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        """See `Engine.read_stream`."""
        return await self._ask(self._reader.stream, query)

    async def read_streams(self, streams: Sequence[str], /) -> Mapping[str, StreamPage]:
        """See `ReadsMany.read_streams`."""
        return await self._ask(self._reader.many, streams)

    async def read_heads(self, streams: Sequence[str], /) -> Mapping[str, int]:
        """See `ReadsHeads.read_heads`."""
        return await self._ask(self._reader.heads, streams)

    async def read_all(self, query: AllQuery, /) -> AllPage:
        """See `Engine.read_all`."""
        return await self._ask(self._reader.all, query)

    async def query(self, query: MatchQuery, /) -> MatchPage:
        """See `Queries.query`."""
        return await self._ask(self._reader.matches, query)

    async def list_streams(self, query: NameQuery, /) -> Sequence[StreamInfo]:
        """See `Catalogues.list_streams`."""
        return await self._ask(self._reader.streams, query)

    async def close(self) -> None:
        """Leave the connection, and its transaction, to their owner."""

    async def _write(
        self, connection: AnyConnection, commits: Sequence[Commit]
    ) -> Sequence[Outcome]:
        if self._inline:
            request = self._statements.write(commits)
            return await self._inline.write_within(connection, commits, request)
        request = self._statements.write_first(commits)
        try:
            return await write_batch(connection, self._statements, commits, request)
        except asyncio.CancelledError:
            await undo_within(connection, _ABORT)
            raise

    async def _ask(
        self,
        query: Callable[Concatenate[AnyConnection, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        async with self._lock:
            if self._connection.is_closed():
                raise StoreUnavailableError("the connection of this transaction is closed")
            if not self._connection.is_in_transaction():
                message = (
                    "no transaction is open on this connection: call using() inside "
                    "`async with connection.transaction()`, and use its store only there"
                )
                raise NotSupportedError(message)
            try:
                async with limit_wait(self._timeout):
                    return await query(self._connection, *args, **kwargs)
            except DRIVER_ERRORS as exc:
                raise translated(exc) from exc
