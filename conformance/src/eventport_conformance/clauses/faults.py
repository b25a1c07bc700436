"""FLT: the line to the server is cut, stalls or is refused, or the server dies."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

import random

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypeVar

import anyio

from eventport import (
    ANY,
    AppendResult,
    ConcurrencyError,
    EventStore,
    Expectation,
    NewEvent,
    RecordedEvent,
    StoreUnavailableError,
)

from eventport_conformance.clause import clause
from eventport_conformance.helpers import at_once, collect, fill, make
from eventport_conformance.proxy import Direction, Proxy
from eventport_conformance.trial import Deviation, Trial
from eventport_conformance.waiting import no_hang, patience, until


T = TypeVar("T")

_PROXIED: Final = ("address", "open_at")
_BOTH: Final[tuple[Direction, ...]] = ("to_server", "to_client")
_CUTS: Final = 20
"""How many cuts are enough where they come at random."""
_ROUNDS: Final = 300
"""How many appends each task makes at the most while it waits for them."""
_POINTS: Final = 12
"""After how many different numbers of bytes a line is cut, each way."""


async def _or_unavailable(what: str, call: Callable[[], Awaitable[T]]) -> T | None:
    """Return what a call gives, or None if it raises `StoreUnavailableError`."""
    try:
        with no_hang(what):
            return await call()
    except StoreUnavailableError:
        return None
    except Deviation:
        raise
    except Exception as exc:
        seen = f"{type(exc).__name__}: {exc}"
        raise Deviation(what, "success or StoreUnavailableError", seen) from exc


async def _in_the_end(what: str, call: Callable[[], Awaitable[T]]) -> T:
    """Call until the store is available, but not for ever."""
    with no_hang(f"{what}, which succeeds in the end"):
        while True:
            try:
                return await call()
            except StoreUnavailableError:
                await anyio.sleep(0.02)
            except Exception as exc:
                seen = f"{type(exc).__name__}: {exc}"
                raise Deviation(what, "success or StoreUnavailableError", seen) from exc


async def _each_cut(
    t: Trial, proxy: Proxy, direction: Direction, call: Callable[[], Awaitable[object]]
) -> AsyncGenerator[str, None]:
    """Let the line be cut at many places of a call, which is made first to measure it."""
    before = proxy.passed[direction]
    await call()
    size = proxy.passed[direction] - before
    t.true(size > 0, "bytes pass through the proxy: the store uses the address given")
    inner = range(2, size - 1)
    chosen = random.Random(t.seed).sample(inner, min(len(inner), _POINTS - 4))  # noqa: S311
    cuts = proxy.cuts
    for count in sorted({0, 1, size - 1, size, *chosen}):
        proxy.cut_after(count, direction)
        yield f"line cut after {count} of {size} bytes {direction.replace('_', ' ')}"
        await proxy.heal()
    t.true(proxy.cuts > cuts, "lines were cut")


class _Ledger:
    """What was to be appended, and what came of it."""

    def __init__(self) -> None:
        self.acknowledged: list[tuple[str, Sequence[NewEvent]]] = []
        self.unknown: list[tuple[str, Sequence[NewEvent]]] = []
        self.refused: list[tuple[str, Sequence[NewEvent]]] = []

    async def append(
        self, store: EventStore, stream: str, events: Sequence[NewEvent], expected: Expectation
    ) -> AppendResult | None:
        """Append, and take down what came of it; None if that is not known."""
        what = f"append expecting {expected!r} while lines are cut"
        result = await _or_unavailable(
            what, lambda: store.append(stream, events, expected=expected)
        )
        (self.unknown if result is None else self.acknowledged).append((stream, events))
        return result

    async def check(self, t: Trial) -> None:
        """Compare with what is in the store, as one sees it who has a line that works."""
        tried = [*self.acknowledged, *self.unknown, *self.refused]
        stored: dict[str, list[RecordedEvent]] = {}
        for stream in sorted({stream for stream, _ in tried}):
            stored[stream] = (await t.store.read(stream)).events
            t.versions(stored[stream], range(1, len(stored[stream]) + 1), f"stream {stream}")
        times = Counter((e.stream, e.id) for events in stored.values() for e in events)
        for kind, some, allowed in (
            ("acknowledged", self.acknowledged, {1}),
            ("of unknown outcome", self.unknown, {0, 1}),
            ("refused with a conflict", self.refused, {0}),
        ):
            for stream, events in some:
                found = {times[stream, event.id] for event in events}
                what = f"how often the events of an append {kind} are stored"
                t.true(len(found) == 1 and found <= allowed, what, sorted(found))
                first = next((i for i, e in enumerate(stored[stream]) if e.id == events[0].id), 0)
                if found == {1}:
                    whole = stored[stream][first : first + len(events)]
                    t.recorded(whole, events, f"events of an append {kind}, in one piece")


class _Followed:
    """What a subscription has given so far."""

    def __init__(self) -> None:
        self.events: list[RecordedEvent] = []

    async def reaches(self, count: int) -> None:
        """Wait until it has given so many events."""
        what = f"the subscription gives {count} events"
        await until(lambda: len(self.events) >= count, what)


@asynccontextmanager
async def _following(store: EventStore) -> AsyncGenerator[_Followed, None]:
    """Let a task wait for the events of a subscription all the time."""
    followed = _Followed()

    async def follow() -> None:
        async with store.subscribe() as subscription:
            async for event in subscription:
                followed.events.append(event)  # one by one, as they come

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        yield followed
        tasks.cancel_scope.cancel()


async def _usable(t: Trial, store: EventStore) -> None:
    """Fail unless a store works as if nothing had happened."""
    events = make(2, "After")
    result = await _in_the_end(
        "append after it all", lambda: store.append("after", events, expected=0)
    )
    t.equal(result.version, 2, "version of an append after it all")
    read = await _in_the_end("read after it all", lambda: store.read("after"))
    t.recorded(read.events, events, "events read after it all")
    t.equal((await t.store.read("after")).version, 2, "head seen through another store")


async def _cut_appends(t: Trial, direction: Direction) -> None:
    """Cut the line at many places of appends with an exact expectation, and send them again."""
    async with t.behind_proxy() as (proxy, store):
        await fill(store, "a", 3)
        head = 6
        ledger = _Ledger()
        async for where in _each_cut(t, proxy, direction, lambda: fill(store, "a", 3)):
            for stream, expected in (("a", head), (f"new {head}", 0)):
                events = make(3)
                result = await ledger.append(store, stream, events, expected)
                if result is not None:
                    t.equal(result.version, expected + 3, f"version that was returned, {where}")
                    t.equal(result.created, expected == 0, f"created, {where}")
                again = await _in_the_end(
                    f"the same events sent again, {where}",
                    lambda stream=stream, events=events, expected=expected: store.append(  # type: ignore[misc]
                        stream, events, expected=expected
                    ),
                )
                t.equal(again.version, expected + 3, f"version when sent again, {where}")
                ledger.acknowledged.append((stream, events))
            head += 3
        await ledger.check(t)
        await _usable(t, store)


@clause("FLT-01", uses=_PROXIED, seconds=600)
async def the_request_is_cut(t: Trial) -> None:
    """An append with an exact expectation whose line is cut at any byte of the request succeeds or
    raises `StoreUnavailableError`, and sent again it succeeds and is there once.
    """
    await _cut_appends(t, "to_server")


@clause("FLT-02", uses=_PROXIED, seconds=600)
async def the_answer_is_cut(t: Trial) -> None:
    """An append with an exact expectation whose line is cut at any byte of the answer succeeds or
    raises `StoreUnavailableError`, and sent again it succeeds and is there once.
    """
    await _cut_appends(t, "to_client")


@clause("FLT-03", uses=_PROXIED, seconds=600)
async def any_is_written_once(t: Trial) -> None:
    """An append with `any` whose line is cut at any byte is there once if it succeeds, and whole
    and once or not at all if it raises `StoreUnavailableError`.
    """
    async with t.behind_proxy() as (proxy, store):
        ledger = _Ledger()
        for direction in _BOTH:
            await _in_the_end("append", lambda: fill(store, "a", 2))
            async for _ in _each_cut(t, proxy, direction, lambda: fill(store, "a", 2)):
                await ledger.append(store, "a", make(2), ANY)
                await _in_the_end("read after a cut", lambda: store.read("a", max_count=1))
        await ledger.check(t)
        await _usable(t, store)


@clause("FLT-04", uses=_PROXIED, seconds=600)
async def another_store_can_send_it_again(t: Trial) -> None:
    """An append with an exact expectation whose line was cut can be sent again through another
    store at once, and is there once.
    """
    ledger = _Ledger()
    async with t.behind_proxy() as (proxy, store):
        for stream in _BOTH:
            await fill(t.store, stream, 2)
            head = 4
            await _in_the_end("read", lambda: store.read("a"))
            async for where in _each_cut(t, proxy, stream, lambda s=stream: fill(store, s, 2)):  # type: ignore[misc]
                events = make(2)
                if await ledger.append(store, stream, events, head) is not None:
                    seen = await t.store.read(stream, from_version=head + 1)
                    t.recorded(seen.events, events, f"acknowledged events, {where}")
                again = await t.store.append(stream, events, expected=head)
                head += 2
                t.equal(again.version, head, f"version returned by the other store, {where}")
                ledger.acknowledged.append((stream, events))
                await _in_the_end("read after a cut", lambda: store.read("a"))
        await ledger.check(t)
        await _usable(t, store)


async def _cut_at_random(t: Trial, proxy: Proxy, running: Callable[[], bool]) -> None:
    """Cut the line now and then, after some bytes, as long as there is someone to annoy."""
    chance = random.Random(t.seed)  # noqa: S311  # it is to be the same the next time
    while running() and proxy.cuts < _CUTS:
        cuts = proxy.cuts
        # Far enough from each other that what is sent again can arrive in between.
        proxy.cut_after(chance.randrange(10_000), chance.choice(_BOTH))
        # Each is waited for, or else the way that more bytes go would get all the cuts.
        while running() and proxy.cuts == cuts:  # noqa: ASYNC110  # the cut is made elsewhere
            await anyio.sleep(0.002)
        await anyio.sleep(chance.uniform(0, 0.01))
    await proxy.heal()


@clause("FLT-05", uses=_PROXIED, seconds=600)
async def conflicts_are_true(t: Trial) -> None:
    """Of two appends that race while the line of one is cut, one that conflicts is not stored and
    one that succeeds is, once.
    """
    chance = random.Random(t.seed)  # noqa: S311  # it is to be the same the next time
    ledger = _Ledger()

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
        for direction in _BOTH:
            await _in_the_end("read", lambda: store.read("a"))
            async for _ in _each_cut(t, proxy, direction, lambda: fill(store, "a", 2)):
                head = (await t.store.read("a")).version
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(race, store, 0, head)
                    tasks.start_soon(race, t.store, chance.uniform(0, 0.01), head)
                await _in_the_end("read after a cut", lambda: store.read("a"))
        await ledger.check(t)
        await _usable(t, store)


@clause("FLT-06", needs=("sessions",), uses=_PROXIED, seconds=600)
async def sessions_are_whole(t: Trial) -> None:
    """A session over two streams whose line is cut at any byte is committed whole and once if it
    succeeds, and whole and once or not at all if it raises `StoreUnavailableError`.
    """
    ledger = _Ledger()
    sessions: list[tuple[NewEvent, NewEvent]] = []
    async with t.behind_proxy() as (proxy, store):

        async def both(one: NewEvent, two: NewEvent) -> None:
            async with store.session() as session:
                await session.append("a", [one])
                await session.append("b", [two])

        for direction in _BOTH:
            await _in_the_end("read", lambda: store.read("a"))
            async for _ in _each_cut(t, proxy, direction, lambda: both(*make(2))):
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
                await _in_the_end("read after a cut", lambda: store.read("a"))
        await ledger.check(t)
        stored = {event.id for s in "ab" for event in (await t.store.read(s)).events}
        for one, two in sessions:
            t.equal(one.id in stored, two.id in stored, "both events of a session are stored")
        await _usable(t, store)


async def _cut_reads(
    t: Trial, proxy: Proxy, what: str, truth: T, read: Callable[[], Awaitable[T]]
) -> None:
    """Cut the line at many places of a read, and read again."""
    for direction in _BOTH:
        await _in_the_end(what, read)
        async for where in _each_cut(t, proxy, direction, read):
            seen = await _or_unavailable(f"{what}, {where}", read)
            if seen is not None:
                t.equal(seen, truth, f"{what}, {where}")
            t.equal(await _in_the_end(what, read), truth, f"{what} again, {where}")


@clause("FLT-07", uses=_PROXIED, seconds=600)
async def reads_recover(t: Trial) -> None:
    """A read whose line is cut at any byte gives the truth or raises `StoreUnavailableError`, and
    the next one gives the truth.
    """
    await fill(t.store, "a", 20)
    truth = await t.store.read("a")
    async with t.behind_proxy() as (proxy, store):
        await _cut_reads(t, proxy, "read", truth, lambda: store.read("a"))
        iterate = lambda: collect(store.iterate("a"))  # noqa: E731  # short, and used once
        await _cut_reads(t, proxy, "iterate", truth.events, iterate)
        await _usable(t, store)


@clause("FLT-08", needs=("global_order",), uses=_PROXIED, seconds=600)
async def a_subscription_survives(t: Trial) -> None:
    """A subscription whose line is cut while it catches up or waits goes on by itself, and misses
    and repeats nothing.
    """
    chance = random.Random(t.seed)  # noqa: S311  # it is to be the same the next time
    async with t.behind_proxy() as (proxy, store), _following(store) as followed:
        await fill(t.store, "s0", 3)
        await followed.reaches(3)
        for round_ in range(1, 17):
            refused = round_ % 4 == 1
            if refused:
                await proxy.refuse()
            if round_ % 2:
                proxy.drop()  # it waits: it has been given all that there is
            else:
                proxy.cut_after(chance.randrange(600), chance.choice(_BOTH))
            await fill(t.store, f"s{round_ % 3}", 3)
            if refused:
                await anyio.sleep(0.1)
                t.equal(len(followed.events), 3 * round_, "events while connections are refused")
                await proxy.heal()
            await followed.reaches(3 * round_ + 3)
        await proxy.heal()
        truth = (await t.store.read_all()).events
        t.equal(followed.events, truth, "events that the subscription gave")
        await _usable(t, store)


async def _let_go(proxy: Proxy) -> None:
    """Take connections after all: a store that waits for ever may not even be cancelled."""
    await anyio.sleep(patience())
    await proxy.accept()


@clause("FLT-09", uses=_PROXIED, seconds=600)
async def refused_connections(t: Trial) -> None:
    """While connections are refused, every call raises `StoreUnavailableError` in the end and
    writes nothing, and then the store works again.
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
        for what, call in calls.items():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_let_go, proxy)
                t.equal(await _or_unavailable(what, call), None, f"result of {what}, refused")
                tasks.cancel_scope.cancel()
        await proxy.accept()
        await _usable(t, store)
    await t.untouched("a", 2, "connections were refused")


