"""The listener: it is started again whenever it fails, and polling is rare only while it works."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from anyio import CancelScope, Event
from anyio.lowlevel import checkpoint

from eventport import Capability, NewEvent
from eventport._concurrency.backoff import Backoff
from eventport._engine import listener as module
from eventport._engine.feed import Feed
from eventport.adapter import Store

from eventport_conformance.waiting import no_hang, until
from eventport_memory.engine import MemoryEngine


pytestmark = pytest.mark.usefixtures("in_time")


class Radio(MemoryEngine):
    """Sends signs when a test says so, and fails when a test says so."""

    capabilities = MemoryEngine.capabilities | {Capability.SHARED}

    def __init__(self) -> None:
        super().__init__()
        self.begun = self.ended = 0
        self.silent = False
        self.fails = Event()
        self.deaf = Event()
        """Unless it is set, the end of listening can be held up."""
        self.deaf.set()

    async def listen(self) -> AsyncGenerator[None, None]:
        self.begun += 1
        try:
            if self.silent:
                raise OSError("connection refused")
            yield
            await self.fails.wait()
            self.fails = Event()
            raise OSError("connection dropped")
        finally:
            with CancelScope(shield=True):
                await self.deaf.wait()
            self.ended += 1


def interval_of(store: Store) -> float:
    return store._feed.interval(1_000)


async def test_it_begins_with_the_first_subscription_and_once() -> None:
    radio = Radio()
    async with Store(radio) as store:
        await store.append("s", [NewEvent("E", None)])
        await store.read("s")
        assert radio.begun == 0
        with no_hang("both subscriptions are open"):
            async with store.subscribe(), store.subscribe():
                await until(lambda: radio.begun == 1, "listening has begun")
                await until(lambda: interval_of(store) == Feed.PUSHED_INTERVAL, "polls are rare")
        assert radio.begun == 1
    assert radio.ended == 1


async def test_polls_are_frequent_again_as_soon_as_it_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    again = Event()

    async def sleep(_: float) -> None:
        await again.wait()

    monkeypatch.setattr(module, "sleep", sleep)
    radio = Radio()
    async with Store(radio) as store, store.subscribe():
        assert interval_of(store) == Feed.LONGEST_INTERVAL
        await until(lambda: interval_of(store) == Feed.PUSHED_INTERVAL, "polls are rare")
        seen = store._signal.count
        radio.fails.set()
        await until(lambda: interval_of(store) == Feed.LONGEST_INTERVAL, "polls are frequent")
        assert store._signal.count > seen  # and those who sleep for long have been woken
        again.set()
        await until(lambda: interval_of(store) == Feed.PUSHED_INTERVAL, "polls are rare again")
        assert radio.begun == 2


async def test_it_waits_longer_after_each_failure_and_shortly_after_a_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("eventport._concurrency.backoff.random.uniform", lambda *_: 0.0)

    async def sleep(pause: float) -> None:
        pauses.append(pause)
        radio.silent = len(pauses) < 10
        await checkpoint()

    monkeypatch.setattr(module, "sleep", sleep)
    radio = Radio()
    radio.silent = True
    async with Store(radio) as store, store.subscribe():
        await until(lambda: interval_of(store) == Feed.PUSHED_INTERVAL, "it listens at last")
        radio.fails.set()
        await until(lambda: len(pauses) == 11, "it has failed once more")
    expected = Backoff(0.05)
    assert pauses[:10] == [expected.next() for _ in range(10)]
    assert pauses[10] == pauses[0]


async def test_closing_ends_it_whatever_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    for failing in (False, True):
        radio = Radio()
        radio.silent = failing
        async with Store(radio) as store, store.subscribe():
            await until(lambda: radio.begun > 0, "listening has begun")  # noqa: B023  # at once
        begun = radio.begun
        assert radio.ended == begun
        for _ in range(20):
            await checkpoint()
        assert radio.begun == begun


async def test_closing_leaves_a_call_that_does_not_end_to_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_CLOSING", 0.01)
    radio = Radio()
    radio.deaf = Event()
    store = Store(radio)
    async with store.subscribe():
        await until(lambda: radio.begun == 1, "listening has begun")
    await store.aclose()
    assert radio.ended == 0
    radio.deaf.set()
    await until(lambda: radio.ended == 1, "it ends on its own")


async def test_a_store_that_never_subscribed_closes_without_it() -> None:
    radio = Radio()
    await Store(radio).aclose()
    assert radio.begun == 0
