"""Reactors: each effect once, with its cause, whatever is done twice; timeouts that survive."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from anyio import sleep
from tests.toolkit.accounts import ACCOUNT, Deposit
from tests.toolkit.stages import QUICK, running

from eventport import EventStore, InvalidArgumentError, NewEvent, RecordedEvent, connect
from eventport.commands import CommandHandler
from eventport.context import bind_context, with_context
from eventport.errors import InvalidArgumentTypeError
from eventport.projections import (
    MemoryCheckpoints,
    ProjectionStoppedError,
    StreamCheckpoints,
    retry,
)
from eventport.reactors import (
    Reaction,
    ReactionLoopError,
    Reactor,
    ReactorRunner,
    Timeout,
    UnknownTimeoutError,
)
from eventport.testing import FakeClock

from eventport_conformance.waiting import no_hang


HALF_HOUR: Final = timedelta(minutes=30)
TIMEOUTS: Final = "eventport/timeouts/saga"


@pytest.fixture(params=["memory", "sqlite"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[EventStore]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'events.db'}"
    async with connect(url) as store:
        yield store


def saga(**options: Any) -> Reactor:
    chosen: dict[str, Any] = {"retries": QUICK, **options}
    return Reactor("saga", **chosen)


def unpaid_after_half_an_hour() -> Reactor:
    """React to orders that are not paid in time."""
    reactor = saga()

    @reactor.on("Placed")
    async def placed(event: RecordedEvent, reaction: Reaction) -> None:
        await reaction.schedule("unpaid", event.stream, after=HALF_HOUR, data={"n": 1})

    @reactor.on("Paid")
    async def paid(event: RecordedEvent, reaction: Reaction) -> None:
        await reaction.cancel("unpaid", event.stream)

    @reactor.on_timeout("unpaid")
    async def unpaid(expired: Timeout, reaction: Reaction) -> None:
        await reaction.append(expired.key, [NewEvent("Cancelled", expired.data)])

    return reactor


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    with no_hang():
        while True:
            if await condition():
                return
            await sleep(0.01)


async def types_of(store: EventStore, stream: str) -> list[str]:
    return [event.type for event in (await store.read(stream)).events]


async def handle_all(store: EventStore, reactor: Reactor, clock: FakeClock | None = None) -> None:
    """Run a reactor until it has handled all that is there now, its timeouts included."""
    last = await store.append("end", [NewEvent("End", {})])
    runner = runner_of(store, reactor, clock)
    async with running(runner):
        await runner.wait_until(last.position or 0)
        if clock is not None:
            await until(lambda: nothing_due(store, clock))
        head = await store.append("end", [NewEvent("End", {})])
        await runner.wait_until(head.position or 0)


async def nothing_due(store: EventStore, clock: FakeClock) -> bool:
    pending: dict[str, str] = {}
    for event in (await store.read(TIMEOUTS)).events:
        pending.pop(event.data["key"], None)
        if event.type == "eventport.TimeoutScheduled":
            pending[event.data["key"]] = event.data["due"]
    return all(datetime.fromisoformat(due) > clock() for due in pending.values())


def runner_of(store: EventStore, reactor: Reactor, clock: FakeClock | None) -> ReactorRunner:
    return (
        ReactorRunner(store, reactor)
        if clock is None
        else ReactorRunner(store, reactor, clock=clock)
    )


async def forget_checkpoint(store: EventStore, reactor: Reactor) -> None:
    """Let everything be handled again, as after a crash before the checkpoint."""
    await StreamCheckpoints(store).reset(reactor.model.id, 0)


def now() -> FakeClock:
    return FakeClock(datetime.now(UTC))


async def test_commands_and_appends_have_their_cause_and_happen_once(store: EventStore) -> None:
    reactor = saga()
    accounts = CommandHandler(store, ACCOUNT)

    @reactor.on("Placed")
    async def placed(event: RecordedEvent, reaction: Reaction) -> None:
        for amount in (5, 7):
            await reaction.handle(accounts, "account-1", Deposit(amount))
        for _ in range(2):
            await reaction.append("mails-1", [NewEvent("Sent", {}), NewEvent("Noted", {})])
        await reaction.append("mails-1", [NewEvent("Keyed", {})], key="last")

    with bind_context(correlation_id="talk"):
        await with_context(store).append("order-1", [NewEvent("Placed", {})])
    await handle_all(store, reactor)
    await forget_checkpoint(store, reactor)
    await handle_all(store, reactor)

    (cause,) = (await store.read("order-1")).events
    deposits = (await store.read("account-1")).events
    mails = (await store.read("mails-1")).events
    assert [event.data["amount"] for event in deposits] == [5, 7]
    assert [event.type for event in mails] == ["Sent", "Noted"] * 2 + ["Keyed"]
    for event in (*deposits, *mails):
        assert event.metadata["correlation_id"] == "talk"
        assert event.metadata["causation_id"] == str(cause.id)


async def test_an_effect_is_found_again_behind_any_number_of_events(place: EventStore) -> None:
    reactor = saga()

    @reactor.on("Placed")
    async def placed(event: RecordedEvent, reaction: Reaction) -> None:
        await reaction.append("log", [NewEvent("Noted", {"order": event.stream})])

    for n in range(30):
        await place.append(f"order-{n}", [NewEvent("Placed", {})])
    await handle_all(place, reactor)
    await place.append("log", [NewEvent("Other", {}) for _ in range(600)])
    await forget_checkpoint(place, reactor)
    await handle_all(place, reactor)
    noted = [event for event in (await place.read("log")).events if event.type == "Noted"]
    assert [event.data["order"] for event in noted] == [f"order-{n}" for n in range(30)]


async def test_a_failed_handler_finishes_what_it_began(place: EventStore) -> None:
    reactor = saga()
    failures = [RuntimeError()]

    @reactor.on("Placed")
    async def placed(event: RecordedEvent, reaction: Reaction) -> None:
        await reaction.append("a", [NewEvent("First", {})])
        if failures:
            raise failures.pop()
        await reaction.append("a", [NewEvent("Second", {})])

    await place.append("order-1", [NewEvent("Placed", {})])
    await handle_all(place, reactor)
    assert await types_of(place, "a") == ["First", "Second"]


async def test_a_timeout_is_reached_once_over_restarts(place: EventStore) -> None:
    clock = now()
    await place.append("order-1", [NewEvent("Placed", {})])
    await handle_all(place, unpaid_after_half_an_hour(), clock)
    assert await types_of(place, "order-1") == ["Placed"]
    clock.advance(HALF_HOUR + timedelta(minutes=1))
    for _ in range(2):  # another runner, as after a restart
        await handle_all(place, unpaid_after_half_an_hour(), clock)
        await forget_checkpoint(place, unpaid_after_half_an_hour())
    clock.advance(-2 * HALF_HOUR)  # and the clock goes back
    await handle_all(place, unpaid_after_half_an_hour(), clock)
    assert await types_of(place, "order-1") == ["Placed", "Cancelled"]
    assert (await types_of(place, TIMEOUTS)).count("eventport.TimeoutReached") == 1
    placed, cancelled = (await place.read("order-1")).events
    assert cancelled.data == {"n": 1}
    assert cancelled.metadata["correlation_id"] == str(placed.id)


async def test_a_cancelled_timeout_is_not_reached(place: EventStore) -> None:
    clock = now()
    await place.append("order-1", [NewEvent("Placed", {}), NewEvent("Paid", {})])
    await place.append("order-2", [NewEvent("Paid", {})])  # nothing is scheduled
    for _ in range(2):
        await handle_all(place, unpaid_after_half_an_hour(), clock)
        clock.advance(2 * HALF_HOUR)
        await forget_checkpoint(place, unpaid_after_half_an_hour())
    assert await types_of(place, "order-1") == ["Placed", "Paid"]
    assert await types_of(place, TIMEOUTS) == [
        "eventport.TimeoutScheduled",
        "eventport.TimeoutCancelled",
    ]


async def test_a_timeout_that_is_due_in_an_outage_comes_after_what_is_in_the_store(
    place: EventStore,
) -> None:
    clock = now()
    await place.append("order-1", [NewEvent("Placed", {})])
    await handle_all(place, unpaid_after_half_an_hour(), clock)
    await place.append("order-1", [NewEvent("Paid", {})])  # while no reactor runs
    clock.advance(2 * HALF_HOUR)
    await handle_all(place, unpaid_after_half_an_hour(), clock)
    assert await types_of(place, "order-1") == ["Placed", "Paid"]


async def test_a_timeout_that_was_reached_can_still_be_cancelled_by_an_earlier_event(
    place: EventStore,
) -> None:
    clock = now()
    reactor = unpaid_after_half_an_hour()
    await place.append("order-1", [NewEvent("Placed", {})])
    await handle_all(place, reactor, clock)
    await place.append("order-1", [NewEvent("Paid", {})])
    bound = reactor.bind(place)
    await bound.timeouts.refresh()
    await bound.timeouts.fire(clock.advance(2 * HALF_HOUR))  # before `Paid` is handled
    await handle_all(place, reactor, clock)
    assert await types_of(place, "order-1") == ["Placed", "Paid"]
    assert (await types_of(place, TIMEOUTS))[1:] == [
        "eventport.TimeoutReached",
        "eventport.TimeoutCancelled",
    ]


async def test_a_timeout_that_schedules_itself_again_goes_on_after_a_crash(
    place: EventStore,
) -> None:
    clock = now()
    reactor = saga()
    failures = [RuntimeError()]

    @reactor.on("Placed")
    async def placed(event: RecordedEvent, reaction: Reaction) -> None:
        await reaction.schedule("remind", event.stream, at=event.recorded_at + HALF_HOUR)

    @reactor.on_timeout("remind")
    async def remind(expired: Timeout, reaction: Reaction) -> None:
        await reaction.schedule("remind", expired.key, at=expired.due + HALF_HOUR)
        if failures:
            raise failures.pop()
        await reaction.append(expired.key, [NewEvent("Reminded", {})])

    await place.append("order-1", [NewEvent("Placed", {})])
    await handle_all(place, reactor, clock)
    clock.advance(timedelta(minutes=1))  # later than the order
    for _ in range(3):
        clock.advance(HALF_HOUR)
        await handle_all(place, reactor, clock)
    assert await types_of(place, "order-1") == ["Placed", *["Reminded"] * 3]
    await forget_checkpoint(place, reactor)
    await handle_all(place, reactor, clock)
    assert await types_of(place, "order-1") == ["Placed", *["Reminded"] * 3]


async def test_scheduling_again_takes_the_place_of_the_first(place: EventStore) -> None:
    clock = now()
    reactor = unpaid_after_half_an_hour()
    await place.append("order-1", [NewEvent("Placed", {})])
    await handle_all(place, reactor, clock)
    clock.advance(HALF_HOUR + timedelta(minutes=1))
    bound = reactor.bind(place)
    await place.append("order-1", [NewEvent("Placed", {})])
    await bound.timeouts.refresh()
    await bound.timeouts.fire(clock())  # before the second `Placed` is handled
    await handle_all(place, reactor, clock)
    assert "Cancelled" in await types_of(place, "order-1")
    assert (await types_of(place, "order-1")).count("Cancelled") == 1


async def test_a_start_reads_the_stream_from_the_oldest_timeout_that_counts(
    place: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = now()
    for n in range(20):
        await place.append(f"order-{n}", [NewEvent("Placed", {}), NewEvent("Paid", {})])
    await handle_all(place, unpaid_after_half_an_hour(), clock)
    await place.append("order-99", [NewEvent("Placed", {})])
    await handle_all(place, unpaid_after_half_an_hour(), clock)
    begun: list[int] = []
    iterate = place.iterate

    def noted(stream: str, *, from_version: int = 1, **others: Any) -> Any:
        begun.append(from_version)
        return iterate(stream, from_version=from_version, **others)

    monkeypatch.setattr(place, "iterate", noted)
    timeouts = unpaid_after_half_an_hour().bind(place).timeouts
    await timeouts.refresh()
    assert begun == [41]
    assert await timeouts.fire(clock()) is not None


async def test_a_reactor_follows_its_own_events_but_not_without_end(place: EventStore) -> None:
    reactor = saga()

    @reactor.on("Ping")
    async def ping(event: RecordedEvent, reaction: Reaction) -> None:
        await reaction.append("ping-1", [NewEvent("Ping", {})])

    await place.append("ping-1", [NewEvent("Ping", {})])
    with no_hang(), pytest.raises(ProjectionStoppedError) as caught:
        await ReactorRunner(place, reactor).run()
    assert isinstance(caught.value.__cause__, ReactionLoopError)
    assert "chain of 100 reactions" in str(caught.value.__cause__)
    assert len(await types_of(place, "ping-1")) == 101


async def test_a_poisoned_event_becomes_a_dead_letter_and_can_be_retried(
    place: EventStore,
) -> None:
    reactor = saga(on_poison="dead_letter")
    broken = ["order-1"]

    @reactor.on("Placed")
    async def placed(event: RecordedEvent, reaction: Reaction) -> None:
        if event.stream in broken:
            raise RuntimeError
        await reaction.append("log", [NewEvent("Noted", {"order": event.stream})])

    for n in (1, 2):
        await place.append(f"order-{n}", [NewEvent("Placed", {})])
    await handle_all(place, reactor)
    checkpoints = StreamCheckpoints(place)
    (letter,) = await checkpoints.dead_letters(reactor.model.id)
    assert letter.stream == "order-1"
    broken.clear()
    await retry(place, reactor.bind(place), checkpoints, letter.position)
    noted = [event.data["order"] for event in (await place.read("log")).events]
    assert noted == ["order-2", "order-1"]


async def test_a_prefix_leaves_other_streams_out_and_its_timeouts_in(place: EventStore) -> None:
    clock = now()
    reactor = saga(prefix="order-")

    @reactor.on("Placed")
    async def placed(event: RecordedEvent, reaction: Reaction) -> None:
        await reaction.schedule("late", event.stream, after=timedelta(0))

    @reactor.on_timeout("late")
    async def late(expired: Timeout, reaction: Reaction) -> None:
        await reaction.append("log", [NewEvent(expired.key, {})])

    await place.append("cart-1", [NewEvent("Placed", {})])
    await place.append("order-1", [NewEvent("Placed", {})])
    clock.advance(HALF_HOUR)
    await handle_all(place, reactor, clock)
    assert await types_of(place, "log") == ["order-1"]


async def test_two_runners_with_checkpoints_of_their_own_have_each_effect_once(
    place: EventStore,
) -> None:
    clock = now()
    for n in range(5):
        await place.append(f"order-{n}", [NewEvent("Placed", {})])
    reactor = unpaid_after_half_an_hour()
    runners = [ReactorRunner(place, reactor, MemoryCheckpoints(), clock=clock) for _ in range(2)]
    async with running(*runners):
        clock.advance(2 * HALF_HOUR)

        async def all_cancelled() -> bool:
            return all([len(await types_of(place, f"order-{n}")) > 1 for n in range(5)])

        await until(all_cancelled)
        last = await place.append("end", [NewEvent("End", {})])
        for runner in runners:
            await runner.wait_until(last.position or 0)
    for n in range(5):
        assert await types_of(place, f"order-{n}") == ["Placed", "Cancelled"]
    assert len(await types_of(place, TIMEOUTS)) == 10


async def test_what_cannot_be_scheduled_is_refused(place: EventStore) -> None:
    reactor = unpaid_after_half_an_hour()
    refused: list[Exception] = []

    @reactor.on("Odd")
    async def odd(event: RecordedEvent, reaction: Reaction) -> None:
        wrong: list[dict[str, Any]] = [
            {},
            {"after": HALF_HOUR, "at": event.recorded_at},
            {"after": 30},
            {"at": datetime(2030, 1, 1)},  # noqa: DTZ001  # that is what is wrong with it
        ]
        for one in wrong:
            with pytest.raises(InvalidArgumentError) as caught:
                await reaction.schedule("unpaid", "order-1", **one)
            refused.append(caught.value)
        with pytest.raises(UnknownTimeoutError, match="on_timeout"):
            await reaction.schedule("unpayed", "order-1", after=HALF_HOUR)
        with pytest.raises(UnknownTimeoutError):
            await reaction.cancel("unpayed", "order-1")

    await place.append("odd", [NewEvent("Odd", {})])
    await handle_all(place, reactor)
    assert [isinstance(error, InvalidArgumentTypeError) for error in refused] == [
        False,
        False,
        True,
        True,
    ]


async def test_a_timeout_whose_handler_is_gone_stops_the_reactor(place: EventStore) -> None:
    clock = now()
    await place.append("order-1", [NewEvent("Placed", {})])
    await handle_all(place, unpaid_after_half_an_hour(), clock)
    clock.advance(2 * HALF_HOUR)
    reactor = saga()

    @reactor.on("Placed")
    async def placed(event: RecordedEvent, reaction: Reaction) -> None: ...

    with no_hang(), pytest.raises(ProjectionStoppedError) as caught:
        await ReactorRunner(place, reactor, clock=clock).run()
    assert isinstance(caught.value.__cause__, UnknownTimeoutError)


def test_handlers_are_registered_once() -> None:
    reactor = unpaid_after_half_an_hour()

    async def other(event: object, reaction: Reaction) -> None: ...

    with pytest.raises(InvalidArgumentError, match="'Placed' already"):
        reactor.on("Placed")(other)
    with pytest.raises(InvalidArgumentError, match="'unpaid' already"):
        reactor.on_timeout("unpaid")(other)
    assert repr(reactor) == "<Reactor: saga>"