@clause("FLT-10", uses=_PROXIED, seconds=600)
async def a_line_that_stalls(t: Trial) -> None:
    """An append on a line that stalls for half a second is there once if it succeeds, and whole
    and once or not at all if it raises `StoreUnavailableError`.
    """
    ledger = _Ledger()
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
        await _usable(t, store)
    await ledger.check(t)


@clause("FLT-11", uses=_PROXIED, seconds=600)
async def many_appends_and_cuts(t: Trial) -> None:
    """Of many appends at once while lines are cut again and again, none that succeeds is lost, and
    none is torn or doubled.
    """
    ledger = _Ledger()
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
        t.true(proxy.cuts > 0, "lines were cut")
        await ledger.check(t)
        await _usable(t, store)


async def _go_on(ledger: _Ledger, what: str) -> None:
    """Wait until some more appends have succeeded."""
    enough = len(ledger.acknowledged) + 5
    await until(lambda: len(ledger.acknowledged) >= enough, what)


@clause("FLT-12", needs=("durable",), uses=("restart",), seconds=600)
async def the_server_dies(t: Trial) -> None:
    """Of the appends before, while and after the server dies and comes back, none that succeeds is
    lost, and none is torn or doubled.
    """
    ledger = _Ledger()
    dying = True

    async def write(number: int) -> None:
        round_ = 0
        while dying:
            stream = f"s{number}" if round_ % 2 else "shared"
            await ledger.append(t.store, stream, make(1 + round_ % 3), ANY)
            await anyio.sleep(0.002)
            round_ += 1

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(write, number)
        for _ in range(3):
            await _go_on(ledger, "appends succeed before the server dies")
            await t.harness.restart()
            await _go_on(ledger, "appends succeed again")
        dying = False
    await _usable(t, t.store)
    await ledger.check(t)


