"""Mutants of which several work on the same events."""

# ruff: noqa: D102  # they override methods, and do it wrong

from __future__ import annotations

from anyio import sleep

from eventport import (
    NewEvent,
    RecordedEvent,
)

from eventport_conformance.proof.mutants.base import (
    Subscribing,
    mutant,
)
from eventport_conformance.proof.reference_data import Database, Writes
from eventport_conformance.proof.reference_session import ReferenceSubscription
from eventport_conformance.proof.reference_store import ReferenceStore


@mutant("SHA-02", "SHA-04", "SHA-05")
class HeadCached(ReferenceStore):
    """It remembers heads, and does not notice what other stores append."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.heads: dict[str, int] = {}

    def head(self, stream: str) -> int:
        return self.heads.setdefault(stream, super().head(stream))

    def record(self, stream: str, event: NewEvent) -> RecordedEvent:
        recorded = super().record(stream, event)
        self.heads[stream] = recorded.version
        return recorded


class _CountingStore(Subscribing):
    written = 0

    def write(self, writes: Writes) -> list[RecordedEvent]:
        self.written += 1
        return super().write(writes)


class _OwnOnly(ReferenceSubscription):
    store: _CountingStore

    async def wait(self, seen: int) -> None:
        del seen
        signal = self.store.database.signal
        before = self.store.written
        while self.store.written == before and not self.left:
            await signal.wait(signal.count, None)


@mutant("SHA-07")
class WokenByItselfOnly(_CountingStore):
    """It wakes its subscriptions for its own commits only, and never polls."""

    subscription = _OwnOnly


class _Polling(ReferenceSubscription):
    async def wait(self, seen: int) -> None:
        del seen
        await sleep(3600)


@mutant("SHA-11")
class PushPretended(Subscribing):
    """It claims push, and polls instead, as rarely as it may."""

    subscription = _Polling


@mutant("SHA-09")
class ClosingTakesAll(ReferenceStore):
    """It takes the events with it when it is closed."""

    async def aclose(self) -> None:
        self.database.streams.clear()
        await super().aclose()


@mutant("DUR-01", "DUR-02", "DUR-04")
class LostOnClosing(ReferenceStore):
    """It loses the last commit if it is closed soon after it."""

    async def aclose(self) -> None:
        if self.database.log and not self.closed:
            lost = self.database.log.pop()
            self.database.streams[lost.stream].pop()
        await super().aclose()
