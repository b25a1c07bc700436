"""What an aggregate is: a state that comes from events, and the events that are not saved yet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID, uuid4

from eventport.folding import Fold


S = TypeVar("S")
E = TypeVar("E")


class Aggregate(ABC, Generic[E]):
    """An object whose state comes from events.

    Its methods check the rules and `record` what happened; `apply` alone changes the state. It
    needs nothing from a constructor of this class, so it may be a dataclass, too.
    """

    _place: Place | None = None
    _version: int = 0
    _pending: tuple[Pending[E], ...] = ()

    @abstractmethod
    def apply(self, event: E) -> None:
        """Change the state by an event, be it new or stored. It must not refuse anything."""

    def record(self, event: E) -> None:
        """Apply an event that has just happened, and keep it until the aggregate is saved."""
        self.apply(event)
        # The id is given here, so that an aggregate can be saved again if an answer was lost.
        self._pending = (*self._pending, Pending(event, uuid4()))

    @property
    def aggregate_id(self) -> str | None:
        """The id that it was loaded or added by."""
        return None if self._place is None else self._place.id

    @property
    def aggregate_version(self) -> int:
        """The version of its stream that it was loaded or saved at; 0 if it is new."""
        return self._version

    @property
    def pending_events(self) -> Sequence[E]:
        """What was recorded and is not saved yet."""
        return [pending.event for pending in self._pending]


class Folded(Aggregate[E], Generic[S, E]):
    """A state and the functions that evolve it, in the place of an aggregate of a class.

    Args:
        fold: How events become the state.
    """

    def __init__(self, fold: Fold[S, E]) -> None:
        self._fold = fold
        self.state = fold.initial()
        """The state after all events, those included that are recorded and not saved yet."""

    def apply(self, event: E) -> None:
        """Evolve the state by an event."""
        self.state = self._fold.evolve(self.state, event)


class Place(NamedTuple):
    """Where an aggregate belongs."""

    category: str
    id: str
    stream: str


class Pending(NamedTuple, Generic[E]):
    """An event that is not saved yet."""

    event: E
    id: UUID
