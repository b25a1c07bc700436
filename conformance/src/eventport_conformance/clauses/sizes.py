"""SIZ: sizes that every store takes."""

from __future__ import annotations

from eventport import Match, NewEvent, PayloadTooLargeError, Query, RecordedEvent

from eventport_conformance.clause import clause
from eventport_conformance.helpers import collect, make, take
from eventport_conformance.trial import Trial


@clause("SIZ-01")
async def a_thousand_events(t: Trial) -> None:
    """An append may hold 1,000 events."""
    events = make(1000)
    result = await t.store.append("order", events, expected=0)
    t.equal(result.version, 1000, "version that the append returned")
    t.recorded((await t.store.read("order")).events, events, "events read")


@clause("SIZ-02")
async def half_a_megabyte_of_text(t: Trial) -> None:
    """An event may hold 512 KiB of JSON."""
    event = NewEvent("Large", {"text": "x" * (512 * 1024 - 20)}, {"small": 1})
    await t.store.append("order", [event])
    t.recorded((await t.store.read("order")).events, [event], "event read")


@clause("SIZ-03")
async def half_a_megabyte_of_bytes(t: Trial) -> None:
    """An event may hold 512 KiB of bytes."""
    event = NewEvent("Large", bytes(range(256)) * 2048)
    await t.store.append("order", [event])
    t.recorded((await t.store.read("order")).events, [event], "event read")


@clause("SIZ-04")
async def a_thousand_events_in_a_session(t: Trial) -> None:
    """A session may append 1,000 events."""
    events = make(1000)
    async with t.store.session() as session:
        for first in range(0, 1000, 100):
            await session.append("order", events[first : first + 100])
    t.recorded((await t.store.read("order")).events, events, "events read")


@clause("SIZ-05")
async def a_stream_of_large_events(t: Trial) -> None:
    """Reads, iterations and folds of many large events have all of them."""
    events = _large(40)
    for first in range(0, 40, 4):
        await t.store.append("order", events[first : first + 4])
    read = await t.store.read("order")
    t.recorded(read.events, events, "events read")
    read = await t.store.read("order", backwards=True, max_count=35)
    t.recorded(read.events, events[:4:-1], "the newest 35")
    t.recorded(await collect(t.store.iterate("order")), events, "events iterated")
    newest = await collect(t.store.iterate("order", backwards=True))
    t.recorded(newest, events[::-1], "events iterated backwards")
    folded = await t.store.aggregate("order", lambda total, event: total + event.data["n"], int)
    t.equal((folded.state, folded.version), (780, 40), "fold, and its version")


def _large(count: int) -> list[NewEvent]:
    return [
        NewEvent("Large", {"n": n, "text": "x" * 200_000}, tags={"size:large"})
        for n in range(count)
    ]


@clause("SIZ-06", needs=("global_order",))
async def large_events_of_all_streams(t: Trial) -> None:
    """Reads of all streams, queries and subscriptions return every one of many large events."""
    events = _large(40)
    for first in range(0, 40, 4):
        await t.store.append(f"order-{first % 3}", events[first : first + 4])
    found: list[RecordedEvent] = []
    position, more = 0, True
    while more:
        page = await t.store.read_all(after=position, max_count=25)
        found += page.events
        more, position = page.position > position, page.position
    t.recorded(found, events, "events of read_all, page by page")
    t.recorded((await t.store.read_all()).events, events, "events of one read_all")
    t.recorded(await collect(t.store.iterate_all()), events, "events of iterate_all")
    query = Query.of(Match(tags={"size:large"}))
    t.recorded((await t.store.query(query)).events, events, "events of a query")
    newest = await t.store.query(query, backwards=True, max_count=35)
    t.recorded(newest.events, events[:4:-1], "the newest 35 of a query")
    async with t.store.subscribe(types=["Large"], prefix="order") as subscription:
        t.recorded(await take(subscription, 40), events, "events of a subscription")
    async with t.store.subscribe(query=query) as subscription:
        t.recorded(await take(subscription, 40), events, "events of a subscription to a query")


