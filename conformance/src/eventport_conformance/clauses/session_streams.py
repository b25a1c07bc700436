"""SES: a unit of work over several streams, and what refuses them."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio

from anyio.lowlevel import checkpoint

from eventport import (
    NO_STREAM,
    ConcurrencyError,
    EventportError,
    NewEvent,
    NotSupportedError,
    RecordedEvent,
    Session,
    run_in_session,
)

from eventport_conformance.clause import clause
from eventport_conformance.helpers import at_once, fill, make
from eventport_conformance.trial import Trial
from eventport_conformance.waiting import no_hang


T = TypeVar("T")


class _OwnError(EventportError):
    """An error of the caller's code."""


async def _heads(t: Trial, *streams: str) -> list[int]:
    return [(await t.store.read(stream)).version for stream in streams]


@clause("SES-23", needs=("sessions",))
async def streams_are_committed_together(t: Trial) -> None:
    """Events for several streams are committed together."""
    a, b = make(2), make(3)
    async with t.store.session() as session:
        await session.append("a", a)
        await session.append("b", b)
        t.equal(await _heads(t, "a", "b"), [0, 0], "heads outside, before the commit")
    t.recorded((await t.store.read("a")).events, a, "events of a")
    t.recorded((await t.store.read("b")).events, b, "events of b")


@clause("SES-24", needs=("sessions",))
async def one_conflict_stops_all(t: Trial) -> None:
    """If one of several streams has moved, nothing is written to any of them."""
    for moved in ("a", "b", "c"):
        heads = await _heads(t, "a", "b", "c")
        with t.raises(ConcurrencyError, f"session in which {moved} moved") as caught:
            async with t.store.session() as session:
                for stream in ("a", "b", "c"):
                    await session.append(stream, make(2))
                await t.store.append(moved, make(1))
        t.equal(getattr(caught.error, "stream", ""), moved, "stream in the error")
        heads["abc".index(moved)] += 1
        t.equal(await _heads(t, "a", "b", "c"), heads, f"heads after {moved} moved")
    await t.untouched("b", 1, "sessions with a conflict")


@clause("SES-25", needs=("sessions",))
async def an_exception_commits_no_stream(t: Trial) -> None:
    """If the block raises, none of several streams is written."""
    await fill(t.store, "a", 1)
    with t.raises(_OwnError, "session whose block raises"):
        async with t.store.session() as session:
            await session.append("a", make(1))
            await session.append("b", make(1))
            raise _OwnError
    await t.untouched("a", 1, "session whose block raised")
    await t.untouched("b", 0, "session whose block raised")


@clause("SES-26", needs=("sessions", "global_order"))
async def the_order_of_appends_is_the_global_order(t: Trial) -> None:
    """The events of one session are in the global order as they were appended, stream by stream or
    not.
    """
    async with t.store.session() as session:
        for stream in ("a", "b", "a", "c", "b"):
            await session.append(stream, make(2))
    events = (await t.store.read_all()).events
    wanted = [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("a", 3), ("a", 4)]
    wanted += [("c", 1), ("c", 2), ("b", 3), ("b", 4)]
    t.equal([(event.stream, event.version) for event in events], wanted, "events of the store")
    t.equal(session.position, events[-1].position, "position of the session")


@clause("SES-27", needs=("sessions",))
async def many_streams_in_one_commit(t: Trial) -> None:
    """A session may write dozens of streams."""
    names = [f"stream-{number}" for number in range(50)]
    async with t.store.session() as session:
        for name in names:
            await session.append(name, make(2), expected=NO_STREAM)
    t.equal(await _heads(t, *names), [2] * 50, "heads")


@clause("SES-28", needs=("sessions",))
async def opposite_orders_do_not_block(t: Trial) -> None:
    """Sessions that write the same streams in opposite orders do not wait for each other."""
    names = [f"s{number}" for number in range(6)]

    async def work(number: int) -> None:
        async def write(session: Session) -> None:
            for name in names if number % 2 else names[::-1]:
                await session.append(name, make(1))

        await run_in_session(t.store, write, attempts=1000)

    with no_hang("eight sessions end"):
        await at_once(8, work)
    t.equal(await _heads(t, *names), [8] * 6, "heads")


