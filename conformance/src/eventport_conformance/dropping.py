"""What the clauses about lost connections share: dropping them, and a ledger of appends."""

from __future__ import annotations

import random

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import anyio

from eventport import (
    AppendResult,
    EventStore,
    Expectation,
    NewEvent,
    RecordedEvent,
    StoreUnavailableError,
)

from eventport_conformance.helpers import make
from eventport_conformance.proxy import Direction, Proxy
from eventport_conformance.trial import Deviation, Trial
from eventport_conformance.waiting import no_hang, until


T = TypeVar("T")

PROXIED: Final = ("address", "open_at")
BOTH: Final[tuple[Direction, ...]] = ("to_server", "to_client")
POINTS: Final = 12
"""After how many different numbers of bytes a connection drops, each way."""


async def or_unavailable(what: str, call: Callable[[], Awaitable[T]]) -> T | None:
    """Return what a call returns, or None if it raises `StoreUnavailableError`."""
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


async def in_the_end(what: str, call: Callable[[], Awaitable[T]]) -> T:
    """Call until the store is available, but not forever."""
    with no_hang(f"{what}, which succeeds in the end"):
        while True:
            try:
                return await call()
            except StoreUnavailableError:
                await anyio.sleep(0.02)
            except Exception as exc:
                seen = f"{type(exc).__name__}: {exc}"
                raise Deviation(what, "success or StoreUnavailableError", seen) from exc


async def each_cut(
    t: Trial, proxy: Proxy, direction: Direction, call: Callable[[], Awaitable[object]]
) -> AsyncGenerator[str, None]:
    """Drop the connection at many places of a call, which is made first to measure it."""
    before = proxy.passed[direction]
    await call()
    size = proxy.passed[direction] - before
    t.true(size > 0, "bytes pass through the proxy: the store uses the address given")
    inner = range(2, size - 1)
    chosen = random.Random(t.seed).sample(inner, min(len(inner), POINTS - 4))  # noqa: S311
    cuts = proxy.cuts
    for count in sorted({0, 1, size - 1, size, *chosen}):
        proxy.cut_after(count, direction)
        yield f"connection dropped after {count} of {size} bytes {direction.replace('_', ' ')}"
        await proxy.heal()
    t.true(proxy.cuts > cuts, "connections dropped")


class Ledger:
    """What was to be appended, and what came of it."""

    def __init__(self) -> None:
        self.acknowledged: list[tuple[str, Sequence[NewEvent]]] = []
        self.unknown: list[tuple[str, Sequence[NewEvent]]] = []
        self.refused: list[tuple[str, Sequence[NewEvent]]] = []

    async def append(
        self, store: EventStore, stream: str, events: Sequence[NewEvent], expected: Expectation
    ) -> AppendResult | None:
        """Append, and take down what came of it; None if that is not known."""
        what = f"append expecting {expected!r} while connections drop"
        result = await or_unavailable(what, lambda: store.append(stream, events, expected=expected))
        (self.unknown if result is None else self.acknowledged).append((stream, events))
        return result

    async def check(self, t: Trial) -> None:
        """Compare with what is in the store, as seen through a connection that works."""
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


class Followed:
    """What a subscription has yielded so far."""

    def __init__(self) -> None:
        self.events: list[RecordedEvent] = []

    async def reaches(self, count: int) -> None:
        """Wait until it has yielded this many events."""
        what = f"the subscription yields {count} events"
        await until(lambda: len(self.events) >= count, what)


@asynccontextmanager
async def following(store: EventStore) -> AsyncGenerator[Followed, None]:
    """Let a task wait for the events of a subscription all the time."""
    followed = Followed()

    async def follow() -> None:
        async with store.subscribe() as subscription:
            async for event in subscription:
                followed.events.append(event)  # one by one, as they come

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        yield followed
        tasks.cancel_scope.cancel()


async def usable(t: Trial, store: EventStore) -> None:
    """Fail unless a store works as if nothing had happened."""
    events = make(2, "After")
    result = await in_the_end(
        "append after it all", lambda: store.append("after", events, expected=0)
    )
    t.equal(result.version, 2, "version of an append after it all")
    read = await in_the_end("read after it all", lambda: store.read("after"))
    t.recorded(read.events, events, "events read after it all")
    t.equal((await t.store.read("after")).version, 2, "head seen through another store")
