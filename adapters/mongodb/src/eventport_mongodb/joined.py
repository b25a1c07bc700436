"""A store inside a transaction of the caller's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, Final

from anyio import Lock
from bson.errors import BSONError
from pymongo.errors import PyMongoError

from eventport import Capability, NotSupportedError, StoreUnavailableError
from eventport.adapter import (
    AllPage,
    AllQuery,
    Commit,
    JoinedStore,
    MatchPage,
    MatchQuery,
    Outcome,
    StreamPage,
    StreamQuery,
    run_shielded,
)

from eventport_mongodb.asking import Asker
from eventport_mongodb.batch import Batch
from eventport_mongodb.claiming import Claim, Claimer
from eventport_mongodb.driver import Document
from eventport_mongodb.heads import Heads
from eventport_mongodb.inline import InlineProjections, Within
from eventport_mongodb.log import Log
from eventport_mongodb.reader import Reader
from eventport_mongodb.translation import is_aborted, is_place_taken, translate


class JoinedMongoDBStore(JoinedStore):
    """An `EventStore` whose effects belong to the transaction that is open in a session.

    Reads see what the transaction has appended, and otherwise the store as it was when the
    transaction read first. While it is open, no other append of the whole store can be written,
    since it holds the next position; so keep it short. If another append was faster, the server
    aborts the transaction, and the append raises `StoreUnavailableError`: run the transaction
    again. A conflict does not abort it. MongoDB has no savepoints, so an append that fails
    otherwise, or is cancelled, aborts all of it.

    There are no after-commit hooks and no subscriptions, since it does not see the commit.
    """


class MongoDBJoinedEngine:
    """Works inside the transaction that is open in a session.

    Args:
        session: The session, of the driver of the store.
        log: The collection.
        inline: What runs with each commit.
        timeout: See `Asker`.
    """

    capabilities: frozenset[Capability] = frozenset(
        {
            Capability.SESSIONS,
            Capability.GLOBAL_ORDER,
            Capability.GUARDS,
            Capability.CONDITIONS,
            Capability.TIMES,
        }
    )
    limitations: Mapping[Capability, str] = MappingProxyType(
        {
            Capability.PUSH: "a transaction does not see later commits of others",
            Capability.SHARED: "the transaction belongs to one session",
            Capability.DURABLE: "the transaction may be aborted",
        }
    )

    def __init__(self, session: Any, log: Log, inline: InlineProjections, timeout: float) -> None:
        self.name: Final = f"{log.name}, in a transaction"
        self._session = session
        self._client = log.client
        self._log = log.within(session)
        self._inline = inline
        self._asker = Asker(timeout)
        self._lock = Lock()  # a transaction does one thing at a time

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        """See `Engine.commit`: inserts in the caller's transaction."""
        async with self._turn():
            if self._inline:
                # What is made after the transaction has read first, it cannot use.
                await self._inline.prepare()
            heads = await self._heads(batch)
            writing = Batch(
                self._log,
                heads,
                self._asker,
                _JoinedClaimer(self._log, self._asker, self._session),
                Reader(self._log, heads, self._asker).read_stream,
                self._inline,
                batch,
            )
            return await writing.run()

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        """See `Engine.read_stream`."""
        async with self._turn() as reader:
            return await reader.read_stream(query)

    async def read_all(self, query: AllQuery, /) -> AllPage:
        """See `Engine.read_all`."""
        async with self._turn() as reader:
            return await reader.read_all(query)

    async def query(self, query: MatchQuery, /) -> MatchPage:
        """See `Queries.query`."""
        async with self._turn() as reader:
            return await reader.query(query)

    async def close(self) -> None:
        """Leave the session and its transaction to their owner."""
        await self._asker.close()

    async def _heads(self, batch: Sequence[Commit]) -> Heads:
        """Learn how the transaction sees all streams: a refused insert would abort it."""
        heads = Heads()
        heads.restart(await self._asker.once(self._log.last, 0))
        streams = sorted({write.stream for commit in batch for write in commit.writes})
        found = await self._asker.once(self._log.heads, streams)
        for stream, head in found.items():
            heads.learn(stream, head)
        return heads

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[Reader]:
        """Use the transaction; nothing is on its way when the caller goes on with it."""
        async with self._lock:
            self._check()
            try:
                yield Reader(self._log, Heads(), self._asker)
            except BaseException as exc:
                await run_shielded(self._asker.close)
                if isinstance(exc, PyMongoError | BSONError):
                    raise self._translate(exc) from exc
                raise

    def _check(self) -> None:
        if self._session.client is not self._client:
            message = (
                "this session is of another client than the store: start it with the client that "
                "was given to MongoDBEventStore.open()"
            )
            raise NotSupportedError(message)
        if not self._session.in_transaction:
            message = (
                "no transaction is open in this session: call using() after "
                "session.start_transaction(), and use its store only until the end of that"
            )
            raise NotSupportedError(message)

    def _translate(self, exc: Exception) -> Exception:
        if isinstance(exc, PyMongoError) and (is_aborted(exc) or is_place_taken(exc)):
            message = (
                f"{self.name}: another append was faster, and the transaction was aborted: run "
                "it again"
            )
            return StoreUnavailableError(message)
        return translate(exc, self.name)


class _JoinedClaimer(Claimer):
    """Inserts in a transaction that somebody else commits.

    Args:
        log: Where to insert.
        asker: Asks the server.
        session: The session whose transaction is open.
    """

    def __init__(self, log: Log, asker: Asker, session: Any) -> None:
        super().__init__(log, asker)
        self._session = session

    async def claim(
        self, documents: Sequence[Document], *, together: bool, within: Within | None = None
    ) -> Claim:
        """See `Claimer.claim`: after any error, the transaction has been aborted."""
        del together  # they are in any case
        try:
            await self._asker.once(self._log.insert, documents)
            if within is not None:
                await within(self._session)
        except BaseException:  # a caller that gives up may go on with its transaction
            await run_shielded(self._abort)
            raise
        return Claim(len(documents))

    async def _abort(self) -> None:
        await self._asker.close()  # what is on its way might begin the transaction anew
        if self._session.in_transaction:
            try:
                await self._asker.once(self._session.abort_transaction)
            except PyMongoError:
                return  # the driver will not commit it, and the server ends it by itself
