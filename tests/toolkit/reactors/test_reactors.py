"""Reactors: each effect once, with its cause, whatever is done twice."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.toolkit.accounts import ACCOUNT, Deposit
from tests.toolkit.reacting import (
    HALF_HOUR,
    TIMEOUTS,
    forget_checkpoint,
    handle_all,
    now,
    saga,
    types_of,
    unpaid_after_half_an_hour,
    until,
)
from tests.toolkit.stages import running

from eventport import EventStore, InvalidArgumentError, NewEvent, RecordedEvent
from eventport.commands import CommandHandler
from eventport.context import bind_context, with_context
from eventport.projections import (
    MemoryCheckpoints,
    ProjectionStoppedError,
    StreamCheckpoints,
    retry,
)
from eventport.reactors import Reaction, ReactionLoopError, ReactorRunner, Timeout

from eventport_conformance.waiting import no_hang


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


def test_handlers_are_registered_once() -> None:
    reactor = unpaid_after_half_an_hour()

    async def other(event: object, reaction: Reaction) -> None: ...

    with pytest.raises(InvalidArgumentError, match="'Placed' already"):
        reactor.on("Placed")(other)
    with pytest.raises(InvalidArgumentError, match="'unpaid' already"):
        reactor.on_timeout("unpaid")(other)
    assert repr(reactor) == "<Reactor: saga>"
