"""The store in MongoDB: what opens it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Annotated, Any, Final, Self, TypeAlias, TypeVar

from msgspec import Meta

from eventport import Capability, NotSupportedError, StoreClosedError
from eventport.adapter import (
    Store,
    checks_options,
    open_to_end,
    require_asyncio,
    retry_lost,
)
from eventport.transactions import DocumentReader, InlineHandler

from eventport_mongodb.asking import Asker
from eventport_mongodb.checkpoints import MongoDBCheckpoints
from eventport_mongodb.documents_of_models import MongoTransaction
from eventport_mongodb.driver import AnyClient, DriverName, close_client, make_client
from eventport_mongodb.engine import MongoDBEngine, ReplicatedEngine
from eventport_mongodb.joined import JoinedMongoDBStore
from eventport_mongodb.log import Log
from eventport_mongodb.translation import translated
from eventport_mongodb.url import place_of


T = TypeVar("T")

Timeout: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]
"""Seconds."""

DATABASE: Final = "eventport"
"""The database, unless the URL or the caller names one."""

COLLECTION: Final = "events"
"""The collection, unless the caller names one."""


SHORTEST_OPENING: Final = 2.0
"""How many seconds opening takes at least before it fails: the driver needs them to say why."""


class MongoDBEventStore(Store):
    """An event store in one collection of MongoDB. It runs under asyncio.

    Several stores, in one process or in many, can work on one collection. Make one from a URL
    with `connect`, or from a client with `open`.
    """

    def __init__(self, engine: MongoDBEngine) -> None:
        super().__init__(engine)
        self._mongodb = engine

    @property
    def store_id(self) -> str:
        """The store's own id, made with the collection, and kept by restarts and backups."""
        return self._mongodb.store_id

    def inline(self, handler: InlineHandler[MongoTransaction]) -> InlineHandler[MongoTransaction]:
        """Register a handler that runs in the transaction of each commit of this store.

        See `InlineStore.inline`. It writes with ``session=transaction.connection.session``. One
        that does not end within half of the store's timeout is cancelled, and its append fails.

        Raises:
            InvalidArgumentTypeError: it cannot be called.
            NotSupportedError: the server stands alone, and so has no transactions.
        """
        self._require_transactions("run inline handlers")
        return self._mongodb.inline.handlers.add(handler)

    def using(self, session: Any) -> JoinedMongoDBStore:
        """Return a store that works inside the transaction that is open in a session.

        What it appends is committed, or aborted, together with everything else that the caller
        does in that transaction. See `JoinedMongoDBStore`. The session is one of the client that
        was given to `open`.

        Raises:
            NotSupportedError: the server stands alone, and so has no transactions.
            StoreClosedError: this store has been closed.
        """
        if self.closed:
            message = f"{self!r} has been closed"
            raise StoreClosedError(message)
        self._require_transactions("join a transaction")
        return JoinedMongoDBStore(self._mongodb.joined(session))

    def checkpoints(self) -> AbstractAsyncContextManager[MongoDBCheckpoints] | None:
        """Open the checkpoints beside the events; None on a server that stands alone."""
        return self._open_checkpoints() if self._has_transactions else None

    def read_models(self) -> AbstractAsyncContextManager[DocumentReader] | None:
        """Open the documents beside the events; None on a server that stands alone."""
        return self._open_models() if self._has_transactions else None

    def _require_transactions(self, what: str) -> None:
        if not self._has_transactions:
            reason = self.limitations[Capability.SESSIONS]
            message = f"{type(self).__name__} cannot {what}: {reason}"
            raise NotSupportedError(message)

    @property
    def _has_transactions(self) -> bool:
        return Capability.SESSIONS in self.capabilities

    @asynccontextmanager
    async def _open_checkpoints(self) -> AsyncGenerator[MongoDBCheckpoints]:
        engine = self._mongodb
        checkpoints = MongoDBCheckpoints(engine.log, engine.asker, engine.models)
        await checkpoints.prepare()
        yield checkpoints

    @asynccontextmanager
    async def _open_models(self) -> AsyncGenerator[DocumentReader]:
        yield self._mongodb.models

    @classmethod
    @checks_options
    async def open(
        cls,
        client: AnyClient,
        *,
        database: str | None = None,
        collection: str = COLLECTION,
        timeout: Timeout = 30.0,  # noqa: ASYNC109  # of the server, not of this call
        create: bool = True,
    ) -> Self:
        """Open a store through a client of the caller's, which stays the caller's to close.

        Args:
            client: An `AsyncMongoClient` of PyMongo, or an `AsyncIOMotorClient` of Motor.
            database: The database; None for the one in the client's URL, or else ``eventport``.
            collection: The collection; it is created if it is not there.
            timeout: For about how many seconds an append or a read is tried while the server
                cannot be reached, before it fails. A connection that gives no answer for a third
                of it, and at least for a second, is lost.
            create: Whether to create the collection if it is not there.

        Raises:
            ConfigurationError: the server refuses the user, or a name or option is wrong, or the
                collection is not there and may not be created.
            IncompatibleStoreError: the collection holds something else, or is of a newer
                version; it was not touched.
            NotSupportedError: this is not asyncio.
            StoreUnavailableError: the server cannot be reached.
        """
        require_asyncio("MongoDB", "its drivers do")
        asker = Asker(timeout)
        engine = await _open(
            client, "MongoDB", database, collection, asker, owns_client=False, create=create
        )
        return cls(engine)

    @classmethod
    @checks_options
    async def connect(
        cls,
        url: str,
        *,
        driver: DriverName = "pymongo",
        collection: str = COLLECTION,
        timeout: Timeout = 30.0,  # noqa: ASYNC109  # of the server, not of this call
        create: bool = True,
    ) -> Self:
        """Open the store that a URL names: ``mongodb://host/database?replicaSet=rs0``.

        Options are arguments here; `eventport.connect` takes them out of a URL. What is left in
        the URL is the driver's.
        """
        require_asyncio("MongoDB", "its drivers do")
        client = make_client(url, driver, timeout)
        where, asker = place_of(url), Asker(timeout)

        async def opening() -> Self:
            try:
                engine = await _open(
                    client, where, None, collection, asker, owns_client=True, create=create
                )
            except BaseException:
                await close_client(client)
                raise
            return cls(engine)

        return await open_to_end(opening)


async def _open(
    client: Any,
    where: str,
    database: str | None,
    collection: str,
    asker: Asker,
    *,
    owns_client: bool,
    create: bool,
) -> MongoDBEngine:
    """Make the engine, once the collection is known to be, or has been made, a store's."""

    async def ask(call: Callable[..., Awaitable[T]], *args: object) -> T:
        async def attempt() -> T:
            with translated(where):
                return await asker.once(call, *args)

        return await retry_lost(attempt, max(asker.timeout, SHORTEST_OPENING), where)

    with translated(where):
        name = database or client.get_default_database(DATABASE).name
    hello = await ask(client.admin.command, "hello")
    # mongos identifies itself by msg='isdbgrid'; its shards are replica sets.
    replicated = "setName" in hello or hello.get("msg") == "isdbgrid"
    with translated(where):
        log = Log(client, name, collection, replicated=replicated)
    if await ask(log.prepare, create):
        with translated(where):
            await asker.patiently(log.upgrade, partial(ask, client.admin.command, "ping"))
    store_id = await ask(log.identify)
    make = ReplicatedEngine if replicated else MongoDBEngine
    return make(log, asker, store_id, owns_client=owns_client)
