"""Mutants that can do less, and do not refuse the rest."""

# ruff: noqa: D102  # they override methods, and do it wrong

from __future__ import annotations

from typing import Any

from eventport import (
    AllResult,
    Capability,
    NewEvent,
    StoreUnavailableError,
)

from eventport_conformance.proof.mutants.base import (
    OneByOne,
    mutant,
)
from eventport_conformance.proof.reference_data import Hook
from eventport_conformance.proof.reference_session import ReferenceSession
from eventport_conformance.proof.reference_store import MinimalStore, ReferenceStore


@mutant("SES-31")
class SecondStreamWritten(MinimalStore):
    """It cannot commit two streams as one, and does it one by one instead of refusing."""

    def new_session(self) -> ReferenceSession:
        return _Permissive(self)


class _Permissive(OneByOne):
    def keep(self, stream: str, events: list[NewEvent]) -> None:
        self.own.setdefault(stream, []).extend(events)
        self.writes.append((stream, events))


@mutant("SES-32")
class ReadingRefused(MinimalStore):
    """It refuses to read another stream in a session than it writes."""

    def new_session(self) -> ReferenceSession:
        return _OneStream(self)


class _OneStream(ReferenceSession):
    def pin(self, stream: str) -> int:
        if self.pins and stream not in self.pins:
            message = "a session of this store is about one stream"
            raise StoreUnavailableError(message)
        return super().pin(stream)


@mutant("GLO-24")
class OrderPretended(MinimalStore):
    """It has no order of all events, and returns none instead of refusing."""

    async def read_all(self, **_: Any) -> Any:
        return AllResult([], 0)


@mutant("CAT-15")
class ListPretended(MinimalStore):
    """It has no list of its streams, and returns an empty one instead of refusing."""

    async def streams(self, **_: Any) -> Any:
        return []


@mutant("HOK-11")
class HooksForgotten(MinimalStore):
    """It takes hooks, and never calls them."""

    def after_commit(self, hook: Hook) -> Hook:
        return hook


@mutant("CAP-01", "CAP-02", "CAP-03", "CAP-04")
class BoastingStore(MinimalStore):
    """It claims what it cannot do."""

    capabilities = frozenset(Capability)


@mutant("CAP-01")
class ModestStore(ReferenceStore):
    """It does not claim what it can do."""

    capabilities = frozenset(Capability) - {Capability.SESSIONS}
