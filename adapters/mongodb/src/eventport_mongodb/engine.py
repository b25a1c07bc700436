"""The engine of MongoDB: one collection, and what is asked of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

from pymongo.errors import PyMongoError

from eventport import Capability, StreamInfo
from eventport.adapter import (
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

from eventport_mongodb.asking import Asker
from eventport_mongodb.documents_of_models import ModelCollection
from eventport_mongodb.driver import close_client
from eventport_mongodb.examining import examine
from eventport_mongodb.heads import Heads
from eventport_mongodb.inline import InlineProjections
from eventport_mongodb.joined import MongoDBJoinedEngine
from eventport_mongodb.log import Log
from eventport_mongodb.reader import Reader
from eventport_mongodb.translation import translated
from eventport_mongodb.writer import Writer


_EVERYWHERE: Final = frozenset(
    {
        Capability.GLOBAL_ORDER,
        Capability.SHARED,
        Capability.DURABLE,
        Capability.GUARDS,
        Capability.CONDITIONS,
        Capability.TIMES,
        Capability.CATALOGUE,
    }
)
_REPLICATED: Final = frozenset({Capability.SESSIONS, Capability.PUSH})


class MongoDBEngine:
    """Keeps events in one collection of a server that stands alone.

    Args:
        log: The collection.
        asker: Asks the server.
        store_id: See `Identified.store_id`.
        owns_client: Whether closing closes the client, too.
    """

    limitations: Mapping[Capability, str] = MappingProxyType(
        {
            Capability.SESSIONS: (
                "a commit over several streams is a transaction, for which MongoDB needs a "
                "replica set; this server stands alone: start it with --replSet, one member is "
                "enough"
            ),
            Capability.PUSH: (
                "change streams need a replica set; on a server that stands alone subscriptions "
                "poll"
            ),
        }
    )
    capabilities: frozenset[Capability] = _EVERYWHERE

    def __init__(self, log: Log, asker: Asker, store_id: str, *, owns_client: bool) -> None:
        self.name: Final = log.name
        self.timeout: Final = asker.timeout
        self.store_id: Final = store_id
        self.log: Final = log
        """The collection."""
        self.asker: Final = asker
        """Asks the server."""
        self._owns_client = owns_client
        heads = Heads()
        self._reader = Reader(log, heads, asker)
        self.models: Final = ModelCollection(log, asker)
        """The documents of read models."""
        self.inline: Final = InlineProjections(log, asker, self.models)
        """What runs in the transactions of the commits."""
        self._writer = Writer(log, heads, asker, self._reader.read_stream, self.inline)

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        """See `Engine.commit`."""
        return await self._writer.write(batch)

    async def find(self, commits: Sequence[Commit], /) -> Sequence[Committed | None]:
        """See `Remote.find`: what was sent is sent again, to the same positions."""
        return await self._writer.find(commits)

    def interrupt(self) -> None:
        """See `Interruptible.interrupt`: a batch that has lost a race gives up."""
        self._writer.interrupt()

    def joined(self, session: Any) -> MongoDBJoinedEngine:
        """Return an engine in the transaction that is open in a session."""
        return MongoDBJoinedEngine(session, self.log, self.inline, self.timeout)

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        """See `Engine.read_stream`."""
        with translated(self.name):
            return await self._reader.read_stream(query)

    async def read_streams(self, streams: Sequence[str], /) -> Mapping[str, StreamPage]:
        """See `ReadsMany.read_streams`."""
        with translated(self.name):
            return await self._reader.read_streams(streams)

    async def read_heads(self, streams: Sequence[str], /) -> Mapping[str, int]:
        """See `ReadsHeads.read_heads`."""
        with translated(self.name):
            return await self._reader.read_heads(streams)

    async def read_all(self, query: AllQuery, /) -> AllPage:
        """See `Engine.read_all`: a position is claimed only after the one before can be read."""
        with translated(self.name):
            return await self._reader.read_all(query)

    async def query(self, query: MatchQuery, /) -> MatchPage:
        """See `Queries.query`."""
        with translated(self.name):
            return await self._reader.query(query)

    async def list_streams(self, query: NameQuery, /) -> Sequence[StreamInfo]:
        """See `Catalogues.list_streams`: two steps in an index for each stream."""
        with translated(self.name):
            return await self._reader.list_streams(query)

    async def examine(self) -> Sequence[Remark]:
        """See `Examines.examine`."""
        with translated(self.name):
            return await self.asker.once(examine, self.log)

    async def close(self) -> None:
        """See `Engine.close`."""
        await self.asker.close()
        if self._owns_client:
            with suppress(PyMongoError):  # it takes leave of a server that may be gone
                await self.asker.once(close_client, self.log.client)


class ReplicatedEngine(MongoDBEngine):
    """Keeps events in one collection of a replica set: with transactions and change streams."""

    capabilities = _EVERYWHERE | _REPLICATED

    async def listen(self) -> AsyncGenerator[None, None]:
        """See `Listens.listen`: a change stream, on which nothing else depends."""
        with translated(self.name):
            changes = await self.asker.once(self.log.watch)
            try:
                yield
                while True:
                    # It answers within a second, so a silent connection is noticed.
                    if await self.asker.once(changes.try_next) is not None:
                        yield
            finally:
                with suppress(PyMongoError):
                    await self.asker.once(changes.close)
