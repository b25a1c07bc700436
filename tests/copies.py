"""What the tests of copies share: events of all kinds, and what a store holds."""

from __future__ import annotations

import random

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from eventport import CopiedEvent, EventStore, RecordedEvent


async def fill(store: EventStore, events: int, streams: int, seed: int) -> None:
    """Append generated events in many small commits: names, values and tags of all kinds."""
    rng = random.Random(seed)
    kinds: list[Callable[[], Any]] = [
        lambda: {"org:group": f"Group {rng.randrange(9)}", "n": rng.randrange(-(2**63), 2**63)},
        lambda: {"€": "ßü\u0000\U0001f600", "": [], "a.b": {"$x": None}, "q": rng.random()},
        lambda: [1, 1.0, -0.0, 1e300, True, "x" * rng.randrange(200)],
        lambda: rng.choice([None, "", 0, {}, []]),
        lambda: rng.randbytes(rng.randrange(40)),
    ]
    kinds_of_names = ["case", "größe", "注文", "😀"]
    names = [f"{rng.choice(kinds_of_names)}-{seed}-{number}" for number in range(streams)]
    heads = dict.fromkeys(names, 0)
    time = datetime(2011, 1, 1, tzinfo=UTC)
    while sum(heads.values()) < events:
        stream = rng.choice(names)
        commit: list[CopiedEvent] = []
        for _ in range(rng.randrange(1, 4)):
            time += timedelta(microseconds=rng.randrange(10**9))
            tags = {f"tag:{rng.randrange(9)}" for _ in range(rng.randrange(3))}
            metadata = {"by": "ä", "z": 1, "a": [None]} if rng.random() < 0.5 else {}
            kind = rng.choice(["Opened", "Décidé", "決定"])
            event = CopiedEvent(kind, rng.choice(kinds)(), metadata, tags=tags, recorded_at=time)
            commit.append(event)
        await store.append(stream, commit, expected=heads[stream])
        heads[stream] += len(commit)


async def held(store: EventStore) -> list[str]:
    """Return all events in their order, as text that tells 1 from 1.0, but without positions."""
    return [_shown(event) async for event in store.iterate_all()]


def _shown(event: RecordedEvent) -> str:
    return repr(
        (
            (event.stream, event.version, event.type, event.id, sorted(event.tags)),
            (event.data, event.metadata, event.recorded_at),
        )
    )
