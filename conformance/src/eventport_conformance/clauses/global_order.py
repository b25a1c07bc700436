"""GLO: the order of all events of a store."""

from __future__ import annotations

from contextlib import aclosing

from eventport import ConcurrencyError, NewEvent, NotSupportedError

from eventport_conformance.clause import clause
from eventport_conformance.helpers import collect, fill, make, places
from eventport_conformance.trial import Trial


async def _mixed(t: Trial) -> list[tuple[str, int]]:
    """Append to three streams by turns; return the places of the events in order."""
    await t.store.append("order-1", make(2, "Placed"))
    await t.store.append("invoice-1", make(1, "Sent"))
    await t.store.append("order-2", make(1, "Placed"))
    await t.store.append("order-1", make(3, "Shipped"))
    await t.store.append("invoice-1", make(1, "Paid"))
    return [
        ("order-1", 1),
        ("order-1", 2),
        ("invoice-1", 1),
        ("order-2", 1),
        ("order-1", 3),
        ("order-1", 4),
        ("order-1", 5),
        ("invoice-1", 2),
    ]


@clause("GLO-01", needs=("global_order",))
async def all_events_in_order_of_appends(t: Trial) -> None:
    """`read_all` returns the events of all streams in the order in which they were appended."""
    all_places = await _mixed(t)
    t.equal(places((await t.store.read_all()).events), all_places, "events of the store")


@clause("GLO-02", needs=("global_order",))
async def positions_are_positive_and_increase(t: Trial) -> None:
    """Positions are positive integers that strictly increase in the order of appends."""
    returned = [(await t.store.append(stream, make(2))).position for stream in "abacb"]
    positions = [event.position for event in (await t.store.read_all()).events]
    t.equal([type(position) for position in positions], [int] * 10, "types of positions")
    t.true(positions[0] > 0, "the first position is positive", positions)
    t.equal(positions, sorted(set(positions)), "positions, sorted, each once")
    t.equal(returned, positions[1::2], "positions that the appends returned")


@clause("GLO-03", needs=("global_order",))
async def after_is_exclusive(t: Trial) -> None:
    """`after` is the position after which a read starts."""
    all_places = await _mixed(t)
    events = (await t.store.read_all()).events
    t.equal(len(events), len(all_places), "number of events")
    for number, event in enumerate(events, 1):
        rest = await t.store.read_all(after=event.position)
        t.equal(places(rest.events), all_places[number:], f"events after event {number}")


@clause("GLO-04", needs=("global_order",))
async def max_count_is_a_count(t: Trial) -> None:
    """`max_count` is the number of events that `read_all` returns at most."""
    all_places = await _mixed(t)
    for count in (1, 3, 8, 9):
        result = await t.store.read_all(max_count=count)
        t.equal(places(result.events), all_places[:count], f"at most {count} events")


@clause("GLO-05", needs=("global_order",))
async def max_count_zero_gives_none(t: Trial) -> None:
    """`read_all(max_count=0)` returns no events and does not move on."""
    await _mixed(t)
    first = (await t.store.read_all(max_count=1)).position
    t.true(first > 0, "the first position is positive", first)
    for after in (0, first):
        result = await t.store.read_all(after=after, max_count=0)
        t.equal((result.events, result.position), ([], after), f"no events after {after}")


@clause("GLO-06", needs=("global_order",))
async def reads_can_be_resumed(t: Trial) -> None:
    """Reading on from the returned position returns every event once, whatever the page size."""
    all_places = await _mixed(t)
    for size in (1, 2, 3, 7, 8, 100):
        found: list[tuple[str, int]] = []
        position = 0
        for _ in range(20):
            result = await t.store.read_all(after=position, max_count=size)
            found += places(result.events)
            position = result.position
        t.equal(found, all_places, f"events in pages of {size}")


@clause("GLO-07", needs=("global_order",))
async def what_comes_later_comes_after(t: Trial) -> None:
    """Events appended after a read come after the position that the read returned."""
    await _mixed(t)
    position = (await t.store.read_all()).position
    nothing = await t.store.read_all(after=position)
    t.equal((nothing.events, nothing.position), ([], position), "a second read")
    await t.store.append("order-1", make(2))
    result = await t.store.read_all(after=position)
    t.equal(places(result.events), [("order-1", 6), ("order-1", 7)], "events after an append")
    t.true(result.position > position, "the position has moved on", result.position)


@clause("GLO-08", needs=("global_order",))
async def types_select(t: Trial) -> None:
    """`types` selects the events of exactly these types."""
    await _mixed(t)
    await t.store.append("x", make(1, "Place") + make(1, "placed") + make(1, "Placed%"))
    for types in (["Placed"], {"Sent", "Paid"}, ("Placed", "Nothing"), frozenset({"Shipped"})):
        events = (await t.store.read_all(types=types)).events
        t.equal({event.type for event in events}, set(types) - {"Nothing"}, f"types of {types}")
    t.equal(len((await t.store.read_all(types=["Placed"])).events), 3, "number of Placed")


