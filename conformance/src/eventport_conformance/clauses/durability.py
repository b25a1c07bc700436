"""DUR: events outlive the process that appended them."""

from __future__ import annotations

import random

import anyio

from eventport import NO_STREAM, ConcurrencyError, NewEvent

from eventport_conformance.clause import clause
from eventport_conformance.helpers import fill, make, take
from eventport_conformance.processes import worker
from eventport_conformance.trial import Trial
from eventport_conformance.waiting import no_hang


@clause("DUR-01", needs=("durable",))
async def events_are_there_after_closing(t: Trial) -> None:
    """Events are the same after the store was closed and another one opened."""
    events = [
        NewEvent("Text", {"text": "\U0001f980 \0", "": [1.0, -0.0, 2**63 - 1]}, {"a.b": 1}),
        NewEvent("Bytes", bytes(range(256))),
    ]
    await t.store.append("a", events)
    before = await t.store.read("a")
    await t.store.aclose()
    async with t.second_client() as second:
        after = await second.read("a")
        t.recorded(after.events, events, "events read")
        t.equal(after, before, "the stream, with positions and times")


@clause("DUR-02", needs=("durable",))
async def counting_goes_on_after_closing(t: Trial) -> None:
    """Versions, expectations and retries continue where the closed store left them."""
    events = make(3)
    first = await t.store.append("a", events, expected=NO_STREAM)
    await t.store.aclose()
    async with t.second_client() as second:
        with t.raises(ConcurrencyError, "append expecting no_stream"):
            await second.append("a", make(1), expected=NO_STREAM)
        again = await second.append("a", events, expected=NO_STREAM)
        seen = (again.version, again.position, again.deduplicated)
        t.equal(seen, (3, first.position, True), "the retry")
        t.equal((await second.append("a", make(1), expected=3)).version, 4, "the next append")


@clause("DUR-03", needs=("durable", "global_order"))
async def the_global_order_goes_on_after_closing(t: Trial) -> None:
    """Positions continue after closing, and a subscription resumes where another one ended."""
    for stream in "abc":
        await fill(t.store, stream, 2)
    async with t.store.subscribe() as subscription:
        await take(subscription, 4)
        position = subscription.position
    await t.store.aclose()
    async with t.second_client() as second:
        await fill(second, "a", 1)
        async with second.subscribe(after=position) as subscription:
            events = await take(subscription, 3)
        seen = [(event.stream, event.version) for event in events]
        t.equal(seen, [("c", 1), ("c", 2), ("a", 3)], "events after the position")
        positions = [event.position for event in (await second.read_all()).events]
        t.equal(positions, sorted(set(positions)), "positions, sorted, each once")
        t.equal(len(positions), 7, "number of events")


@clause("DUR-04", needs=("durable", "sessions"))
async def sessions_are_there_after_closing(t: Trial) -> None:
    """What a session has committed is there after closing, in all of its streams."""
    async with t.store.session() as session:
        await session.append("a", make(2))
        await session.append("b", make(3))
    await t.store.aclose()
    async with t.second_client() as second:
        heads = [(await second.read(stream)).version for stream in "ab"]
        t.equal(heads, [2, 3], "heads")


@clause("DUR-05", needs=("durable",), uses=("url",), seconds=900)
async def a_killed_process_loses_nothing(t: Trial) -> None:
    """What was acknowledged to a process is there after it was killed; no append is torn."""
    acknowledged = 0
    chance = random.Random(t.seed)  # noqa: S311  # no secret
    for _ in range(6):
        enough = acknowledged + 30
        async with worker(t.harness.url(), "write") as process:
            await process.go()
            with no_hang("the process appends"):
                while acknowledged < enough:
                    version = await process.line()
                    t.true(version is not None, "the process goes on", acknowledged)
                    t.true(version > acknowledged, "versions of a process's appends grow", version)
                    acknowledged = max(acknowledged, version)
            # Right after an answer the next append has hardly begun.
            await anyio.sleep(chance.uniform(0, 0.02))
            process.kill()
            while (version := await process.line()) is not None:
                acknowledged = max(acknowledged, version)
        read = await t.store.read("a")
        t.true(
            read.version >= acknowledged,
            "what was acknowledged is there",
            (acknowledged, read.version),
        )
        t.equal(read.version % 3, 0, "events of a part of an append")
        t.versions(read.events, range(1, read.version + 1), "the stream")
        acknowledged = read.version
    await _append_at_the_head(t, "a")


async def _append_at_the_head(t: Trial, stream: str) -> None:
    """Append to a stream; a server may still carry out what was sent before a process died."""
    with no_hang("the stream takes an append after a killed process"):
        while True:
            head = (await t.store.read(stream, max_count=0)).version
            try:
                after = await t.store.append(stream, make(1), expected=head)
            except ConcurrencyError:
                continue
            t.equal(after.version, head + 1, "version of the next append")
            return
