"""Bugs planted around right code, from outside: around a store, by the protocol, and an engine.

So they are no matter of how the reference store is built. Most are about what small tests do not
see: pages, batches, large numbers, cancelled callers.
"""

from __future__ import annotations

import asyncio

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from anyio import get_cancelled_exc_class
from msgspec.json import encode

from eventport import (
    ANY,
    AllResult,
    AppendResult,
    EventStore,
    NewEvent,
    ReadResult,
    StoreUnavailableError,
)
from eventport.adapter import (
    AllPage,
    AllQuery,
    Commit,
    Committed,
    Conflict,
    MatchPage,
    MatchQuery,
    Outcome,
    Store,
    StreamPage,
    StreamQuery,
    StreamWrite,
)

from eventport_conformance import Capabilities, Harness
from eventport_conformance.clause import all_clauses
from eventport_conformance.hard import Around
from eventport_conformance.proof.mutation import judge
from eventport_memory import MemoryEventStore
from eventport_memory.engine import MemoryEngine


class Wrapped:
    """Passes everything on to a right store."""

    def __init__(self) -> None:
        self.store = MemoryEventStore()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class PageCutByBytes(Wrapped):
    """It ends a page of all streams after 2 MB, and says that it was scanned to its end."""

    async def read_all(self, **asked: Any) -> AllResult:
        result = await self.store.read_all(**asked)
        size = 0
        for index, event in enumerate(result.events):
            size += len(encode(event.data))
            if index and size > 2_000_000:
                return AllResult(result.events[:index], result.position)
        return result


class WritesAfterItsCallerWasCancelled(Wrapped):
    """It writes an append 20 ms after its caller was cancelled."""

    async def append(self, stream: str, events: Sequence[NewEvent], **asked: Any) -> AppendResult:
        try:
            return await self.store.append(stream, events, **asked)
        except get_cancelled_exc_class():
            asyncio.get_running_loop().call_later(0.02, self.start, stream, events)
            raise

    def start(self, stream: str, events: Sequence[NewEvent]) -> None:
        self.task = asyncio.ensure_future(self.store.append(stream, events))


class SpoiltBySixReads(Wrapped):
    """Its reads fail for good after six of them were cancelled."""

    cancelled = 0

    async def read(self, stream: str, **asked: Any) -> ReadResult:
        if self.cancelled >= 6:
            raise StoreUnavailableError("no connection is left")
        try:
            return await self.store.read(stream, **asked)
        except get_cancelled_exc_class():
            self.cancelled += 1
            raise


class KeepsFifteenHundred(Wrapped):
    """It keeps 1,500 events of an append of 1,501, and says that it has kept all."""

    async def append(self, stream: str, events: Any, **asked: Any) -> AppendResult:
        given = list(events) if not isinstance(events, list) else events
        result = await self.store.append(stream, given[:1_500], **asked)
        version = result.version + len(given[1_500:])
        return AppendResult(version, result.position, result.created, result.deduplicated)


class ReadsFiveThousand(Wrapped):
    """Nobody reads a stream beyond version 5,000."""

    async def read(self, stream: str, **asked: Any) -> ReadResult:
        result = await self.store.read(stream, **asked)
        kept = [event for event in result.events if event.version <= 5_000]
        return ReadResult(kept, result.version)


class Bug(Around):
    """Passes everything on to a right engine."""

    def __init__(self) -> None:
        super().__init__(MemoryEngine())


class ScannedToTheHead(Bug):
    """It ends a page of all streams after 1 MB, and says that it has scanned up to the head."""

    async def read_all(self, query: AllQuery, /) -> AllPage:
        page = await super().read_all(query)
        size = 0
        for index, event in enumerate(page.events):
            size += len(encode(event.data))
            if index and size > 1_000_000:
                return AllPage(page.events[:index], page.position, page.head)
        return page


class HeadOfThePage(Bug):
    """It returns pages of 100 events, and the version of the last one as the head."""

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        page = await super().read_stream(query)
        events = page.events[:100]
        return StreamPage(events, max((one.version for one in events), default=page.version))


class OldestBackwards(Bug):
    """Its pages backwards are the 100 oldest events of the range."""

    async def read_stream(self, query: StreamQuery, /) -> StreamPage:
        page = await super().read_stream(query)
        events = page.events[-100:] if query.backwards else page.events[:100]
        return StreamPage(events, page.version)


class RepeatsAtTheEdge(Bug):
    """From its second page on, a page of all streams begins with the last event before it."""

    async def read_all(self, query: AllQuery, /) -> AllPage:
        return await super().read_all(query.resumed(query.after - (query.after >= 500)))


