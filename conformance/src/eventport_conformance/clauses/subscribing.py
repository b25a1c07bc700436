"""SUB: following a store, from the past into the present."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import anyio

from anyio.lowlevel import checkpoint

from eventport import (
    ConcurrencyError,
    EventportError,
    NewEvent,
    RecordedEvent,
    Subscription,
)

from eventport_conformance.clause import clause
from eventport_conformance.helpers import catch_up, fill, make, places, quiet, take
from eventport_conformance.trial import Deviation, Trial
from eventport_conformance.waiting import no_hang, until


class _OwnError(EventportError):
    """An error of the caller's code."""


@clause("SUB-01", needs=("global_order",))
async def it_catches_up(t: Trial) -> None:
    """A subscription first yields the events that are there, in global order."""
    await t.store.append("a", make(2))
    await t.store.append("b", make(1))
    await t.store.append("a", make(1))
    async with t.store.subscribe() as subscription:
        events = await take(subscription, 4)
        t.equal(places(events), [("a", 1), ("a", 2), ("b", 1), ("a", 3)], "events")
        await quiet(subscription)


@clause("SUB-02", needs=("global_order",))
async def it_goes_on_live(t: Trial) -> None:
    """A subscription then yields each event that is appended, soon."""
    await fill(t.store, "a", 1)
    async with t.store.subscribe() as subscription:
        await take(subscription, 1)
        for version in range(2, 6):
            await t.store.append("a", make(1))
            events = await take(subscription, 1)
            t.equal(places(events), [("a", version)], "the next event")


@clause("SUB-03", needs=("global_order",))
async def an_append_wakes_a_waiting_reader(t: Trial) -> None:
    """A reader that has been waiting gets what is appended, without asking again."""
    await fill(t.store, "a", 1)
    async with t.store.subscribe() as subscription:
        t.equal(places(await take(subscription, 1)), [("a", 1)], "the event that was there")
        for version in range(2, 5):
            found: list[RecordedEvent] = []

            async def wait(found: list[RecordedEvent] = found) -> None:
                found += await take(subscription, 1)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await anyio.sleep(0.05)
                t.equal(found, [], "events before the append")
                await t.store.append("a", make(1))
            t.equal(places(found), [("a", version)], "the event that it waited for")


@clause("SUB-07", needs=("global_order",))
async def caught_up_is_set_after_the_last(t: Trial) -> None:
    """`caught_up` is set when the events that were there have been yielded, not before."""
    await t.store.append("a", make(3))
    async with t.store.subscribe() as subscription:
        for _ in range(3):
            t.true(not subscription.caught_up.is_set(), "not caught up before the last event")
            await take(subscription, 1)
        await catch_up(subscription)


@clause("SUB-08", needs=("global_order",))
async def caught_up_can_be_waited_for(t: Trial) -> None:
    """`caught_up` can be waited for in another task, on an empty store too."""
    for count in (0, 4):
        if count:
            await t.store.append("a", make(count))
        found: list[RecordedEvent] = []
        async with t.store.subscribe() as subscription, anyio.create_task_group() as tasks:

            async def consume(found: list[RecordedEvent] = found) -> None:
                async for event in subscription:
                    found.append(event)  # noqa: PERF401  # each at its time

            tasks.start_soon(consume)
            with no_hang(f"it catches up with {count} events"):
                await subscription.caught_up.wait()
            t.equal(len(found), count, "events handed out at that moment")
            tasks.cancel_scope.cancel()


@clause("SUB-09", needs=("global_order",))
async def its_position_is_where_to_resume(t: Trial) -> None:
    """The position of a subscription is that of the last event yielded."""
    await t.store.append("a", make(3))
    positions = [event.position for event in (await t.store.read("a")).events]
    async with t.store.subscribe(after=positions[0]) as subscription:
        t.equal(subscription.position, positions[0], "position before the first event")
        for position in positions[1:]:
            await take(subscription, 1)
            t.equal(subscription.position, position, "position after an event")


@clause("SUB-10", needs=("global_order",))
async def it_can_be_resumed(t: Trial) -> None:
    """Subscriptions that each resume where the last one stopped yield every event once."""
    await t.store.append("a", make(5))
    found: list[int] = []
    position = 0
    for _ in range(4):
        async with t.store.subscribe(after=position) as subscription:
            found += [event.version for event in await take(subscription, 2)]
            position = subscription.position
        await t.store.append("a", make(1))
    t.equal(found, list(range(1, 9)), "versions, over four subscriptions")


@clause("SUB-12", needs=("global_order",))
async def leaving_the_block_ends_it(t: Trial) -> None:
    """After its block was left, a subscription ends."""
    await t.store.append("a", make(2))
    async with t.store.subscribe() as subscription:
        t.equal(places(await take(subscription, 1)), [("a", 1)], "the first event")
    left = [event async for event in subscription]
    t.true(len(left) <= 1, "at most the event already fetched is left", left)
    await t.store.append("a", make(1))
    t.equal([event async for event in subscription], [], "events after the end")


