"""CPY: events that were recorded before keep the time at which that was."""

from __future__ import annotations

import datetime as dt

from collections.abc import Iterable, Sequence
from typing import Any, cast

from eventport import CopiedEvent, InvalidEventError, NewEvent, NotSupportedError

from eventport_conformance.clause import clause
from eventport_conformance.helpers import collect, make, take
from eventport_conformance.trial import Trial


LONG_AGO = dt.datetime(2019, 5, 17, 9, 30, 1, 123_457, tzinfo=dt.UTC)


def copies(events: Iterable[NewEvent], seconds: Sequence[float]) -> list[CopiedEvent]:
    """Make copies that were recorded so many seconds after `LONG_AGO`."""
    return [
        CopiedEvent(
            event.type,
            event.data,
            event.metadata,
            event.id,
            recorded_at=LONG_AGO + dt.timedelta(seconds=after),
        )
        for event, after in zip(events, seconds, strict=True)
    ]


@clause("CPY-01", needs=("times",))
async def copies_keep_their_time(t: Trial) -> None:
    """A copy keeps its `recorded_at`, to the microsecond, at every read, alone and among others."""
    one, three = copies(make(1), [0]), copies(make(3), [1.5, 1.500001, 3600])
    await t.store.append("one", one)
    await t.store.append("three", three)
    for stream, events in (("one", one), ("three", three)):
        read = (await t.store.read(stream)).events
        t.equal(_times(read), _times(events), f"times of {stream}")
        again = await collect(t.store.iterate(stream))
        t.equal(again, read, "events of another read")
        t.equal([event.recorded_at.tzinfo for event in read], [dt.UTC] * len(read), "zones")
        t.equal([event.metadata for event in read], [{}] * len(read), "metadata")


@clause("CPY-02", needs=("times", "global_order"))
async def copies_keep_their_time_in_the_order_of_all(t: Trial) -> None:
    """`read_all` and `subscribe` show the time of a copy as reads of its stream do."""
    events = copies(make(2), [10, 20])
    await t.store.append("data", events)
    all_read = (await t.store.read_all()).events
    t.equal(_times(all_read), _times(events), "times in read_all")
    async with t.store.subscribe() as subscription:
        t.equal(_times(await take(subscription, 2)), _times(events), "times in subscribe")


@clause("CPY-03", needs=("times",))
async def copies_may_go_back(t: Trial) -> None:
    """The time of a copy may be before that of the event before it: it is kept as it is."""
    events = copies(make(3), [100, 50, 75])
    await t.store.append("data", events[:2])
    await t.store.append("data", events[2:])
    t.equal(_times((await t.store.read("data")).events), _times(events), "times read")


@clause("CPY-04", needs=("times",))
async def others_get_the_time_of_the_commit(t: Trial) -> None:
    """Events that are no copies get the time of their commit, even beside copies in one append."""
    before = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=10)  # a server has its own clock
    copied = copies(make(2), [0, 1])
    await t.store.append("data", [copied[0], *make(1), copied[1]])
    await t.store.append("data", make(1))
    times = _times((await t.store.read("data")).events)
    t.equal(len(times), 4, "number of events")
    t.equal([times[0], times[2]], _times(copied), "times of the copies")
    t.true(before <= times[1], "the event between them has the time of its append", times[1])
    t.true(before <= times[3], "the event after them has the time of its append", times[3])


@clause("CPY-05", needs=("times",))
async def a_session_copies(t: Trial) -> None:
    """A session that appends copies shows their times, and so does the store after its commit."""
    events = copies(make(2), [5, 6])
    async with t.store.session() as session:
        await session.append("data", events)
        own = (await session.read("data")).events
    t.equal(_times(own), _times(events), "times that the session shows")
    t.equal(_times((await t.store.read("data")).events), _times(events), "times after the commit")


@clause("CPY-06", needs=("times", "hooks"))
async def hooks_get_the_times_of_copies(t: Trial) -> None:
    """After-commit hooks get copies with the times that they keep."""
    seen: list[dt.datetime] = []

    async def hook(events: Sequence[Any]) -> None:
        seen.extend(_times(events))

    cast("Any", t.store).after_commit(hook)
    events = copies(make(2), [7, 8])
    await t.store.append("data", events)
    t.equal(seen, _times(events), "times that the hook got")


@clause("CPY-07", needs=("times",))
async def a_copy_is_retried(t: Trial) -> None:
    """A copy is an event as any other: the same append again is recognised by the ids."""
    events = copies(make(2), [1, 2])
    first = await t.store.append("data", events, expected=0)
    again = await t.store.append("data", events, expected=0)
    t.true(not first.deduplicated and again.deduplicated, "the second append wrote nothing")
    t.equal(again.version, first.version, "version of the second append")


@clause("CPY-08", needs=("times",))
async def times_without_a_zone(t: Trial) -> None:
    """A copy whose time has no zone raises `InvalidEventError`, and nothing is written."""
    await t.store.append("data", make(1))
    naive = CopiedEvent("Mine", 1, recorded_at=LONG_AGO.replace(tzinfo=None))
    with t.raises(InvalidEventError, "append of a copy without a zone"):
        await t.store.append("data", [naive])
    await t.untouched("data", 1, "the copy had no zone")
    zone = dt.timezone(dt.timedelta(hours=-7))
    await t.store.append("zone", [CopiedEvent("Mine", 1, recorded_at=LONG_AGO.astimezone(zone))])
    t.equal(_times((await t.store.read("zone")).events), [LONG_AGO], "a time of another zone")


@clause("CPY-09", unless="times")
async def refuses_copies(t: Trial) -> None:
    """A store that cannot keep the times of copies refuses them with `NotSupportedError`."""
    await t.store.append("data", make(1))
    copy = copies(make(1), [0])
    with t.raises(NotSupportedError, "append of a copy"):
        await t.store.append("data", copy)
    with t.raises(NotSupportedError, "append of a copy in a session"):
        async with t.store.session() as session:
            await session.append("data", copy)
    await t.untouched("data", 1, "copies are refused")


def _times(events: Iterable[Any]) -> list[dt.datetime]:
    return [event.recorded_at for event in events]
