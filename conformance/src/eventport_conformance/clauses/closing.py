"""CLO: the end of a store."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

import anyio

from anyio.lowlevel import checkpoint

from eventport import EventportError, RecordedEvent, StoreClosedError

from eventport_conformance.clause import clause
from eventport_conformance.helpers import collect, fill, make, take
from eventport_conformance.trial import Deviation, Trial
from eventport_conformance.waiting import no_hang


class _OwnError(EventportError):
    """An error of the caller's code."""


@clause("CLO-01")
async def after_closing_streams_are_refused(t: Trial) -> None:
    """After `aclose`, every operation on a stream raises StoreClosedError."""

    def evolve(state: int, _: RecordedEvent) -> int:
        return state

    await fill(t.store, "order", 1)
    await t.store.aclose()
    with t.raises(StoreClosedError, "append after closing"):
        await t.store.append("order", make(1))
    with t.raises(StoreClosedError, "empty append after closing"):
        await t.store.append("order", [])
    with t.raises(StoreClosedError, "read after closing"):
        await t.store.read("order")
    with t.raises(StoreClosedError, "iterate after closing"):
        await collect(t.store.iterate("order"))
    with t.raises(StoreClosedError, "aggregate after closing"):
        await t.store.aggregate("order", evolve, int)
    with t.raises(StoreClosedError, "session after closing"):
        async with t.store.session():
            pass  # it is refused before it does anything
    with t.raises(StoreClosedError, "session with an append after closing"):
        async with t.store.session() as session:
            await session.append("order", make(1))


@clause("CLO-02", needs=("global_order",))
async def after_closing_the_global_order_is_refused(t: Trial) -> None:
    """After `aclose`, every operation on the global order raises StoreClosedError."""
    await fill(t.store, "order", 1)
    await t.store.aclose()
    with t.raises(StoreClosedError, "read_all after closing"):
        await t.store.read_all()
    with t.raises(StoreClosedError, "iterate_all after closing"):
        await collect(t.store.iterate_all())
    with t.raises(StoreClosedError, "subscribe after closing"):
        async with t.store.subscribe() as subscription:
            await anext(subscription)


@clause("CLO-03")
async def closing_twice_is_fine(t: Trial) -> None:
    """`aclose` may be called again, and by two tasks concurrently."""
    await fill(t.store, "order", 1)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(t.store.aclose)
    await t.store.aclose()
    with t.raises(StoreClosedError, "read after closing"):
        await t.store.read("order")


@clause("CLO-04")
async def leaving_the_block_closes(t: Trial) -> None:
    """`async with store` returns the store and closes it at its end, also after an exception."""
    with t.raises(_OwnError, "block of the store that raises"):
        async with t.store as store:
            t.equal((await store.append("order", make(1))).version, 1, "append in the block")
            raise _OwnError
    with t.raises(StoreClosedError, "read after the block"):
        await t.store.read("order")


@clause("CLO-05")
async def pending_appends_end_first(t: Trial) -> None:
    """Appends that are under way when the store is closed end, and what each reports is true."""
    reported: list[str] = []

    async def append(number: int) -> None:
        try:
            result = await t.store.append(f"order-{number}", make(2))
        except StoreClosedError:
            reported.append("refused")
        else:
            t.equal(result.version, 2, "version that an append returned")
            reported.append("written")

    await fill(t.store, "order", 1)
    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(append, number)
        await checkpoint()
        with no_hang("closing ends"):
            await t.store.aclose()
    t.equal(len(reported), 30, "appends that have ended")
    with t.raises(StoreClosedError, "append after closing"):
        await t.store.append("order", make(1))


@clause("CLO-06", needs=("global_order",))
async def a_waiting_subscription_is_told(t: Trial) -> None:
    """A subscription that waits when the store is closed raises StoreClosedError."""
    await fill(t.store, "order", 1)
    seen: list[str] = []
    ended = anyio.Event()
    async with anyio.create_task_group() as tasks, t.store.subscribe() as subscription:

        async def consume() -> None:
            try:
                async for event in subscription:
                    seen.append(event.stream)  # noqa: PERF401  # each at its time
                seen.append("ended")
            except StoreClosedError:
                seen.append("closed")
            ended.set()

        tasks.start_soon(consume)
        with no_hang("the subscription catches up"):
            await subscription.caught_up.wait()
        await t.store.aclose()
        with no_hang("the reader is let go"):
            await ended.wait()
    t.equal(seen, ["order", "closed"], "what the reader saw")


@clause("CLO-07")
async def a_session_of_a_closed_store_commits_nothing(t: Trial) -> None:
    """A session whose store is closed before its end raises StoreClosedError."""
    await fill(t.store, "order", 1)
    with t.raises(StoreClosedError, "session of a store that was closed"):
        async with t.store.session() as session:
            result = await session.append("order", make(1))
            t.equal(result.version, 2, "version in the session")
            await t.store.aclose()


@clause("CLO-08", needs=("global_order",))
async def closing_with_open_subscriptions(t: Trial) -> None:
    """A store can be closed while subscriptions are open, and their blocks can still be left."""
    await fill(t.store, "order", 2)
    async with t.store.subscribe() as one, t.store.subscribe() as two:
        await take(one, 1)
        await take(two, 2)
        with no_hang("closing ends"):
            await t.store.aclose()
        with t.raises(StoreClosedError, "reading on after closing"):
            await take(two, 1)


async def _close_after_many(t: Trial) -> None:
    """Close the store right after 300 appends were called, which all have to be acknowledged."""
    called = 0
    versions: list[int] = []

    async def append(number: int) -> None:
        nonlocal called
        called += 1
        versions.append((await t.store.append(f"order-{number}", make(2))).version)

    async with anyio.create_task_group() as tasks:
        for number in range(300):
            tasks.start_soon(append, number)
        while called < 300:
            await checkpoint()
        await t.store.aclose()
    t.equal(versions, [2] * 300, "versions that the appends returned")


@clause("CLO-09")
async def many_pending_appends_are_written(t: Trial) -> None:
    """Appends that were called before `aclose` are written, however many there are."""
    await fill(t.store, "order", 1)
    await _close_after_many(t)
    with t.raises(StoreClosedError, "append after closing"):
        await t.store.append("order", make(1))


@clause("CLO-10", needs=("durable",))
async def many_pending_appends_are_kept(t: Trial) -> None:
    """What was pending at `aclose` is there when the events are opened again."""
    await _close_after_many(t)
    async with t.second_client() as store:
        heads = [(await store.read(f"order-{number}")).version for number in range(300)]
        t.equal(heads, [2] * 300, "versions after opening again")


@clause("CLO-11")
async def reads_that_are_under_way(t: Trial) -> None:
    """A read that is under way when the store is closed returns the truth or raises
    `StoreClosedError`.
    """
    await fill(t.store, "order", 300)
    ended: list[str] = []

    async def read(turns: int) -> None:
        for _ in range(turns):
            await checkpoint()
        try:
            found = await t.store.read("order")
        except StoreClosedError:
            ended.append("refused")
        except EventportError as exc:
            seen = f"{type(exc).__name__}: {exc}"
            raise Deviation("a read while closing", "events or StoreClosedError", seen) from exc
        else:
            t.versions(found.events, range(1, 301), "events read while closing")
            ended.append("read")

    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(read, number // 2)
        await checkpoint()
        with no_hang("closing ends"):
            await t.store.aclose()
    t.equal(len(ended), 40, "reads that have ended")
