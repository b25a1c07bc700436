"""Reading by pages gives what a plain list would, however small the pages, and always ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final

import anyio
import pytest

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engines import TinyPages

from eventport import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    Capability,
    ConcurrencyError,
    EventStore,
    InvalidArgumentError,
    InvalidArgumentTypeError,
    InvalidStreamNameError,
    NewEvent,
    NotSupportedError,
    RecordedEvent,
    StoreClosedError,
)
from eventport._engine.queries import PAGE_EVENTS
from eventport.adapter import AllQuery, Store
from eventport.folding import Fold
from eventport.typed import EventTypes

from eventport_memory import MemoryEventStore


pytestmark = pytest.mark.usefixtures("in_time")


NOTHING: Final[list[object]] = []


class NoOrder(TinyPages):
    """An engine whose backend has no global order."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.SESSIONS})

    @property
    def limitations(self) -> Mapping[Capability, str]:
        return {Capability.GLOBAL_ORDER: "streams are kept apart"}


def opened(engine: TinyPages) -> Store:
    return Store(engine, batching="never")


def numbered(first: int, last: int) -> list[NewEvent]:
    return [NewEvent("T", number) for number in range(first, last + 1)]


async def data_of(events: AsyncGenerator[RecordedEvent, None]) -> list[object]:
    return [event.data async for event in events]


def collect(state: list[object], event: RecordedEvent) -> list[object]:
    return [*state, event.data]


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(1, 5),
    length=st.integers(0, 9),
    first=st.integers(1, 11) | st.just(2**63 - 1),
    last=st.none() | st.integers(0, 11) | st.just(2**63 - 1),
    count=st.none() | st.integers(0, 11) | st.just(2**63 - 1),
    backwards=st.booleans(),
)
def test_a_stream_reads_like_a_list(
    size: int, length: int, first: int, last: int | None, count: int | None, backwards: bool
) -> None:
    async def check() -> None:
        engine = TinyPages(size)
        store = opened(engine)
        await store.append("other", numbered(50, 60))
        await store.append("s", numbered(1, length))
        model: list[object] = list(range(1, length + 1))
        wanted = model[first - 1 : last]
        wanted = wanted[::-1] if backwards else wanted
        read = await store.read(
            "s", from_version=first, to_version=last, max_count=count, backwards=backwards
        )
        assert [event.data for event in read.events] == wanted[:count]
        assert (read.version, read.exists) == (length, length > 0)
        going = store.iterate("s", from_version=first, to_version=last, backwards=backwards)
        assert await data_of(going) == wanted
        folded = await store.aggregate("s", collect, lambda: NOTHING, to_version=last)
        assert folded.state == model[:last]
        assert folded.version == (length if last is None else min(last, length))
        assert folded.exists == (length > 0)

    anyio.run(check)


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(1, 4),
    scan=st.integers(1, 5),
    kinds=st.lists(st.tuples(st.sampled_from(["ab", "a", "b"]), st.sampled_from("XYZ"))),
    after=st.integers(0, 12),
    count=st.integers(0, 12),
    types=st.none() | st.sets(st.sampled_from("XYZW"), min_size=1),
    prefix=st.sampled_from([None, "", "a", "ab", "c"]),
)
def test_the_whole_store_reads_like_a_list(
    size: int,
    scan: int,
    kinds: list[tuple[str, str]],
    after: int,
    count: int,
    types: set[str] | None,
    prefix: str | None,
) -> None:
    async def check() -> None:
        engine = TinyPages(size, scan)
        store = opened(engine)
        for stream, type_ in kinds:
            await store.append(stream, [NewEvent(type_, None)])
        wanted = [
            position
            for position, (stream, type_) in enumerate(kinds, 1)
            if position > after
            and (types is None or type_ in types)
            and stream.startswith(prefix or "")
        ]
        found = await store.read_all(after=after, max_count=count, types=types, prefix=prefix)
        assert [event.position for event in found.events] == wanted[:count]
        going = store.iterate_all(after=after, types=types, prefix=prefix)
        assert [event.position async for event in going] == wanted
        # Going on from there, nothing is missed or repeated, and the end is reached.
        position, seen = after, list[int]()
        while True:
            page = await store.read_all(after=position, max_count=2, types=types, prefix=prefix)
            seen += [event.position for event in page.events]
            assert page.position >= max([position, *seen])
            if page.position == position:
                break
            position = page.position
        assert seen == wanted
        assert position == max(after, len(kinds))

    anyio.run(check)


