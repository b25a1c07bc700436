"""Times never go back within a stream, whatever the clock does."""

from __future__ import annotations

import time

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from eventport import NewEvent
from eventport.aggregates import Aggregate, Repository
from eventport.typed import EventTypes

from eventport_sqlite import SQLiteEventStore


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set the clock of the store, in hours from now."""
    real = time.time_ns

    def set_(hours: int) -> None:
        monkeypatch.setattr(
            "eventport_sqlite.engine.time.time_ns", lambda: real() + hours * 3_600 * 10**9
        )

    return set_


async def test_appends_and_sessions(store: SQLiteEventStore, clock: Callable[[int], None]) -> None:
    for hours in (0, -1, 2, -3):
        clock(hours)
        await store.append("s", [NewEvent("E", None), NewEvent("E", None)])
    async with store.session() as session:
        await session.append("other", [NewEvent("E", None)])
        await session.append("s", [NewEvent("E", None)])
    times = [event.recorded_at for event in (await store.read("s")).events]
    assert times == sorted(times)
    assert len(set(times)) == 2
    assert (await store.read("other")).events[0].recorded_at == times[-1]


@dataclass
class Counted:
    n: int


@dataclass
class Counter(Aggregate[Counted]):
    total: int = 0

    def apply(self, event: Counted) -> None:
        self.total += event.n


async def test_an_aggregate_at_a_time(
    store: SQLiteEventStore, clock: Callable[[int], None]
) -> None:
    counters = Repository(store, "counter", Counter, EventTypes(Counted))
    counter = Counter()
    counter.record(Counted(1))
    await counters.add("1", counter)
    for hours, number in ((-1, 10), (1, 100), (0, 1000)):
        clock(hours)
        counter = await counters.load("1")
        counter.record(Counted(number))
        await counters.save(counter)
    times = [event.recorded_at for event in (await store.read("counter-1")).events]
    totals = [(await counters.load("1", to_time=moment)).total for moment in times]
    assert totals == [11, 11, 1111, 1111]
