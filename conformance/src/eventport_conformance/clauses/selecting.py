"""SUB: where a subscription begins, and which events it selects."""

from __future__ import annotations

from typing import Any

from eventport import (
    EventportError,
    HistoryReplacedError,
)

from eventport_conformance.clause import clause
from eventport_conformance.helpers import catch_up, fill, make, places, quiet, take
from eventport_conformance.trial import Trial


@clause("SUB-04", needs=("global_order",))
async def after_is_exclusive(t: Trial) -> None:
    """A subscription starts after the position that it is given."""
    await t.store.append("a", make(3))
    position = (await t.store.read("a")).events[1].position
    async with t.store.subscribe(after=position) as subscription:
        t.equal(places(await take(subscription, 1)), [("a", 3)], "the first event")
        await t.store.append("b", make(1))
        t.equal(places(await take(subscription, 1)), [("b", 1)], "the event after it")


@clause("SUB-05", needs=("global_order",))
async def types_select(t: Trial) -> None:
    """A subscription to types yields the events of these types, old and new."""
    await t.store.append("a", make(1, "Placed") + make(1, "Paid") + make(1, "Placed"))
    async with t.store.subscribe(types=["Placed"]) as subscription:
        events = await take(subscription, 2)
        await quiet(subscription, 0.05)
        await t.store.append("b", make(2, "Paid") + make(1, "Placed"))
        events += await take(subscription, 1)
        t.equal(places(events), [("a", 1), ("a", 3), ("b", 3)], "events")
        await quiet(subscription, 0.1)


@clause("SUB-06", needs=("global_order",))
async def a_prefix_selects(t: Trial) -> None:
    """A subscription to a prefix yields the events of streams that start with it, old and new."""
    await fill(t.store, "order-1", 1)
    await fill(t.store, "invoice-1", 1)
    async with t.store.subscribe(prefix="order-") as subscription:
        events = await take(subscription, 1)
        await quiet(subscription, 0.05)
        await fill(t.store, "invoice-2", 1)
        await fill(t.store, "order-2", 1)
        events += await take(subscription, 1)
        t.equal(places(events), [("order-1", 1), ("order-2", 1)], "events")
        await quiet(subscription, 0.1)


@clause("SUB-11", needs=("global_order",))
async def its_position_moves_past_what_does_not_match(t: Trial) -> None:
    """The position of a subscription moves on past events that it leaves out."""
    await t.store.append("a", make(3, "Other"))
    head = (await t.store.read_all()).position
    t.true(head > 0, "the head is positive", head)
    async with t.store.subscribe(types=["Wanted"]) as subscription:
        await catch_up(subscription)
        t.equal(subscription.position, head, "position after having caught up")


@clause("SUB-22", needs=("global_order",))
async def beyond_the_head_is_refused(t: Trial) -> None:
    """A subscription after a position beyond the last event raises HistoryReplacedError."""
    await fill(t.store, "a", 3)
    last = (await t.store.read("a")).events[-1].position
    with t.raises(HistoryReplacedError, "subscribe beyond the head"):
        async with t.store.subscribe(after=last + 1_000_000) as subscription:
            await take(subscription, 1)
    async with t.store.subscribe(after=last) as subscription:
        await fill(t.store, "b", 1)
        t.equal(places(await take(subscription, 1)), [("b", 1)], "the event after the head")


@clause("SUB-24", needs=("global_order",))
async def from_the_end(t: Trial) -> None:
    """A subscription after `"end"` yields only what is committed from then on, all of it."""
    await fill(t.store, "a", 3)
    last = (await t.store.read("a")).events[-1].position
    async with t.store.subscribe(after="end") as subscription:
        t.true(subscription.position >= last, "its position is that of the end, or after it")
        await fill(t.store, "b", 2)
        await fill(t.store, "a", 1)
        seen = await take(subscription, 3)
        t.equal(places(seen), [("b", 1), ("b", 2), ("a", 4)], "events after the end")


@clause("SUB-25", needs=("global_order",))
async def from_the_end_of_nothing(t: Trial) -> None:
    """A subscription after `"end"` of an empty store has position 0 and yields every event."""
    async with t.store.subscribe(after="end") as subscription:
        t.equal(subscription.position, 0, "position at the end of an empty store")
        await fill(t.store, "a", 2)
        t.equal(places(await take(subscription, 2)), [("a", 1), ("a", 2)], "all events")


@clause("SUB-26", needs=("global_order",))
async def one_exact_stream(t: Trial) -> None:
    """A subscription to a stream yields the events of exactly this stream, old and new."""
    for stream in ("show-1", "show-10", "show", "Show-1", "show-1.", "show-1"):
        await fill(t.store, stream, 1)
    async with t.store.subscribe(stream="show-1") as subscription:
        seen = await take(subscription, 2)
        for stream in ("show-10", "show-1"):
            await fill(t.store, stream, 1)
        seen += await take(subscription, 1)
        expected = [("show-1", 1), ("show-1", 2), ("show-1", 3)]
        t.equal(places(seen), expected, "events of the stream")


@clause("SUB-27", needs=("global_order",))
async def filters_are_combined_by_and(t: Trial) -> None:
    """An event has to match all filters of a subscription that are given."""
    for stream, type_ in (("a-1", "X"), ("a-2", "X"), ("a-1", "Y"), ("b-1", "X"), ("a-1", "X")):
        await t.store.append(stream, make(1, type_))
    async with t.store.subscribe(stream="a-1", types=["X"], prefix="a-") as subscription:
        t.equal(places(await take(subscription, 2)), [("a-1", 1), ("a-1", 3)], "matching events")
    async with t.store.subscribe(stream="a-1", prefix="b-") as subscription:
        await catch_up(subscription)
    async with t.store.subscribe(types=["X"], prefix="b-") as subscription:
        t.equal(places(await take(subscription, 1)), [("b-1", 1)], "type and prefix")


@clause("SUB-28", needs=("global_order",))
async def places_that_do_not_exist_are_refused(t: Trial) -> None:
    """A subscription after another text than `"end"`, or to a bad stream name, is refused."""
    await fill(t.store, "a", 1)
    wrong: Any
    for wrong in ("start", "", "END", 1.0):
        with t.raises(EventportError, f"subscribe(after={wrong!r})"):
            async with t.store.subscribe(after=wrong) as subscription:
                await take(subscription, 1)
    for wrong in ("", "$all", 7):
        with t.raises(EventportError, f"subscribe(stream={wrong!r})"):
            async with t.store.subscribe(stream=wrong) as subscription:
                await take(subscription, 1)
    async with t.store.subscribe() as subscription:
        t.equal(places(await take(subscription, 1)), [("a", 1)], "a good subscription")
