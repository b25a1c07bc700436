"""The engine in PostgreSQL: one attempt for each call; the core tries again, finds and waits."""

from __future__ import annotations

import asyncio

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Concatenate, Final, ParamSpec, TypeVar

from anyio import current_effective_deadline

from eventport import Capability, StreamInfo
from eventport.adapter import (
    Alarms,
    AllPage,
    AllQuery,
    Commit,
    Committed,
    MatchPage,
    MatchQuery,
    NameQuery,
    Outcome,
    Remark,
    StreamPage,
    StreamQuery,
)

from eventport_postgres import fencing
from eventport_postgres.asking import AnyConnection
from eventport_postgres.connections import Connections
from eventport_postgres.errors import DRIVER_ERRORS, is_lost, lost, translated
from eventport_postgres.examining import examine
from eventport_postgres.inline import InlineProjections
from eventport_postgres.joined import PostgresJoinedEngine
from eventport_postgres.looking import Landmark
from eventport_postgres.push import Push
from eventport_postgres.reading import Reader
from eventport_postgres.schema import Place
from eventport_postgres.writing import Writer


P = ParamSpec("P")
T = TypeVar("T")

_SHARE: Final = 0.9
"""Of the time that is left, a call may take so much: the rest is for letting go of it."""


class PostgresEngine:
    """Keeps events in one schema of a PostgreSQL database.

    Args:
        address: Where the server is, without a password.
        connections: Where to get connections from; they are closed with the engine.
        schema: The schema, not quoted.
        place: The store that was found there.
        landmark: Its last event.
        timeout: How many seconds calls go on for.
        transaction_pooling: Whether a pooler hides which backend does the work.
    """

    capabilities: frozenset[Capability] = frozenset(Capability) - {Capability.PUSH}
    limitations: Mapping[Capability, str] = MappingProxyType(
        {
            Capability.PUSH: "a pooler in transaction mode passes no notifications on; "
            "subscriptions poll",
        }
    )

    def __init__(
        self,
        address: str,
        connections: Connections,
        schema: str,
        place: Place,
        landmark: Landmark | None,
        *,
        timeout: float,
        transaction_pooling: bool,
    ) -> None:
        self.name: Final = f"{address}, schema {schema}"
        self.timeout: Final = timeout
        self.store_id: Final = place.store_id
        self.schema: Final = schema
        self._place = place
        self.inline: Final = InlineProjections(schema)
        self.connections: Final = connections
        self._alarms = Alarms()
        self._reader = Reader(schema, place)
        self._writer = Writer(
            connections,
            schema,
            place,
            landmark,
            self.inline,
            transaction_pooling=transaction_pooling,
        )

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        """See `Engine.commit`: one statement, in one round trip."""
        return await self._writer.commit(batch, self._left())

    async def find(self, commits: Sequence[Commit], /) -> Sequence[Committed | None]:
        """See `Remote.find`."""
        return await self._writer.find(commits, self._left())

    def interrupt(self) -> None:
        """See `Interruptible.interrupt`: the statement on the wire is cancelled."""
        self._writer.interrupt()

    async def find_lockers(self, streams: Collection[str], /) -> Mapping[str, str | None]:
        """See `Unblocks.find_lockers`."""
        return await self._writer.find_lockers(list(streams), self._left())

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        """See `Engine.read_stream`."""
        return await self._read(self._reader.stream, query)

    async def read_streams(self, streams: Sequence[str], /) -> Mapping[str, StreamPage]:
        """See `ReadsMany.read_streams`."""
        return await self._read(self._reader.many, streams)

    async def read_heads(self, streams: Sequence[str], /) -> Mapping[str, int]:
        """See `ReadsHeads.read_heads`."""
        return await self._read(self._reader.heads, streams)

    async def read_all(self, query: AllQuery, /) -> AllPage:
        """See `Engine.read_all`: the frontier is below all transactions that are open."""
        return await self._read(self._reader.all, query)

    async def query(self, query: MatchQuery, /) -> MatchPage:
        """See `Queries.query`."""
        return await self._read(self._reader.matches, query)

    async def list_streams(self, query: NameQuery, /) -> Sequence[StreamInfo]:
        """See `Catalogues.list_streams`."""
        return await self._read(self._reader.streams, query)

    async def last_position(self) -> int:
        """See `KnowsLast.last_position`."""
        return await self._read(self._reader.last_position)

    async def examine(self) -> Sequence[Remark]:
        """See `Examines.examine`."""
        return await self._read(examine, self.schema)

    async def fenced(self) -> str | None:
        """See `Fences.fenced`."""
        return await self._read(fencing.fenced, self.schema)

    async def set_fence(self, before: str | None, after: str | None, /) -> bool:
        """See `Fences.set_fence`: all commits under way end first, and no other one begins."""
        return await self._read(fencing.set_fence, self.schema, before, after)

    def joined(self, connection: AnyConnection) -> PostgresJoinedEngine:
        """Return an engine for the transaction that is open on a connection."""
        return PostgresJoinedEngine(
            connection, self.schema, self._place, self.inline, self._written_on, self.timeout
        )

    async def close(self) -> None:
        """See `Engine.close`."""
        await self.connections.close(self.timeout)

    def _written_on(self, connection: AnyConnection) -> None:
        """Note that a caller's transaction has written something: nobody listens here."""

    async def _read(
        self,
        query: Callable[Concatenate[AnyConnection, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        within = _SHARE * self.timeout
        end = asyncio.get_running_loop().time() + within
        try:
            async with self.connections.reading(within) as connection:
                # A server that says nothing for so long will hardly do so later.
                alarm = self._alarms.set(end, connection.terminate)
                try:
                    return await query(connection, *args, **kwargs)
                finally:
                    self._alarms.clear(alarm)
        except DRIVER_ERRORS as exc:
            raise (lost(exc) if is_lost(exc) else translated(exc)) from exc

    def _left(self) -> float:
        """Return how many seconds a call may take that begins now."""
        left = current_effective_deadline() - asyncio.get_running_loop().time()
        return min(max(_SHARE * left, 0.01), self.timeout)


class ListeningPostgresEngine(PostgresEngine):
    """Also notifies other stores of its commits, and listens for theirs."""

    capabilities = frozenset(Capability)

    def __init__(
        self,
        address: str,
        connections: Connections,
        schema: str,
        place: Place,
        landmark: Landmark | None,
        *,
        timeout: float,
    ) -> None:
        super().__init__(
            address,
            connections,
            schema,
            place,
            landmark,
            timeout=timeout,
            transaction_pooling=False,
        )
        # Channels belong to a database, and so do the numbers of its sequences.
        self._push = Push(connections, place.number, timeout)

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        """See `Engine.commit`."""
        outcomes = await super().commit(batch)
        self._notify(outcomes)
        return outcomes

    async def find(self, commits: Sequence[Commit], /) -> Sequence[Committed | None]:
        """See `Remote.find`."""
        found = await super().find(commits)
        self._notify(found)
        return found

    def listen(self) -> AsyncGenerator[None, None]:
        """See `Listens.listen`."""
        return self._push.listen()

    async def close(self) -> None:
        """See `Engine.close`."""
        await self._push.close()
        await super().close()

    def _written_on(self, connection: AnyConnection) -> None:
        self._push.notify_after(connection)

    def _notify(self, outcomes: Sequence[Outcome | None]) -> None:
        if any(isinstance(outcome, Committed) for outcome in outcomes):
            self._push.notify()
