"""From the events of a stream to a state: what a fold is, and who loads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from msgspec import Struct

from eventport.events import RecordedEvent
from eventport.protocols import Streams
from eventport.results import AggregateResult
from eventport.typed import EventTypes
from eventport.validation import check_initial, check_plain_function


S = TypeVar("S")
E = TypeVar("E")


class Fold(Struct, Generic[S, E], frozen=True):
    """How the typed events of a stream become a state."""

    types: EventTypes[E]
    """What turns stored events into instances of the program's classes."""
    initial: Callable[[], S]
    """Gives the state before the first event."""
    evolve: Callable[[S, E], S]
    """Gives the state after an event, from the state before it."""

    def __post_init__(self) -> None:
        """Refuse what no loader could fold with."""
        check_initial(self.initial)
        check_plain_function("evolve", self.evolve)


class StateLoader(Protocol):
    """Finds the state of a stream: by replaying all of it, or in some shorter way."""

    async def load(
        self, streams: Streams, stream: str, fold: Fold[S, E], *, to_version: int | None = None
    ) -> AggregateResult[S]:
        """Return the state of a stream, and the version that it was folded to.

        Each event that is folded is decoded by ``fold.types``, from the lowest version to the
        highest without gaps.

        Args:
            streams: A store or a session.
            stream: The stream's name; if it does not exist, the state is the initial one.
            fold: How to fold it.
            to_version: Fold no further than this version.
        """
        ...


class Replay:
    """Loads a state by folding all events of the stream."""

    async def load(
        self, streams: Streams, stream: str, fold: Fold[S, E], *, to_version: int | None = None
    ) -> AggregateResult[S]:
        """See `StateLoader.load`."""
        decode, evolve = fold.types.decode, fold.evolve

        def step(state: S, event: RecordedEvent) -> S:
            return evolve(state, decode(event))

        return await streams.aggregate(stream, step, fold.initial, to_version=to_version)


replay: Final[StateLoader] = Replay()
"""The loader to use if there are no snapshots."""
