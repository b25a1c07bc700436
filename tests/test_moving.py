"""`move_events`: what it moves, what it refuses, and how it ends when it is stopped."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest

from tests.copies import fill, held

from eventport import (
    EventStore,
    NewEvent,
    NotSupportedError,
    StoreFencedError,
    StoreUnavailableError,
)
from eventport.adapter import AllPage, AllQuery, Commit, Outcome, Store
from eventport.fencing import fenced, set_fence, unfence
from eventport.moving import (
    MoveRefusedError,
    MoveUnfinishedError,
    move_events,
    translate_position,
)
from eventport.projections import ProjectionId, StreamCheckpoints

from eventport_memory import MemoryEventStore
from eventport_memory.engine import MemoryEngine


TO = "sqlite:///new.db"


@asynccontextmanager
async def two_stores() -> AsyncGenerator[tuple[EventStore, EventStore]]:
    async with MemoryEventStore() as source, MemoryEventStore() as target:
        yield source, target


class During(MemoryEngine):
    """A target that something happens to at its first commit, and again when it is fenced."""

    def __init__(self, source: EventStore) -> None:
        super().__init__()
        self.source = source
        self.commits = 0

    async def happen(self) -> None:
        """What happens."""

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        self.commits += 1
        await self.happen()
        return await super().commit(batch)


async def test_all_is_moved_and_appends_are_refused() -> None:
    async with two_stores() as (source, target):
        await fill(source, 60, 7, seed=1)
        report = await move_events(source, target, to="postgres://me:secret@host/db")
        assert report.is_done
        assert report.is_fenced
        assert report.copy is not None
        assert report.copy.copied == len(await held(source))
        assert await held(target) == await held(source)
        with pytest.raises(StoreFencedError, match=r"have moved to postgres://.*host/db") as caught:
            await source.append("a", [NewEvent("E", 1)])
        assert "secret" not in str(caught.value)
        await target.append("a", [NewEvent("E", 1)])


async def test_a_move_that_is_done_is_not_done_again() -> None:
    async with two_stores() as (source, target):
        await source.append("a", [NewEvent("E", 1)])
        await move_events(source, target, to=TO)
        await target.append("a", [NewEvent("E", 2)])
        report = await move_events(source, target, to=TO)
        assert (report.is_done, report.copy, report.pause) == (True, None, None)
        with pytest.raises(MoveRefusedError, match=r"has a fence already, which says: .*new\.db"):
            await move_events(source, target, to="elsewhere")


async def test_writers_go_on_until_the_rest_is_copied() -> None:
    class Written(During):
        async def happen(self) -> None:
            if self.commits <= 3:
                await self.source.append("late", [NewEvent("E", n) for n in range(60)])

    async with MemoryEventStore() as source, Store(Written(source)) as target:
        await source.append("a", [NewEvent("E", 1)])
        await source.append("b", [NewEvent("E", n) for n in range(100)])
        report = await move_events(source, target, to=TO)
        assert report.is_done
        assert await held(target) == await held(source)
        assert len(await held(target)) == 281


async def test_a_target_with_other_events_is_found_before_the_fence() -> None:
    event = NewEvent("E", 1)
    async with two_stores() as (source, target):
        await source.append("a", [event])
        await target.append("a", [NewEvent("E", 2, id=event.id)])
        report = await move_events(source, target, to=TO)
        assert not report.is_done
        assert not report.is_fenced
        assert report.copy is not None
        assert report.copy.difference is not None
        await source.append("a", [NewEvent("E", 3)])


async def test_a_store_is_not_moved_to_itself() -> None:
    async with MemoryEventStore() as store:
        await store.append("a", [NewEvent("E", 1)])
        with pytest.raises(MoveRefusedError, match="are the same store"):
            await move_events(store, store, to=TO)
        assert await fenced(store) is None


async def test_a_fence_of_somebody_else_is_respected() -> None:
    async with two_stores() as (source, target):
        await set_fence(source, None, "closed for the weekend")
        with pytest.raises(MoveRefusedError, match="says: closed for the weekend"):
            await move_events(source, target, to=TO)
        await unfence(source)
        await set_fence(target, None, "closed, too")
        with pytest.raises(MoveRefusedError, match="the target has a fence, which says: closed,"):
            await move_events(source, target, to=TO)


class Behind(MemoryEngine):
    """A target that something happens to when it is read and the source is fenced."""

    def __init__(self, source: EventStore) -> None:
        super().__init__()
        self.source = source

    async def happen(self) -> None:
        """What happens."""
        raise StoreUnavailableError("the target has died")

    async def read_all(self, query: AllQuery, /) -> AllPage:
        if await fenced(self.source) is not None:
            await self.happen()
        return await super().read_all(query)


async def test_a_move_that_fails_behind_its_fence_takes_it_away() -> None:
    async with MemoryEventStore() as source, Store(Behind(source)) as target:
        await source.append("a", [NewEvent("E", 1)])
        with pytest.raises(StoreUnavailableError, match="the target has died"):
            await move_events(source, target, to=TO)
        assert await fenced(source) is None
        await source.append("a", [NewEvent("E", 2)])


async def test_a_fence_that_stays_is_reported() -> None:
    class Stuck(MemoryEngine):
        async def set_fence(self, before: str | None, after: str | None, /) -> bool:
            if after is None:
                raise StoreUnavailableError("the source has died")
            return await super().set_fence(before, after)

    async with Store(Stuck()) as source, Store(Behind(source)) as target:
        await source.append("a", [NewEvent("E", 1)])
        wanted = r"^the target has died; and the fence .*the source has died\): run the move again"
        with pytest.raises(MoveUnfinishedError, match=wanted):
            await move_events(source, target, to=TO)
        assert await fenced(source) is not None


async def test_a_move_that_is_cancelled_behind_its_fence_takes_it_away() -> None:
    class Cancelled(Behind):
        async def happen(self) -> None:
            scope.cancel()
            await anyio.lowlevel.checkpoint()

    async with MemoryEventStore() as source, Store(Cancelled(source)) as target:
        await source.append("a", [NewEvent("E", 1)])
        with anyio.CancelScope() as scope:
            await move_events(source, target, to=TO)
        assert scope.cancelled_caught
        assert await fenced(source) is None
        await source.append("a", [NewEvent("E", 2)])


async def test_a_move_goes_on_behind_the_fence_of_one_that_was_killed() -> None:
    class Killed(MemoryEngine):
        """Keeps its fence, as if the process had died that set it."""

        dead = False

        async def set_fence(self, before: str | None, after: str | None, /) -> bool:
            if self.dead and before is not None:
                raise InterruptedError
            self.dead = True
            return await super().set_fence(before, after)

    engine = Killed()
    async with Store(engine) as source, MemoryEventStore() as target:
        await source.append("a", [NewEvent("E", 1)])
        with pytest.raises(InterruptedError):
            await move_events(source, target, to=TO)
        assert "are being moved to" in (await fenced(source) or "")
        with pytest.raises(StoreFencedError):
            await source.append("a", [NewEvent("E", 2)])
        with pytest.raises(MoveRefusedError, match="being moved to sqlite:///new"):
            await move_events(source, target, to="elsewhere")
        engine.dead = False
        report = await move_events(source, target, to=TO)
        assert (report.is_done, report.pause) == (True, None)
        assert await held(source) != []


async def test_a_fence_that_somebody_takes_away_ends_the_move() -> None:
    class Lifted(Behind):
        async def happen(self) -> None:
            if await unfence(self.source):
                await self.source.append("a", [NewEvent("E", "late")])

    async with MemoryEventStore() as source, Store(Lifted(source)) as target:
        await source.append("a", [NewEvent("E", 1)])
        with pytest.raises(MoveRefusedError, match="changed the fence of the source meanwhile"):
            await move_events(source, target, to=TO)
        assert await fenced(source) is None


class Unfenced(MemoryEngine):
    """A source that cannot keep others away."""

    fenced = None  # type: ignore[assignment]  # the part is not there
    set_fence = None  # type: ignore[assignment]  # as above


async def test_without_a_fence_the_writers_have_to_be_stopped() -> None:
    engine = Unfenced()
    async with Store(engine) as source, MemoryEventStore() as target:
        await source.append("a", [NewEvent("E", 1)])
        with pytest.raises(MoveRefusedError, match=r"stop all programs .* --writers-stopped"):
            await move_events(source, target, to=TO)
        assert await held(target) == []
        with pytest.raises(NotSupportedError):
            await unfence(source)
        report = await move_events(source, target, to=TO, writers_stopped=True)
        assert (report.is_done, report.is_fenced, report.pause) == (True, False, None)


async def test_a_writer_that_was_not_stopped_is_noticed() -> None:
    class Written(During):
        async def happen(self) -> None:
            await self.source.append("late", [NewEvent("E", 1)])

    async with Store(Unfenced()) as source, Store(Written(source)) as target:
        await source.append("a", [NewEvent("E", 1)])
        with pytest.raises(MoveRefusedError, match=r"somebody has written to .* position 2"):
            await move_events(source, target, to=TO, writers_stopped=True)


@pytest.mark.parametrize("checkpoints", [1, 3, 150, 2_500])
async def test_positions_are_translated(checkpoints: int) -> None:
    async with two_stores() as (source, target):
        cases = StreamCheckpoints(source)
        for number in range(3):
            await source.append("a", [NewEvent("E", number)])
            for _ in range(checkpoints):
                await cases.reset(ProjectionId("cases", 1), 1)
        await StreamCheckpoints(target).reset(ProjectionId("other", 1), 1)
        await move_events(source, target, to=TO)
        found = [
            await translate_position(source, target, position)
            for position in (0, 1, 2, 1 + checkpoints, 2 + checkpoints, 3 * (checkpoints + 1))
        ]
        assert found == [0, 2, 2, 2, 3, 4]


async def test_a_position_whose_event_is_not_in_the_target_is_refused() -> None:
    async with two_stores() as (source, target):
        await source.append("a", [NewEvent("E", 1)])
        with pytest.raises(MoveRefusedError, match="it lacks version 1 of stream 'a'"):
            await translate_position(source, target, 1)
