"""CAN: a caller may be cancelled at any moment; nothing is torn in two or left open."""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing

import anyio

from anyio.lowlevel import checkpoint

from eventport import (
    AppendResult,
    ConcurrencyError,
    Query,
    RecordedEvent,
    StoreClosedError,
)

from eventport_conformance.cancelling import cancel_everywhere
from eventport_conformance.clause import clause
from eventport_conformance.helpers import at_once, collect, fill, make
from eventport_conformance.trial import Trial
from eventport_conformance.waiting import no_hang


async def _appends(t: Trial, count: int) -> None:
    runs = 0

    async def append() -> AppendResult:
        return await t.store.append(f"s{runs}", make(count), expected=0)

    async for run in cancel_everywhere(t.backend, append):
        stream = f"s{runs}"
        read = await t.store.read(stream)
        t.true(read.version in {0, count}, f"all or nothing of an append {run}", read.version)
        t.true(read.version == count or not run.finished, f"what has returned is there: {run}")
        await t.untouched(stream, read.version, f"append {run}")
        runs += 1


@clause("CAN-01")
async def an_append_of_one_event(t: Trial) -> None:
    """An append of one event that is cancelled at any wait has written it or not."""
    await _appends(t, 1)


@clause("CAN-02")
async def an_append_of_several_events(t: Trial) -> None:
    """An append of several events that is cancelled at any wait has written all or none."""
    await _appends(t, 7)


@clause("CAN-03")
async def an_append_that_conflicts(t: Trial) -> None:
    """An append that would conflict, cancelled at any wait, writes nothing."""
    await fill(t.store, "a", 2)

    async def append() -> None:
        with t.raises(ConcurrencyError, "append expecting 1"):
            await t.store.append("a", make(3), expected=1)

    async for run in cancel_everywhere(t.backend, append):
        t.equal((await t.store.read("a")).version, 2, f"head after a conflict {run}")
    await t.untouched("a", 2, "cancelled conflicts")


@clause("CAN-04")
async def a_session_over_one_stream(t: Trial) -> None:
    """A session over one stream that is cancelled at any wait is committed whole or not."""
    runs = 0

    async def work() -> None:
        async with t.store.session() as session:
            await session.append(f"s{runs}", make(2))
            await session.read(f"s{runs}")
            await session.append(f"s{runs}", make(2))

    async for run in cancel_everywhere(t.backend, work):
        read = await t.store.read(f"s{runs}")
        t.true(read.version in {0, 4}, f"all or nothing of a session {run}", read.version)
        t.true(read.version == 4 or not run.finished, f"what has ended is there: {run}")
        await t.untouched(f"s{runs}", read.version, f"session {run}")
        runs += 1


@clause("CAN-05", needs=("sessions",))
async def a_session_over_two_streams(t: Trial) -> None:
    """A session over two streams that is cancelled at any wait is in both of them or in none."""
    runs = 0

    async def work() -> None:
        async with t.store.session() as session:
            await session.append(f"a{runs}", make(2))
            await session.append(f"b{runs}", make(3))

    async for run in cancel_everywhere(t.backend, work):
        heads = tuple([(await t.store.read(f"{name}{runs}")).version for name in "ab"])
        t.true(heads in {(0, 0), (2, 3)}, f"all or nothing of a session {run}", heads)
        t.true(heads == (2, 3) or not run.finished, f"what has ended is there: {run}")
        async with t.store.session() as session:
            await session.append(f"a{runs}", make(1), expected=heads[0])
            await session.append(f"b{runs}", make(1), expected=heads[1])
        runs += 1


@clause("CAN-06")
async def reads_of_a_stream(t: Trial) -> None:
    """Reads of a stream that are cancelled at any wait leave the store as it was."""
    await fill(t.store, "a", 5)

    def evolve(state: int, _: RecordedEvent) -> int:
        return state + 1

    async def read() -> None:
        t.versions((await t.store.read("a")).events, range(1, 6), "read")

    async def iterate() -> None:
        t.versions(await collect(t.store.iterate("a")), range(1, 6), "iterate")

    async def aggregate() -> None:
        t.equal((await t.store.aggregate("a", evolve, int)).state, 5, "state folded")

    async def read_many() -> None:
        t.versions((await t.store.read_many(["a", "b"]))["a"].events, range(1, 6), "read_many")

    for call in (read, iterate, aggregate, read_many):
        async for run in cancel_everywhere(t.backend, call):
            t.equal((await t.store.read("a")).version, 5, f"head after reads {run}")
    await t.untouched("a", 5, "cancelled reads")


@clause("CAN-07", needs=("global_order",))
async def reads_of_all_streams(t: Trial) -> None:
    """Reads of all streams that are cancelled at any wait leave the store as it was."""
    await fill(t.store, "a", 5)

    async def read() -> None:
        t.versions((await t.store.read_all()).events, range(1, 6), "read_all")

    async def iterate() -> None:
        t.versions(await collect(t.store.iterate_all()), range(1, 6), "iterate_all")

    async def query() -> None:
        t.versions((await t.store.query(Query.all())).events, range(1, 6), "query")

    for call in (read, iterate, query):
        async for run in cancel_everywhere(t.backend, call):
            t.equal(len((await t.store.read_all()).events), 5, f"events after reads {run}")
    await t.untouched("a", 5, "cancelled reads")


