"""The engine of EventStoreDB and KurrentDB, through whichever client is installed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from eventport import Capability
from eventport.adapter import (
    AllPage,
    AllQuery,
    Commit,
    Committed,
    Outcome,
    Remark,
    StreamPage,
    StreamQuery,
)

from eventport_eventstoredb.all_streams import AllReads
from eventport_eventstoredb.client import Client, MultiStreamMode
from eventport_eventstoredb.commits import Committer
from eventport_eventstoredb.examining import examine
from eventport_eventstoredb.lanes import Lanes
from eventport_eventstoredb.streams import Heads, StreamReads
from eventport_eventstoredb.vendor import Connector
from eventport_eventstoredb.wire import VISIBLE


_NEVER: Final = frozenset({Capability.CONDITIONS, Capability.CATALOGUE})
_BY_MODE: Final[Mapping[MultiStreamMode | None, frozenset[Capability]]] = {
    None: frozenset(),
    "streams": frozenset({Capability.SESSIONS}),
    "records": frozenset({Capability.SESSIONS, Capability.GUARDS}),
}
"""What depends on how the server commits several streams."""


class EventStoreDBEngine:
    """Keeps events in EventStoreDB or KurrentDB.

    Args:
        connector: The vendor's client.
        timeout: How many seconds the store makes a call again.
    """

    limitations: Mapping[Capability, str] = MappingProxyType(
        {
            Capability.SESSIONS: (
                "several streams in one commit take KurrentDB 25.1 or newer, and kurrentdbclient"
            ),
            Capability.GUARDS: (
                "a commit that depends on streams that it does not write takes KurrentDB 26.0.3 or "
                "newer, and kurrentdbclient; expect a version of the stream that you write"
            ),
            Capability.CONDITIONS: (
                "the server has no conditions on tags or queries; expect a version of a stream"
            ),
            Capability.CATALOGUE: (
                "the server has no list of its streams; its projection $streams, which is off "
                "unless somebody turns it on, follows the events at some distance: keep a "
                "projection of your own"
            ),
        }
    )

    def __init__(self, connector: Connector, timeout: float) -> None:
        self._connector = connector
        self._client = Client(connector, timeout)
        self.name: Final = connector.name
        self.timeout: Final = timeout
        self.capabilities = frozenset(Capability) - _BY_MODE["records"] - _NEVER
        self._heads = Heads()
        self._streams = StreamReads(self._client, self._heads)
        self._all = AllReads(self._client)
        self._mode: MultiStreamMode | None = None
        self._lanes = self._lanes_in(None)

    async def open(self) -> None:
        """Connect, and ask what the server can do.

        Raises:
            ConfigurationError: the server denies access.
            StoreUnavailableError: no server answers.
        """
        await self._client.connect()
        # A caller that may not read learns it here, and not at the first append.
        self._heads.position = await self._all.last_position()
        self._mode = await self._client.multi_stream_mode()
        self.capabilities |= _BY_MODE[self._mode]
        self._lanes = self._lanes_in(self._mode)

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        """See `Engine.commit`: commits of one stream are grouped, and never wait for others."""
        return [await self._lanes.submit(commit) for commit in batch]

    async def find(self, commits: Sequence[Commit], /) -> Sequence[Committed | None]:
        """See `Remote.find`: what is not there is written, since that keeps off earlier tries."""
        return [await self._lanes.find(commit) for commit in commits]

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        """See `Engine.read_stream`."""
        page = await self._streams.page(query)
        self._heads.note(query.stream, page.version, page.events[-1].position if page.events else 0)
        return page

    async def read_all(self, query: AllQuery, /) -> AllPage:
        """See `Engine.read_all`: the server writes its log in the order of the positions."""
        return await self._all.page(query)

    async def examine(self) -> Sequence[Remark]:
        """See `Examines.examine`: no more than the URL and the protocol say."""
        return examine(self._connector, self._mode)

    def listen(self) -> AsyncGenerator[None, None]:
        """See `Listens.listen`: a subscription of the server's own."""
        return self._client.follow(VISIBLE)

    async def close(self) -> None:
        """See `Engine.close`."""
        await self._client.close()

    def _lanes_in(self, mode: MultiStreamMode | None) -> Lanes:
        return Lanes(Committer(self._client, self._heads, self._streams, mode))
