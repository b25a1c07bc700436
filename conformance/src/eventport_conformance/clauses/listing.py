"""CAT: what streams there are."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import anyio

from eventport import (
    ConcurrencyError,
    EventStore,
    InvalidArgumentError,
    NewEvent,
    NotSupportedError,
    StoreClosedError,
    StreamInfo,
)
from eventport.catalogue import category_of

from eventport_conformance.clause import clause
from eventport_conformance.helpers import make
from eventport_conformance.trial import Trial


ODD: Final = (
    *("a", "A", "b", "a b", "a_b", "a%b", "a\\b", "a'b", 'a"b', "a.b", "a*b", "a[b]", "a-b", "aXb"),
    *("ab", "a^b", "Zebra", "zebra", "ä", "a\u0308", "äb", "é", "ß", "ﬀ", "\ud7ff", "\ue000"),
    *("\uffff", "😀", "😀-1", "\U0010ffff", "\U0010ffffa", "1", "10", "2", "\u0131", "İ", "İb"),
)
"""Names of which databases may think otherwise."""

UUID: Final = "550E8400-e29b-41d4-a716-446655440000"

CATEGORIES: Final = {
    "order": [
        "order-",
        "order-1",
        "order-7",
        f"order-{UUID}",
        f"order-{UUID}+{UUID}",
        "order-item",
    ],
    "order-item": ["order-item-", "order-item-7", f"order-item-{UUID}"],
    "order-12345678": ["order-12345678-7"],
    "orders": ["orders-1"],
    "ord": ["ord-1"],
    "a_b%": ["a_b%-1"],
    "": ["order", "orders"],
}
"""Streams by category."""


async def _fill(store: EventStore, names: Iterable[str]) -> list[str]:
    """Append to each stream, in an order that is not that of the names; return them in order."""
    for number, name in enumerate(names):
        await store.append(name, make(1 + number % 3))
    return sorted(names)


async def _pages(store: EventStore, size: int, **asked: Any) -> list[StreamInfo]:
    """List all streams, page by page."""
    found: list[StreamInfo] = []
    after: str | None = None
    while True:
        page = await store.streams(after=after, max_count=size, **asked)
        found += page
        if len(page) < size:
            return found
        after = page[-1].stream


def _names(found: Iterable[StreamInfo]) -> list[str]:
    return [one.stream for one in found]


@clause("CAT-01", needs=("catalogue",))
async def each_stream_and_its_last_event(t: Trial) -> None:
    """`streams` lists each stream once, with the version, position and time of its last event."""
    t.equal(await t.store.streams(), [], "streams of an empty store")
    for number in range(3):
        for name in ("c", "a", "b"):
            await t.store.append(name, make(1 + number))
    await t.store.append("b", make(2))
    found = await t.store.streams()
    t.equal(_names(found), ["a", "b", "c"], "names")
    for one in found:
        read = await t.store.read(one.stream)
        last = read.events[-1]
        wanted = StreamInfo(one.stream, read.version, last.position, last.recorded_at)
        t.equal(one, wanted, f"what is said of {one.stream}")


@clause("CAT-02", needs=("catalogue",))
async def in_the_order_of_code_points(t: Trial) -> None:
    """`streams` has the order of code points, whatever the language or collation of a database."""
    wanted = await _fill(t.store, ODD)
    t.equal(_names(await t.store.streams()), wanted, "names in order")


@clause("CAT-03", needs=("catalogue",))
async def page_by_page(t: Trial) -> None:
    """`after` and `max_count` give the streams page by page, each of them once."""
    wanted = await _fill(t.store, ODD)
    t.equal(await t.store.streams(max_count=0), [], "no streams")
    every = await t.store.streams()
    t.equal(_names(every), wanted, "names in one page")
    for size in (1, 2, 7, len(wanted), len(wanted) + 1):
        t.equal(await _pages(t.store, size), every, f"pages of {size}")


@clause("CAT-04", needs=("catalogue",))
async def after_any_name(t: Trial) -> None:
    """`after` need not be the name of a stream; the stream of that name is left out."""
    wanted = await _fill(t.store, ("b", "b-1", "c", "d ", "d"))
    for after in ("a", "b", "b ", "b-", "b-1", "b-2", "c", "d", "d ", "z", "\U0010ffff"):
        found = await t.store.streams(after=after)
        t.equal(_names(found), [one for one in wanted if one > after], f"after {after!a}")


@clause("CAT-05", needs=("catalogue",))
async def prefixes_are_plain_text(t: Trial) -> None:
    """`prefix` is compared as it is: no character in it stands for others, or for another case."""
    wanted = await _fill(t.store, ODD)
    last = ("a\U0010ffff", "a\U0010ffff\U0010ffff")  # no text is between these and "b"
    for prefix in (*ODD, *last, "a%", "a_", "a\\", "a[", "a.", "%", "_", "z", "nothing"):
        matching = [one for one in wanted if one.startswith(prefix)]
        t.equal(_names(await t.store.streams(prefix=prefix)), matching, f"prefix {prefix!a}")
        found = await _pages(t.store, 1, prefix=prefix)
        t.equal(_names(found), matching, f"prefix {prefix!a}, one by one")
    t.equal(_names(await t.store.streams(prefix="a", after="a.b")), [*_between(wanted)], "both")


def _between(names: Iterable[str]) -> Iterable[str]:
    return (one for one in names if one.startswith("a") and one > "a.b")


@clause("CAT-06", needs=("catalogue",))
async def categories(t: Trial) -> None:
    """`category` selects what a name has before its id, which has no dashes but those of UUIDs."""
    wanted = await _fill(t.store, [name for names in CATEGORIES.values() for name in names])
    t.equal(_names(await t.store.streams()), wanted, "all streams")
    for category, names in CATEGORIES.items():
        t.equal({category_of(name) for name in names}, {category}, "category of these names")
        if not category:
            continue
        found = await t.store.streams(category=category)
        t.equal(_names(found), sorted(names), f"streams of {category}")
        for size in (1, 2):
            found = await _pages(t.store, size, category=category)
            t.equal(_names(found), sorted(names), f"streams of {category}, {size} a page")
    found = await t.store.streams(category="order", prefix="order-i")
    t.equal(_names(found), ["order-item"], "a category and a prefix")
    t.equal(await t.store.streams(category="order", prefix="x"), [], "that exclude each other")


@clause("CAT-07", needs=("catalogue",))
async def streams_of_the_toolkit(t: Trial) -> None:
    """The toolkit's own streams are left out, unless `prefix` begins with `eventport/`."""
    own = [NewEvent("eventport.Noted", 1)]
    for name in ("eventport/a-1", "eventport/b", "eventport/snapshot/order-1"):
        await t.store.append(name, own)
    wanted = await _fill(t.store, ("event", "eventport", "eventport-1", "eventport0", "z", "a"))
    t.equal(_names(await t.store.streams()), wanted, "all streams")
    t.equal(_names(await _pages(t.store, 2)), wanted, "all streams, in pages")
    t.equal(_names(await t.store.streams(prefix="eventport")), wanted[2:5], "beside the toolkit's")
    found = await t.store.streams(prefix="eventport/")
    t.equal(
        _names(found),
        ["eventport/a-1", "eventport/b", "eventport/snapshot/order-1"],
        "the toolkit's streams",
    )
    found = await t.store.streams(prefix="eventport/", after="eventport/a-1", max_count=1)
    t.equal(_names(found), ["eventport/b"], "a page of them")


