"""The store in MongoDB."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from eventport.adapter import AllPage, BaseEventStore, Commit, Outcome, StreamPage
from eventport.errors import ConfigurationError
from eventport.opening import require_asyncio
from eventport.protocols import Capability, Subscription
from eventport.shielding import run_shielded
from eventport.adapter import redact

from eventport_mongodb.driver import DriverName, close_client, make_client
from eventport_mongodb.heads import Heads
from eventport_mongodb.log import Log
from eventport_mongodb.reader import Reader
from eventport_mongodb.translation import translated
from eventport_mongodb.watcher import Watcher
from eventport_mongodb.writer import Writer


if TYPE_CHECKING:
    from motor.motor_asyncio import AsyncIOMotorClient
    from pymongo import AsyncMongoClient


DATABASE: Final = "eventport"
"""The database, unless the URL or the caller names one."""

COLLECTION: Final = "events"
"""The collection, unless the caller names one."""

WATCHED_INTERVAL: Final = 5.0
"""How seldom, in seconds, an idle subscription looks by itself while a change stream wakes it."""

_MAX_TIMEOUT: Final = 86_400.0


class MongoDBEventStore(BaseEventStore):
    """An event store in one collection of MongoDB. It runs under asyncio.

    Several stores, in one process or in many, can work on one collection. Make one from a URL
    with `connect`, or from a client with `open`.
    """

    limitations: ClassVar[dict[Capability, str]] = {
        Capability.SESSIONS: (
            "a commit over several streams is a transaction, for which MongoDB needs a replica "
            "set; this server stands alone: start it with --replSet, one member is enough"
        ),
        Capability.PUSH: (
            "change streams need a replica set; on a server that stands alone subscriptions look "
            "again and again"
        ),
    }

    def __init__(self, log: Log, *, timeout: float, owns_client: bool) -> None:
        super().__init__()
        self.capabilities = frozenset(
            {Capability.GLOBAL_ORDER, Capability.SHARED, Capability.DURABLE}
        )
        if log.replicated:
            self.capabilities |= {Capability.SESSIONS, Capability.PUSH}
        self._log = log
        self._owns_client = owns_client
        heads = Heads()
        self._reader = Reader(log, heads)
        self._writer = Writer(log, heads, self._reader.read_range, timeout)
        self._watcher = Watcher(log.collection, self.wake, self._set_watched)

    @classmethod
    async def open(
        cls,
        client: AsyncMongoClient[Any] | AsyncIOMotorClient[Any],
        *,
        database: str | None = None,
        collection: str = COLLECTION,
        timeout: float = 30.0,  # noqa: ASYNC109  # of the server, not of this call
    ) -> Self:
        """Open a store through a client of the caller's, which stays the caller's to close.

        Args:
            client: An `AsyncMongoClient` of PyMongo, or an `AsyncIOMotorClient` of Motor.
            database: The database; None for the one in the client's URL, or else ``eventport``.
            collection: The collection; it is created if it is not there.
            timeout: For about how many seconds an append is tried while the server cannot be
                reached, before it fails.

        Raises:
            ConfigurationError: the server refuses the user, or a name or option is wrong.
            IncompatibleStoreError: the collection holds something else, or is of a newer
                version; it was not touched.
            NotSupportedError: this is not asyncio.
            StoreUnavailableError: the server cannot be reached.
        """
        return await cls._open(client, "MongoDB", database, collection, timeout, owns_client=False)

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        driver: DriverName = "pymongo",
        collection: str = COLLECTION,
        timeout: float = 30.0,  # noqa: ASYNC109  # of the server, not of this call
    ) -> Self:
        """Open the store that a URL names: ``mongodb://host/database?replicaSet=rs0``.

        Options are arguments here; `eventport.connect` takes them out of a URL. What is left in
        the URL is the driver's.
        """
        require_asyncio("MongoDB", "its drivers do")
        _check_timeout(timeout)
        client = make_client(url, driver, timeout)
        where = redact(url)
        try:
            return await cls._open(client, where, None, collection, timeout, owns_client=True)
        except BaseException:
            await run_shielded(close_client, client)
            raise

    @classmethod
    async def _open(
        cls,
        client: Any,
        where: str,
        database: str | None,
        collection: str,
        timeout: float,  # noqa: ASYNC109  # as above
        *,
        owns_client: bool,
    ) -> Self:
        require_asyncio("MongoDB", "its drivers do")
        _check_timeout(timeout)
        with translated(where):
            name = database or client.get_default_database(DATABASE).name
            hello = await client.admin.command("hello")
            # A router is told by its message; behind it there are replica sets.
            replicated = "setName" in hello or hello.get("msg") == "isdbgrid"
            log = Log(client, name, collection, replicated=replicated)
            await log.prepare()
        return cls(log, timeout=timeout, owns_client=owns_client)

    def __repr__(self) -> str:
        """Show the collection."""
        return f"<MongoDBEventStore: {self._log.name}>"

    @asynccontextmanager
    async def subscribe(
        self,
        *,
        after: int = 0,
        types: Collection[str] | None = None,
        prefix: str | None = None,
    ) -> AsyncGenerator[Subscription, None]:
        """See `EventStore.subscribe`."""
        async with super().subscribe(after=after, types=types, prefix=prefix) as subscription:
            if self._log.replicated:
                self._watcher.start()
            yield subscription

    async def _commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        return await self._writer.write(commits)

    async def _read_stream(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        with translated(self._log.name):
            return await self._reader.read_stream(
                stream, first, last, max_count, backwards=backwards
            )

    async def _read_all(
        self,
        after: int,
        max_count: int,
        types: frozenset[str] | None,
        prefix: str | None,
    ) -> AllPage:
        with translated(self._log.name):
            return await self._reader.read_all(after, max_count, types, prefix)

    async def _close(self) -> None:
        await self._watcher.stop()
        if self._owns_client:
            with translated(self._log.name):
                await close_client(self._log.client)

    def _set_watched(self, watched: bool) -> None:  # noqa: FBT001  # it is what is set
        self.max_poll_interval = WATCHED_INTERVAL if watched else type(self).max_poll_interval
        self.wake()


def _check_timeout(timeout: object) -> None:
    if not isinstance(timeout, int | float) or not 0 < timeout <= _MAX_TIMEOUT:
        message = f"timeout must be more than 0 s and at most {_MAX_TIMEOUT:.0f}, not {timeout!r}"
        raise ConfigurationError(message)
