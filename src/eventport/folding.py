"""From the events of a stream to a state: what a fold is, and what loads the state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar, runtime_checkable
from uuid import UUID

from msgspec import Struct

from eventport._concurrency.gathering import gather
from eventport.events import NewEvent, RecordedEvent
from eventport.protocols import Streams
from eventport.results import AggregateResult
from eventport.validation import check_initial, check_plain_function


S = TypeVar("S")
E = TypeVar("E")

_AT_ONCE: Final = 16
"""How many streams a loader is asked for side by side."""


class EventCodec(Protocol[E]):
    """What turns stored events into instances of the program's classes, and back.

    `EventTypes` is one.
    """

    def new(
        self,
        event: E,
        *,
        metadata: Mapping[str, Any] | None = None,
        id: UUID | None = None,  # noqa: A002  # as `NewEvent` calls it
    ) -> NewEvent:
        """Return an instance of a class as an event to append."""
        ...

    def decode(self, event: RecordedEvent) -> E:
        """Return the data of a stored event as an instance of its class."""
        ...


class Fold(Struct, Generic[S, E], frozen=True):
    """How the typed events of a stream become a state."""

    types: EventCodec[E]
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


@runtime_checkable
class ManyLoader(Protocol):
    """A `StateLoader` that finds the states of many streams with fewer round trips."""

    async def load_many(
        self, streams: Streams, names: Sequence[str], fold: Fold[S, E]
    ) -> Mapping[str, AggregateResult[S]]:
        """Return what `StateLoader.load` returns, for each of these streams."""
        ...


class Replay:
    """Loads a state by folding all events of the stream."""

    async def load(
        self, streams: Streams, stream: str, fold: Fold[S, E], *, to_version: int | None = None
    ) -> AggregateResult[S]:
        """See `StateLoader.load`."""
        return await streams.aggregate(stream, _step(fold), fold.initial, to_version=to_version)

    async def load_many(
        self, streams: Streams, names: Sequence[str], fold: Fold[S, E]
    ) -> Mapping[str, AggregateResult[S]]:
        """See `ManyLoader.load_many`."""
        return await streams.aggregate_many(names, _step(fold), fold.initial)


def _step(fold: Fold[S, E]) -> Callable[[S, RecordedEvent], S]:
    decode, evolve = fold.types.decode, fold.evolve
    return lambda state, event: evolve(state, decode(event))


async def load_many(
    loader: StateLoader, streams: Streams, names: Sequence[str], fold: Fold[S, E]
) -> Mapping[str, AggregateResult[S]]:
    """Load the states of many streams: at once if the loader can, or else side by side."""
    if isinstance(loader, ManyLoader):
        return await loader.load_many(streams, names, fold)
    found: dict[str, AggregateResult[S]] = {}
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        results = await gather(lambda name: loader.load(streams, name, fold), some)
        found.update(zip(some, results, strict=True))
    return found


replay: Final[StateLoader] = Replay()
"""The loader to use if there are no snapshots."""