@clause("CAT-08", needs=("catalogue",))
async def while_others_append(t: Trial) -> None:
    """Page by page, each stream that was there before comes once, whatever others append."""
    before = await _fill(t.store, [f"s-{number:02}" for number in range(30)])
    found: list[StreamInfo] = []
    page = await t.store.streams(max_count=4)
    while page:
        found += page
        await t.store.append(f"r-{len(found)}", make(1))  # lies before what comes next
        await t.store.append(f"{page[-1].stream}+", make(1))  # is what comes next
        if len(found) == 4:
            await t.store.append(before[-1], make(1))
        full = len(page) == 4 and len(found) < 60
        page = await t.store.streams(after=page[-1].stream, max_count=4) if full else []
    names = _names(found)
    t.equal(names, sorted(set(names)), "names, in order, each of them once")
    t.equal([name for name in names if name in before], before, "what was there before")
    last = next(one for one in found if one.stream == before[-1])
    t.equal(last.version, 4, "version of the last one, as it was then")


@clause("CAT-09", needs=("catalogue",))
async def many_streams(t: Trial) -> None:
    """More than a thousand streams are listed, a thousand at a time unless a count is given."""
    names = [f"s-{number:05}" for number in range(1_103)]

    async def append(part: list[str]) -> None:
        for name in part:
            await t.store.append(name, make(1))

    async with anyio.create_task_group() as tasks:
        for start in range(16):
            tasks.start_soon(append, names[start::16])
    t.equal(_names(await t.store.streams()), names[:1000], "the first page")
    t.equal(_names(await t.store.streams(max_count=5_000)), names, "all of them at once")
    t.equal(_names(await t.store.streams(after=names[999])), names[1000:], "the second page")


