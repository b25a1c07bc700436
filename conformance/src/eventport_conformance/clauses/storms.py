"""CAN: storms of cancelled calls, and what comes after them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from anyio.lowlevel import checkpoint

from eventport_conformance.cancelling import cancel_everywhere
from eventport_conformance.clause import clause
from eventport_conformance.helpers import fill, make
from eventport_conformance.trial import Trial


ROUNDS = 100
LATER = 0.2
"""After how many seconds nothing is under way; a busy machine can only make a clause see less."""


async def _storm(work: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Cancel three calls at a time, each after some turns of the event loop, many times."""

    async def impatient(turns: int) -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                for _ in range(turns):
                    await checkpoint()
                scope.cancel()

    for round_ in range(ROUNDS):
        async with anyio.create_task_group() as tasks:
            for turns in (round_ % 3, round_ % 7, round_ % 20):
                tasks.start_soon(impatient, turns)


@clause("CAN-17", seconds=60)
async def storms_of_cancelled_calls(t: Trial) -> None:
    """After hundreds of cancelled reads, appends and sessions, others work at once and later."""
    await t.store.append("a", make(300))
    numbers = iter(range(100_000))

    async def read() -> None:
        await t.store.read("a")

    async def append() -> None:
        await t.store.append(f"b{next(numbers)}", make(2))

    async def session() -> None:
        async with t.store.session() as unit:
            await unit.read("a", max_count=5)
            await unit.append(f"c{next(numbers)}", make(2))

    for number, work in enumerate((read, append, session, read)):
        await _storm(work)
        read_ = await t.store.read("a", max_count=3)
        t.versions(read_.events, range(1, 4), "read after a storm")
        t.equal((await t.store.append("d", make(1))).version, number + 1, "append after a storm")
    for number in range(next(numbers)):
        for name in "bc":
            version = (await t.store.read(f"{name}{number}")).version
            t.true(version in {0, 2}, "all or nothing of a cancelled call", version)
    await t.untouched("a", 300, "storms")


@clause("CAN-18", needs=("global_order",), seconds=60)
async def storms_of_cancelled_readers_of_all(t: Trial) -> None:
    """After hundreds of cancelled reads of all streams and subscriptions, others work."""
    await t.store.append("a", make(300))

    async def read() -> None:
        await t.store.read_all(max_count=200)

    async def follow() -> None:
        async with t.store.subscribe() as subscription:
            async for _ in subscription:
                pass

    for work in (read, follow, read):
        await _storm(work)
        t.equal(len((await t.store.read_all()).events), 300, "events read after a storm")
        async with t.store.subscribe() as subscription:
            t.equal((await anext(subscription)).version, 1, "first event after a storm")
    await t.untouched("a", 300, "storms")


@clause("CAN-19")
async def a_cancelled_append_is_not_written_later(t: Trial) -> None:
    """A cancelled append is written before its caller goes on, or never."""
    settled: dict[str, int] = {}
    for turns in range(12):
        stream = f"s{turns}"
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(t.store.append, f"large-{turns}-{number}", make(400))
            await checkpoint()
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as inner:
                    inner.start_soon(t.store.append, stream, make(2))
                    for _ in range(turns):
                        await checkpoint()
                    scope.cancel()
            settled[stream] = (await t.store.read(stream)).version
            t.true(settled[stream] in {0, 2}, "all or nothing", settled[stream])
        await fill(t.store, f"after-{turns}", 1)
        t.equal((await t.store.read(f"large-{turns}-2")).version, 400, "head of another append")
    await anyio.sleep(LATER)
    for stream, version in settled.items():
        t.equal((await t.store.read(stream)).version, version, f"head of {stream} later")


@clause("CAN-20", needs=("catalogue",))
async def lists_of_streams(t: Trial) -> None:
    """A list of streams that is cancelled at any wait leaves the store as it was."""
    await fill(t.store, "a", 2)

    async def list_streams() -> None:
        t.equal([one.stream for one in await t.store.streams()], ["a"], "streams")

    async for _ in cancel_everywhere(t.backend, list_streams):
        await list_streams()
    await t.untouched("a", 2, "cancelled lists")


@clause("CAN-21")
async def a_large_append_that_is_cancelled_on_its_way(t: Trial) -> None:
    """A large append is written before its cancelled caller goes on, or never."""
    events = make(2_000)
    for number, seconds in enumerate((0.001, 0.002, 0.005, 0.01, 0.02, 0.05)):
        stream = f"s{number}"
        with anyio.move_on_after(seconds):
            await t.store.append(stream, events)
        version = (await t.store.read(stream, max_count=1)).version
        t.true(version in {0, 2_000}, "all or nothing", version)
        await fill(t.store, "after", 1)  # it has to wait for what is still under way
        later = (await t.store.read(stream, max_count=1)).version
        t.equal(later, version, f"head of {stream} later")
    await t.untouched("after", 6, "cancelled appends beside it")
