"""FLT: appends and sessions whose connection drops at any byte, stalls, or drops repeatedly."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

import random

from collections.abc import Callable
from functools import partial
from typing import Final

import anyio

from eventport import (
    ANY,
    ConcurrencyError,
    EventStore,
    Expectation,
    NewEvent,
    StoreUnavailableError,
)

from eventport_conformance.clause import clause
from eventport_conformance.dropping import (
    BOTH,
    PROXIED,
    Ledger,
    each_cut,
    in_the_end,
    or_unavailable,
    usable,
)
from eventport_conformance.helpers import at_once, fill, make
from eventport_conformance.proxy import Direction, Loss, Proxy
from eventport_conformance.trial import Deviation, Trial
from eventport_conformance.waiting import no_hang


_CUTS: Final = 20
"""How many drops are enough where they come at random."""
_ROUNDS: Final = 300
"""How many appends each task makes at most while it waits for them."""


async def _cut_appends(t: Trial, direction: Direction) -> None:
    """Drop the connection at many places of exact appends, and send them again."""
    async with t.behind_proxy() as (proxy, store):
        await fill(store, "a", 3)
        head = 6
        ledger = Ledger()
        async for where in each_cut(t, proxy, direction, lambda: fill(store, "a", 3)):
            for stream, expected in (("a", head), (f"new {head}", 0)):
                events = make(3)
                result = await ledger.append(store, stream, events, expected)
                if result is not None:
                    t.equal(result.version, expected + 3, f"version that was returned, {where}")
                    t.equal(result.created, expected == 0, f"created, {where}")
                again = await in_the_end(
                    f"the same events sent again, {where}",
                    lambda stream=stream, events=events, expected=expected: store.append(  # type: ignore[misc]
                        stream, events, expected=expected
                    ),
                )
                t.equal(again.version, expected + 3, f"version when sent again, {where}")
                ledger.acknowledged.append((stream, events))
            head += 3
        await ledger.check(t)
        await usable(t, store)


@clause("FLT-01", uses=PROXIED, seconds=600)
async def the_request_is_lost(t: Trial) -> None:
    """An append with an exact expectation is kept whole if its connection drops at any byte of the
    request, and succeeds when it is sent again.
    """
    await _cut_appends(t, "to_server")


@clause("FLT-02", uses=PROXIED, seconds=600)
async def the_answer_is_lost(t: Trial) -> None:
    """An append with an exact expectation is kept whole if its connection drops at any byte of the
    answer, and succeeds when it is sent again.
    """
    await _cut_appends(t, "to_client")


@clause("FLT-03", uses=PROXIED, seconds=600)
async def any_is_written_once(t: Trial) -> None:
    """An append with `any` is kept whole if its connection drops at any byte."""
    async with t.behind_proxy() as (proxy, store):
        ledger = Ledger()
        for direction in BOTH:
            await in_the_end("append", lambda: fill(store, "a", 2))
            async for _ in each_cut(t, proxy, direction, lambda: fill(store, "a", 2)):
                await ledger.append(store, "a", make(2), ANY)
                await in_the_end("read after a drop", lambda: store.read("a", max_count=1))
        await ledger.check(t)
        await usable(t, store)


@clause("FLT-04", uses=PROXIED, seconds=600)
async def another_store_can_send_it_again(t: Trial) -> None:
    """After its connection has dropped, an append with an exact expectation can be sent again at
    once through another store, and is stored once.
    """
    ledger = Ledger()
    async with t.behind_proxy() as (proxy, store):
        for stream in BOTH:
            await fill(t.store, stream, 2)
            head = 4
            await in_the_end("read", lambda: store.read("a"))
            async for where in each_cut(t, proxy, stream, lambda s=stream: fill(store, s, 2)):  # type: ignore[misc]
                events = make(2)
                if await ledger.append(store, stream, events, head) is not None:
                    seen = await t.store.read(stream, from_version=head + 1)
                    t.recorded(seen.events, events, f"acknowledged events, {where}")
                again = await t.store.append(stream, events, expected=head)
                head += 2
                t.equal(again.version, head, f"version returned by the other store, {where}")
                ledger.acknowledged.append((stream, events))
                await in_the_end("read after a drop", lambda: store.read("a"))
        await ledger.check(t)
        await usable(t, store)


@clause("FLT-05", uses=PROXIED, seconds=600)
async def conflicts_are_true(t: Trial) -> None:
    """If two appends race and the connection of one drops, what conflicts is not stored, and what
    succeeds is stored once.
    """
    chance = random.Random(t.seed)  # noqa: S311  # it is to be the same the next time
    ledger = Ledger()

    async def race(client: EventStore, delay: float, head: int) -> None:
        await anyio.sleep(delay)
        events = make(2)
        try:
            with no_hang("an append that races"):
                result = await client.append("a", events, expected=head)
        except StoreUnavailableError:
            ledger.unknown.append(("a", events))
        except ConcurrencyError as exc:
            t.true(exc.actual > head, "the actual version is later", exc)
            ledger.refused.append(("a", events))
        else:
            t.equal(result.version, head + 2, "version that was returned")
            ledger.acknowledged.append(("a", events))

    async with t.behind_proxy() as (proxy, store):
        for direction in BOTH:
            await in_the_end("read", lambda: store.read("a"))
            async for _ in each_cut(t, proxy, direction, lambda: fill(store, "a", 2)):
                head = (await t.store.read("a")).version
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(race, store, 0, head)
                    tasks.start_soon(race, t.store, chance.uniform(0, 0.01), head)
                await in_the_end("read after a drop", lambda: store.read("a"))
        await ledger.check(t)
        await usable(t, store)


@clause("FLT-06", needs=("sessions",), uses=PROXIED, seconds=600)
async def sessions_are_whole(t: Trial) -> None:
    """A session over two streams is kept whole if its connection drops at any byte."""
    ledger = Ledger()
    sessions: list[tuple[NewEvent, NewEvent]] = []
    async with t.behind_proxy() as (proxy, store):

        async def both(one: NewEvent, two: NewEvent) -> None:
            async with store.session() as session:
                await session.append("a", [one])
                await session.append("b", [two])

        for direction in BOTH:
            await in_the_end("read", lambda: store.read("a"))
            async for _ in each_cut(t, proxy, direction, lambda: both(*make(2))):
                one, two = make(2)
                outcome = ledger.acknowledged
                try:
                    await both(one, two)
                except StoreUnavailableError:
                    outcome = ledger.unknown
                except ConcurrencyError:  # one before, of unknown outcome, may have come late
                    outcome = ledger.refused
                outcome += [("a", [one]), ("b", [two])]
                sessions.append((one, two))
                await in_the_end("read after a drop", lambda: store.read("a"))
        await ledger.check(t)
        stored = {event.id for s in "ab" for event in (await t.store.read(s)).events}
        for one, two in sessions:
            t.equal(one.id in stored, two.id in stored, "both events of a session are stored")
        await usable(t, store)


@clause("FLT-10", uses=PROXIED, seconds=600)
async def a_connection_that_stalls(t: Trial) -> None:
    """An append is kept whole if its connection stalls for half a second."""
    ledger = Ledger()
    async with t.behind_proxy() as (proxy, store):
        for round_ in range(4):
            stream = "a" if round_ % 2 else f"new {round_}"
            expected: Expectation = ANY if round_ % 2 else 0
            await fill(store, "a", 1)
            proxy.stall()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(ledger.append, store, stream, make(2), expected))
                await anyio.sleep(0.5)
                proxy.resume()
        await usable(t, store)
    await ledger.check(t)


async def _cut_at_random(t: Trial, proxy: Proxy, running: Callable[[], bool]) -> None:
    """Drop the connection now and then, after some bytes, as long as appends are running."""
    chance = random.Random(t.seed)  # noqa: S311  # it is to be the same the next time
    while running() and proxy.cuts < _CUTS:
        cuts = proxy.cuts
        # Far enough from each other that what is sent again can arrive in between.
        proxy.cut_after(chance.randrange(10_000), chance.choice(BOTH))
        # Each is waited for, or else the direction with more bytes would get all of them.
        while running() and proxy.cuts == cuts:  # noqa: ASYNC110  # it drops elsewhere
            await anyio.sleep(0.002)
        await anyio.sleep(chance.uniform(0, 0.01))
    await proxy.heal()


@clause("FLT-11", uses=PROXIED, seconds=600)
async def many_appends_and_drops(t: Trial) -> None:
    """Many concurrent appends are each kept whole while connections drop repeatedly."""
    ledger = Ledger()
    running = 8
    async with t.behind_proxy() as (proxy, store):

        async def write(number: int) -> None:
            nonlocal running
            for round_ in range(_ROUNDS):
                if proxy.cuts >= _CUTS:
                    break
                stream = f"s{number}" if round_ % 2 else "shared"
                await ledger.append(store, stream, make(1 + round_ % 3), ANY)
            running -= 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cut_at_random, t, proxy, lambda: running > 0)
            await at_once(running, write)
        t.true(proxy.cuts > 0, "connections dropped")
        await ledger.check(t)
        await usable(t, store)


@clause("FLT-14", uses=PROXIED, seconds=600)
async def what_became_of_it_is_found_out(t: Trial) -> None:
    """An append whose connection drops at any byte succeeds as if nothing had happened, if new
    connections can be made.
    """
    ledger = Ledger()
    async with t.behind_proxy() as (proxy, store):
        for stream in ("any", "exact"):
            head = 0
            for direction in BOTH:
                await fill(store, stream, 2)
                head += 4  # with what is appended to measure it
                async for where in each_cut(t, proxy, direction, partial(fill, store, stream, 2)):
                    expected: Expectation = ANY if stream == "any" else head
                    what = f"append expecting {expected!r}, {where}"
                    result = await ledger.append(store, stream, make(2), expected)
                    if result is None:
                        raise Deviation(what, "success", "StoreUnavailableError")
                    head += 2
                    seen = (result.version, result.created, result.deduplicated)
                    t.equal(seen, (head, False, False), f"{what}: version, created, deduplicated")
        await ledger.check(t)


@clause("FLT-22", uses=PROXIED, seconds=600)
async def what_was_there_before_is_no_answer(t: Trial) -> None:
    """An append with `any` of events that its stream holds already is written once more, although
    its connection drops: what was there before is no trace of it.
    """
    losses: tuple[Loss, ...] = ("request", "answer", "request", "request")
    async with t.behind_proxy() as (proxy, store):
        for count in (1, 2):
            stream = f"again-{count}"
            events = make(count, f"Again{count}")
            await store.append(stream, events)
            for number, loss in enumerate(losses, 2):
                proxy.lose(f"Again{count}".encode(), loss)
                what = f"append number {number} of the same events, its {loss} lost"
                result = await or_unavailable(what, lambda s=stream, e=events: store.append(s, e))  # type: ignore[misc]
                if result is None:
                    raise Deviation(what, "success", "StoreUnavailableError")
                t.equal(proxy.losses_due, 0, "connections that have still to drop")
                t.equal(result.version, number * count, f"version of {what}")
            head = len(losses) + 1
            t.recorded((await t.store.read(stream)).events, events * head, "events in the end")
        await usable(t, store)
