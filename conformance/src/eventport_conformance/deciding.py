"""Histories that describe themselves: each decision stores its query, and what it had seen."""

from __future__ import annotations

import random

from collections import Counter
from collections.abc import Sequence
from typing import Final

from eventport import BoundaryError, EventStore, Match, NewEvent, Query, RecordedEvent

from eventport_conformance.trial import Deviation


TYPES: Final = ("Opened", "Changed", "Closed")


def random_event(chance: random.Random, tags: int, data: object) -> NewEvent:
    """Make an event with up to three of some tags."""
    names = {f"tag:{chance.randrange(tags)}" for _ in range(chance.randrange(4))}
    return NewEvent(chance.choice(TYPES), data, tags=names)


def random_query(chance: random.Random, tags: int) -> Query:
    """Make a query of one or two matches, by types, by tags or by both."""

    def match() -> Match:
        names = {f"tag:{chance.randrange(tags)}" for _ in range(chance.choice((1, 1, 2)))}
        types = set(chance.sample(TYPES, chance.choice((1, 2))))
        kind = chance.random()
        if kind < 0.1:
            return Match(types=types)
        return Match(types=types if kind < 0.4 else set(), tags=names)

    return Query.of(*(match() for _ in range(chance.choice((1, 1, 2)))))


async def decide(
    store: EventStore, name: str, rounds: int, *, tags: int = 6, seed: int = 0
) -> tuple[int, int]:
    """Append under random conditions, and without any; return how many were written or refused.

    The data of an event that was decided on has the query, and how many events matched it.
    """
    chance = random.Random(f"{seed}-{name}")  # noqa: S311  # no secret
    written = refused = 0
    for number in range(rounds):
        stream = chance.choice((f"own-{name}", "shared-1", "shared-2"))
        if chance.random() < 0.3:
            await store.append(stream, [random_event(chance, tags, None)])
            written += 1
            continue
        query = random_query(chance, tags)
        seen = await store.query(query)
        if chance.random() < 0.5:  # the same, by another kind of token
            newest = await store.query(query, backwards=True, max_count=1)
            again = await store.query(query)
            if len(again.events) == len(seen.events):
                seen = type(seen)(seen.events, seen.position, newest.token)
        data = {"query": query.to_json(), "seen": len(seen.events), "by": [name, number]}
        event = random_event(chance, tags, data)
        try:
            await store.append(stream, [event], unless=query, since=seen.token)
        except BoundaryError:
            refused += 1
        else:
            written += 1
    return written, refused


def check_decisions(events: Sequence[RecordedEvent]) -> int:
    """Fail unless each decision had seen all that matched before it; return how many there are.

    Args:
        events: All events of the store, in global order.
    """
    count = 0
    kinds: Counter[tuple[str, frozenset[str]]] = Counter()
    for event in events:
        if event.data is not None:
            count += 1
            query = Query.from_json(event.data["query"])
            before = sum(number for kind, number in kinds.items() if query.covers(*kind))
            if before != event.data["seen"]:
                what = f"events that the decision at position {event.position} had seen"
                raise Deviation(what, str(before), str(event.data["seen"]))
        kinds[event.type, event.tags] += 1
    return count
