"""Pages of an engine: a read that is asked again if its connection drops, on an open store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from eventport._concurrency.gathering import gather
from eventport._engine.calls import RemoteCalls
from eventport._engine.engine import (
    Catalogues,
    Engine,
    KnowsLast,
    Queries,
    ReadsHeads,
    ReadsMany,
)
from eventport._engine.listing import NameQuery
from eventport._engine.queries import (
    AllPage,
    AllQuery,
    MatchPage,
    MatchQuery,
    StreamPage,
    StreamQuery,
)
from eventport.errors import EventportError
from eventport.results import StreamInfo


P = TypeVar("P")
Q = TypeVar("Q")

_AT_ONCE: Final = 16
"""How many streams are read side by side from an engine that cannot read many in one call."""


class Pages:
    """Fetches pages of an engine.

    Args:
        engine: What is asked.
        remote: How it is asked, if it is reached over connections.
        check_open: Raises if the store has been closed, for this cause if there is one.
    """

    def __init__(
        self,
        engine: Engine,
        remote: RemoteCalls | None,
        check_open: Callable[[Exception | None], None],
    ) -> None:
        self._engine = engine
        self._remote = remote
        self._check_open = check_open

    def stream(self, query: StreamQuery) -> Awaitable[StreamPage]:
        """Fetch a page of a stream."""
        return self._fetch(self._engine.read_stream, query)

    async def many(self, streams: Sequence[str]) -> Mapping[str, StreamPage]:
        """Fetch the first page of some or all of these streams."""
        engine = self._engine
        if isinstance(engine, ReadsMany):
            return await self._fetch(engine.read_streams, streams)
        some = streams[:_AT_ONCE]
        pages = await gather(self.stream, map(StreamQuery, some))
        return dict(zip(some, pages, strict=True))

    async def heads(self, streams: Sequence[str]) -> Mapping[str, int]:
        """Fetch the heads of streams."""
        engine = self._engine
        if isinstance(engine, ReadsHeads):
            return await self._fetch(engine.read_heads, streams)
        found: dict[str, int] = {}
        for start in range(0, len(streams), _AT_ONCE):
            some = streams[start : start + _AT_ONCE]
            pages = await gather(self.stream, [StreamQuery(name, max_count=0) for name in some])
            found |= zip(some, (page.version for page in pages), strict=True)
        return found

    def all(self, query: AllQuery) -> Awaitable[AllPage]:
        """Fetch a page of all streams."""
        return self._fetch(self._engine.read_all, query)

    def matching(self, query: MatchQuery) -> Awaitable[MatchPage]:
        """Fetch a page of what a query matches, from an engine with the part `Queries`."""
        engine = self._engine
        assert isinstance(engine, Queries)  # noqa: S101  # or else the store looks at all events
        return self._fetch(engine.query, query)

    async def names(self, query: NameQuery) -> Sequence[StreamInfo]:
        """Fetch a page of streams, from an engine with the part `Catalogues`."""
        engine = self._engine
        assert isinstance(engine, Catalogues)  # noqa: S101  # as `Capability.CATALOGUE` says
        return await self._fetch(engine.list_streams, query)

    def last_position(self) -> Callable[[], Awaitable[int]] | None:
        """Return what asks for the last position, of an engine with the part `KnowsLast`."""
        engine, remote = self._engine, self._remote
        if not isinstance(engine, KnowsLast):
            return None
        if remote is None:
            return engine.last_position
        return lambda: remote.call(engine.last_position)

    async def _fetch(self, read: Callable[[Q], Awaitable[P]], query: Q) -> P:
        self._check_open(None)
        try:
            if self._remote is None:
                return await read(query)
            return await self._remote.call(read, query)
        except EventportError as exc:
            self._check_open(exc)  # what was closed meanwhile fails for that reason
            raise
