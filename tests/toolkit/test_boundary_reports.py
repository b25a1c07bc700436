"""Public reports about conditions on queries, replayed on each backend that has them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from tests.toolkit.backends import with_conditions

from eventport import BoundaryError, EventStore, Match, NewEvent, Query


pytestmark = with_conditions

SEAT = Query.of(Match(tags={"seat:1", "show:1"}))


def booked(number: int = 1) -> NewEvent:
    return NewEvent("Booked", number, tags={f"seat:{number}", "show:1", "free"})


async def race(count: int, run: Callable[[int], Awaitable[object]]) -> int:
    """Let many try at once, and return how many got through."""
    won: list[int] = []

    async def one(number: int) -> None:
        try:
            await run(number)
        except BoundaryError:
            return
        won.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(one, number)
    return len(won)


async def test_a_boundary_that_is_read_twice_does_not_conflict_with_itself(
    store: EventStore,
) -> None:
    """Marten 5280: the second fetch of one boundary in a session made its commit a conflict."""
    await store.append("a", [booked(2), booked(1)])
    async with store.session() as session:
        first = await session.query(SEAT)
        await session.append("a", [booked(1)])
        second = await session.query(SEAT)
        await session.append("a", [booked(1)])
    assert (len(first.events), len(second.events)) == (1, 2)
    assert (await store.read("a")).version == 4


async def test_two_boundaries_of_which_one_is_empty_do_not_conflict(store: EventStore) -> None:
    """Axon 3302: the lower of two markers counted, which was that of the empty one."""
    await store.append("a", [booked(1)])
    async with store.session() as session:
        assert len((await session.query(SEAT)).events) == 1
        assert (await session.query(Query.of(Match(tags={"none"})))).events == []
        await session.append("b", [booked(1)])
    assert (await store.read("b")).version == 1


async def test_what_was_read_and_its_token_are_of_one_moment(store: EventStore) -> None:
    """Marten 5300, Occurrent 231: the version of a boundary was read after its events.

    So many events are read in several pages, and others decide meanwhile.
    """
    await store.append("a", [booked(number) for number in range(2, 1_202)])
    free = Query.of(Match(tags={"free", "show:1"}))

    async def book(number: int) -> None:
        seen = await store.query(free)
        if len(seen.events) > 1_200:
            raise BoundaryError(free, seen.events[-1])
        await store.append(f"s-{number}", [booked(1)], unless=free, since=seen.token)

    assert await race(8, book) == 1
    assert len((await store.query(SEAT)).events) == 1


async def test_boundaries_in_one_stream_are_not_taken_for_each_other(store: EventStore) -> None:
    """Occurrent 297, dcb-event-store 13: appends that share a stream, and no tag, failed."""

    async def book(number: int) -> None:
        query = Query.of(Match(tags={f"seat:{number}"}))
        token = (await store.query(query)).token
        await store.append("show", [booked(number)], unless=query, since=token)

    assert await race(16, book) == 16
    assert (await store.read("show")).version == 16


async def test_a_condition_on_everything_sees_what_has_other_conditions(
    store: EventStore,
) -> None:
    """Occurrent 231: a condition on all events held although others were appended."""
    token = (await store.query(Query.all())).token
    await store.append("a", [booked(1)], unless=SEAT)
    with pytest.raises(BoundaryError) as caught:
        await store.append("b", [NewEvent("Closed", 0)], unless=Query.all(), since=token)
    assert (caught.value.stream, caught.value.event.version) == ("a", 1)
    assert (await store.read("b")).version == 0
