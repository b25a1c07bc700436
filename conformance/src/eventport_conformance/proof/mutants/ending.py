"""Mutants that are cancelled or closed wrongly."""

# ruff: noqa: D102  # they override methods, and do it wrong

from __future__ import annotations

import asyncio

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from anyio import get_cancelled_exc_class

from eventport import (
    AllResult,
    AppendResult,
    Expectation,
    NewEvent,
    Query,
    QueryResult,
    RecordedEvent,
    Session,
    StoreUnavailableError,
)

from eventport_conformance.proof.mutants.base import (
    mutant,
)
from eventport_conformance.proof.reference_data import Filter
from eventport_conformance.proof.reference_session import ReferenceSession, ReferenceSubscription
from eventport_conformance.proof.reference_store import ReferenceStore


@mutant("CAN-01", "CAN-02", "CAN-11")
class OpenTransaction(ReferenceStore):
    """It leaves a transaction open if an append is cancelled in it."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        if getattr(self, "in_transaction", False):
            message = "cannot start a transaction within a transaction"
            raise StoreUnavailableError(message)
        self.in_transaction = True
        if len(events) != 1 or events[0].type != "After":
            await self.turn()
        try:
            return await super().append_now(stream, events, expected)
        finally:
            self.in_transaction = False


@mutant("CAN-10")
class CancellationSwallowed(ReferenceStore):
    """It takes the cancellation of an append for an error of the driver, and tries again."""

    async def turn(self) -> None:
        try:
            await super().turn()
        except get_cancelled_exc_class():
            pass


@mutant("CAN-01", "CAN-06")
class NeverLetsOthersRun(ReferenceStore):
    """It does all its work without ever giving others a turn."""

    async def turn(self) -> None:
        self.check_open()


@mutant("CLO-01", "CLO-02", "CLO-07")
class OpenAfterClosing(ReferenceStore):
    """It goes on working after it was closed."""

    def check_open(self) -> None:
        """Check nothing."""


@mutant("CAN-17", "CAN-18")
class SpoiltByImpatience(ReferenceStore):
    """It keeps a connection whose call was cancelled; when all are broken, nothing works."""

    spoilt = 0

    async def turn(self) -> None:
        if self.spoilt > 20:
            message = "the connection is busy"
            raise StoreUnavailableError(message)
        try:
            await super().turn()
        except get_cancelled_exc_class():
            self.spoilt += 1
            raise


@mutant("CAN-19")
class WrittenAfterCancellation(ReferenceStore):
    """It leaves an append that was cancelled in its queue, and writes it a moment later."""

    async def append(self, stream: str, events: Iterable[NewEvent], **asked: Any) -> AppendResult:
        taken = list(events)
        try:
            return await super().append(stream, taken, **asked)
        except get_cancelled_exc_class():
            asyncio.get_running_loop().call_later(0.02, self.write, [(stream, taken)])
            raise


@mutant("CLO-09", "CLO-10")
class ClosingDropsWhatWaits(ReferenceStore):
    """It refuses appends that were called before it was closed and still wait."""

    async def turn(self) -> None:
        await super().turn()
        self.check_open()


@mutant("ELS-01", "ELS-02")
class UsedAnywhere(ReferenceStore):
    """It does not notice that it is used in another event loop, or in a forked child."""

    def check_place(self) -> None:
        """Check nothing."""


@mutant("SUB-22")
class WaitsForTheHead(ReferenceStore):
    """It takes a position beyond the head for a place to wait at."""

    def check_reached(self, position: int) -> None:
        """Check nothing."""


@mutant("SIZ-06")
class PageCutByBytes(ReferenceStore):
    """It ends a page when it is large, and says that it was scanned to its end."""

    async def read_all(self, **asked: Any) -> AllResult:
        result = await super().read_all(**asked)
        size, kept = 0, list[RecordedEvent]()
        for event in result.events:
            size += len(str(event.data))
            if size < 2_000_000:
                kept.append(event)
        return AllResult(kept, result.position)


class _ForgetfulSession(ReferenceSession):
    def everything(self, stream: str) -> list[RecordedEvent]:
        events = super().everything(stream)
        if sum(len(str(event.data)) for event in events) < 4_000_000:
            return events
        return events[:15] + events[-2:]


@mutant("SIZ-07")
class SessionSkipsVersions(ReferenceStore):
    """Its session takes the first page of what is stored for all of it."""

    def new_session(self) -> ReferenceSession:
        return _ForgetfulSession(self)


@mutant("CLO-03")
class ClosedOnce(ReferenceStore):
    """It cannot be closed twice."""

    async def aclose(self) -> None:
        self.check_open()
        await super().aclose()


@mutant("CLO-04")
class BlockLeavesOpen(ReferenceStore):
    """It stays open when its block is left."""

    async def __aexit__(self, *_: object) -> None:
        """Do nothing."""


@mutant("CLO-06")
class ClosingEndsQuietly(ReferenceStore):
    """It ends subscriptions quietly when it is closed."""

    def new_subscription(self, after: int, wanted: Filter) -> ReferenceSubscription:
        return _EndingQuietly(self, after, wanted)


class _EndingQuietly(ReferenceSubscription):
    async def wait(self, seen: int) -> None:
        await super().wait(seen)
        self.left = self.left or self.store.closed


@mutant("CLO-01")
class SessionsAfterClosing(ReferenceStore):
    """It opens sessions after it was closed, which fail only when they are used."""

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Session, None]:
        session = self.new_session()
        yield session
        session.ended = True
        if session.writes:
            await session.commit()


@mutant("CLO-11")
class ClosingBreaksReads(ReferenceStore):
    """Its reads that are under way when it is closed report a lost connection."""

    async def turn(self) -> None:
        await super().turn()
        if self.closed:
            message = "the connection was closed in the middle of an operation"
            raise StoreUnavailableError(message)


@mutant("CAN-07")
class QueriesAtOnce(ReferenceStore):
    """It answers queries without ever giving others a turn."""

    async def query(self, query: Query, /, **_: Any) -> QueryResult:
        self.check_open()
        return self.find(query, 0, None, backwards=False)


@mutant("CAN-21")
class LargeAppendsGoOn(ReferenceStore):
    """It writes a large append in a thread of its own, which goes on without its caller."""

    under_way: asyncio.Future[list[RecordedEvent]] | None = None

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        if self.under_way is not None:
            await asyncio.wait([self.under_way])
        if len(events) < 1_000:
            return await super().append_now(stream, events, expected)
        loop = asyncio.get_running_loop()
        self.under_way = written = loop.create_future()
        loop.call_later(0.06, lambda: written.set_result(self.write([(stream, events)])))
        await asyncio.wait([written])
        return self.result(written.result(), created=True)
