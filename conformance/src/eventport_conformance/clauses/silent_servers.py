"""FLT: a server that falls silent, hangs, errs while it is searched, or takes no writes."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

import anyio

from anyio.lowlevel import checkpoint

from eventport import ANY, EventStore, Expectation, NewEvent, StoreClosedError

from eventport_conformance.clause import clause
from eventport_conformance.dropping import (
    PROXIED,
    Ledger,
    following,
    in_the_end,
    or_unavailable,
    usable,
)
from eventport_conformance.helpers import collect, fill, make
from eventport_conformance.trial import Trial
from eventport_conformance.waiting import until


_SILENT: Final = 2.0
"""How many seconds connections are silent at least, so that a poll gets no answer."""

_SEARCHING: Final = 0.3
"""How many seconds a server errs at least; a busy machine can only make a clause see less."""


async def _calls_end(t: Trial, store: EventStore, ledger: Ledger) -> None:
    """Fail unless all calls to a server that does not answer raise `StoreUnavailableError`."""

    async def append(stream: str, expected: Expectation) -> object:
        return await ledger.append(store, stream, make(2), expected)

    async def session() -> None:
        events = make(1)
        ledger.unknown.append(("b", events))
        async with store.session() as opened:
            await opened.append("b", events)

    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "append": lambda: append("a", ANY),
        "append to a new stream": lambda: append("new", 0),
        "append of nothing": lambda: store.append("a", [], expected=2),
        "read": lambda: store.read("a"),
        "iterate": lambda: collect(store.iterate("a")),
        "session": session,
    }

    async def ends(what: str, call: Callable[[], Awaitable[object]]) -> None:
        what = f"{what} while the server does not answer"
        t.equal(await or_unavailable(what, call), None, f"result of {what}")

    async with anyio.create_task_group() as tasks:
        for what, call in calls.items():
            tasks.start_soon(ends, what, call)


async def _closes_under_a_read(t: Trial, store: EventStore) -> None:
    """Fail unless a read without an answer raises `StoreClosedError` when its store is closed."""

    async def read() -> None:
        with t.raises(StoreClosedError, "a read without an answer, whose store is closed"):
            await store.read("a")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        for _ in range(3):
            await checkpoint()  # so it is under way
        await store.aclose()


@clause("FLT-17", uses=PROXIED, seconds=600)
async def a_connection_that_falls_silent(t: Trial) -> None:
    """While connections are silent but open, every call ends in `StoreUnavailableError`, or in
    `StoreClosedError` if its store is closed meanwhile, and appends are kept whole; once new
    connections work, so does the store.
    """
    ledger = Ledger()
    async with t.behind_proxy() as (proxy, store), AsyncExitStack() as stack:
        other = await stack.enter_async_context(t.harness.open_at(proxy.host, proxy.port))
        await fill(store, "a", 2)
        await in_the_end("read", lambda: other.read("a"))
        proxy.silence()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_closes_under_a_read, t, other)
            tasks.start_soon(_calls_end, t, store, ledger)
        await proxy.heal()
        await usable(t, store)
    await ledger.check(t)


@clause("FLT-18", uses=(*PROXIED, "frozen"), seconds=600)
async def a_server_that_hangs(t: Trial) -> None:
    """While the server hangs, every call ends in `StoreUnavailableError` and appends are kept
    whole; once it goes on, the store works again.
    """
    ledger = Ledger()
    async with t.behind_proxy() as (_, store):
        await fill(store, "a", 2)
        await in_the_end("read", lambda: store.read("a"))
        async with t.harness.frozen():
            await _calls_end(t, store, ledger)
        await usable(t, store)
        await ledger.check(t)


@clause("FLT-19", needs=("global_order",), uses=PROXIED, seconds=600)
async def a_subscription_outlives_silence(t: Trial) -> None:
    """A subscription whose connection falls silent resumes by itself once new connections work, and
    misses and repeats nothing.
    """
    async with t.behind_proxy() as (proxy, store), following(store) as followed:
        await fill(t.store, "a", 3)
        await followed.reaches(3)
        proxy.silence()
        await fill(t.store, "b", 3)
        await anyio.sleep(_SILENT)
        await proxy.heal()
        await fill(t.store, "a", 2)
        await followed.reaches(8)
        truth = (await t.store.read_all()).events
        t.equal(followed.events, truth, "events that the subscription gave")


@clause("FLT-20", uses=(*PROXIED, "troubles"), seconds=600)
async def a_search_that_errs(t: Trial) -> None:
    """If the server errs while the store looks for an append whose answer was lost, the append is
    kept whole: that error is no answer to it.
    """
    ledger = Ledger()
    async with t.behind_proxy() as (proxy, store):
        for name, trouble in t.harness.troubles().items():
            expectations: tuple[Expectation, ...] = (0, ANY)
            for number, expected in enumerate(expectations):
                stream, marker = f"{name}-{number}", f"marker-{len(ledger.acknowledged)}-{number}"
                await in_the_end("append", lambda: fill(store, "warm", 1))
                events = [NewEvent("Lost", {"marker": marker, "name": name}), *make(1)]
                cuts = proxy.cuts
                proxy.lose(marker.encode(), "answer", then_refuse=True)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(ledger.append, store, stream, events, expected)
                    await until(lambda cuts=cuts: proxy.cuts > cuts, "the answer is lost")  # type: ignore[misc]
                    async with trouble():
                        await proxy.accept()
                        await anyio.sleep(_SEARCHING)
                await proxy.heal()
        await usable(t, store)
    await ledger.check(t)


@clause("FLT-21", uses=(*PROXIED, "read_only"), seconds=600)
async def a_server_that_takes_no_writes(t: Trial) -> None:
    """While the server takes no writes, appends raise `StoreUnavailableError` and write nothing,
    and reads return the truth or raise it; then the store works again.
    """
    async with t.behind_proxy() as (_, store):
        await fill(store, "a", 2)
        truth = await t.store.read("a")
        async with t.harness.read_only():
            for expected in (ANY, 2):
                what = f"append expecting {expected!r} while nothing can be written"
                result = await or_unavailable(
                    what,
                    lambda expected=expected: store.append("a", make(1), expected=expected),  # type: ignore[misc]
                )
                t.equal(result, None, f"result of an {what}")
            seen = await or_unavailable("read", lambda: store.read("a"))
            if seen is not None:
                t.equal(seen, truth, "read while nothing can be written")
        await usable(t, store)
    await t.untouched("a", 2, "the server took no writes")