@clause("SUB-13", needs=("global_order",))
async def leaving_the_block_ends_a_waiting_reader(t: Trial) -> None:
    """A reader that waits in another task is released when the block is left."""
    await fill(t.store, "a", 1)
    ended = anyio.Event()
    found: list[RecordedEvent] = []
    async with anyio.create_task_group() as tasks:
        async with t.store.subscribe() as subscription:

            async def consume() -> None:
                async for event in subscription:
                    found.append(event)  # noqa: PERF401  # each at its time
                ended.set()

            tasks.start_soon(consume)
            with no_hang("it catches up"):
                await subscription.caught_up.wait()
            t.true(not ended.is_set(), "it waits while the block lasts")
        with no_hang("the iteration ends"):
            await ended.wait()
    t.equal(places(found), [("a", 1)], "events handed out")


@clause("SUB-14", needs=("global_order",))
async def each_subscription_gets_everything(t: Trial) -> None:
    """Several subscriptions at the same time each get every event."""
    await fill(t.store, "a", 2)
    async with t.store.subscribe() as one, t.store.subscribe() as two:
        first = await take(one, 2)
        await t.store.append("b", make(2))
        for subscription, count, seen in ((one, 2, first), (two, 4, [])):
            events = seen + await take(subscription, count)
            t.equal(places(events), [("a", 1), ("a", 2), ("b", 1), ("b", 2)], "events")


@clause("SUB-15", needs=("global_order",))
async def a_cancelled_wait_loses_nothing(t: Trial) -> None:
    """A reader that repeatedly gives up waiting misses and repeats nothing."""
    found: list[int] = []

    async def write() -> None:
        for _ in range(20):
            await t.store.append("a", make(2))
            await anyio.sleep(0.003)

    async with t.store.subscribe() as subscription, anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        with no_hang("a reader that gives up waiting gets all events"):
            while len(found) < 40:
                with anyio.move_on_after(0.001) as scope:
                    async for event in subscription:
                        found.append(event.version)  # noqa: PERF401  # each at its time
                if not scope.cancelled_caught:
                    raise Deviation("the subscription goes on", "40 events", "its end")
    t.equal(found, list(range(1, 41)), "versions")


@clause("SUB-16", needs=("global_order",))
async def a_slow_reader_gets_everything(t: Trial) -> None:
    """A reader that is slower than the writers still gets every event, in order."""
    for stream in ("a", "b", "c"):
        await t.store.append(stream, make(450))
    found: list[tuple[str, int]] = []
    async with t.store.subscribe() as subscription:
        while len(found) < 1470:
            found += places(await take(subscription, 1))
            if len(found) % 300 == 0:
                await anyio.sleep(0.02)
                await t.store.append("d", make(30))
    wanted = [(stream, version) for stream in "abc" for version in range(1, 451)]
    t.equal(found, wanted + [("d", version) for version in range(1, 121)], "events")


@clause("SUB-17", needs=("global_order",))
async def no_gap_and_no_repeat_at_the_seam(t: Trial) -> None:
    """No event is missed or repeated where a subscription passes from old events to new ones."""
    for start in range(10):
        await t.store.append("a", make(3, start=start))
    found: list[int] = []

    async def write() -> None:
        for _ in range(40):
            await t.store.append("a", make(3))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        async with t.store.subscribe() as subscription:
            found += [event.version for event in await take(subscription, 150)]
            await quiet(subscription, 0.1)
    t.equal(found, list(range(1, 151)), "versions")


@clause("SUB-18", needs=("global_order",))
async def a_reader_may_append(t: Trial) -> None:
    """What a reader appends while it handles an event reaches the same subscription."""
    await fill(t.store, "a", 1)
    seen: list[tuple[str, int]] = []
    async with t.store.subscribe() as subscription:
        for _ in range(6):
            (event,) = await take(subscription, 1)
            seen.append((event.stream, event.version))
            if event.version < 6:
                await t.store.append("a", make(1))
    t.equal(seen, [("a", version) for version in range(1, 7)], "events")


@clause("SUB-19", needs=("global_order",))
async def it_is_the_same_event(t: Trial) -> None:
    """A subscription yields the same events as a read, position and time included."""
    await fill(t.store, "a", 2)
    async with t.store.subscribe() as subscription:
        events = await take(subscription, 2)
        await fill(t.store, "b", 1)
        events += await take(subscription, 1)
    t.equal(events, (await t.store.read_all()).events, "events")


@clause("SUB-20", needs=("global_order",))
async def it_never_ends_by_itself(t: Trial) -> None:
    """A subscription that has nothing to yield waits; it does not end."""
    async with t.store.subscribe() as subscription:
        await quiet(subscription, 0.4)
        await fill(t.store, "a", 1)
        t.equal(places(await take(subscription, 1)), [("a", 1)], "the event after it")
        with anyio.move_on_after(0.2) as scope:
            await anext(subscription)
        if not scope.cancelled_caught:
            raise Deviation("the subscription waits", "no event", "another event")


