"""Mutants of odd names, types and retries."""

# ruff: noqa: D102  # they override methods, and do it wrong

from __future__ import annotations

from anyio.lowlevel import checkpoint
from msgspec.structs import replace

from eventport import AppendResult, Expectation, NewEvent

from eventport_conformance.proof.mutants.base import mutant
from eventport_conformance.proof.reference_session import ReferenceSession
from eventport_conformance.proof.reference_store import ReferenceStore


class _Escaping(ReferenceSession):
    async def commit(self) -> None:
        if len({stream for stream, _ in self.writes}) > 1:
            self.writes = [
                (stream, [replace(event, type=event.type.replace(" ", "_")) for event in events])
                for stream, events in self.writes
            ]
        await super().commit()


@mutant("ODD-01")
class TypesOfSeveralStreams(ReferenceStore):
    """Its commits over several streams change the types that their call cannot hold."""

    def new_session(self) -> ReferenceSession:
        return _Escaping(self)


class _CaseBlind(ReferenceSession):
    async def commit(self) -> None:
        spelled: dict[str, str] = {}
        self.writes = [
            (spelled.setdefault(stream.lower(), stream), events) for stream, events in self.writes
        ]
        await super().commit()


@mutant("ODD-02")
class CaseBlindSessions(ReferenceStore):
    """Its sessions take streams whose names differ in case only for one."""

    def new_session(self) -> ReferenceSession:
        return _CaseBlind(self)


@mutant("ODD-03")
class RetryLooksFirst(ReferenceStore):
    """It looks for an earlier try, and writes later, although another store was faster."""

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        head = self.head(stream)
        if events and expected in {0, "no_stream"} and head == 0:
            await checkpoint()
            if self.head(stream) != head:
                raise self.conflict(stream, expected, self.head(stream))
        return await super().append_now(stream, events, expected)