class CountsWhatItGives(Bug):
    """It moves on by the number of the events that it gives, and not by their positions."""

    async def read_all(self, query: AllQuery, /) -> AllPage:
        page = await super().read_all(query)
        moved = query.after + len(page.events) if page.events else page.position
        return AllPage(page.events, moved, page.head)


class QueriesOnePage(Bug):
    """Its queries give the first 100 events that match, and say that there are no more."""

    def __init__(self) -> None:
        super().__init__()
        ask = self.engine.query  # type: ignore[attr-defined]  # the engine in memory has it

        async def query(query: MatchQuery, /) -> MatchPage:
            page: MatchPage = await ask(query)
            return MatchPage(page.events[:100], page.head, page.seen)

        self.query = query


class WritesTwenty(Bug):
    """It writes the first twenty commits of a batch, and acknowledges all."""

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        outcomes = list(await super().commit(batch[:20]))
        return outcomes + outcomes[-1:] * len(batch[20:])


class AllConflict(Bug):
    """If one commit of a batch conflicts, it writes none of them, and says that all conflict."""

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        for write in (write for commit in batch[1:] for write in commit.writes):
            head = (await self.engine.read_stream(StreamQuery(write.stream, max_count=0))).version
            if isinstance(write.expected, int) and write.expected != head:
                return [Conflict(write.stream, write.expected, head)] * len(batch)
        return await super().commit(batch)


class StaleHeads(Bug):
    """It checks all commits of a batch before it writes the first one."""

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        outcomes: list[Outcome] = []
        for commit in batch:
            (outcome,) = await super().commit([commit])
            if isinstance(outcome, Conflict) and any(
                isinstance(one, Committed) for one in outcomes
            ):
                writes = [StreamWrite(one.stream, ANY, one.events) for one in commit.writes]
                (outcome,) = await super().commit([Commit(writes)])
            outcomes.append(outcome)
        return outcomes


KILLED_BY: dict[type[Wrapped | Bug], tuple[str, ...]] = {
    PageCutByBytes: ("SIZ-06",),
    WritesAfterItsCallerWasCancelled: ("CAN-19",),
    SpoiltBySixReads: ("CAN-17",),
    KeepsFifteenHundred: ("SIZ-08",),
    ReadsFiveThousand: ("SIZ-09",),
    ScannedToTheHead: ("SIZ-06",),
    HeadOfThePage: ("REA-17", "ITR-05", "AGG-08", "SIZ-01"),
    OldestBackwards: ("REA-17",),
    RepeatsAtTheEdge: ("GLO-20", "SUB-16"),
    CountsWhatItGives: ("GLO-12",),
    QueriesOnePage: ("QRY-09",),
    WritesTwenty: ("CON-17",),
    AllConflict: ("CON-18",),
    StaleHeads: ("CON-02",),
}
"""The clauses that find a bug; others may find it, too."""

CLAUSES = {one.id: one for one in all_clauses()}


def opened(bug: type[Wrapped | Bug]) -> Any:
    """Open a store with a bug in it, or over an engine with one."""
    return Store(bug(), batching="always") if issubclass(bug, Bug) else bug()


def harness_of(make: Callable[[], Any]) -> type[Harness]:
    class BugHarness(Harness):
        name = "bug"
        capabilities = Capabilities.only(
            "sessions", "global_order", "guards", "conditions", "times", "catalogue", "hooks"
        )

        @asynccontextmanager
        async def open(self) -> AsyncGenerator[EventStore, None]:
            store = make()
            yield store
            await store.aclose()

    return BugHarness


@pytest.mark.parametrize(
    ("bug", "id_"),
    [(bug, id_) for bug, ids in KILLED_BY.items() for id_ in ids],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_mutant_is_killed(bug: type[Wrapped | Bug], id_: str) -> None:
    outcome = judge(harness_of(lambda: opened(bug)), CLAUSES[id_])
    assert outcome.result == "failed", f"{id_} does not see it"
    assert not outcome.reason.startswith(("AttributeError", "NameError", "TypeError"))


@pytest.mark.parametrize("id_", sorted({id_ for ids in KILLED_BY.values() for id_ in ids}))
@pytest.mark.parametrize("right", [Wrapped, Bug])
def test_without_a_bug_they_pass(right: type[Wrapped | Bug], id_: str) -> None:
    outcome = judge(harness_of(lambda: opened(right)), CLAUSES[id_])
    assert outcome.result == "held", outcome.details