@clause("SES-29", needs=("sessions",))
async def money_is_neither_made_nor_lost(t: Trial) -> None:
    """Concurrent transfers between accounts keep the sum, in every account's history."""
    accounts = ["ada", "bob", "cyd"]

    def balance(state: int, event: RecordedEvent) -> int:
        amount: int = event.data["amount"]
        return state + amount

    async def work(number: int) -> None:
        source, target = accounts[number % 3], accounts[(number + 1) % 3]

        async def transfer(session: Session) -> None:
            before = (await session.aggregate(source, balance, lambda: 100)).state
            amount = min(before, 30 + number)
            await session.append(source, [NewEvent("Moved", {"amount": -amount})])
            await session.append(target, [NewEvent("Moved", {"amount": amount})])

        await run_in_session(t.store, transfer, attempts=1000)

    await at_once(9, work)
    folds = [await t.store.aggregate(name, balance, lambda: 100) for name in accounts]
    t.equal(sum(fold.state for fold in folds), 300, "sum of the balances")
    t.equal(sum(fold.version for fold in folds), 18, "events in all")
    t.true(min(fold.state for fold in folds) >= 0, "no balance is negative")


@clause("SES-30", needs=("sessions", "global_order"))
async def a_failed_session_leaves_no_trace(t: Trial) -> None:
    """Nothing of a session that failed is ever in the global order."""
    await fill(t.store, "a", 1)
    with t.raises(ConcurrencyError, "session on a stream that moved"):
        async with t.store.session() as session:
            await session.append("b", make(2))
            await session.append("a", make(2))
            await t.store.append("a", make(1))
    with t.raises(_OwnError, "session whose block raises"):
        async with t.store.session() as session:
            await session.append("b", make(2))
            raise _OwnError
    await t.store.append("c", make(1))
    events = (await t.store.read_all()).events
    seen = [(event.stream, event.version) for event in events]
    t.equal(seen, [("a", 1), ("a", 2), ("c", 1)], "events of the store")


@clause("SES-31", unless="sessions")
async def a_second_stream_is_refused(t: Trial) -> None:
    """Without sessions over streams, the append to a second one raises and nothing is written."""
    with t.raises(NotSupportedError, "append to a second stream in a session") as caught:
        async with t.store.session() as session:
            await session.append("a", make(2))
            await session.append("b", make(1))
    t.true(len(str(caught.error)) > 10, "the error says why", str(caught.error))
    await t.untouched("a", 0, "session over two streams")
    await t.untouched("b", 0, "session over two streams")


@clause("SES-32", unless="sessions")
async def reading_other_streams_is_not_refused(t: Trial) -> None:
    """Without sessions over streams, a session may still read others than it writes."""
    await fill(t.store, "a", 2)
    async with t.store.session() as session:
        t.equal((await session.read("a")).version, 2, "head of a stream that is only read")
        await session.append("b", make(1))
        await session.append("b", make(1))
        await session.append("a", [])
    t.equal(await _heads(t, "a", "b"), [2, 2], "heads")


async def _after(turns: int, call: Callable[[], Awaitable[T]]) -> T:
    """Call after this many turns of the event loop."""
    for _ in range(turns):
        await checkpoint()
    return await call()


@clause("SES-33")
async def tasks_share_the_view_of_a_session(t: Trial) -> None:
    """Tasks that share a session see each stream at one version, whatever others append
    meanwhile, and what one of them appends to a stream stays while others read it first.
    """
    await fill(t.store, "a", 1)
    for turns in range(24):
        seen: list[int] = []
        async with t.store.session() as session, anyio.create_task_group() as tasks:

            async def read(turns: int, seen: list[int] = seen, session: Session = session) -> None:
                found = await _after(turns, lambda: session.read("a"))
                t.versions(found.events, range(1, found.version + 1), "a task's view of a")
                seen.append(found.version)

            for number in range(5):
                tasks.start_soon(read, number)
            tasks.start_soon(_after, turns % 6, lambda: fill(t.store, "a", 1))
        t.equal(len(set(seen)), 1, "number of versions that the session's tasks saw")
        new = f"b-{turns}"
        async with t.store.session() as session:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_after, turns % 4, partial(session.read, new))
                tasks.start_soon(partial(session.append, new, make(2)))
            t.versions((await session.read(new)).events, (1, 2), "what the session has appended")
        t.equal((await t.store.read(new)).version, 2, "head after the session")
