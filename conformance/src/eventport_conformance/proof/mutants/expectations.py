"""Mutants whose expectations are checked wrongly, or not at all."""

# ruff: noqa: ARG002, D102  # they override methods, and do it wrong

from __future__ import annotations

from typing import Any

from anyio.lowlevel import checkpoint

from eventport import (
    ANY,
    AppendResult,
    ConcurrencyError,
    Expectation,
    NewEvent,
    ReadResult,
)

from eventport_conformance.proof.mutants.base import (
    mutant,
)
from eventport_conformance.proof.reference_store import ReferenceStore


@mutant("CON-01", "CON-02", "CON-10", "CON-15")
class RacingStore(ReferenceStore):
    """It checks the expectation, lets others have a turn, and then writes."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        head = self.head(stream)
        if events and self.holds(expected, head):
            await checkpoint()
            return self.result(self.write([(stream, events)]), created=head == 0)
        return await super().append_now(stream, events, expected)


@mutant("EXP-03", "CON-01")
class NoStreamIgnored(ReferenceStore):
    """It does not enforce `no_stream`."""

    def holds(self, expected: Expectation, head: int) -> bool:
        return expected == "no_stream" or super().holds(expected, head)


@mutant("EXP-07")
class StreamExistsIgnored(ReferenceStore):
    """It does not enforce `stream_exists`."""

    def holds(self, expected: Expectation, head: int) -> bool:
        return expected == "stream_exists" or super().holds(expected, head)


@mutant("EXP-05")
class ZeroIsFalsy(ReferenceStore):
    """It takes version 0 for no expectation."""

    def holds(self, expected: Expectation, head: int) -> bool:
        return not expected or super().holds(expected, head)


@mutant("EXP-10", "EXP-11")
class LaterVersionAccepted(ReferenceStore):
    """It accepts an expected version beyond the head."""

    def holds(self, expected: Expectation, head: int) -> bool:
        return super().holds(expected, head) or (isinstance(expected, int) and expected > head)


@mutant("EXP-03", "EXP-10", "SES-14")
class ActualIsGuessed(ReferenceStore):
    """Its conflicts report a version that it has not looked up."""

    def conflict(self, stream: str, expected: Expectation, head: int) -> ConcurrencyError:
        return ConcurrencyError(stream, expected, expected if isinstance(expected, int) else 0)


@mutant("CON-03", "CON-04")
class SpuriousConflict(ReferenceStore):
    """It takes the unique violation of a race for a conflict of an append that expects nothing."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        head = self.head(stream)
        await checkpoint()
        if self.head(stream) != head:
            raise self.conflict(stream, expected, self.head(stream))
        return await super().append_now(stream, events, expected)


@mutant("EXP-16")
class EmptyAppendUnchecked(ReferenceStore):
    """It does not check the expectation of an append of no events."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        return await super().append_now(stream, events, expected if events else ANY)


@mutant("EXP-19")
class RangeExpected(ReferenceStore):
    """It compares what a read expects with the last event read."""

    async def read(self, stream: str, **asked: Any) -> ReadResult:
        expected = asked.pop("expected", ANY)
        read = await super().read(stream, **asked)
        last = read.events[-1].version if read.events else 0
        if not self.holds(expected, last):
            raise self.conflict(stream, expected, last)
        return read


@mutant("EXP-17", "EXP-18")
class ReadUnchecked(ReferenceStore):
    """It does not check what a read expects."""

    async def read(self, stream: str, *, expected: Expectation = ANY, **asked: Any) -> ReadResult:
        del expected
        return await super().read(stream, **asked)
