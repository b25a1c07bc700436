"""Timeouts of reactors are reached once, over restarts, unless they are cancelled."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.toolkit.reacting import (
    HALF_HOUR,
    TIMEOUTS,
    forget_checkpoint,
    handle_all,
    now,
    saga,
    types_of,
    unpaid_after_half_an_hour,
)

from eventport import EventStore, InvalidArgumentError, NewEvent, RecordedEvent
from eventport.errors import InvalidArgumentTypeError
from eventport.projections import ProjectionStoppedError
from eventport.reactors import Reaction, ReactorRunner, Timeout, UnknownTimeoutError

from eventport_conformance.waiting import no_hang


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
