"""A fence keeps the appends of all stores away, and nothing else, until it is taken away."""

from __future__ import annotations

from contextlib import AsyncExitStack
from itertools import count

import pytest

from anyio import create_task_group
from tests.toolkit.backends import BACKENDS, Backend

from eventport import (
    ConcurrencyError,
    EventStore,
    InvalidArgumentError,
    NewEvent,
    NotSupportedError,
    Session,
    StoreFencedError,
    connect,
    run_in_session,
)
from eventport.adapter import Store
from eventport.fencing import can_fence, fenced, set_fence, unfence

from eventport_conformance.waiting import no_hang, until


WITH_FENCES = ["memory", "sqlite", "postgres"]
SAYS = "no appends: they moved to 'sqlite:///it''s.db' \\ ü"


@pytest.fixture(params=WITH_FENCES)
def backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]


async def write_two(session: Session) -> None:
    for stream in "ab":
        await session.append(stream, [NewEvent("E", 2)])


async def test_no_store_can_append_any_more(
    request: pytest.FixtureRequest, backend: Backend
) -> None:
    async with backend(request) as opened, opened() as store, opened() as other:
        await other.append("a", [NewEvent("E", 1)])
        assert await fenced(store) is None
        assert await set_fence(store, None, SAYS)
        assert await fenced(other) == SAYS
        for each in (store, other):
            for events in ([NewEvent("E", 2)], [NewEvent("E", 2, tags={"t"}), NewEvent("E", 3)]):
                with pytest.raises(StoreFencedError, match="no appends: they moved") as caught:
                    await each.append("a", events)
                assert str(caught.value) == SAYS
            with pytest.raises(StoreFencedError):
                await run_in_session(each, write_two)
        assert [event.data for event in (await other.read_all()).events] == [1]
        assert await unfence(other) == SAYS
        assert await unfence(other) is None
        assert (await other.append("a", [NewEvent("E", 2)])).version == 2


async def test_a_store_that_is_opened_later_is_kept_away(
    request: pytest.FixtureRequest, backend: Backend
) -> None:
    async with backend(request) as opened, opened() as store:
        await store.append("a", [NewEvent("E", 1)])
        await set_fence(store, None, SAYS)
        async with opened() as later:
            with pytest.raises(StoreFencedError):
                await later.append("b", [NewEvent("E", 2)])
            assert (await later.read("a")).version == 1


async def test_conflicts_and_repeated_appends_have_their_usual_outcomes(
    request: pytest.FixtureRequest, backend: Backend
) -> None:
    event = NewEvent("E", 1)
    async with backend(request) as opened, opened() as store:
        await store.append("a", [event], expected=0)
        await set_fence(store, None, SAYS)
        assert (await store.append("a", [event], expected=0)).deduplicated
        with pytest.raises(ConcurrencyError):
            await store.append("a", [NewEvent("E", 2)], expected=0)


async def test_it_is_changed_only_by_one_who_knows_what_it_says(
    request: pytest.FixtureRequest, backend: Backend
) -> None:
    async with backend(request) as opened, opened() as store:
        assert not await set_fence(store, "another", SAYS)
        assert await fenced(store) is None
        assert await set_fence(store, None, "first")
        assert not await set_fence(store, None, "second")
        assert await set_fence(store, "first", "second")
        assert await fenced(store) == "second"
        with pytest.raises(StoreFencedError, match="second"):
            await store.append("a", [NewEvent("E", 1)])
        assert await set_fence(store, "second", None)
        assert (await store.append("a", [NewEvent("E", 1)])).version == 1


@pytest.mark.parametrize("says", ["", "two\nlines"])
async def test_it_says_one_line(says: str) -> None:
    async with connect("memory://") as store:
        with pytest.raises(InvalidArgumentError, match="must be one line of text"):
            await set_fence(store, None, says)


async def test_each_acknowledged_append_can_be_read_when_the_fence_stands(
    request: pytest.FixtureRequest, backend: Backend
) -> None:
    acknowledged: set[str] = set()
    refused: set[str] = set()

    async def write(store: EventStore, name: str) -> None:
        for number in count():
            event = NewEvent("E", f"{name} {number}")
            try:
                await store.append(f"{name}-{number % 5}", [event])
            except StoreFencedError:
                refused.add(event.data)
                return
            acknowledged.add(event.data)

    seen: set[object] = set()
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(backend(request))
        stores = [await stack.enter_async_context(opened()) for _ in range(3)]
        with no_hang("all writers are refused"):
            async with create_task_group() as group:
                for number in range(12):
                    group.start_soon(write, stores[number % 3], str(number))
                await until(lambda: len(acknowledged) >= 100, "the writers write")
                assert await set_fence(stores[0], None, SAYS)
                seen |= {event.data async for event in stores[1].iterate_all()}
        assert seen == acknowledged
        assert len(refused) == 12


@pytest.mark.parametrize("name", ["eventstoredb"])
async def test_what_cannot_keep_others_away_says_so(
    request: pytest.FixtureRequest, name: str
) -> None:
    async with BACKENDS[name](request) as opened, opened() as store:
        assert not can_fence(store)
        assert await fenced(store) is None
        for call in (set_fence(store, None, SAYS), unfence(store)):
            with pytest.raises(NotSupportedError, match="cannot keep the appends"):
                await call


async def test_inline_handlers_and_transactions_are_kept_away(
    request: pytest.FixtureRequest, backend: Backend
) -> None:
    called: list[object] = []

    async def handle(events: object, transaction: object) -> None:
        called.append(events)

    async with backend(request) as opened, opened() as store:
        assert isinstance(store, Store)
        inline = getattr(store, "inline")  # noqa: B009  # the port has none
        inline(handle)
        await store.append("a", [NewEvent("E", 1)])
        await set_fence(store, None, SAYS)
        with pytest.raises(StoreFencedError):
            await store.append("a", [NewEvent("E", 2)])
        assert len(called) == 1
        await unfence(store)
        await store.append("a", [NewEvent("E", 2)])
        assert len(called) == 2