@clause("GLO-09", needs=("global_order",))
async def prefix_selects(t: Trial) -> None:
    """`prefix` selects the streams whose name starts with it; an empty one selects all."""
    all_places = await _mixed(t)
    for prefix in ("order-", "order-1", "invoice-1", "i", ""):
        events = (await t.store.read_all(prefix=prefix)).events
        wanted = [place for place in all_places if place[0].startswith(prefix)]
        t.equal(places(events), wanted, f"events of streams that start with {prefix!r}")
    nothing = (await t.store.read_all(prefix="rder")).events
    t.equal(nothing, [], "events of streams that only contain the prefix")


@clause("GLO-10", needs=("global_order",))
async def a_prefix_is_no_pattern(t: Trial) -> None:
    """Characters that are special in a database mean nothing special in a prefix."""
    names = ["a%b", "a_b", "axb", "A_b", "a*b", "a?b", "a[b", "a\\b", "a'b", 'a"b', "a.b", "^a"]
    names += ["é", "e\u0301", "É", "\U0001f980"]
    for name in names:
        await t.store.append(name, make(1))
    for name in names:
        for prefix in (name, name[:-1]) if len(name) > 1 else (name,):
            events = (await t.store.read_all(prefix=prefix)).events
            wanted = [other for other in names if other.startswith(prefix)]
            t.equal([event.stream for event in events], wanted, f"streams for {prefix!a}")


@clause("GLO-11", needs=("global_order",))
async def types_and_prefix_together(t: Trial) -> None:
    """`types` and `prefix` together select what matches both."""
    await _mixed(t)
    result = await t.store.read_all(types=["Placed", "Paid"], prefix="order-")
    wanted = [("order-1", 1), ("order-1", 2), ("order-2", 1)]
    t.equal(places(result.events), wanted, "events that match both")


@clause("GLO-12", needs=("global_order",))
async def max_count_counts_what_matches(t: Trial) -> None:
    """With a filter, `max_count` counts the events that match, wherever they stand."""
    await _mixed(t)
    result = await t.store.read_all(types=["Sent", "Paid"], max_count=2)
    t.equal(places(result.events), [("invoice-1", 1), ("invoice-1", 2)], "two that match")
    result = await t.store.read_all(prefix="invoice", max_count=1)
    t.equal(places(result.events), [("invoice-1", 1)], "one that matches")
    rest = await t.store.read_all(after=result.position, prefix="invoice")
    t.equal(places(rest.events), [("invoice-1", 2)], "the rest that matches")


@clause("GLO-13", needs=("global_order",))
async def the_position_moves_past_what_does_not_match(t: Trial) -> None:
    """The returned position moves on even if nothing matched, so nothing is scanned twice."""
    await _mixed(t)
    head = (await t.store.read_all()).position
    for result in (
        await t.store.read_all(types=["Nothing"]),
        await t.store.read_all(prefix="nothing"),
    ):
        t.equal(result.events, [], "events that match")
        t.true(result.position >= head > 0, "the position is after all events", result.position)
    await t.store.append("nothing-1", make(1, "Nothing"))
    late = await t.store.read_all(after=result.position, prefix="nothing")
    t.equal(places(late.events), [("nothing-1", 1)], "what matches later")


@clause("GLO-14", needs=("global_order",))
async def an_empty_store_is_empty(t: Trial) -> None:
    """`read_all` of a store without events returns none and stays at the beginning."""
    empty = await t.store.read_all()
    t.equal((empty.events, empty.position), ([], 0), "an empty store")
    t.equal(await collect(t.store.iterate_all()), [], "iterate_all of an empty store")
    await fill(t.store, "order", 1)
    events = (await t.store.read_all(after=empty.position)).events
    t.equal(places(events), [("order", 1)], "after the first append")


@clause("GLO-15", needs=("global_order",))
async def past_the_end_nothing_is_lost(t: Trial) -> None:
    """`read_all` after a position far beyond the end returns nothing, and that position."""
    await _mixed(t)
    head = (await t.store.read_all()).position
    t.true(head > 0, "the head is positive", head)
    for after in (head, head + 1_000_000, 2**63 - 1):
        result = await t.store.read_all(after=after)
        t.equal((result.events, result.position), ([], after), f"read after {after}")


@clause("GLO-16", needs=("global_order",))
async def a_thousand_by_default(t: Trial) -> None:
    """`read_all` returns at most 1,000 events by default."""
    await t.store.append("order", make(600))
    await t.store.append("other", make(600))
    result = await t.store.read_all()
    t.equal(len(result.events), 1000, "number of events")
    rest = await t.store.read_all(after=result.position)
    t.equal(len(rest.events), 200, "number of events in the next read")
    result = await t.store.read_all(max_count=1200)
    t.equal(len(result.events), 1200, "number of events if 1,200 are asked for")