@pytest.mark.parametrize("backwards", [False, True])
async def test_an_iteration_ends_at_the_head_that_it_saw_first(backwards: bool) -> None:
    engine = TinyPages(1)
    store = opened(engine)
    await store.append("s", numbered(1, 5))
    engine.between_pages = lambda: store.append("s", numbered(0, 2))
    seen = await data_of(store.iterate("s", backwards=backwards))
    assert seen == ([5, 4, 3, 2, 1] if backwards else [1, 2, 3, 4, 5])
    assert (await store.read("s", max_count=0)).version > 5


async def test_a_read_and_a_fold_are_of_one_moment() -> None:
    engine = TinyPages(1)
    store = opened(engine)
    await store.append("s", numbered(1, 5))
    engine.between_pages = lambda: store.append("s", numbered(0, 2))
    read = await store.read("s")
    assert (len(read.events), read.version) == (5, 5)
    engine.pages = 0
    folded = await store.aggregate("s", lambda count, _: count + 1, int)
    assert folded.state == folded.version
    assert folded.version < (await store.read("s", max_count=0)).version


async def test_reading_everything_ends_at_the_head_that_it_saw_first() -> None:
    engine = TinyPages(2)
    store = opened(engine)
    await store.append("s", numbered(1, 5))
    engine.between_pages = lambda: store.append("s", numbered(0, 2))
    found = await store.read_all()
    assert [event.position for event in found.events] == [1, 2, 3, 4, 5]
    assert found.position == 5
    engine.pages = 0
    head = (await store.read_all(max_count=1)).position
    assert head == 1
    head = (await engine.engine.read_all(AllQuery())).head
    engine.pages = 0
    assert len(await data_of(store.iterate_all())) == head
    assert (await engine.engine.read_all(AllQuery())).head > head


async def test_what_lies_behind_the_head_is_where_it_was() -> None:
    engine = TinyPages()
    store = opened(engine)
    await store.append("s", numbered(1, 3))
    found = await store.read_all(after=2**40)
    assert (found.events, found.position) == ([], 2**40)
    assert await data_of(store.iterate_all(after=2**40)) == []


async def test_a_filter_that_finds_nothing_ends_at_the_head_that_it_saw_first() -> None:
    engine = TinyPages(2)
    store = opened(engine)
    await store.append("s", numbered(1, 9))
    engine.between_pages = lambda: store.append("s", numbered(0, 2))
    found = await store.read_all(types={"Other"})
    assert (found.events, found.position) == ([], 9)


async def test_no_more_is_fetched_at_once_than_a_page() -> None:
    engine = TinyPages(2 * PAGE_EVENTS, 2 * PAGE_EVENTS)
    store = opened(engine)
    everything = list(range(1, PAGE_EVENTS + 11))
    await store.append("s", numbered(1, PAGE_EVENTS + 10))
    assert await data_of(store.iterate("s")) == everything
    assert engine.pages == 2
    assert (await store.aggregate("s", collect, lambda: NOTHING)).state == everything
    assert await data_of(store.iterate_all()) == everything
    assert engine.largest == PAGE_EVENTS


async def test_a_page_is_fetched_when_it_is_needed_only() -> None:
    engine = TinyPages(2)
    store = opened(engine)
    await store.append("s", numbered(1, 10))
    going = store.iterate("s")
    for _ in range(2):
        await anext(going)
    assert engine.pages == 1
    await anext(going)
    assert engine.pages == 2
    await going.aclose()
    engine.pages = 0
    assert (await store.read("s", max_count=2)).version == 10
    assert engine.pages == 1


async def test_no_events_wanted_still_gives_the_head() -> None:
    engine = TinyPages()
    store = opened(engine)
    await store.append("s", numbered(1, 3))
    read = await store.read("s", max_count=0)
    assert (read.events, read.version) == ([], 3)
    assert (await store.read_all(after=1, max_count=0)).position == 1


@pytest.mark.parametrize("expected", [0, NO_STREAM, 1, 3])
async def test_a_wrong_expectation_is_told_before_any_event(expected: Any) -> None:
    engine = TinyPages()
    store = opened(engine)
    await store.append("s", numbered(1, 2))
    seen: list[object] = []
    with pytest.raises(ConcurrencyError) as caught:
        await store.read("s", from_version=2, expected=expected)
    assert (caught.value.stream, caught.value.expected, caught.value.actual) == ("s", expected, 2)
    with pytest.raises(ConcurrencyError):
        await store.aggregate(
            "s", lambda _, event: seen.append(event), lambda: None, expected=expected
        )
    assert seen == []
    for right in (2, ANY, STREAM_EXISTS):
        assert (await store.read("s", expected=right)).version == 2
        folded = await store.aggregate("s", lambda n, _: n + 1, int, to_version=1, expected=right)
        assert (folded.state, folded.version) == (1, 1)