@clause("SUB-21", needs=("global_order",))
async def no_wake_up_is_lost(t: Trial) -> None:
    """An event that is appended just as a reader begins to wait wakes it."""
    async with t.store.subscribe() as subscription:
        for turns in range(15):
            found: list[RecordedEvent] = []

            async def wait(found: list[RecordedEvent] = found) -> None:
                found += await take(subscription, 1)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                for _ in range(turns):
                    await checkpoint()
                await t.store.append("a", make(1))
            t.equal(places(found), [("a", turns + 1)], f"the event appended after {turns} turns")


@clause("SUB-23", needs=("global_order",))
async def what_is_not_written_holds_nothing_up(t: Trial) -> None:
    """A refused append and a session that fails hold up no subscription."""
    await fill(t.store, "a", 2)
    async with t.store.subscribe() as subscription:
        await take(subscription, 2)
        for round_ in range(3):
            with t.raises(ConcurrencyError, "append expecting version 9"):
                await t.store.append("a", make(2), expected=9)
            with t.raises(_OwnError, "session whose block raises"):
                async with t.store.session() as session:
                    await session.append("b", make(2))
                    raise _OwnError
            with t.raises(ConcurrencyError, "session on a stream that moved"):
                async with t.store.session() as session:
                    await session.append("c", make(2), expected=round_)
                    await fill(t.store, "c", 1)
            seen = places(await take(subscription, 1))
            t.equal(seen, [("c", round_ + 1)], "the only event that was written")


@clause("SUB-29", needs=("global_order",))
async def subscriptions_share_no_data(t: Trial) -> None:
    """What a reader changes in the data that it got, no other subscription and no read sees."""
    data, metadata = {"items": [1, {"deep": "as it was"}]}, {"user": ["ada"]}
    seen: list[tuple[object, object]] = []
    waiting: list[Subscription] = []

    async def spoil(subscription: Subscription) -> None:
        waiting.append(subscription)
        async for event in subscription:
            seen.append((deepcopy(event.data), deepcopy(dict(event.metadata))))
            spoiled: Any = event.data
            spoiled["items"][1]["deep"] = "spoiled"
            spoiled["items"].append("spoiled")
            event.metadata["user"].append("spoiled")

    async with (
        t.store.subscribe() as one,
        t.store.subscribe() as two,
        t.store.subscribe(stream="a") as three,
        anyio.create_task_group() as tasks,
    ):
        for subscription in (one, two, three):
            tasks.start_soon(spoil, subscription)
        await until(lambda: len(waiting) == 3, "all of them read")
        for subscription in waiting:
            with no_hang("it catches up"):
                await subscription.caught_up.wait()
        for number in range(1, 4):
            await t.store.append("a", [NewEvent("Changed", data, metadata)])
            await until(lambda: len(seen) == 3 * number, "each has got it")  # noqa: B023  # at once
        tasks.cancel_scope.cancel()
    t.equal(seen, [(data, metadata)] * 9, "data and metadata that the readers got")
    events = (await t.store.read("a")).events
    t.equal([event.data for event in events], [data] * 3, "data that is read")


@clause("SUB-30", needs=("global_order",))
async def filters_do_not_meet(t: Trial) -> None:
    """Of subscriptions that follow at the same time, each gets all that its own filter selects."""
    filters: list[dict[str, Any]] = [{"prefix": "rare"}, {"types": ["Rare"]}, {"stream": "rare"}]
    for round_, narrow in enumerate(filters, start=1):
        written: list[tuple[str, int]] = []
        found: list[tuple[str, int]] = []
        rare: list[tuple[str, int]] = []
        async with (
            t.store.subscribe(after="end", **narrow) as waiting,
            t.store.subscribe(after="end") as reading,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(_follow_slowly, reading, found)
            tasks.start_soon(_follow_slowly, waiting, rare)
            for number in range(1, 101):
                # Each event is for one of them only, while the other waits.
                await t.store.append(f"often-{round_}", make(1))
                written.append((f"often-{round_}", number))
                for _ in range(number % 11):
                    await checkpoint()
            await t.store.append("rare", [NewEvent("Rare", "last")])
            written.append(("rare", round_))
        t.equal(found, written, "what a subscription without a filter got")
        t.equal(rare, written[-1:], f"what a subscription with {narrow} got")


async def _follow_slowly(subscription: Subscription, found: list[tuple[str, int]]) -> None:
    """Take what comes up to the last event, and wait again at another moment each time."""
    async for event in subscription:
        found.append((event.stream, event.version))
        if event.data == "last":
            return
        for _ in range(event.version % 7):
            await checkpoint()
