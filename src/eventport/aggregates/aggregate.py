"""What an aggregate is: a state that comes from events, and the events that are not saved yet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID, uuid4

from msgspec import Struct
from msgspec.structs import replace

from eventport.errors import EventportError
from eventport.folding import Fold


S = TypeVar("S")
E = TypeVar("E")


class AggregateNotFoundError(EventportError):
    """There is no aggregate of this id, or there was none yet at the version or time asked for."""

    def __init__(self, category: str, aggregate_id: str) -> None:
        super().__init__(category, aggregate_id)
        self.category = category
        """What it would be, such as ``"order"``."""
        self.aggregate_id = aggregate_id
        """The id that was asked for."""

    def __str__(self) -> str:
        return f"there is no {self.category} {self.aggregate_id!r}"


class AggregateExistsError(EventportError):
    """An aggregate was to be added, but there is one of this id already; nothing was written."""

    def __init__(self, category: str, aggregate_id: str) -> None:
        super().__init__(category, aggregate_id)
        self.category = category
        """What it is, such as ``"order"``."""
        self.aggregate_id = aggregate_id
        """The id that was to be added."""

    def __str__(self) -> str:
        return f"{self.category} {self.aggregate_id!r} exists already"


class Place(NamedTuple):
    """Where an aggregate belongs."""

    category: str
    id: str
    stream: str


class Pending(NamedTuple, Generic[E]):
    """An event that is not saved yet."""

    event: E
    id: UUID


class Tracking(Struct, Generic[E], frozen=True):
    """What is known of an aggregate beside its state; it is replaced as a whole."""

    place: Place | None = None
    """Where it belongs; None if it has no id yet."""
    version: int = 0
    """The version of its stream that it was loaded or saved at."""
    pending: tuple[Pending[E], ...] = ()
    """What it has recorded and is not saved yet."""
    columns: Mapping[str, str] = {}
    """The values of its columns when it was loaded or saved."""

    def saved(self, events: int, version: int) -> Tracking[E]:
        """Return it without the first pending events, which are saved now."""
        return replace(self, version=version, pending=self.pending[events:])


class Aggregate(ABC, Generic[E]):
    """An object whose state comes from events.

    Its methods check the rules and `record` what happened; `apply` alone changes the state. It
    needs nothing from a constructor of this class, so it may be a dataclass, too.
    """

    aggregate_tracking: Tracking[E] = Tracking()
    """What repositories keep of it: its place, its version, what is not saved yet."""

    @abstractmethod
    def apply(self, event: E) -> None:
        """Change the state by an event, whether new or stored. It must not refuse any."""

    def record(self, event: E) -> None:
        """Apply an event that has just happened, and keep it until the aggregate is saved."""
        self.apply(event)
        # The id is given here, so that an aggregate can be saved again if an answer was lost.
        tracking = self.aggregate_tracking
        pending = (*tracking.pending, Pending(event, uuid4()))
        self.aggregate_tracking = replace(tracking, pending=pending)

    @property
    def aggregate_id(self) -> str | None:
        """The id that it was loaded or added by."""
        place = self.aggregate_tracking.place
        return None if place is None else place.id

    @property
    def aggregate_version(self) -> int:
        """The version of its stream that it was loaded or saved at; 0 if it is new."""
        return self.aggregate_tracking.version

    @property
    def pending_events(self) -> Sequence[E]:
        """What was recorded and is not saved yet."""
        return [pending.event for pending in self.aggregate_tracking.pending]


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