async def test_an_exception_while_folding_comes_through() -> None:
    engine = TinyPages()
    store = opened(engine)
    await store.append("s", numbered(1, 5))

    def fail(state: None, event: RecordedEvent) -> None:
        raise LookupError(event.version)

    with pytest.raises(LookupError, match="1"):
        await store.aggregate("s", fail, lambda: None)


BAD_READS: list[tuple[dict[str, Any], str]] = [
    ({"from_version": 0}, "from_version must be from 1"),
    ({"from_version": -1}, "from_version must be from 1"),
    ({"from_version": "1"}, "from_version must be an integer"),
    ({"to_version": -1}, "to_version must be from 0"),
    ({"to_version": 2**63}, "to_version must be from 0"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_READS)
async def test_bad_ranges_are_refused(arguments: dict[str, Any], message: str) -> None:
    engine = TinyPages()
    store = opened(engine)
    with pytest.raises(InvalidArgumentError, match=message):
        await store.read("s", **arguments)
    with pytest.raises(InvalidArgumentError, match=message):
        await anext(store.iterate("s", **arguments))
    if "to_version" in arguments:
        with pytest.raises(InvalidArgumentError, match=message):
            await store.aggregate("s", collect, lambda: NOTHING, **arguments)
    assert engine.pages == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"after": -1}, "after must be from 0"),
        ({"after": None}, "after must be an integer"),
        ({"types": "T"}, "types must be a collection"),
        ({"types": []}, "types is empty"),
        ({"prefix": "\0"}, "prefix '.x00' .* control character"),
        ({"prefix": 7}, "prefix must be text"),
    ],
)
async def test_bad_filters_are_refused(arguments: dict[str, Any], message: str) -> None:
    engine = TinyPages()
    store = opened(engine)
    with pytest.raises(InvalidArgumentError, match=message):
        await store.read_all(**arguments)
    with pytest.raises(InvalidArgumentError, match=message):
        await anext(store.iterate_all(**arguments))
    with pytest.raises(InvalidArgumentError, match=message):
        await store.subscribe(**arguments).__aenter__()
    assert engine.pages == 0


async def test_bad_counts_and_names_are_refused() -> None:
    engine = TinyPages()
    store = opened(engine)
    for count in (-1, 2**63, "1", True):
        with pytest.raises(InvalidArgumentError, match="max_count must be"):
            await store.read("s", max_count=count)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match="max_count must be"):
            await store.read_all(max_count=count)  # type: ignore[arg-type]
    for name in ("", "$s", "a\n"):
        with pytest.raises(InvalidStreamNameError):
            await store.read(name)
        with pytest.raises(InvalidStreamNameError):
            await anext(store.iterate(name))
        with pytest.raises(InvalidStreamNameError):
            await store.aggregate(name, collect, lambda: NOTHING)
    assert engine.pages == 0


READS_OF_ALL: list[Callable[[EventStore], Any]] = [
    lambda store: store.read_all(),
    lambda store: store.read_all(max_count=0),
    lambda store: anext(store.iterate_all()),
    lambda store: store.subscribe().__aenter__(),
]


@pytest.mark.parametrize("read", READS_OF_ALL)
async def test_without_a_global_order_reading_everything_is_refused(
    read: Callable[[EventStore], Any],
) -> None:
    with pytest.raises(NotSupportedError, match="Store: no global_order: streams are kept apart"):
        await read(opened(NoOrder()))


@pytest.mark.parametrize("read", READS_OF_ALL)
async def test_a_closed_store_is_not_read(read: Callable[[EventStore], Any]) -> None:
    engine = TinyPages()
    store = opened(engine)
    await store.aclose()
    with pytest.raises(StoreClosedError, match="has been closed"):
        await read(store)


async def test_a_value_in_the_place_of_initial_is_refused_with_advice() -> None:
    store = MemoryEventStore()
    shared: Any = ["shoes"]
    with pytest.raises(
        InvalidArgumentTypeError, match=r"initial must make .* not a list, .* lambda"
    ) as caught:
        await store.aggregate("s", lambda state, _: state, shared)
    assert "shoes" not in str(caught.value)


async def test_an_async_evolve_is_refused() -> None:
    async def evolve(state: int, _: RecordedEvent) -> int:
        return state

    store = MemoryEventStore()
    unfit: Any = evolve
    with pytest.raises(InvalidArgumentTypeError, match="evolve must be a plain function"):
        await store.aggregate("s", unfit, int)
    with pytest.raises(InvalidArgumentTypeError, match="evolve must be a plain function"):
        Fold(EventTypes[Any](), int, unfit)
