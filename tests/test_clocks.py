"""Times never go back within a stream, whatever the clock does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from eventport import NewEvent

from eventport_memory import MemoryEventStore


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set the clock of the store and of its sessions, in hours from now."""

    def set_(hours: int) -> None:
        class Shifted(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:  # type: ignore[override]  # as it is used
                return datetime.now(UTC) + timedelta(hours=hours)

        for module in ("eventport_memory.store", "eventport.session"):
            monkeypatch.setattr(f"{module}.datetime", Shifted)

    return set_


def event() -> list[NewEvent]:
    return [NewEvent("E", None)]


async def test_appends(clock: Callable[[int], None]) -> None:
    store = MemoryEventStore()
    for hours in (0, -1, 2, -3):
        clock(hours)
        await store.append("s", event())
    times = [event.recorded_at for event in (await store.read("s")).events]
    assert times == sorted(times)
    assert times[0] == times[1]
    assert times[2] == times[3]


async def test_a_commit_over_streams_is_after_all_of_them(clock: Callable[[int], None]) -> None:
    store = MemoryEventStore()
    await store.append("behind", event())
    clock(5)
    await store.append("ahead", event())
    clock(0)
    async with store.session() as session:
        for stream in ("behind", "ahead", "new"):
            await session.append(stream, event())
    *_, ahead, first, second, third = [
        event.recorded_at for event in (await store.read_all()).events
    ]
    assert ahead == first == second == third


@pytest.mark.parametrize("backwards", [False, True])
async def test_a_sessions_own_events(clock: Callable[[int], None], *, backwards: bool) -> None:
    store = MemoryEventStore()
    clock(5)
    await store.append("s", event())
    async with store.session() as session:
        for hours in (0, 9, 1):
            clock(hours)
            await session.append("s", event())
        events = (await session.read("s", backwards=backwards)).events
        times = [event.recorded_at for event in (events[::-1] if backwards else events)]
        assert times == sorted(times)
        assert len(times) == 4
        some = (await session.read("s", backwards=True, max_count=2)).events
        assert [event.version for event in some] == [4, 3]