@clause("CAT-10", needs=("catalogue",))
async def bad_lists_are_refused(t: Trial) -> None:
    """`streams` refuses names and counts that make no sense."""
    await t.store.append("a", make(1))
    wrong: tuple[dict[str, Any], ...] = (
        *({"prefix": 5}, {"prefix": "a\n"}, {"prefix": "\ud800"}),
        *({"category": ""}, {"category": 5}, {"category": "a\x00"}),
        *({"after": ""}, {"after": 5}, {"after": "a\x7f"}, {"after": "\udfff"}),
        *({"max_count": -1}, {"max_count": "1"}, {"max_count": True}, {"max_count": None}),
    )
    for asked in wrong:
        with t.raises(InvalidArgumentError, f"streams with {asked!a}"):
            await t.store.streams(**asked)
    await t.untouched("a", 1, "bad lists")


@clause("CAT-11", needs=("catalogue", "shared"))
async def fresh_streams_of_others(t: Trial) -> None:
    """What another store has appended is listed at once."""
    async with t.second_client() as other:
        for number in range(20):
            result = await other.append(f"s-{number % 7}", make(1))
            (found,) = await t.store.streams(prefix=f"s-{number % 7}")
            t.equal(found.version, result.version, "version that is listed")


@clause("CAT-12", needs=("catalogue",))
async def nothing_that_is_not_committed(t: Trial) -> None:
    """Only what is committed is listed: nothing of a session before its end, or of a conflict."""
    await t.store.append("a", make(1))
    async with t.store.session() as session:
        await session.append("b", make(2))
        t.equal(_names(await t.store.streams()), ["a"], "before the session ends")
    with t.raises(ConcurrencyError, "a session that ends in a conflict"):
        async with t.store.session() as session:
            await session.append("c", make(1))
            await session.append("a", make(1), expected=7)
    await t.store.append("d", [])
    t.equal(_names(await t.store.streams()), ["a", "b"], "after it")


@clause("CAT-13", needs=("catalogue",), uses=("delete_stream", "truncate_stream"))
async def streams_that_are_gone(t: Trial) -> None:
    """A stream that was deleted is left out until it is made anew; one that was truncated keeps
    its version.
    """
    for name in ("a", "b", "c"):
        await t.store.append(name, make(3))
    await t.harness.delete_stream("b")
    await t.harness.truncate_stream("c", 3)
    found = await t.store.streams()
    t.equal([(one.stream, one.version) for one in found], [("a", 3), ("c", 3)], "what is left")
    result = await t.store.append("b", make(1))
    found = await t.store.streams(prefix="b")
    t.equal([(one.stream, one.version) for one in found], [("b", result.version)], "made anew")


@clause("CAT-14", needs=("catalogue",))
async def a_closed_store_lists_nothing(t: Trial) -> None:
    """After closing, `streams` raises StoreClosedError."""
    await t.store.append("a", make(1))
    await t.store.aclose()
    with t.raises(StoreClosedError, "streams of a closed store"):
        await t.store.streams()


@clause("CAT-15", unless="catalogue")
async def without_a_list_it_is_refused(t: Trial) -> None:
    """A store that cannot list its streams raises NotSupportedError."""
    await t.store.append("a", make(1))
    with t.raises(NotSupportedError, "streams"):
        await t.store.streams()
    await t.untouched("a", 1, "a list is refused")
