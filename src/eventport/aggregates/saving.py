"""Saving aggregates: what they have recorded goes to their streams, at the versions loaded."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from eventport.aggregates.aggregate import Aggregate, AggregateExistsError
from eventport.context import current_context
from eventport.errors import ConcurrencyError
from eventport.folding import EventCodec
from eventport.protocols import Streams
from eventport.validation import check_metadata


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
