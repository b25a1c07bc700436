"""FLT: reads and subscriptions whose connection drops, or cannot be made."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

import random

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from eventport import RecordedEvent

from eventport_conformance.clause import clause
from eventport_conformance.dropping import (
    BOTH,
    PROXIED,
    each_cut,
    following,
    in_the_end,
    or_unavailable,
    usable,
)
from eventport_conformance.helpers import collect, fill, make
from eventport_conformance.proxy import Proxy
from eventport_conformance.trial import Trial
from eventport_conformance.waiting import no_hang, patience


T = TypeVar("T")


async def _cut_reads(
    t: Trial, proxy: Proxy, what: str, truth: T, read: Callable[[], Awaitable[T]]
) -> None:
    """Drop the connection at many places of a read, and read again."""
    for direction in BOTH:
        await in_the_end(what, read)
        async for where in each_cut(t, proxy, direction, read):
            seen = await or_unavailable(f"{what}, {where}", read)
            if seen is not None:
                t.equal(seen, truth, f"{what}, {where}")
            t.equal(await in_the_end(what, read), truth, f"{what} again, {where}")


@clause("FLT-07", uses=PROXIED, seconds=600)
async def reads_recover(t: Trial) -> None:
    """A read whose connection drops at any byte returns the truth or raises
    `StoreUnavailableError`; the next one returns the truth.
    """
    await fill(t.store, "a", 20)
    truth = await t.store.read("a")
    async with t.behind_proxy() as (proxy, store):
        await _cut_reads(t, proxy, "read", truth, lambda: store.read("a"))
        iterate = lambda: collect(store.iterate("a"))  # noqa: E731  # short, and used once
        await _cut_reads(t, proxy, "iterate", truth.events, iterate)
        await usable(t, store)


@clause("FLT-08", needs=("global_order",), uses=PROXIED, seconds=600)
async def a_subscription_survives(t: Trial) -> None:
    """A subscription whose connection drops resumes by itself, and misses and repeats nothing."""
    chance = random.Random(t.seed)  # noqa: S311  # it is to be the same the next time
    async with t.behind_proxy() as (proxy, store), following(store) as followed:
        await fill(t.store, "s0", 3)
        await followed.reaches(3)
        for round_ in range(1, 17):
            refused = round_ % 4 == 1
            if refused:
                await proxy.refuse()
            if round_ % 2:
                proxy.drop()  # it waits: it has been given all that there is
            else:
                proxy.cut_after(chance.randrange(600), chance.choice(BOTH))
            await fill(t.store, f"s{round_ % 3}", 3)
            if refused:
                await anyio.sleep(0.1)
                t.equal(len(followed.events), 3 * round_, "events while connections are refused")
                await proxy.heal()
            await followed.reaches(3 * round_ + 3)
        await proxy.heal()
        truth = (await t.store.read_all()).events
        t.equal(followed.events, truth, "events that the subscription gave")
        await usable(t, store)


async def _let_go(proxy: Proxy) -> None:
    """Take connections after all: a store that waits forever may not even be cancelled."""
    await anyio.sleep(patience())
    await proxy.accept()


@clause("FLT-09", uses=PROXIED, seconds=600)
async def refused_connections(t: Trial) -> None:
    """While connections are refused, every call ends in `StoreUnavailableError` and writes nothing;
    then the store works again.
    """
    async with t.behind_proxy() as (proxy, store):

        async def session() -> str:
            async with store.session() as opened:
                await opened.append("a", make(1))
            return "committed"

        await fill(store, "a", 2)
        await proxy.refuse()
        proxy.drop()
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "append": lambda: store.append("a", make(1)),
            "append expecting 2": lambda: store.append("a", make(1), expected=2),
            "append of nothing": lambda: store.append("a", []),
            "read": lambda: store.read("a"),
            "iterate": lambda: collect(store.iterate("a")),
            "session": session,
        }

        async def ends(what: str, call: Callable[[], Awaitable[object]]) -> None:
            t.equal(await or_unavailable(what, call), None, f"result of {what}, refused")

        async with anyio.create_task_group() as waiting:
            waiting.start_soon(_let_go, proxy)
            async with anyio.create_task_group() as tasks:  # each takes as long as a time-out
                for what, call in calls.items():
                    tasks.start_soon(ends, what, call)
            waiting.cancel_scope.cancel()
        await proxy.accept()
        await usable(t, store)
    await t.untouched("a", 2, "connections were refused")


@clause("FLT-15", needs=("global_order",), uses=PROXIED, seconds=600)
async def reads_of_everything_recover(t: Trial) -> None:
    """A read of all streams returns the truth or raises `StoreUnavailableError` if its connection
    drops at any byte, or none can be made; the next one returns the truth.
    """
    for stream in "abc":
        await fill(t.store, stream, 6)
    truth = await t.store.read_all()
    async with t.behind_proxy() as (proxy, store):
        await _cut_reads(t, proxy, "read_all", truth, store.read_all)
        await proxy.refuse()
        proxy.drop()
        refused = await or_unavailable("read_all, refused", store.read_all)
        t.equal(refused, None, "result of read_all, refused")
        await proxy.accept()
        t.equal(await in_the_end("read_all", store.read_all), truth, "read_all after it all")


@clause("FLT-16", needs=("global_order",), uses=PROXIED, seconds=600)
async def an_impatient_reader_is_served(t: Trial) -> None:
    """A subscription's reader that always gives up before the answer can come gets every event in
    the end, once and in order.
    """
    for stream in "abc":
        await fill(t.store, stream, 4)
    truth = (await t.store.read_all()).events
    found: list[RecordedEvent] = []
    async with t.behind_proxy() as (proxy, store), store.subscribe() as subscription:
        with no_hang("an impatient reader gets every event"):
            while len(found) < len(truth):
                # Nothing passes while it waits, so only what has come in the meantime is there.
                proxy.stall()
                with anyio.move_on_after(0.02):
                    found.append(await anext(subscription))
                proxy.resume()
                await anyio.sleep(0.02)
        t.equal(found, truth, "events that the reader got")
        await usable(t, store)
