"""What a mutant is, where the mutants are kept, and what several of them share."""

# ruff: noqa: D102  # they override methods, and do it wrong

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from eventport import (
    RecordedEvent,
)

from eventport_conformance.proof.reference_data import Filter
from eventport_conformance.proof.reference_session import ReferenceSession, ReferenceSubscription
from eventport_conformance.proof.reference_store import ReferenceStore


S = TypeVar("S")
Store = TypeVar("Store", bound=type[ReferenceStore])


@dataclass(frozen=True)
class Mutant:
    """A store with one bug, and the clauses that find it."""

    store: type[ReferenceStore]
    killed_by: tuple[str, ...]
    """Clauses that it fails; it may fail others, too."""

    @property
    def name(self) -> str:
        """The name of its class."""
        return self.store.__name__

    @property
    def sentence(self) -> str:
        """What is wrong."""
        return (self.store.__doc__ or "").strip()


MUTANTS: Final[list[Mutant]] = []


def mutant(*killed_by: str) -> Callable[[Store], Store]:
    """Register a store with a bug, with clauses that find it."""

    def register(store: Store) -> Store:
        MUTANTS.append(Mutant(store, killed_by))
        return store

    return register


def changed(event: RecordedEvent, **changes: Any) -> RecordedEvent:
    """Return an event with other fields."""
    found: RecordedEvent = msgspec.structs.replace(event, **changes)
    return found


class Subscribing(ReferenceStore):
    """A store with a subscription of its own."""

    subscription: type[ReferenceSubscription]

    def new_subscription(self, after: int, wanted: Filter) -> ReferenceSubscription:
        return self.subscription(self, after, wanted)


class OneByOne(ReferenceSession):
    """It writes its streams one by one."""

    async def commit(self) -> None:
        for stream, events in self.writes:
            await self.store.turn()
            if self.store.head(stream) != self.pins[stream]:
                raise self.store.conflict(stream, self.pins[stream], self.store.head(stream))
            self.position = self.store.write([(stream, events)])[-1].position
            self.pins[stream] += len(events)
