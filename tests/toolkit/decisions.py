"""What each process of a test of conditions does."""

from __future__ import annotations

from eventport import EventStore, Match, NewEvent, Query

from eventport_conformance.deciding import decide


BOOKED = "Booked"


async def decide_and_book(store: EventStore, name: str, rounds: int) -> int:
    """Append under random conditions, and book seats of one's own; return how much was written.

    Nobody else writes about these seats, or to this stream: a conflict there would be a mistake.
    """
    own = Query.of(Match(types={BOOKED}, tags={f"show:{name}"}))
    written = 0
    for number in range(rounds):
        decided, _ = await decide(store, f"{name}-{number}", 1)
        seen = await store.query(own, backwards=True, max_count=1)
        seat = NewEvent(BOOKED, None, tags={f"show:{name}", f"seat:{name}/{number}"})
        await store.append(f"show-{name}", [seat], unless=own, since=seen.token)
        written += decided + 1
    return written
