"""CON: many tasks of one process on one store."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

from collections.abc import Sequence

import anyio

from anyio.lowlevel import checkpoint

from eventport import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    AppendResult,
    ConcurrencyError,
    Expectation,
    NewEvent,
    PayloadTooLargeError,
    RecordedEvent,
)

from eventport_conformance.clause import clause
from eventport_conformance.helpers import at_once, collect, fill, make, take
from eventport_conformance.trial import Trial


async def _try(
    t: Trial, stream: str, events: Sequence[NewEvent], expected: Expectation
) -> AppendResult | ConcurrencyError:
    try:
        return await t.store.append(stream, events, expected=expected)
    except ConcurrencyError as exc:
        return exc


async def _one_wins(t: Trial, before: int, expected: Expectation) -> None:
    for round_ in range(10):
        stream = f"s{round_}"
        if before:
            await fill(t.store, stream, before)

        async def work(number: int, stream: str = stream) -> AppendResult | ConcurrencyError:
            return await _try(t, stream, [NewEvent("By", number), *make(1)], expected)

        results = await at_once(12, work)
        won = [number for number, one in enumerate(results) if isinstance(one, AppendResult)]
        t.equal(len(won), 1, f"winners of 12 appends expecting {expected!r}")
        read = await t.store.read(stream, from_version=before + 1)
        t.equal([event.data for event in read.events], [won[0], {"n": 1}], "the winner's events")
        lost = [one for one in results if isinstance(one, ConcurrencyError)]
        seen = {(one.stream, one.expected, one.actual) for one in lost}
        t.equal(seen, {(stream, expected, before + 2)}, "what the conflicts of the losers say")


@clause("CON-01")
async def one_no_stream_wins(t: Trial) -> None:
    """Of concurrent appends that expect `no_stream`, exactly one wins."""
    await _one_wins(t, 0, NO_STREAM)


@clause("CON-02")
async def one_exact_version_wins(t: Trial) -> None:
    """Of concurrent appends that expect the same version, exactly one wins."""
    await _one_wins(t, 3, 3)


async def _never_conflicts(t: Trial, expected: Expectation) -> None:
    await fill(t.store, "a", 1)

    async def work(number: int) -> list[AppendResult | ConcurrencyError]:
        return [
            await _try(t, "a", [NewEvent("By", [number, round_])], expected) for round_ in range(10)
        ]

    results = [one for some in await at_once(12, work) for one in some]
    conflicts = [one for one in results if isinstance(one, ConcurrencyError)]
    t.equal(conflicts, [], f"conflicts of appends expecting {expected!r}")
    versions = sorted(one.version for one in results if isinstance(one, AppendResult))
    t.equal(versions, list(range(2, 122)), "versions that the appends returned")
    events = (await t.store.read("a", from_version=2)).events
    for number in range(12):
        mine = [event.data[1] for event in events if event.data[0] == number]
        t.equal(mine, list(range(10)), f"events of task {number}, in its order")


@clause("CON-03")
async def any_never_conflicts(t: Trial) -> None:
    """`any` never conflicts, however many appends to the stream are concurrent."""
    await _never_conflicts(t, ANY)


@clause("CON-04")
async def stream_exists_never_conflicts(t: Trial) -> None:
    """`stream_exists` never conflicts with other appends to a stream that exists."""
    await _never_conflicts(t, STREAM_EXISTS)


@clause("CON-05")
async def appends_are_not_interleaved(t: Trial) -> None:
    """The events of one append are contiguous in their stream."""

    async def work(number: int) -> list[int]:
        return [
            (await t.store.append("a", [NewEvent("By", [number, n]) for n in range(4)])).version
            for _ in range(6)
        ]

    returned = sorted(version for some in await at_once(8, work) for version in some)
    t.equal(returned, list(range(4, 193, 4)), "versions that the appends returned")
    events = (await t.store.read("a")).events
    for first in range(0, 192, 4):
        group = [event.data for event in events[first : first + 4]]
        t.equal(group, [[group[0][0], n] for n in range(4)], f"events from {first + 1}")


@clause("CON-06")
async def readers_see_whole_appends(t: Trial) -> None:
    """A reader never sees a part of an append, and the head is always that of the events."""
    done = False

    async def write(_: int) -> None:
        for _ in range(15):
            await t.store.append("a", make(5))

    async def read() -> None:
        last = 0
        while not done:
            read = await t.store.read("a")
            t.equal(len(read.events), read.version, "number of events, and the head")
            t.equal(read.version % 5, 0, "events of a part of an append")
            t.true(read.version >= last, "the head does not go back", (last, read.version))
            last = read.version
            newest = await t.store.read("a", backwards=True, max_count=1)
            t.versions(newest.events, [newest.version] if newest.version else [], "the newest")
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        tasks.start_soon(read)
        await at_once(4, write)
        done = True
    t.equal((await t.store.read("a")).version, 300, "head in the end")


@clause("CON-07", needs=("global_order",))
async def a_tailing_reader_misses_nothing(t: Trial) -> None:
    """A reader that reads on from position to position gets every event once, in order."""
    writers, rounds = 6, 20
    running = writers
    # Only one who reads all that there is each time is at the tail, where others still commit.
    found: dict[int, list[RecordedEvent]] = {7: [], 1000: []}

    async def write(number: int) -> None:
        nonlocal running
        for round_ in range(rounds):
            await t.store.append(f"s{number % 4}", make(1 + (number + round_) % 4))
            if round_ % 5 == number % 5:
                await anyio.sleep(0.001)
        running -= 1

    async def tail(size: int) -> None:
        position = 0
        while True:
            last = running == 0
            result = await t.store.read_all(after=position, max_count=size)
            found[size].extend(result.events)
            position = result.position
            if last and not result.events:
                return
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        for size in found:
            tasks.start_soon(tail, size)
        await at_once(writers, write)
    for events in found.values():
        await _is_everything(t, events, 4, writers * rounds)


@clause("CON-08", needs=("global_order",))
async def a_subscription_misses_nothing(t: Trial) -> None:
    """A subscription yields every event of many writers once, in order."""
    total = sum(1 + (number + round_) % 4 for number in range(6) for round_ in range(20))

    async def write(number: int) -> None:
        for round_ in range(20):
            await t.store.append(f"s{number % 4}", make(1 + (number + round_) % 4))
            if round_ % 5 == number % 5:
                await anyio.sleep(0.001)

    async def writers() -> None:
        await at_once(6, write)

    found: list[RecordedEvent] = []
    async with t.store.subscribe() as subscription, anyio.create_task_group() as tasks:
        tasks.start_soon(writers)
        found += await take(subscription, total)
    await _is_everything(t, found, 4, 120)


async def _is_everything(
    t: Trial, found: Sequence[RecordedEvent], streams: int, appends: int
) -> None:
    """Check that events are those of the store, in order, none missing and none twice."""
    t.true(len(found) >= appends, "there are at least as many events as appends", len(found))
    positions = [event.position for event in found]
    t.equal(positions, sorted(set(positions)), "positions, sorted, each once")
    for number in range(streams):
        mine = [event for event in found if event.stream == f"s{number}"]
        stored = await t.store.read(f"s{number}")
        t.versions(mine, range(1, stored.version + 1), f"events seen of s{number}")
        t.equal(mine, stored.events, f"events seen of s{number}")


@clause("CON-09", needs=("global_order",))
async def what_was_seen_stays_a_prefix(t: Trial) -> None:
    """Once a position has been seen, no event at or below it ever appears."""
    seen: list[list[int]] = []
    done = False

    async def write(number: int) -> None:
        for round_ in range(15):
            await t.store.append(f"s{(number + round_) % 5}", make(1 + (number + round_) % 3))

    async def look(turns: int) -> None:
        while not done:
            events = (await t.store.read_all(max_count=10_000)).events
            seen.append([event.position for event in events])
            for _ in range(turns):
                await checkpoint()

    async with anyio.create_task_group() as tasks:
        for turns in range(1, 5):
            tasks.start_soon(look, turns)
        await at_once(6, write)
        done = True
    final = [event.position for event in (await t.store.read_all(max_count=10_000)).events]
    t.equal(len(final), 180, "events in the end")
    for positions in seen:
        t.equal(positions, final[: len(positions)], "positions seen earlier")


@clause("CON-10")
async def increments_are_not_lost(t: Trial) -> None:
    """If tasks read a counter, add one, and append at the version that they read, none is lost."""

    async def work(_: int) -> None:
        for _ in range(5):
            while True:
                read = await t.store.read("a", backwards=True, max_count=1)
                count = read.events[0].data if read.events else 0
                event = NewEvent("Counted", count + 1)
                done = await _try(t, "a", [event], read.version)
                if isinstance(done, AppendResult):
                    break
                t.true(done.actual > read.version, "the actual version is newer", done.actual)

    await at_once(8, work)
    events = (await t.store.read("a")).events
    t.equal([event.data for event in events], list(range(1, 41)), "counts")


@clause("CON-11")
async def streams_do_not_disturb_each_other(t: Trial) -> None:
    """Concurrent appends to different streams never conflict."""

    async def work(number: int) -> list[int]:
        return [
            (await t.store.append(f"s{number}", make(2), expected=2 * round_)).version
            for round_ in range(8)
        ]

    returned = await at_once(15, work)
    t.equal(returned, [list(range(2, 17, 2))] * 15, "versions that the appends returned")


@clause("CON-12", needs=("global_order",))
async def what_follows_comes_after(t: Trial) -> None:
    """An append that begins after another has returned has a later position, on any stream."""
    latest = 0

    async def work(number: int) -> None:
        nonlocal latest
        for round_ in range(12):
            before = latest
            result = await t.store.append(f"s{(number * 5 + round_) % 7}", make(2))
            position = result.position or 0
            t.true(position > before, "its position is later", (before, position))
            latest = max(latest, position)

    await at_once(8, work)
    t.equal(len((await t.store.read_all()).events), 192, "events in the end")


@clause("CON-13")
async def one_stream_is_made_once(t: Trial) -> None:
    """Of concurrent appends to a new stream, exactly one reports that it created it."""

    async def work(number: int) -> bool:
        return (await t.store.append("a", [NewEvent("By", number)])).created

    created = await at_once(12, work)
    t.equal(created.count(True), 1, "appends that created the stream")
    first = (await t.store.read("a")).events[0]
    t.equal(first.data, created.index(True), "who wrote the first event")


@clause("CON-14")
async def iterations_are_of_one_moment(t: Trial) -> None:
    """Iterations and folds, while others append, return the first events up to some version, and
    all of them.
    """

    def evolve(state: list[int], event: RecordedEvent) -> list[int]:
        return [*state, event.version]

    async def write(_: int) -> None:
        for _ in range(12):
            await t.store.append("a", make(4))

    async def look(_: int) -> None:
        for _ in range(6):
            found = await collect(t.store.iterate("a"))
            t.versions(found, range(1, len(found) + 1), "iterated over")
            t.equal(len(found) % 4, 0, "events of a part of an append, iterated over")
            fold = await t.store.aggregate("a", evolve, list[int])
            t.equal(fold.state, list(range(1, fold.version + 1)), "versions folded")
            t.equal(fold.version % 4, 0, "events of a part of an append, folded")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(at_once, 3, write)
        await at_once(3, look)
    t.equal((await t.store.read("a")).version, 144, "head in the end")


@clause("CON-16", uses=("refused_event",))
async def a_refused_append_fails_alone(t: Trial) -> None:
    """Of concurrent appends, one that is too large for the backend fails alone, and says so."""
    too_large = t.harness.refused_event()
    refused: list[int] = []

    async def append(number: int) -> None:
        events = [*make(2), too_large] if number % 4 == 3 else make(3)
        try:
            await t.store.append(f"s{number}", events, expected=0)
        except PayloadTooLargeError:
            refused.append(number)

    await at_once(12, append)
    t.equal(sorted(refused), [3, 7, 11], "numbers of the appends that were refused")
    for number in range(12):
        read = await t.store.read(f"s{number}")
        t.equal(len(read.events), 0 if number % 4 == 3 else 3, f"events of append {number}")
