"""MNY: many streams at once are what they are one by one."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import anyio

from msgspec.structs import replace

from eventport import (
    ConcurrencyError,
    InvalidArgumentError,
    NewEvent,
    RecordedEvent,
    StoreClosedError,
    Streams,
)

from eventport_conformance.clause import clause
from eventport_conformance.helpers import make
from eventport_conformance.trial import Trial


IN_SESSION: Final = "in a session"
_NO_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _count(state: list[int], event: RecordedEvent) -> list[int]:
    return [*state, event.version]


def _timeless(events: Sequence[RecordedEvent]) -> list[RecordedEvent]:
    return [replace(event, recorded_at=_NO_TIME) for event in events]


async def _is_read(t: Trial, streams: Streams, names: list[str], what: str) -> None:
    """Fail unless reading many streams gives what reading each of them gives."""
    alone = {name: await streams.read(name) for name in names}
    there = sum(one.exists for one in alone.values())
    t.true(there > 0 or names == ["missing"], "some of the streams are there", there)
    many = await streams.read_many(names)
    t.equal(list(many), list(alone), f"names: {what}")
    for name, wanted in alone.items():
        t.equal(many[name].version, wanted.version, f"head of {name}: {what}")
        found, events = many[name].events, wanted.events
        if what == IN_SESSION:  # what is not committed yet has no time that counts
            found, events = _timeless(found), _timeless(events)
        t.equal(found, events, f"events of {name}: {what}")
    folded = await streams.aggregate_many(names, _count, list)
    for name, wanted in alone.items():
        versions = [event.version for event in wanted.events]
        t.equal(folded[name].state, versions, f"state of {name}: {what}")
        t.equal(
            (folded[name].version, folded[name].exists),
            (wanted.version, wanted.exists),
            f"version of {name}: {what}",
        )


@clause("MNY-01")
async def as_one_by_one(t: Trial) -> None:
    """`read_many` and `aggregate_many` give what single reads give, each stream once, in the
    order asked for.
    """
    for number, name in enumerate(("c", "a", "b", "ä", "😀", "a%", "B")):
        for _ in range(number % 3 + 1):
            await t.store.append(name, make(1 + number % 2, type_=name))
    every = ["b", "missing", "😀", "a", "B", "c", "ä", "a%", "a "]
    for names in (every, every[::-1], sorted(every), ["missing"], ["a"]):
        await _is_read(t, t.store, names, f"{names}")
    t.equal(list(await t.store.read_many(iter(["b", "a", "b"]))), ["b", "a"], "a name twice")
    t.equal(await t.store.read_many([]), {}, "no streams")
    t.equal(await t.store.aggregate_many([], _count, list), {}, "no states")


@clause("MNY-02")
async def hundreds_of_streams(t: Trial) -> None:
    """Hundreds of streams are read, none of them left out."""
    names = [f"s-{number}" for number in range(260)]

    async def append(part: list[str]) -> None:
        for name in part:
            await t.store.append(name, make(1 + len(name) % 3))

    async with anyio.create_task_group() as tasks:
        for start in range(16):
            tasks.start_soon(append, names[start::16])
    await _is_read(t, t.store, [*names, "missing"], "many streams")


@clause("MNY-03")
async def long_streams(t: Trial) -> None:
    """Long streams and large events are read to their end, among short ones."""
    for start in range(0, 1_300, 650):
        await t.store.append("long", make(650, start=start))
    for name in ("large-1", "large-2", "m-large"):
        for number in range(5):
            await t.store.append(name, [NewEvent("Large", f"{number}" * 400_000)])
    for name in ("a", "l", "z"):
        await t.store.append(name, make(2))
    await _is_read(
        t, t.store, ["z", "large-1", "none", "long", "l", "large-2", "m-large", "a"], "long streams"
    )


@clause("MNY-04")
async def in_a_session(t: Trial) -> None:
    """In a session they show its own appends, and the version that the session saw first."""
    for name in ("a", "b", "c"):
        await t.store.append(name, make(2))
    async with t.store.session() as session:
        await session.read("b")
        await t.store.append("b", make(1))
        await session.append("a", make(2))
        await _is_read(t, session, ["c", "a", "b", "missing"], IN_SESSION)
        many = await session.read_many(["a", "b", "c", "missing"])
        versions = {name: one.version for name, one in many.items()}
        t.equal(versions, {"a": 4, "b": 2, "c": 2, "missing": 0}, "versions in the session")


@clause("MNY-05")
async def what_was_read_is_pinned(t: Trial) -> None:
    """A stream that a session has read among many is pinned at that version: if it has moved,
    the session writes nothing to it.
    """
    for name in ("a", "b"):
        await t.store.append(name, make(1))
    with t.raises(ConcurrencyError, "commit of a session whose stream has moved"):
        async with t.store.session() as session:
            await session.read_many(["a", "b"])
            await t.store.append("b", make(1))
            await session.append("b", make(1))
    t.equal((await t.store.read("b")).version, 2, "version of the stream")


@clause("MNY-06")
async def bad_names_are_refused(t: Trial) -> None:
    """What is no list of names of streams is refused; so is an `initial` that is a value."""
    await t.store.append("a", make(1))
    values: list[Any] = ["a", b"a", None, 5, {"a": 1}, [5], ["a", ""], ["$x"], ["a\n"]]
    for value in values:
        with t.raises(InvalidArgumentError, f"read_many({value!r})"):
            await t.store.read_many(value)
        with t.raises(InvalidArgumentError, f"aggregate_many({value!r})"):
            await t.store.aggregate_many(value, _count, list)
    wrong: Any = []
    with t.raises(InvalidArgumentError, "aggregate_many with a value"):
        await t.store.aggregate_many(["a"], _count, wrong)
    await t.untouched("a", 1, "bad names")


@clause("MNY-07")
async def while_others_append(t: Trial) -> None:
    """While others append, each stream is read without a gap up to the head that is returned."""
    names = [f"s-{number}" for number in range(6)]
    for name in names:
        await t.store.append(name, make(1))

    async def append(name: str) -> None:
        for _ in range(25):
            await t.store.append(name, make(2))

    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(append, name)
        for _ in range(20):
            for name, one in (await t.store.read_many(names)).items():
                t.versions(one.events, range(1, one.version + 1), f"events of {name}")
                t.true(one.version % 2 == 1, f"whole commits of {name}", one.version)


@clause("MNY-08", uses=("delete_stream", "truncate_stream"))
async def streams_that_are_gone(t: Trial) -> None:
    """Streams that were deleted or truncated are as single reads show them."""
    for name in ("a", "b", "c", "d"):
        await t.store.append(name, make(3))
    await t.harness.delete_stream("a")
    await t.harness.truncate_stream("b", 2)
    await t.harness.truncate_stream("c", 99)
    await _is_read(t, t.store, ["d", "c", "b", "a"], "streams that are gone")


@clause("MNY-09")
async def a_closed_store_reads_nothing(t: Trial) -> None:
    """After closing, they raise StoreClosedError."""
    await t.store.append("a", make(1))
    await t.store.aclose()
    with t.raises(StoreClosedError, "read_many of a closed store"):
        await t.store.read_many(["a"])
    with t.raises(StoreClosedError, "aggregate_many of a closed store"):
        await t.store.aggregate_many(["a"], _count, list)
