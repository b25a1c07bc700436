"""Engines that are hard on a store: tiny pages, batches of two, slow answers in random order.

Each wraps any engine, and answers as the contract allows. What a store makes of them must
be as right as with the engine alone; so the suite runs its clauses about paging and batching on
them, and an adapter's own tests may, too.
"""

from __future__ import annotations

import random

from collections.abc import Mapping, Sequence
from typing import Final

from anyio.lowlevel import checkpoint
from msgspec.json import encode

from eventport import Capability, EventportError, RecordedEvent
from eventport.adapter import (
    AllPage,
    AllQuery,
    Commit,
    Engine,
    Failed,
    MatchPage,
    MatchQuery,
    Outcome,
    Queries,
    Store,
    StreamPage,
    StreamQuery,
)


OPTIONAL: Final = (
    "timeout",
    "find",
    "check_caller",
    "examine",
    "fenced",
    "find_lockers",
    "list_streams",
    "interrupt",
    "last_position",
    "listen",
    "query",
    "read_heads",
    "read_streams",
    "set_fence",
    "store_id",
)
"""The parts that a store finds by their presence."""


class Around:
    """Passes all calls on to another engine, with its optional parts."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        for name in OPTIONAL:
            if hasattr(engine, name):
                setattr(self, name, getattr(engine, name))

    @property
    def name(self) -> str:
        """See `Engine.name`."""
        return self.engine.name

    @property
    def capabilities(self) -> frozenset[Capability]:
        """See `Engine.capabilities`."""
        return self.engine.capabilities

    @property
    def limitations(self) -> Mapping[Capability, str]:
        """See `Engine.limitations`."""
        return self.engine.limitations

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        """See `Engine.commit`."""
        return await self.engine.commit(batch)

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        """See `Engine.read_stream`."""
        return await self.engine.read_stream(query)

    async def read_all(self, query: AllQuery, /) -> AllPage:
        """See `Engine.read_all`."""
        return await self.engine.read_all(query)

    async def close(self) -> None:
        """See `Engine.close`."""
        await self.engine.close()


class TinyPages(Around):
    """Returns pages that are short for any reason there is, and commits in small batches.

    Args:
        engine: What is asked.
        events: How many events a page has at most.
        size: How many bytes of data it has at most, unless its first event alone has more.
        scan: How many events of the global order a page scans, whether or not they match.
        commits: How many commits the engine is given at once.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        events: int = 3,
        size: int = 64 * 1024,
        scan: int = 4,
        commits: int = 2,
    ) -> None:
        super().__init__(engine)
        self._events = events
        self._size = size
        self._scan = scan
        self._commits = commits
        if isinstance(engine, Queries):
            self._query = engine.query
            self.query = self._few_matches

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        """See `Engine.commit`; an error of a part is the outcome of that part."""
        outcomes: list[Outcome] = []
        for start in range(0, len(batch), self._commits):
            part = batch[start : start + self._commits]
            try:
                outcomes += await super().commit(part)
            except EventportError as exc:
                outcomes += [Failed(exc)] * len(part)
        return outcomes

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        """See `Engine.read_stream`."""
        count = self._events if query.max_count is None else min(self._events, query.max_count)
        few = StreamQuery(query.stream, query.first, query.last, count, query.backwards)
        page = await super().read_stream(few)
        return StreamPage(self._fitting(page.events), page.version)

    async def read_all(self, query: AllQuery, /) -> AllPage:
        """See `Engine.read_all`."""
        page = await super().read_all(AllQuery(query.after, self._scan))
        found = [
            event for event in page.events if query.matches(event.stream, event.type, event.tags)
        ]
        events = self._fitting(found[: min(self._events, query.max_count)])
        position = page.position if len(events) == len(found) else events[-1].position
        return AllPage(events, position, page.head)

    async def _few_matches(self, query: MatchQuery, /) -> MatchPage:
        """See `Queries.query`."""
        count = self._events if query.max_count is None else min(self._events, query.max_count)
        few = MatchQuery(query.query, query.after, query.until, count, query.backwards)
        page = await self._query(few)
        events = self._fitting(page.events)
        more = len(events) > 0 and (len(events) == self._events or len(events) < len(page.events))
        return MatchPage(events, page.head, page.seen, more=more or page.more)

    def _fitting(self, events: Sequence[RecordedEvent]) -> Sequence[RecordedEvent]:
        """Return the first events, as many as fit into a page."""
        size = 0
        for index, event in enumerate(events):
            size += len(event.data if isinstance(event.data, bytes) else encode(event.data))
            if index and size > self._size:
                return events[:index]
        return events


class SlowAnswers(Around):
    """Lets each call wait for some turns of the event loop before and after the engine has worked.

    So answers come in another order than the calls, and commits that arrive meanwhile become
    batches.

    Args:
        engine: What is asked.
        seed: Makes the waits the same again.
        turns: How long each wait is at most. There is no clock in it, so that it is cheap.
    """

    def __init__(self, engine: Engine, seed: int, turns: int = 8) -> None:
        super().__init__(engine)
        self._random = random.Random(seed)  # noqa: S311  # it is to be the same the next time
        self._turns = turns
        if isinstance(engine, Queries):
            self._query = engine.query
            self.query = self._slow_matches

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        """See `Engine.commit`."""
        await self._wait()
        outcomes = await super().commit(batch)
        await self._wait()
        return outcomes

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        """See `Engine.read_stream`."""
        await self._wait()
        page = await super().read_stream(query)
        await self._wait()
        return page

    async def read_all(self, query: AllQuery, /) -> AllPage:
        """See `Engine.read_all`."""
        await self._wait()
        page = await super().read_all(query)
        await self._wait()
        return page

    async def _slow_matches(self, query: MatchQuery, /) -> MatchPage:
        """See `Queries.query`."""
        await self._wait()
        page = await self._query(query)
        await self._wait()
        return page

    async def _wait(self) -> None:
        for _ in range(self._random.randint(0, self._turns)):
            await checkpoint()


def without_polling(store: Store) -> Store:
    """Return another store on the engine of this one, whose subscriptions never poll.

    Only push or its own commits wake them. Close it before the store that it is made of; the
    engine stays open until that one is closed.
    """
    return Store(_Alone(store.engine))


class _Alone(Around):
    """Claims that no one else commits: then a store has no reason to poll."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """See `Engine.capabilities`."""
        return self.engine.capabilities - {Capability.SHARED}

    async def close(self) -> None:
        """Leave the engine to the store that it belongs to."""
