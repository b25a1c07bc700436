"""HOK: what runs after each commit."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

import logging

from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, cast

from eventport import ConcurrencyError, EventportError, NotSupportedError, RecordedEvent

from eventport_conformance.clause import clause
from eventport_conformance.helpers import at_once, fill, make
from eventport_conformance.trial import Trial


_Hook: TypeAlias = Callable[[Sequence[RecordedEvent]], Awaitable[None]]


class _OwnError(EventportError):
    """An error of the caller's code."""


def _register(t: Trial, hook: _Hook) -> object:
    return cast("Any", t.store).after_commit(hook)


def _recording(t: Trial) -> list[list[RecordedEvent]]:
    """Register a hook that keeps what it is called with."""
    calls: list[list[RecordedEvent]] = []

    async def hook(events: Sequence[RecordedEvent]) -> None:
        calls.append(list(events))

    _register(t, hook)
    return calls


@contextmanager
def _logged() -> Generator[list[logging.LogRecord]]:
    """Keep what is logged, and keep it from the console."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger, handler = logging.getLogger("eventport"), Keep()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield records
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


@clause("HOK-01", needs=("hooks",))
async def it_is_called_once_a_commit(t: Trial) -> None:
    """A hook is called once for each append, with the events as they can be read."""
    calls = _recording(t)
    await fill(t.store, "a", 2)
    await fill(t.store, "b", 1)
    await fill(t.store, "a", 1)
    seen = [[(event.stream, event.version) for event in call] for call in calls]
    t.equal(seen, [[("a", 1), ("a", 2)], [("b", 1)], [("a", 3)]], "calls")
    a = (await t.store.read("a")).events
    t.equal(calls[0] + calls[2], a, "events of the calls about a")


@clause("HOK-02", needs=("hooks",))
async def it_is_called_after_the_commit(t: Trial) -> None:
    """When a hook is called, the events can be read."""
    heads: list[int] = []

    async def hook(events: Sequence[RecordedEvent]) -> None:
        heads.append((await t.store.read(events[0].stream)).version)

    _register(t, hook)
    for _ in range(3):
        await fill(t.store, "a", 2)
    t.equal(heads, [2, 4, 6], "heads that the hook read")


@clause("HOK-03", needs=("hooks",))
async def they_are_called_in_order(t: Trial) -> None:
    """Hooks are called one after the other, in the order in which they were registered."""
    order: list[int] = []
    for number in range(4):

        async def hook(_: Sequence[RecordedEvent], number: int = number) -> None:
            await t.store.read("a")
            order.append(number)

        _register(t, hook)
    await fill(t.store, "a", 1)
    await fill(t.store, "a", 1)
    t.equal(order, [0, 1, 2, 3] * 2, "hooks called")


@clause("HOK-04", needs=("hooks",))
async def one_that_raises_is_logged(t: Trial) -> None:
    """A hook that raises is logged; the append succeeds and the other hooks are called."""

    async def broken(_: Sequence[RecordedEvent]) -> None:
        message = "the hook is broken"
        raise RuntimeError(message)

    _register(t, broken)
    calls = _recording(t)
    with _logged() as records:
        result = await t.store.append("a", make(2))
    t.equal(result.version, 2, "version that the append returned")
    t.equal([len(call) for call in calls], [2], "calls of the other hook")
    t.true(len(records) > 0, "something was logged")
    with _logged():
        await t.untouched("a", 2, "append with a broken hook")


@clause("HOK-05", needs=("hooks",))
async def a_session_is_one_commit(t: Trial) -> None:
    """A hook is called once for a session, after its commit, with all its events."""
    calls = _recording(t)
    async with t.store.session() as session:
        await session.append("a", make(2))
        await session.append("a", make(1))
        t.equal(calls, [], "calls before the commit")
    t.equal(calls, [(await t.store.read("a")).events], "calls after the commit")


@clause("HOK-06", needs=("hooks", "sessions", "global_order"))
async def a_session_over_streams_is_one_commit(t: Trial) -> None:
    """A hook is called once for a session over several streams, with its events in global order."""
    calls = _recording(t)
    async with t.store.session() as session:
        for stream in ("a", "b", "a"):
            await session.append(stream, make(1))
    t.equal(calls, [(await t.store.read_all()).events], "calls")
    t.equal(len(calls[0]), 3, "events in the call")


@clause("HOK-07", needs=("hooks",))
async def no_commit_no_call(t: Trial) -> None:
    """A hook is not called if nothing was committed: conflict, no events, retry, exception."""
    calls = _recording(t)
    events = make(2)
    await t.store.append("a", events, expected=0)
    t.equal(len(calls), 1, "calls after the first append")
    await t.store.append("a", [])
    await t.store.append("a", events, expected=0)
    with t.raises(ConcurrencyError, "append expecting 7"):
        await t.store.append("a", make(1), expected=7)
    async with t.store.session() as session:
        await session.read("a")
    with t.raises(_OwnError, "session whose block raises"):
        async with t.store.session() as session:
            await session.append("a", make(1))
            raise _OwnError
    t.equal(len(calls), 1, "calls in the end")


@clause("HOK-08", needs=("hooks",))
async def a_hook_may_append(t: Trial) -> None:
    """A hook may use the store, appends included."""

    async def hook(events: Sequence[RecordedEvent]) -> None:
        if events[0].stream == "a":
            await t.store.append("copy", make(len(events)))

    _register(t, hook)
    await fill(t.store, "a", 2)
    await fill(t.store, "a", 1)
    t.equal((await t.store.read("copy")).version, 3, "head of the stream that the hook writes")


@clause("HOK-09", needs=("hooks",))
async def each_concurrent_commit_is_told_once(t: Trial) -> None:
    """Of concurrent appends, each is passed to a hook once."""
    calls = _recording(t)

    async def work(number: int) -> None:
        for _ in range(4):
            await t.store.append(f"s{number % 3}", make(2))

    await at_once(6, work)
    t.equal(len(calls), 24, "number of calls")
    reported = sorted((event.stream, event.version) for call in calls for event in call)
    t.equal(
        reported, [(f"s{n}", v) for n in range(3) for v in range(1, 17)], "events passed to hooks"
    )
    t.true(all(call[0].version + 1 == call[1].version for call in calls), "a call is a commit")


@clause("HOK-10", needs=("hooks",))
async def registering_returns_the_hook(t: Trial) -> None:
    """`after_commit` returns the hook, so that it is a decorator; earlier commits are not passed to
    it.
    """
    await fill(t.store, "a", 1)
    calls = 0

    async def hook(_: Sequence[RecordedEvent]) -> None:
        nonlocal calls
        calls += 1

    t.true(_register(t, hook) is hook, "after_commit returns its argument")
    t.equal(calls, 0, "calls for what was appended before")
    await fill(t.store, "a", 1)
    t.equal(calls, 1, "calls for what was appended after")


@clause("HOK-11", unless="hooks")
async def without_hooks_they_are_refused(t: Trial) -> None:
    """A store without hooks has no `after_commit`, or refuses it."""
    await t.untouched("a", 0, "a store without hooks")
    if hasattr(t.bare, "after_commit"):
        with t.raises(NotSupportedError, "after_commit"):
            _recording(t)