@clause("CAN-08", needs=("global_order",))
async def a_subscription(t: Trial) -> None:
    """A subscription that is cancelled at any wait leaves the store as it was."""
    await fill(t.store, "a", 3)

    async def follow() -> None:
        async with t.store.subscribe() as subscription:
            for version in (1, 2, 3):
                t.equal((await anext(subscription)).version, version, "next event")

    async for run in cancel_everywhere(t.backend, follow):
        t.equal((await t.store.read("a")).version, 3, f"head after a subscription {run}")
    await t.untouched("a", 3, "cancelled subscriptions")


@clause("CAN-09", needs=("global_order",))
async def a_waiting_reader_can_be_cancelled(t: Trial) -> None:
    """A reader that waits for an event can be cancelled, and stops at once."""
    await fill(t.store, "a", 1)
    async with t.store.subscribe() as subscription:
        t.equal((await anext(subscription)).version, 1, "the first event")
        for _ in range(5):
            with no_hang("a wait that was cancelled ends"), anyio.move_on_after(0.05) as scope:
                await anext(subscription)
            t.true(scope.cancelled_caught, "waiting ends by the cancellation")
    await t.untouched("a", 1, "cancelled waits")


@clause("CAN-10")
async def a_cancellation_is_never_swallowed(t: Trial) -> None:
    """A task that is cancelled while it waits for the store does not go on."""
    runs = 0

    async def work() -> None:
        await t.store.append(f"s{runs}", make(2))
        await t.store.read(f"s{runs}")
        async with t.store.session() as session:
            await session.append(f"s{runs}", make(1))
        await checkpoint()

    finished = 0
    async for run in cancel_everywhere(t.backend, work):
        t.true(not (run.reached and run.finished), f"the task stops: {run}")
        finished += run.finished
        runs += 1
    t.true(finished > 0, "it comes to its end if it is not cancelled")
    await t.untouched(f"s{runs - 1}", 3, "the run that was not cancelled")


@clause("CAN-11")
async def others_are_not_harmed(t: Trial) -> None:
    """Cancelling one append harms no other: the others end, and what they wrote is there."""
    acknowledged: dict[str, int] = {}

    async def work(number: int) -> None:
        for round_ in range(12):
            stream = f"s{number}-{round_}"
            with anyio.CancelScope() as scope:
                if number % 2:
                    scope.deadline = anyio.current_time() + 0.0004 * round_
                await t.store.append(stream, make(3), expected=0)
                acknowledged[stream] = 3
            if scope.cancelled_caught:
                acknowledged.setdefault(stream, 0)

    with no_hang("all tasks end"):
        await at_once(10, work)
    t.equal(len(acknowledged), 120, "appends that have ended")
    for stream, count in acknowledged.items():
        version = (await t.store.read(stream)).version
        t.true(version in {count, 3}, f"all or nothing of {stream}", version)
    await t.untouched("s0-0", 3, "cancelled appends beside it")


@clause("CAN-12")
async def in_a_scope_that_is_cancelled_already(t: Trial) -> None:
    """Operations in a scope that is cancelled already write all or nothing, and end."""
    await fill(t.store, "a", 2)
    for _ in range(5):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await t.store.append("a", make(2))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await t.store.read("a")
        with anyio.CancelScope() as scope:
            scope.cancel()
            async with t.store.session() as session:
                await session.append("a", make(2))
    version = (await t.store.read("a")).version
    t.true(version % 2 == 0, "all or nothing of appends of two", version)
    await t.untouched("a", version, "cancelled operations")


@clause("CAN-13")
async def a_cancelled_block_commits_nothing(t: Trial) -> None:
    """A session whose block is cancelled while it does something else commits nothing."""
    await fill(t.store, "a", 1)
    with anyio.CancelScope() as scope:
        async with t.store.session() as session:
            result = await session.append("a", make(2))
            t.equal(result.version, 3, "version in the session")
            scope.cancel()
            await checkpoint()
    t.true(scope.cancelled_caught, "the block was cancelled")
    await t.untouched("a", 1, "cancelled session")


@clause("CAN-14")
async def an_iteration_left_by_cancellation(t: Trial) -> None:
    """An iteration whose caller is cancelled in the middle holds nothing back."""
    await t.store.append("a", make(700))
    for _ in range(5):
        with anyio.CancelScope() as scope:
            async with aclosing(t.store.iterate("a")) as events:
                async for event in events:
                    if event.version == 510:
                        scope.cancel()
                        await checkpoint()
        t.true(scope.cancelled_caught, "the iteration was cancelled")
    await t.untouched("a", 700, "cancelled iterations")


@clause("CAN-15")
async def closing_that_is_cancelled(t: Trial) -> None:
    """`aclose` that is cancelled leaves a store that can be closed, and is closed then."""
    await fill(t.store, "a", 1)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await t.store.aclose()
    with no_hang("closing ends"):
        await t.store.aclose()
    with t.raises(StoreClosedError, "append after closing"):
        await t.store.append("a", make(1))


@clause("CAN-16", needs=("global_order",))
async def taking_an_event(t: Trial) -> None:
    """An event whose reader was cancelled at any wait is yielded the next time."""
    await t.store.append("a", make(4))
    found: list[int] = []
    runs = 0
    async with AsyncExitStack() as stack:
        subscription = await stack.enter_async_context(t.store.subscribe())

        async def take_one() -> None:
            found.append((await anext(subscription)).version)

        async for run in cancel_everywhere(t.backend, take_one):
            await take_one()
            t.equal(found, [1, 2] if run.finished else [1], f"versions taken, {run}")
            found.clear()
            subscription = await stack.enter_async_context(t.store.subscribe())
            runs += 1
    t.true(runs > 1, "there were waits to be cancelled at", runs)