@clause("GLO-17", needs=("global_order",))
async def it_is_the_same_event(t: Trial) -> None:
    """`read_all` returns the same events as reads of the streams, position and time included."""
    await _mixed(t)
    everything = (await t.store.read_all()).events
    t.equal(len(everything), 8, "number of events")
    for stream in ("order-1", "order-2", "invoice-1"):
        wanted = [event for event in everything if event.stream == stream]
        t.equal((await t.store.read(stream)).events, wanted, f"events of {stream}")


@clause("GLO-18", needs=("global_order",))
async def iterate_all_gives_everything(t: Trial) -> None:
    """`iterate_all` yields all events of a store in order, and then ends."""
    all_places = await _mixed(t)
    events = await collect(t.store.iterate_all())
    t.equal(places(events), all_places, "events")
    after = events[3].position
    rest = await collect(t.store.iterate_all(after=after))
    t.equal(places(rest), all_places[4:], "events after the fourth")


@clause("GLO-19", needs=("global_order",))
async def iterate_all_filters(t: Trial) -> None:
    """`iterate_all` yields what matches its types and its prefix."""
    all_places = await _mixed(t)
    events = await collect(t.store.iterate_all(types=["Placed"]))
    t.equal(places(events), [all_places[0], all_places[1], all_places[3]], "events of a type")
    events = await collect(t.store.iterate_all(prefix="invoice"))
    t.equal(places(events), [all_places[2], all_places[7]], "events of streams with a prefix")
    events = await collect(t.store.iterate_all(types=["Placed"], prefix="order-2"))
    t.equal(places(events), [all_places[3]], "events that match both")


@clause("GLO-20", needs=("global_order",))
async def iterate_all_is_whole(t: Trial) -> None:
    """`iterate_all` over many events yields each once, in order."""
    for round_ in range(4):
        for stream in ("a", "b", "c"):
            await t.store.append(stream, make(110, start=round_ * 110 + 1))
    events = await collect(t.store.iterate_all())
    positions = [event.position for event in events]
    t.equal(len(positions), 1320, "number of events")
    t.equal(positions, sorted(set(positions)), "positions, sorted, each once")
    for stream in ("a", "b", "c"):
        mine = [event for event in events if event.stream == stream]
        t.versions(mine, range(1, 441), f"events of {stream}")
        t.equal([event.data["n"] for event in mine], list(range(1, 441)), f"data of {stream}")


@clause("GLO-21", needs=("global_order",))
async def iterate_all_ends_at_the_head_it_saw(t: Trial) -> None:
    """Events appended while `iterate_all` goes on are not part of it, so it ends."""
    await t.store.append("order", make(600))
    count = 0
    async with aclosing(t.store.iterate_all()) as events:
        async for event in events:
            count += 1
            if count % 100 == 0:
                await t.store.append("order", make(20))
                await t.store.append("other", make(20))
            t.equal((event.stream, event.version), ("order", count), "next event")
            t.true(count <= 600, "the iteration ends at 600", count)
    t.equal(count, 600, "number of events")


@clause("GLO-22", needs=("global_order",))
async def a_conflict_leaves_no_trace(t: Trial) -> None:
    """An append that was refused leaves no event in the global order."""
    await fill(t.store, "order", 1)
    for _ in range(3):
        with t.raises(ConcurrencyError, "append expecting 7"):
            await t.store.append("order", make(4), expected=7)
    await t.store.append("order", make(1))
    events = (await t.store.read_all()).events
    t.equal(places(events), [("order", 1), ("order", 2)], "events of the store")


@clause("GLO-23", needs=("global_order",))
async def data_is_unharmed(t: Trial) -> None:
    """Data, metadata and ids come out of `read_all` as they went in."""
    events = [
        NewEvent("Text", {"text": "\U0001f980 \0 \u2028", "": [1.0, -0.0, 2**63 - 1]}, {"a.b": 1}),
        NewEvent("Bytes", bytes(range(256)), {"$c": None}),
        NewEvent("Number", 5e-324),
    ]
    await t.store.append("order", events)
    t.recorded((await t.store.read_all()).events, events, "events of read_all")
    t.recorded(await collect(t.store.iterate_all()), events, "events of iterate_all")


@clause("GLO-24", unless="global_order")
async def without_it_reads_are_refused(t: Trial) -> None:
    """A store without a global order refuses `read_all`, `iterate_all` and `subscribe`."""
    await fill(t.store, "order", 1)
    with t.raises(NotSupportedError, "read_all"):
        await t.store.read_all()
    with t.raises(NotSupportedError, "iterate_all"):
        await collect(t.store.iterate_all())
    with t.raises(NotSupportedError, "subscribe"):
        async with t.store.subscribe() as subscription:
            await anext(subscription)
    await t.untouched("order", 1, "what was refused")
