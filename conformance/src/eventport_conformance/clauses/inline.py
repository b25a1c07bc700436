"""INL: handlers that run inside the transactions of commits."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from anyio import Event, create_task_group
from anyio.lowlevel import checkpoint

from eventport import (
    ConcurrencyError,
    InlineProjectionError,
    NewEvent,
    NotSupportedError,
    Query,
    RecordedEvent,
)
from eventport.callbacks import InlineStore

from eventport_conformance.clause import clause
from eventport_conformance.helpers import fill, make
from eventport_conformance.trial import Deviation, Trial
from eventport_conformance.waiting import no_hang


class _NotedError(Exception):
    """Raised by a handler."""


def register_inline(t: Trial, handler: Any) -> None:
    """Register an inline handler with the store itself."""
    if not isinstance(t.bare, InlineStore):
        what = "the store of a harness that has inline_notes()"
        raise Deviation(what, "one with inline()", type(t.bare).__name__)
    t.bare.inline(handler)


@clause("INL-01", uses=("inline_notes",))
async def handlers_get_each_commit_as_it_will_be_read(t: Trial) -> None:
    """Handlers run once a commit, in order of registration, with its events as read later."""
    seen: list[Sequence[RecordedEvent]] = []
    order: list[str] = []

    async def first(events: Sequence[RecordedEvent], _: Any) -> None:
        order.append("first")
        seen.append(events)

    async def second(_: Sequence[RecordedEvent], __: Any) -> None:
        order.append("second")

    register_inline(t, first)
    register_inline(t, second)
    events = [NewEvent("T", {"k": [1, 1.0, None]}, {"m": 1}), NewEvent("U", b"bytes")]
    await t.store.append("a", events)
    t.equal([list(one) for one in seen], [list((await t.store.read("a")).events)], "events")
    t.equal(order, ["first", "second"], "order of the handlers")


@clause("INL-02", needs=("sessions",), uses=("inline_notes",))
async def a_session_is_one_commit(t: Trial) -> None:
    """A session over several streams is one call, with its events in the order of the appends."""
    seen: list[list[tuple[str, int]]] = []

    async def note(events: Sequence[RecordedEvent], _: Any) -> None:
        seen.append([(event.stream, event.version) for event in events])

    register_inline(t, note)
    async with t.store.session() as session:
        await session.append("a", make(2))
        await session.append("b", make(1))
        await session.append("a", make(1))
        t.equal(seen, [], "calls before the end of the block")
    t.equal(seen, [[("a", 1), ("a", 2), ("b", 1), ("a", 3)]], "calls")


@clause("INL-03", uses=("inline_notes",))
async def where_nothing_is_written_no_handler_runs(t: Trial) -> None:
    """Conflicts, appends of no events, and appends that are sent again call no handler."""
    events = make(2)
    await t.store.append("a", events, expected=0)
    calls: list[object] = []

    async def note(events: Sequence[RecordedEvent], _: Any) -> None:
        calls.append(events)

    register_inline(t, note)
    await t.store.append("a", [])
    again = await t.store.append("a", events, expected=0)
    t.true(again.deduplicated, "an append that is sent again is recognised")
    with t.raises(ConcurrencyError, "append at a wrong version"):
        await t.store.append("a", make(1), expected=7)
    t.equal(calls, [], "calls")


@clause("INL-04", uses=("inline_notes",))
async def events_and_writes_share_their_fate(t: Trial) -> None:
    """If a handler raises, neither the events nor what handlers wrote are there, of its commit."""
    async with t.harness.inline_notes(t.bare) as notes:

        async def write(events: Sequence[RecordedEvent], transaction: Any) -> None:
            for event in events:
                await notes.write(transaction, f"{event.stream}@{event.version}")

        async def refuse(events: Sequence[RecordedEvent], _: Any) -> None:
            if events[0].type == "Bad":
                raise _NotedError("secret")

        register_inline(t, write)
        register_inline(t, refuse)
        await fill(t.store, "a", 2)

        async def append(number: int) -> None:
            if number % 3:
                await t.store.append(f"s-{number}", make(2))
                return
            with t.raises(InlineProjectionError, "append whose handler raises") as caught:
                await t.store.append(f"s-{number}", [NewEvent("Bad", number), *make(1)])
            t.true(isinstance(caught.error.__cause__, _NotedError), "the cause is its error")
            t.true("secret" not in str(caught.error), "the message does not quote it")

        async with create_task_group() as group:
            for number in range(12):
                group.start_soon(append, number)
        written = [f"a@{version}" for version in (1, 2)]
        for number in range(12):
            head = (await t.store.read(f"s-{number}")).version
            t.equal(head, 2 if number % 3 else 0, f"head of s-{number}")
            written += [f"s-{number}@{version}" for version in range(1, head + 1)]
        t.equal(sorted(await notes.committed()), sorted(written), "what handlers wrote")


@clause("INL-05", uses=("inline_notes",))
async def nobody_sees_one_without_the_other(t: Trial) -> None:
    """While handlers run, nobody sees the events or their writes, and they see their own."""
    async with t.harness.inline_notes(t.bare) as notes:
        early: list[object] = []

        async def write(events: Sequence[RecordedEvent], transaction: Any) -> None:
            await notes.write(transaction, events[0].stream)
            with suppress(NotSupportedError):  # where one connection does all
                early.extend(await notes.committed())

        register_inline(t, write)
        await t.store.append("a", make(1))
        t.equal(early, [], "what others saw while the handler ran")
        t.equal(await notes.committed(), ["a"], "what others see afterwards")
        t.equal((await t.store.read("a")).version, 1, "head")


@clause("INL-06", uses=("inline_notes",))
async def a_handler_may_not_wait_for_its_own_commit(t: Trial) -> None:
    """An append to the same store inside a handler raises NotSupportedError, as it would wait for
    itself; one by another task at that time waits for its turn.
    """
    running, called = Event(), Event()
    refused: list[str] = []

    async def append_again(events: Sequence[RecordedEvent], _: Any) -> None:
        if events[0].stream != "a":
            return
        running.set()
        await called.wait()
        with t.raises(NotSupportedError, "append to the same store in a handler"):
            await t.store.append("c", make(1))
        refused.append(events[0].stream)

    async def append_beside() -> None:
        await running.wait()
        called.set()
        await t.store.append("b", make(1))

    register_inline(t, append_again)
    with no_hang("an append whose handler appends"):
        async with create_task_group() as tasks:
            tasks.start_soon(append_beside)
            await t.store.append("a", make(1))
    t.equal(refused, ["a"], "appends that were refused")
    heads = [(await t.store.read(stream)).version for stream in "abc"]
    t.equal(heads, [1, 1, 0], "heads")


@clause("INL-07", needs=("global_order",), uses=("inline_notes",))
async def what_is_undone_was_never_seen(t: Trial) -> None:
    """Reads of every kind that are called while handlers run see nothing of a commit that a handler
    undoes.
    """
    running, called = Event(), Event()

    async def refuse(_: Sequence[RecordedEvent], __: Any) -> None:
        running.set()
        await called.wait()
        for _turn in range(20):
            await checkpoint()
        raise _NotedError

    async def read(call: Callable[[], Awaitable[Sequence[RecordedEvent]]], what: str) -> None:
        await running.wait()
        called.set()
        t.equal(list(await call()), [], f"what {what} gave while a handler ran")

    async def stream() -> Sequence[RecordedEvent]:
        return (await t.store.read("a")).events

    async def many() -> Sequence[RecordedEvent]:
        return (await t.store.read_many(["a", "b"]))["a"].events

    async def everything() -> Sequence[RecordedEvent]:
        return (await t.store.read_all()).events

    async def query() -> Sequence[RecordedEvent]:
        return (await t.store.query(Query.all())).events

    register_inline(t, refuse)
    async with create_task_group() as tasks:
        for call in (stream, many, everything, query):
            tasks.start_soon(read, call, call.__name__)
        with t.raises(InlineProjectionError, "append whose handler raises"):
            await t.store.append("a", make(2))
    t.equal((await t.store.read("a")).version, 0, "head")
