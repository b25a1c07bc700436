"""TAG: what an event is about, stored with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast
from uuid import uuid4

import anyio

from eventport import CopiedEvent, InvalidEventError, NewEvent, RecordedEvent, Subscription

from eventport_conformance.clause import clause
from eventport_conformance.helpers import collect, make, take
from eventport_conformance.trial import Trial


ODD: Final = (
    "course:1",
    " ",
    "a,b",
    '"quoted"',
    "{braces}",
    "[1, 2]",
    "back\\slash",
    "null",
    "$ref",
    "%",
    "COURSE:1",
    "course:1 ",
    "é",
    "e\u0301",
    "\U0001f600",
    "\u2028",
)
"""Tags that a backend might take for something else, or for one another."""


def _tagged(*tags: str, type_: str = "Tagged") -> NewEvent:
    return NewEvent(type_, {"n": len(tags)}, tags=frozenset(tags))


def _tags(events: Sequence[RecordedEvent]) -> list[frozenset[str]]:
    return [event.tags for event in events]


@clause("TAG-01")
async def tags_come_out(t: Trial) -> None:
    """The tags of an event come out as they went in, whatever characters they have."""
    events = [_tagged(*ODD), *(_tagged(tag) for tag in ODD)]
    await t.store.append("a", events)
    t.recorded((await t.store.read("a")).events, events, "events with odd tags")
    t.recorded(await collect(t.store.iterate("a")), events, "the same, one by one")


@clause("TAG-02")
async def without_tags(t: Trial) -> None:
    """An event without tags has none, beside events that have some."""
    events = [NewEvent("Plain", 1), _tagged("x"), NewEvent("Plain", {"tags": ["y"]}, {"tags": "z"})]
    await t.store.append("a", events)
    await t.store.append("b", make(1))
    t.equal(
        _tags((await t.store.read("a")).events),
        [frozenset[str](), frozenset({"x"}), frozenset[str]()],
        "tags of three events",
    )
    t.equal(_tags((await t.store.read("b")).events), [frozenset[str]()], "tags of a plain event")


@clause("TAG-03")
async def many_and_long_tags(t: Trial) -> None:
    """An event may have 50 tags of 200 bytes each."""
    events = [
        _tagged(*(f"{n:02}{'x' * 198}" for n in range(50))),
        _tagged("\U0001f600" * 50),
        _tagged("y"),
    ]
    await t.store.append("a", events)
    t.recorded((await t.store.read("a")).events, events, "events with many and long tags")


@clause("TAG-04")
async def bad_tags_are_refused(t: Trial) -> None:
    """Tags that break the rules are refused with the whole append, whose error shows none."""
    bad: list[Any] = [
        {""},
        {"x" * 201},
        {"\U0001f600" * 51},
        {"secret\n"},
        {"secret\x00"},
        {"secret\ud800"},
        {f"secret {n}" for n in range(51)},
        {7},
        {b"secret"},
        "secret",
        ["secret"],
        {"secret": 1},
        None,
    ]
    await t.store.append("a", make(1))
    for tags in bad:
        with t.raises(InvalidEventError, "append of an event with bad tags") as caught:
            await t.store.append("a", [*make(1), NewEvent("Bad", 1, tags=tags)])
        t.true("secret" not in str(caught.error), "the error shows no tag", str(caught.error))
    await t.untouched("a", 1, "appends of events with bad tags")


@clause("TAG-05", needs=("global_order",))
async def the_whole_store_shows_tags(t: Trial) -> None:
    """Reading all streams shows the tags, and so does each of several waiting subscriptions."""
    events = [_tagged("x", "y"), NewEvent("Plain", 1), _tagged("z")]
    for number, event in enumerate(events):
        await t.store.append(f"stream-{number}", [event])
    t.recorded((await t.store.read_all()).events, events, "read_all")
    t.recorded(await collect(t.store.iterate_all()), events, "iterate_all")
    async with t.store.subscribe() as subscription:
        followed = [await anext(subscription) for _ in events]
    t.recorded(followed, events, "subscribe")
    await _each_reader_gets_tags(t)


async def _each_reader_gets_tags(t: Trial) -> None:
    """Let two readers wait at the same time, which may share what comes."""
    found: list[RecordedEvent] = []
    event = _tagged("x", "y")
    waiting = 0

    async def follow() -> None:
        async with t.store.subscribe(after="end") as subscription:
            tasks.start_soon(append_when_all_wait, subscription)
            found.extend(await take(subscription, 1))

    async def append_when_all_wait(subscription: Subscription) -> None:
        nonlocal waiting
        await subscription.caught_up.wait()
        waiting += 1
        if waiting == 2:
            await t.store.append("live", [event])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        tasks.start_soon(follow)
    t.recorded(found[:1], [event], "the first of two waiting subscriptions")
    t.recorded(found[1:], [event], "the second of two waiting subscriptions")


@clause("TAG-06")
async def sessions_keep_tags(t: Trial) -> None:
    """A session shows the tags of its own events, and commits them."""
    events = [_tagged("x"), NewEvent("Plain", 1), _tagged("y", "z")]
    async with t.store.session() as session:
        await session.append("a", events[:2])
        await session.append("a", events[2:])
        t.recorded((await session.read("a")).events, events, "events read in the session")
    t.recorded((await t.store.read("a")).events, events, "events read after the session")


@clause("TAG-07", needs=("sessions",))
async def sessions_over_streams_keep_tags(t: Trial) -> None:
    """A session over several streams commits the tags of each."""
    first, second = [_tagged("x"), NewEvent("A b\u00e9", 1)], [_tagged("y", type_="\u0422")]
    async with t.store.session() as session:
        await session.append("a", first)
        await session.append("b", second)
    t.recorded((await t.store.read("a")).events, first, "events of the first stream")
    t.recorded((await t.store.read("b")).events, second, "events of the second stream")


@clause("TAG-08", needs=("hooks",))
async def hooks_get_tags(t: Trial) -> None:
    """Hooks get events with their tags."""
    seen: list[RecordedEvent] = []

    async def hook(events: Sequence[RecordedEvent]) -> None:
        seen.extend(events)

    cast("Any", t.store).after_commit(hook)
    await t.store.append("a", [_tagged("x", "y"), NewEvent("Plain", 1)])
    t.equal(_tags(seen), [frozenset({"x", "y"}), frozenset[str]()], "tags that the hook got")


@clause("TAG-09", needs=("durable",))
async def tags_are_durable(t: Trial) -> None:
    """Another store on the same data shows the tags."""
    events = [_tagged(*ODD), NewEvent("Plain", 1)]
    await t.store.append("a", events)
    await t.store.aclose()
    async with t.second_client() as other:
        t.recorded((await other.read("a")).events, events, "events read by another store")


@clause("TAG-10")
async def tags_are_copied(t: Trial) -> None:
    """Changing the set of tags after the append changes nothing, and a retry finds its events."""
    tags = {"x"}
    event = NewEvent("Tagged", 1, {}, uuid4(), tags)
    await t.store.append("a", [event], expected=0)
    tags.add("y")
    read = (await t.store.read("a")).events
    t.equal(_tags(read), [frozenset({"x"})], "tags of the event")
    again = await t.store.append("a", [event], expected=0)
    t.true(again.deduplicated, "a retry with other tags is the same append")
    t.equal(_tags((await t.store.read("a")).events), [frozenset({"x"})], "tags after the retry")


@clause("TAG-11", needs=("times",))
async def copies_keep_tags(t: Trial) -> None:
    """A copy of an event has the tags of the event."""
    await t.store.append("a", [_tagged("x", "y"), NewEvent("Plain", 1)])
    events = (await t.store.read("a")).events
    await t.store.append("copy", [CopiedEvent.of(event) for event in events])
    copies = (await t.store.read("copy")).events
    t.equal(_tags(copies), [frozenset({"x", "y"}), frozenset[str]()], "tags of the copies")
