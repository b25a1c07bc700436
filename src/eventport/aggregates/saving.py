"""Saving aggregates: what they have recorded goes to their streams, at the versions loaded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeVar

from eventport.aggregates.aggregate import Aggregate, AggregateExistsError
from eventport.context import current_context
from eventport.errors import ConcurrencyError
from eventport.folding import EventCodec
from eventport.protocols import EventStore, Session, Streams
from eventport.toolkit_streams import is_toolkit_stream
from eventport.validation import check_metadata


T = TypeVar("T")

_ATTEMPTS: Final = 9
"""How often races for values of columns are run again; with the last one there is no more."""


class Written(NamedTuple):
    """What was appended of an aggregate."""

    aggregate: Aggregate[Any]
    events: int
    version: int
    position: int | None


async def append_pending(
    streams: Streams,
    types: EventCodec[Any],
    aggregates: Iterable[Aggregate[Any]],
    metadata: Mapping[str, Any] | None,
) -> list[Written]:
    """Append what aggregates have recorded; `settle` it once it is committed."""
    metadata = {**current_context().metadata, **check_metadata(metadata)}
    written: list[Written] = []
    for aggregate in aggregates:
        place, version, pending = (
            aggregate.aggregate_tracking.place,
            aggregate.aggregate_tracking.version,
            aggregate.aggregate_tracking.pending,
        )
        if place is None or not pending:
            continue
        events = [types.new(event, metadata=metadata, id=id_) for event, id_ in pending]
        appended = await streams.append(place.stream, events, expected=version)
        written.append(Written(aggregate, len(pending), appended.version, appended.position))
    return written


def settle(written: Iterable[Written]) -> None:
    """Note what has been saved; an aggregate may have recorded more meanwhile."""
    for one in written:
        tracking = one.aggregate.aggregate_tracking
        one.aggregate.aggregate_tracking = tracking.saved(one.events, one.version)


@contextmanager
def explain_conflicts(aggregates: Iterable[Aggregate[Any]]) -> Generator[None]:
    """Raise `AggregateExistsError` for a conflict that comes of a new aggregate."""
    try:
        yield
    except ConcurrencyError as exc:
        for aggregate in aggregates:
            tracking = aggregate.aggregate_tracking
            place = tracking.place
            if place is not None and place.stream == exc.stream and not tracking.version:
                raise AggregateExistsError(place.category, place.id) from exc
        raise


async def in_session(
    store: EventStore, work: Callable[[Session], Awaitable[T]]
) -> tuple[T, int | None]:
    """Do something in a session, and again if only its look-ups have lost a race.

    A rival for a value of a column is found by the next attempt, and then named. A conflict about
    anything else is the caller's.

    Returns:
        The result, and the position of the last event.
    """
    for _ in range(_ATTEMPTS):
        try:
            async with store.session() as session:
                result = await work(session)
        except ConcurrencyError as exc:
            if not is_toolkit_stream(exc.stream):
                raise
            continue
        return result, session.position
    async with store.session() as session:
        result = await work(session)
    return result, session.position