@clause("SIZ-07")
async def large_events_in_a_session(t: Trial) -> None:
    """A session that has appended reads every one of many large stored events, and its own."""
    events = _large(34)
    for first in range(0, 32, 4):
        await t.store.append("order", events[first : first + 4])
    async with t.store.session() as session:
        await session.append("order", events[32:])
        t.recorded((await session.read("order")).events, events, "events read")
        read = await session.read("order", backwards=True)
        t.recorded(read.events, events[::-1], "events read backwards")
        read = await session.read("order", backwards=True, max_count=30)
        t.recorded(read.events, events[:3:-1], "the newest 30")
        read = await session.read("order", from_version=2, max_count=33)
        t.recorded(read.events, events[1:], "33 from the second on")
    t.recorded((await t.store.read("order")).events, events, "events after the commit")


async def _is_whole(t: Trial, events: list[NewEvent], *, refused: bool) -> None:
    """Fail unless all events are stored, or none if they were refused, and the store goes on."""
    stored = [] if refused else events
    read = await t.store.read("order")
    t.recorded(read.events, stored, "events read")
    after = await t.store.append("order", make(1, "After"), expected=len(stored))
    t.equal(after.version, len(stored) + 1, "version of the next append")


@clause("SIZ-08")
async def ten_thousand_events(t: Trial) -> None:
    """An append of 10,000 events is stored whole, or refused whole by PayloadTooLargeError."""
    events, refused = make(10_000), False
    try:
        result = await t.store.append("order", events, expected=0)
    except PayloadTooLargeError:
        refused = True
    else:
        t.equal(result.version, 10_000, "version that the append returned")
    await _is_whole(t, events, refused=refused)


@clause("SIZ-09")
async def a_stream_of_ten_thousand_events(t: Trial) -> None:
    """A stream may hold 10,000 events, and each can be read, iterated and folded."""
    events = make(10_000)
    for first in range(0, 10_000, 1000):
        await t.store.append("order", events[first : first + 1000])
    t.recorded((await t.store.read("order")).events, events, "events read")
    rest = await t.store.read("order", from_version=9_001, max_count=10)
    t.recorded(rest.events, events[9_000:9_010], "ten events from version 9,001 on")
    newest = await t.store.read("order", backwards=True, max_count=3)
    t.recorded(newest.events, events[:-4:-1], "the newest three")
    t.recorded(await collect(t.store.iterate("order")), events, "events iterated")
    folded = await t.store.aggregate("order", lambda total, event: total + event.data["n"], int)
    t.equal((folded.state, folded.version), (50_005_000, 10_000), "fold, and its version")


@clause("SIZ-10")
async def ten_thousand_events_in_a_session(t: Trial) -> None:
    """A session of 10,000 events is committed whole, or refused whole by PayloadTooLargeError."""
    events, refused = make(10_000), False
    try:
        async with t.store.session() as session:
            for first in range(0, 10_000, 200):
                await session.append("order", events[first : first + 200])
    except PayloadTooLargeError:
        refused = True
    await _is_whole(t, events, refused=refused)


@clause("SIZ-11", needs=("global_order",))
async def ten_thousand_types(t: Trial) -> None:
    """A filter of 10,000 types selects the events of all of them."""
    types = [f"Type{n}" for n in range(10_000)]
    wanted = [NewEvent(types[n], {"n": n}) for n in (0, 5_000, 9_999)]
    await t.store.append("order", [wanted[0], *make(2), *wanted[1:], *make(1)])
    t.recorded((await t.store.read_all(types=types)).events, wanted, "events of read_all")
    t.recorded(await collect(t.store.iterate_all(types=types)), wanted, "events of iterate_all")
    async with t.store.subscribe(types=types) as subscription:
        t.recorded(await take(subscription, 3), wanted, "events of a subscription")
