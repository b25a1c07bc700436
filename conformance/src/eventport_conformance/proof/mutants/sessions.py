"""Mutants whose sessions are torn, pinned wrongly, or see the wrong events."""

# ruff: noqa: BLE001, D102  # they override methods, and do it wrong

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from anyio.lowlevel import checkpoint

from eventport import (
    AppendResult,
    NewEvent,
    RecordedEvent,
    Session,
)

from eventport_conformance.proof.mutants.base import (
    OneByOne,
    mutant,
)
from eventport_conformance.proof.reference_session import ReferenceSession
from eventport_conformance.proof.reference_store import ReferenceStore


class _WithSession(ReferenceStore):
    """A store with a session of its own."""

    unit: type[ReferenceSession]

    def new_session(self) -> ReferenceSession:
        return self.unit(self)


class _WritingAtOnce(ReferenceSession):
    def keep(self, stream: str, events: list[NewEvent]) -> None:
        self.store.write([(stream, events)])
        self.pins[stream] = self.store.head(stream)


@mutant("SES-02", "SES-09", "SES-24", "CAN-13", "CAT-12")
class NoTransaction(_WithSession):
    """Its sessions write at once: a session is but a connection."""

    unit = _WritingAtOnce


@mutant("SES-24", "CAN-05", "SES-30")
class StreamByStream(_WithSession):
    """Its sessions commit one stream after the other."""

    unit = OneByOne


class _Blind(ReferenceSession):
    def everything(self, stream: str) -> list[RecordedEvent]:
        return super().everything(stream)[: self.pin(stream)]


@mutant("SES-03", "SES-04", "SES-05")
class OwnAppendsUnseen(_WithSession):
    """Its sessions do not see what they have appended."""

    unit = _Blind


class _LatePin(ReferenceSession):
    def pin(self, stream: str) -> int:
        return self.pins[stream] if stream in self.own else self.store.head(stream)

    def keep(self, stream: str, events: list[NewEvent]) -> None:
        self.pins.setdefault(stream, self.store.head(stream))
        super().keep(stream, events)


@mutant("SES-15", "SES-16")
class PinnedTooLate(_WithSession):
    """Its sessions pin a stream when they append to it, and not when they read it."""

    unit = _LatePin


class _Careful(ReferenceSession):
    def check_pins(self) -> None:
        for stream, pin in self.pins.items():
            if self.store.head(stream) != pin:
                raise self.store.conflict(stream, pin, self.store.head(stream))


@mutant("SES-17")
class ReadsArePinned(_WithSession):
    """Its sessions conflict on streams that they only read."""

    unit = _Careful


class _Reckless(ReferenceSession):
    def check_pins(self) -> None:
        """Check nothing."""


@mutant("SES-14", "SES-20", "SES-21")
class MovedIsOverlooked(_WithSession):
    """Its sessions do not notice that a stream has moved."""

    unit = _Reckless


class _Eternal(ReferenceSession):
    async def turn(self) -> None:
        await self.store.turn()


@mutant("SES-18")
class UsableAfterTheEnd(_WithSession):
    """Its sessions take appends after their end, and lose them."""

    unit = _Eternal


class _Sorted(ReferenceSession):
    async def commit(self) -> None:
        self.writes.sort(key=lambda write: write[0])
        await super().commit()


@mutant("SES-26")
class OrderedByStream(_WithSession):
    """Its sessions commit stream by stream, and not in the order of the appends."""

    unit = _Sorted


@mutant("SES-09", "SES-25")
class CommittedAllTheSame(ReferenceStore):
    """It commits a session whose block raised."""

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Session, None]:
        session = self.new_session()
        try:
            yield session
        finally:
            session.ended = True
            await session.commit()


@mutant("SES-12", "SES-22", "SES-09")
class ExceptionSwallowed(ReferenceStore):
    """It ends a session whose block raised as if nothing had been."""

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Session, None]:
        session = self.new_session()
        try:
            yield session
        except Exception:
            session.ended = True
            return
        session.ended = True
        await session.commit()


class _Lying(ReferenceSession):
    async def append(self, stream: str, events: Any, **asked: Any) -> AppendResult:
        result = await super().append(stream, events, **asked)
        position = self.store.last_position() + 3
        return AppendResult(result.version, position, result.created, result.deduplicated)


@mutant("SES-06")
class PositionForeseen(_WithSession):
    """Its sessions report a position before they have one."""

    unit = _Lying


class _TwoViews(ReferenceSession):
    async def turn(self) -> None:
        is_first = not self.pins
        await super().turn()
        await checkpoint()
        if is_first:
            self.pins.clear()


@mutant("SES-33")
class EachTaskItsView(ReferenceStore):
    """Its sessions give each task that reads first a view of its own."""

    def new_session(self) -> ReferenceSession:
        return _TwoViews(self)


class _FirstTryUnknown(ReferenceSession):
    async def append(self, stream: str, events: Any, **asked: Any) -> AppendResult:
        result = await super().append(stream, events, **asked)
        created = result.created and not result.deduplicated
        return AppendResult(result.version, result.position, created, result.deduplicated)


@mutant("IDM-15")
class RetryCreatesNothing(_WithSession):
    """Its sessions do not say for a retry that the original has created the stream."""

    unit = _FirstTryUnknown
