"""What was acknowledged to writers, compared with what a bare driver finds in the collection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pymongo import MongoClient
from pymongo.read_concern import ReadConcern

from eventport import ANY, NewEvent, StoreUnavailableError
from eventport.expectations import Expectation
from eventport.protocols import EventStore


class Ledger:
    """Appends, and keeps what was acknowledged. Each event has data that no other has."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.acknowledged: list[tuple[str, int, int, list[str]]] = []
        """Stream, version, position and data of each append that succeeded."""
        self.unknown: list[str] = []
        """The data of those that ended with `StoreUnavailableError`."""
        self._count = 0

    async def write(self, store: EventStore, task: int, is_enough: Callable[[], bool]) -> None:
        """Append to a stream of one's own, to one of everybody's, and to two at once."""
        own = f"own-{self.name}-{task}"
        while not is_enough():
            version = (await store.read(own, max_count=0)).version
            await self._append(store, own, version)
            await self._append(store, "shared", ANY)
            await self._write_session(store, f"{self.name}-{task}")

    async def _write_session(self, store: EventStore, name: str) -> None:
        left, right = self._make(1), self._make(1)
        try:
            async with store.session() as session:
                one = await session.append(f"left-{name}", left)
                two = await session.append(f"right-{name}", right)
        except StoreUnavailableError:
            self.unknown += [event.data for event in (*left, *right)]
            return
        position = session.position
        assert position is not None
        self._keep(f"left-{name}", one.version, position - 1, left)
        self._keep(f"right-{name}", two.version, position, right)

    async def _append(self, store: EventStore, stream: str, expected: Expectation) -> None:
        new = self._make(1 + self._count % 3)
        try:
            result = await store.append(stream, new, expected=expected)
        except StoreUnavailableError:
            self.unknown += [event.data for event in new]
            return
        assert result.position is not None
        self._keep(stream, result.version, result.position, new)

    def _make(self, count: int) -> list[NewEvent]:
        self._count += 1
        return [NewEvent("Written", f"{self.name}/{self._count}/{n}") for n in range(count)]

    def _keep(self, stream: str, version: int, position: int, new: Sequence[NewEvent]) -> None:
        self.acknowledged.append((stream, version, position, [event.data for event in new]))


def stored(url: str) -> list[list[Any]]:
    """Return position, stream, version and data of all events, as a bare driver reads them."""
    with MongoClient[Any](url) as client:
        events = client.get_default_database().get_collection(
            "events", read_concern=ReadConcern("majority")
        )
        return [
            [one["_id"] + place, one["stream"], one["version"] + place, event["data"]]
            for one in events.find().sort("_id")
            for place, event in enumerate(one["events"])
        ]


def check(
    found: Sequence[Sequence[Any]],
    acknowledged: Sequence[Sequence[Any]],
    unknown: Sequence[str],
    seen: Sequence[Sequence[Any]],
) -> None:
    """Check that nothing is lost, doubled, torn, out of order, invented, or missed by a reader."""
    assert [position for position, *_ in found] == list(range(1, len(found) + 1)), "a hole"
    heads: Counter[str] = Counter()
    for _, stream, version, _ in found:
        heads[stream] += 1
        assert version == heads[stream], stream
    times = Counter(data for *_, data in found)
    assert [data for data, count in times.items() if count > 1] == [], "doubled"
    places = {data: (position, stream, version) for position, stream, version, data in found}
    known: set[str] = set()
    for stream, version, position, datas in acknowledged:
        known.update(datas)
        for back, data in enumerate(reversed(datas)):
            assert places.get(data) == (position - back, stream, version - back), f"{data}: lost"
    assert times.keys() - known - set(unknown) == set(), "invented"
    assert [list(one) for one in seen] == [list(one) for one in found], "missed, or seen twice"