@clause("FLT-13", needs=("durable", "global_order"), uses=("restart",), seconds=600)
async def a_subscription_outlives_the_server(t: Trial) -> None:
    """A subscription goes on after the server has died and come back, and misses and repeats
    nothing.
    """
    async with _following(t.store) as followed:
        await fill(t.store, "a", 3)
        await followed.reaches(3)
        for round_ in range(1, 3):
            await fill(t.store, "b", 2)
            await t.harness.restart()
            events = make(2)
            head = await _in_the_end("read", lambda: t.store.read("a", max_count=0))
            await _in_the_end(
                "append after the restart",
                lambda events=events, head=head: t.store.append(  # type: ignore[misc]
                    "a", events, expected=head.version
                ),
            )
            await followed.reaches(3 + 4 * round_)
        truth = (await t.store.read_all()).events
        t.equal(followed.events, truth, "events that the subscription gave")


@clause("FLT-14", uses=_PROXIED, seconds=600)
async def what_became_of_it_is_found_out(t: Trial) -> None:
    """An append whose line is cut at any byte, while new connections can be made, succeeds as if
    nothing had happened.
    """
    ledger = _Ledger()
    async with t.behind_proxy() as (proxy, store):
        for stream in ("any", "exact"):
            head = 0
            for direction in _BOTH:
                await fill(store, stream, 2)
                head += 4  # with what is appended to measure it
                async for where in _each_cut(t, proxy, direction, partial(fill, store, stream, 2)):
                    expected: Expectation = ANY if stream == "any" else head
                    what = f"append expecting {expected!r}, {where}"
                    result = await ledger.append(store, stream, make(2), expected)
                    if result is None:
                        raise Deviation(what, "success", "StoreUnavailableError")
                    head += 2
                    seen = (result.version, result.created, result.deduplicated)
                    t.equal(seen, (head, False, False), f"{what}: version, created, deduplicated")
        await ledger.check(t)


@clause("FLT-15", needs=("global_order",), uses=_PROXIED, seconds=600)
async def reads_of_everything_recover(t: Trial) -> None:
    """A read of all streams whose line is cut at any byte gives the truth or raises
    `StoreUnavailableError`, as it does while connections are refused, and the next one gives the
    truth.
    """
    for stream in "abc":
        await fill(t.store, stream, 6)
    truth = await t.store.read_all()
    async with t.behind_proxy() as (proxy, store):
        await _cut_reads(t, proxy, "read_all", truth, store.read_all)
        await proxy.refuse()
        proxy.drop()
        refused = await _or_unavailable("read_all, refused", store.read_all)
        t.equal(refused, None, "result of read_all, refused")
        await proxy.accept()
        t.equal(await _in_the_end("read_all", store.read_all), truth, "read_all after it all")
