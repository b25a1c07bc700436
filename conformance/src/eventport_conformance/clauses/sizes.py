"""SIZ: sizes that every store takes."""

from __future__ import annotations

from eventport import NewEvent, RecordedEvent

from eventport_conformance.clause import clause
from eventport_conformance.material import collect, make, take
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
    """A read of many large events gives all of them."""
    events = [NewEvent("Large", {"n": n, "text": "x" * 200_000}) for n in range(40)]
    for first in range(0, 40, 4):
        await t.store.append("order", events[first : first + 4])
    read = await t.store.read("order")
    t.recorded(read.events, events, "events read")
    read = await t.store.read("order", backwards=True, max_count=35)
    t.recorded(read.events, events[:4:-1], "the newest 35")


def _large(count: int) -> list[NewEvent]:
    return [NewEvent("Large", {"n": n, "text": "x" * 200_000}) for n in range(count)]


@clause("SIZ-06", needs=("global_order",), seconds=60)
async def large_events_of_all_streams(t: Trial) -> None:
    """Reads of all streams and subscriptions give all of many large events."""
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
    async with t.store.subscribe(types=["Large"], prefix="order") as subscription:
        t.recorded(await take(subscription, 40, 30), events, "events of a subscription")


@clause("SIZ-07", seconds=60)
async def large_events_in_a_session(t: Trial) -> None:
    """A session that has appended reads all of many large stored events, and its own."""
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
