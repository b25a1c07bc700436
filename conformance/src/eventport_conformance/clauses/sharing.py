"""SHA: several stores on the same events."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio

from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from eventport import (
    NO_STREAM,
    AppendResult,
    ConcurrencyError,
    EventStore,
    NewEvent,
    RecordedEvent,
)

from eventport_conformance.clause import clause
from eventport_conformance.clauses.histories import history
from eventport_conformance.helpers import at_once, fill, make, take
from eventport_conformance.linearizability import Write, violation
from eventport_conformance.processes import Worker, worker
from eventport_conformance.trial import Deviation, Trial
from eventport_conformance.waiting import no_hang, until


async def _clients(t: Trial, stack: AsyncExitStack, count: int) -> list[EventStore]:
    others = [
        await stack.enter_async_context(t.second_client(f"store {number}"))
        for number in range(2, count + 1)
    ]
    return [t.store, *others]


@clause("SHA-01", needs=("shared",))
async def each_sees_what_the_others_append(t: Trial) -> None:
    """What one store has appended, the others see at once."""
    async with t.second_client() as second:
        await fill(t.store, "a", 2)
        t.equal((await second.read("a")).version, 2, "head seen by the second store")
        await fill(second, "a", 1)
        first = await t.store.read("a")
        t.versions(first.events, [1, 2, 3], "seen by the first store")
        t.equal(await second.read("a"), first, "what the second store reads")


@clause("SHA-02", needs=("shared",))
async def conflicts_with_others_are_seen(t: Trial) -> None:
    """An append conflicts with what another store has appended, and learns the true version."""
    await fill(t.store, "a", 1)
    async with t.second_client() as second:
        await fill(second, "a", 2)
        with t.raises(ConcurrencyError, "append expecting 1 at version 3") as caught:
            await t.store.append("a", make(1), expected=1)
        t.equal(getattr(caught.error, "actual", None), 3, "actual version")
        with t.raises(ConcurrencyError, "append expecting no_stream through the second store"):
            await second.append("a", make(1), expected=NO_STREAM)
        await second.append("a", make(1), expected=3)
    await t.untouched("a", 4, "conflicts between stores")


@clause("SHA-03", needs=("shared",))
async def one_of_all_wins(t: Trial) -> None:
    """Of concurrent appends through several stores that expect the same, one wins."""
    async with AsyncExitStack() as stack:
        clients = await _clients(t, stack, 3)
        for round_ in range(10):

            async def work(number: int, round_: int = round_) -> bool:
                client = clients[number % 3]
                try:
                    await client.append(f"s{round_}", [NewEvent("By", number)], expected=0)
                except ConcurrencyError as exc:
                    t.equal(exc.actual, 1, "actual version in the conflict of a loser")
                    return False
                return True

            won = await at_once(9, work)
            t.equal(won.count(True), 1, "winners of 9 appends")
            (event,) = (await t.store.read(f"s{round_}")).events
            t.equal(event.data, won.index(True), "who wrote the event")


@clause("SHA-04", needs=("shared",))
async def any_never_conflicts(t: Trial) -> None:
    """`any` never conflicts with appends through other stores."""
    async with AsyncExitStack() as stack:
        clients = await _clients(t, stack, 3)

        async def work(number: int) -> list[int]:
            return [(await clients[number % 3].append("a", make(2))).version for _ in range(6)]

        returned = sorted(version for some in await at_once(6, work) for version in some)
        t.equal(returned, list(range(2, 73, 2)), "versions that the appends returned")


@clause("SHA-05", needs=("shared",))
async def a_session_conflicts_with_others(t: Trial) -> None:
    """A session conflicts with what another store has appended to its stream."""
    await fill(t.store, "a", 1)
    async with t.second_client() as second:
        with t.raises(ConcurrencyError, "session on a stream that another store moved"):
            async with t.store.session() as session:
                await session.append("a", make(1))
                await second.append("a", make(1))
    await t.untouched("a", 2, "session with a conflict")


@clause("SHA-06", needs=("shared",))
async def a_retry_may_go_through_another(t: Trial) -> None:
    """An append may be retried through another store."""
    events = make(3)
    async with t.second_client() as second:
        first = await t.store.append("a", events, expected=NO_STREAM)
        again = await second.append("a", events, expected=NO_STREAM)
        wanted = AppendResult(first.version, first.position, created=True, deduplicated=True)
        t.equal(again, wanted, "result of the retry")
    await t.untouched("a", 3, "retry through another store")


@clause("SHA-07", needs=("shared", "global_order"))
async def a_subscription_sees_others(t: Trial) -> None:
    """A subscription yields what other stores append, while it waits."""
    async with t.second_client() as second, t.store.subscribe() as subscription:
        for version in range(1, 4):
            found: list[RecordedEvent] = []

            async def wait(found: list[RecordedEvent] = found) -> None:
                found += await take(subscription, 1)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await anyio.sleep(0.05)
                await second.append("a", make(1))
            seen = [(event.stream, event.version) for event in found]
            t.equal(seen, [("a", version)], "the event that it waited for")


@clause("SHA-08", needs=("shared", "global_order"))
async def a_tailing_reader_misses_nothing(t: Trial) -> None:
    """A reader of the global order misses nothing while several stores append."""
    running = 6
    # Only one who reads all that there is each time is at the tail, where others still commit.
    found: dict[int, list[RecordedEvent]] = {9: [], 1000: []}
    async with AsyncExitStack() as stack:
        clients = await _clients(t, stack, 4)

        async def write(number: int) -> None:
            nonlocal running
            for round_ in range(12):
                client = clients[1 + number % 3]
                await client.append(f"s{(number + round_) % 4}", make(1 + (number + round_) % 3))
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
            await at_once(6, write)
    for events in found.values():
        positions = [event.position for event in events]
        t.equal(positions, sorted(set(positions)), "positions, sorted, each once")
        t.equal(len(events), 144, "number of events seen")
        for number in range(4):
            mine = [event for event in events if event.stream == f"s{number}"]
            t.versions(mine, range(1, len(mine) + 1), f"events seen of s{number}")


@clause("SHA-09", needs=("shared",))
async def closing_one_leaves_the_others(t: Trial) -> None:
    """Closing one store closes no other, and removes no events."""
    async with t.second_client() as second:
        await second.append("a", make(2))
    await t.untouched("a", 2, "the second store was closed")


@clause("SHA-10", needs=("shared", "sessions"))
async def sessions_of_several_stores(t: Trial) -> None:
    """Sessions over streams through several stores are each committed whole or not at all."""
    async with AsyncExitStack() as stack:
        clients = await _clients(t, stack, 3)

        async def work(number: int) -> int:
            done = 0
            for _ in range(5):
                try:
                    async with clients[number % 3].session() as session:
                        await session.append("a", make(1))
                        await session.append("b", make(2))
                except ConcurrencyError:
                    continue
                done += 1
            return done

        done = sum(await at_once(6, work))
    heads = [(await t.store.read(stream)).version for stream in "ab"]
    t.true(done > 0, "some session was committed")
    t.equal(heads, [done, 2 * done], "heads, by the number of sessions committed")


@clause("SHA-11", needs=("shared", "global_order", "push"), uses=("without_polling",))
async def push_wakes(t: Trial) -> None:
    """With push, a subscription that does not poll yields what others append."""
    async with t.without_polling() as store, store.subscribe() as subscription:
        found: list[int] = []
        appended = 0

        async def follow() -> None:
            async for event in subscription:
                found.append(event.version)  # noqa: PERF401  # one by one, as they come

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            with no_hang("the subscription catches up"):
                await subscription.caught_up.wait()
            # Until push is set up nothing can wake it, and there is no sign of when it is.
            with no_hang("push wakes the subscription"):
                while not found:
                    await t.store.append("a", make(1))
                    appended += 1
                    await anyio.sleep(0.02)
            for _ in range(7):
                await _has_all(found, appended)
                await t.store.append("a", make(1))
                appended += 1
            await _has_all(found, appended)
            tasks.cancel_scope.cancel()
    t.equal(found, list(range(1, appended + 1)), "versions that push has woken it for")


async def _has_all(found: list[int], count: int) -> None:
    """Wait until this many events have been found, and until nothing is under way any more."""
    await until(lambda: len(found) >= count, f"push wakes the subscription for event {count}")
    await wait_all_tasks_blocked()


@clause("SHA-12", needs=("shared",))
async def histories_are_linearizable(t: Trial) -> None:
    """What several stores do to one stream could have happened one after the other, each within its
    call.
    """
    async with AsyncExitStack() as stack:
        clients = await _clients(t, stack, 3)
        for number in range(8):
            seen = await history(clients, f"s{number}", 6, 10, t.seed)
            t.equal(len(seen), 60, "operations in the history")
            t.equal(violation(seen), None, "what is wrong with the history")
            t.true(any(isinstance(one, Write) for one in seen), "something was written")


@clause("SHA-13", needs=("shared",), uses=("url",), seconds=900)
async def one_of_all_processes_wins(t: Trial) -> None:
    """Of several processes that append to a new stream concurrently, exactly one wins."""
    streams, count = 60, 4
    outcomes: list[tuple[int, str, int]] = []

    async def listen(process: Worker) -> None:
        for _ in range(streams):
            number, outcome, actual = await process.line() or (-1, "ended", 0)
            outcomes.append((number, outcome, actual))

    async with AsyncExitStack() as stack:
        url = t.harness.url()
        processes = [
            await stack.enter_async_context(worker(url, "race", name, streams))
            for name in range(count)
        ]
        async with anyio.create_task_group() as tasks:
            for process in processes:
                tasks.start_soon(listen, process)
                await process.go()
    for number in range(streams):
        reported = sorted((outcome, actual) for of, outcome, actual in outcomes if of == number)
        wanted = [("lost", 1)] * (count - 1) + [("won", 1)]
        t.equal(reported, wanted, f"what the processes reported of stream {number}")
        t.versions((await t.store.read(f"s{number}")).events, [1], f"stream {number}")


@clause("SHA-14", needs=("shared", "global_order"), uses=("url",), seconds=900)
async def a_reader_of_processes_misses_nothing(t: Trial) -> None:
    """A subscription yields every event of several processes once, in order, at any pace."""
    appends, count = 90, 3
    total = appends * count * 2
    found: list[RecordedEvent] = []
    ended = anyio.Event()
    async with AsyncExitStack() as stack:
        url = t.harness.url()
        processes = [
            await stack.enter_async_context(worker(url, "fill", name, appends))
            for name in range(count)
        ]
        subscription = await stack.enter_async_context(t.store.subscribe())

        async def follow() -> None:
            async for event in subscription:
                if event.type == "Ended":
                    ended.set()
                    return
                found.append(event)
            raise Deviation("the subscription goes on", "all events", "its end")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            for process in processes:
                await process.go()
            for process in processes:
                t.equal(await process.line(), "done", "what a process reported in the end")
            # A reader that gets this has got all that is before it.
            await t.store.append("end", [NewEvent("Ended", None)])
            with no_hang("the subscription yields the last event"):
                await ended.wait()
    t.equal(len(found), total, "number of events that the subscription gave")
    positions = [event.position for event in found]
    t.equal(positions, sorted(set(positions)), "positions, sorted, each once")
    for number in range(4):
        mine = [event for event in found if event.stream == f"s{number}"]
        t.equal(mine, (await t.store.read(f"s{number}")).events, f"events seen of s{number}")
