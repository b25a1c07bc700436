"""Mutants that call after-commit hooks wrongly."""

# ruff: noqa: D102  # they override methods, and do it wrong

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventport import (
    AppendResult,
    Expectation,
    NewEvent,
    RecordedEvent,
)

from eventport_conformance.proof.mutants.base import (
    mutant,
)
from eventport_conformance.proof.reference_data import Database, Hook
from eventport_conformance.proof.reference_store import ReferenceStore


@mutant("HOK-04")
class HooksFailAppends(ReferenceStore):
    """It lets an append fail if a hook raises."""

    async def call_hooks(self, recorded: Sequence[RecordedEvent]) -> None:
        for hook in self.hooks:
            await hook(recorded)


@mutant("HOK-02", "HOK-07")
class HooksBefore(ReferenceStore):
    """It calls the hooks before the commit."""

    async def append(self, stream: str, events: Any, **asked: Any) -> AppendResult:
        taken = self.take_in(events)
        hooks, self.hooks = self.hooks, []
        try:
            for hook in hooks:
                await hook([self.hand_out(event) for event in self._foreseen(stream, taken)])
            return await super().append(stream, taken, **asked)
        finally:
            self.hooks = hooks

    def _foreseen(self, stream: str, events: Sequence[NewEvent]) -> list[RecordedEvent]:
        copy = ReferenceStore(Database())
        return copy.write([(stream, events)])


@mutant("HOK-01", "HOK-05")
class HookForEachEvent(ReferenceStore):
    """It calls a hook once for each event."""

    async def call_hooks(self, recorded: Sequence[RecordedEvent]) -> None:
        for event in recorded:
            await super().call_hooks([event])


@mutant("HOK-03")
class HooksTurnedRound(ReferenceStore):
    """It calls the hooks in the wrong order."""

    def after_commit(self, hook: Hook) -> Hook:
        self.hooks.insert(0, hook)
        return hook


@mutant("HOK-07")
class RetriesAreTold(ReferenceStore):
    """It calls the hooks for a retry, too."""

    def earlier(
        self, stream: str, expected: Expectation, events: Sequence[NewEvent]
    ) -> AppendResult | None:
        result = super().earlier(stream, expected, events)
        self.retried = self.database.streams[stream][:1] if result else []
        return result

    async def append_now(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult:
        result = await super().append_now(stream, events, expected)
        if result.deduplicated:
            await self.call_hooks(self.retried)
        return result
