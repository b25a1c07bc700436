"""Mutants that accept wrong names and arguments."""

# ruff: noqa: D102  # they override methods, and do it wrong

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventport import (
    ANY,
    AppendResult,
    InvalidStreamNameError,
    NewEvent,
    ReadResult,
)

from eventport_conformance.proof.mutants.base import (
    mutant,
)
from eventport_conformance.proof.reference_store import ReferenceStore


def _cut(name: Any) -> Any:
    return name[:500] if isinstance(name, str) else name


@mutant("NAM-06", "NAM-12")
class LongNamesCut(ReferenceStore):
    """It truncates names that are too long."""

    async def append(self, stream: str, events: Any, **asked: Any) -> AppendResult:
        return await super().append(_cut(stream), events, **asked)

    async def read(self, stream: str, **asked: Any) -> ReadResult:
        return await super().read(_cut(stream), **asked)


@mutant("NAM-08")
class DollarAccepted(ReferenceStore):
    """It lets callers write to the streams of the toolkit."""

    async def append(self, stream: str, events: Any, **asked: Any) -> AppendResult:
        if stream[:1] == "$":
            stream = f"dollar-{stream[1:]}"
        return await super().append(stream, events, **asked)


@mutant("NAM-14")
class ToolkitStreamsOpenToAll(ReferenceStore):
    """It lets a program write to the streams of the toolkit."""

    def check_owner(self, stream: str, events: Sequence[NewEvent]) -> None:
        pass


@mutant("NAM-14")
class FirstEventDecides(ReferenceStore):
    """It looks only at the first event that is appended to a stream of the toolkit."""

    def check_owner(self, stream: str, events: Sequence[NewEvent]) -> None:
        super().check_owner(stream, events[:1])


@mutant("NAM-15")
class ToolkitStreamsClosed(ReferenceStore):
    """It lets nobody write to the streams of the toolkit, the toolkit included."""

    def check_owner(self, stream: str, events: Sequence[NewEvent]) -> None:
        super().check_owner(stream, events)
        if stream.startswith("eventport/"):
            raise InvalidStreamNameError(stream)


@mutant("NAM-15")
class PrefixWithoutSlash(ReferenceStore):
    """It takes each name that begins with `eventport` for one of the toolkit's."""

    def check_owner(self, stream: str, events: Sequence[NewEvent]) -> None:
        super().check_owner(stream.replace("eventport-", "eventport/", 1), events)


@mutant("ARG-01")
class BareEventAccepted(ReferenceStore):
    """It takes a bare event for a list of one."""

    def take_in(self, events: Any) -> list[NewEvent]:
        return super().take_in([events] if isinstance(events, NewEvent) else events)


@mutant("ARG-03", "ARG-04")
class UnknownIsAny(ReferenceStore):
    """It takes an expectation that it does not know for none."""

    async def append(
        self, stream: str, events: Any, *, expected: Any = ANY, **asked: Any
    ) -> AppendResult:
        if not isinstance(expected, int) and expected not in ("no_stream", "stream_exists"):
            expected = ANY
        return await super().append(stream, events, expected=expected, **asked)


@mutant("ARG-04")
class TrueIsOne(ReferenceStore):
    """It takes True for version 1."""

    async def append(
        self, stream: str, events: Any, *, expected: Any = ANY, **asked: Any
    ) -> AppendResult:
        if isinstance(expected, bool):
            expected = int(expected)
        return await super().append(stream, events, expected=expected, **asked)


@mutant("ARG-05", "ARG-07")
class NegativeIsClamped(ReferenceStore):
    """It takes bounds and counts below the smallest for the smallest."""

    async def read(
        self, stream: str, *, from_version: Any = 1, max_count: Any = None, **asked: Any
    ) -> ReadResult:
        if isinstance(from_version, int):
            from_version = max(from_version, 1)
        if isinstance(max_count, int):
            max_count = max(max_count, 0)
        return await super().read(stream, from_version=from_version, max_count=max_count, **asked)
