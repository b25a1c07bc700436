"""The store in EventStoreDB or KurrentDB."""

from __future__ import annotations

from typing import Annotated, Any, Self, TypeAlias

from msgspec import Meta

from eventport.adapter import Store, checks_options, open_to_end, require_asyncio

from eventport_eventstoredb.engine import EventStoreDBEngine
from eventport_eventstoredb.vendor import Connector


Timeout: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]
"""Seconds."""


class EventStoreDBEventStore(Store):
    """An event store in EventStoreDB or KurrentDB. It runs under asyncio.

    Make one with `connect`. Of the clients ``esdbclient`` and ``kurrentdbclient``, one has to be
    installed.
    """

    def __init__(self, engine: EventStoreDBEngine) -> None:
        # Appends of one stream are grouped by the engine; those of others never wait for them.
        super().__init__(engine, batching="never")

    @classmethod
    @checks_options
    async def connect(cls, url: str, *, timeout: Timeout = 30.0) -> Self:  # noqa: ASYNC109  # an option
        """Connect to the server or cluster that a URL names.

        Args:
            url: ``esdb://``, ``kurrentdb://`` or ``kdb://``, each also with ``+discover``, and
                the clients' own query parameters, such as ``?tls=false``.
            timeout: How many seconds a read, an append or the connecting may take, further
                attempts included. An append whose answer was lost is looked for as long again.

        Raises:
            ConfigurationError: the URL or an option is wrong, no client is installed, or both are.
            StoreUnavailableError: no server answers.
            NotSupportedError: this is not asyncio.
        """
        require_asyncio("EventStoreDB", "its clients do")
        return await open_to_end(lambda: cls._open(Connector.to(url), timeout))

    @classmethod
    @checks_options
    async def open(cls, client: Any, *, timeout: Timeout = 30.0) -> Self:  # noqa: ASYNC109  # an option
        """Open a store as a client of the caller's would connect.

        The store takes the client's URL, certificates, credentials and options, and makes a
        connection of its own with them. So neither closes or moves the connection of the other,
        and the client may belong to another event loop, or be closed meanwhile.

        Args:
            client: An ``AsyncKurrentDBClient`` of ``kurrentdbclient``, or an
                ``AsyncEventStoreDBClient`` of ``esdbclient``, whether it has connected or not.
            timeout: As for `connect`.

        Raises:
            ConfigurationError: no client is installed, or both are.
            InvalidArgumentTypeError: it is no such client.
            StoreUnavailableError: no server answers.
            NotSupportedError: this is not asyncio.
        """
        require_asyncio("EventStoreDB", "its clients do")
        connector = Connector.like(client)
        return await open_to_end(lambda: cls._open(connector, timeout))

    @classmethod
    async def _open(cls, connector: Connector, timeout: float) -> Self:  # noqa: ASYNC109  # an option
        engine = EventStoreDBEngine(connector, timeout)
        try:
            await engine.open()
        except BaseException:
            await engine.close()
            raise
        return cls(engine)
