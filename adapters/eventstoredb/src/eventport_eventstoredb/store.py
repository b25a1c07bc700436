"""The store in EventStoreDB or KurrentDB."""

from __future__ import annotations

import asyncio
import logging
import math

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import ClassVar, Final, Self

from eventport.adapter import AllPage, BaseEventStore, Commit, Outcome, StreamPage
from eventport.configuration import redact
from eventport.errors import (
    ConfigurationError,
    EventportError,
    StoreClosedError,
    StoreUnavailableError,
)
from eventport.opening import open_to_end, require_asyncio
from eventport.protocols import Capability, Subscription

from eventport_eventstoredb.all_streams import AllReads, Filter
from eventport_eventstoredb.client import Client, MultiStreamMode
from eventport_eventstoredb.commits import Committer
from eventport_eventstoredb.lanes import Lanes
from eventport_eventstoredb.streams import Heads, StreamReads
from eventport_eventstoredb.vendor import load_library
from eventport_eventstoredb.wire import VISIBLE


_log: Final = logging.getLogger("eventport")

_MAX_RETRY_DELAY: Final = 2.0


class EventStoreDBEventStore(BaseEventStore):
    """An event store in EventStoreDB or KurrentDB. It runs under asyncio.

    Make one with `connect`. Of the clients ``esdbclient`` and ``kurrentdbclient``, one has to be
    installed.
    """

    limitations: ClassVar[dict[Capability, str]] = {
        Capability.SESSIONS: (
            "several streams in one commit take KurrentDB 25.1 or newer, and kurrentdbclient"
        ),
    }

    # The server's own subscription wakes ours: polling is only for a lost sign.
    poll_interval = 1.0
    max_poll_interval = 5.0

    def __init__(self, url: str, client: Client, mode: MultiStreamMode | None) -> None:
        super().__init__()
        self.capabilities = frozenset(Capability) - (frozenset() if mode else {Capability.SESSIONS})
        self._url = redact(url)
        self._client = client
        self._heads = Heads()
        self._streams = StreamReads(client, self._heads)
        self._all = AllReads(client)
        committer = Committer(client, self._heads, self._streams, mode)
        self._lanes = Lanes(committer, lambda: self.has_hooks)
        self._listener: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, url: str, *, timeout: float = 30.0) -> Self:  # noqa: ASYNC109  # an option
        """Connect to the server or cluster that a URL names.

        Args:
            url: ``esdb://``, ``kurrentdb://`` or ``kdb://``, each also with ``+discover``, and
                the clients' own query parameters, such as ``?tls=false``.
            timeout: For how many seconds a read, an append or the connecting may take, further
                attempts included, and so for how long an append whose answer was lost is looked
                for.

        Raises:
            ConfigurationError: the URL or an option is wrong, no client is installed, or both.
            StoreUnavailableError: no server answers.
            NotSupportedError: this is not asyncio.
        """
        if not 0 < timeout < math.inf:
            message = f"timeout must be a positive number of seconds, not {timeout!r}"
            raise ConfigurationError(message)
        require_asyncio("EventStoreDB", "its clients do")
        return await open_to_end(lambda: cls._open(url, timeout))

    @classmethod
    async def _open(cls, url: str, timeout: float) -> Self:  # noqa: ASYNC109  # an option
        client = Client(load_library(), url, timeout)
        try:
            await client.connect()
            # A caller that may not read shall learn it here, and not at the first append.
            position = await AllReads(client).last_position(client.deadline())
            store = cls(url, client, await client.multi_stream_mode())
        except BaseException:
            await client.close()
            raise
        store._heads.position = position
        return store

    def __repr__(self) -> str:
        """Show the URL, without its password."""
        return f"<EventStoreDBEventStore: {self._url}>"

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
            if self._listener is None:
                self._listener = asyncio.create_task(self._listen())
            yield subscription

    async def _dispatch(self, commit: Commit) -> Outcome:
        # Appends of one stream are grouped; those of others never wait for them.
        outcome = await self._lanes.submit(commit)
        self.wake()
        return outcome

    async def _commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        return [await self._lanes.submit(commit) for commit in commits]

    async def _read_stream(
        self, stream: str, first: int, last: int, max_count: int | None, *, backwards: bool
    ) -> StreamPage:
        with self._while_open():
            page = await self._streams.page(stream, first, last, max_count, backwards=backwards)
        self._heads.note(stream, page.version, page.events[-1].position if page.events else 0)
        return page

    async def _read_all(
        self,
        after: int,
        max_count: int,
        types: frozenset[str] | None,
        prefix: str | None,
    ) -> AllPage:
        with self._while_open():
            return await self._all.page(after, max_count, Filter(types, prefix))

    async def _close(self) -> None:
        await self._lanes.drain()
        if self._listener is not None:
            self._listener.cancel()
            with suppress(asyncio.CancelledError):
                await self._listener
        await self._client.close()

    # Live.

    async def _listen(self) -> None:
        """Let the server's own subscription wake ours, and take it up again when it is lost."""
        delay = 0.05
        while True:
            before = self.signal.count
            try:
                async with aclosing(self._client.follow(VISIBLE)) as signs:
                    async for _ in signs:
                        self.wake()
            except EventportError as exc:
                _log.debug("subscription to the server lost: %s", exc)
            except asyncio.CancelledError:
                # gRPC says so, too, if the connection was closed under it.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
            # The first sign says that the server answers again.
            delay = 0.05 if self.signal.count > before else min(delay * 2, _MAX_RETRY_DELAY)
            await asyncio.sleep(delay)

    def _while_open(self) -> _ClosedMeanwhile:
        return _ClosedMeanwhile(self)


class _ClosedMeanwhile:
    """Says of an answer that did not come why that is, if the store has been closed meanwhile."""

    def __init__(self, store: EventStoreDBEventStore) -> None:
        self._store = store

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, StoreUnavailableError) and self._store._closed is not None:
            message = f"{self._store!r} was closed meanwhile"
            raise StoreClosedError(message) from exc
