"""A store or session of typed events: what is read and appended are instances of classes."""

from __future__ import annotations

import math

from dataclasses import dataclass
from typing import Any

import pytest

from eventport import Capability, ConcurrencyError, EventStore, InvalidEventError, NewEvent
from eventport.context import CORRELATION_ID, bind_context
from eventport.typed import EventDataError, EventTypes, UnknownEventTypeError

from eventport_conformance.waiting import no_hang
from eventport_memory import MemoryEventStore


@dataclass
class Opened:
    owner: str


@dataclass
class Deposited:
    amount: float


TYPES = EventTypes[Opened | Deposited](Opened, Deposited)


async def test_instances_are_appended_and_read(store: EventStore) -> None:
    accounts = TYPES.on(store)
    appended = await accounts.append("account-1", [Opened("ada"), Deposited(5.0)], expected=0)
    assert (appended.version, appended.created) == (2, True)
    read = await accounts.read("account-1")
    assert [event.data for event in read.events] == [Opened("ada"), Deposited(5.0)]
    assert read.version == 2
    newest = await accounts.read("account-1", backwards=True, max_count=1)
    assert [(event.version, event.data) for event in newest.events] == [(2, Deposited(5.0))]
    part = [event.data async for event in accounts.iterate("account-1", from_version=2)]
    assert part == [Deposited(5.0)]
    with pytest.raises(ConcurrencyError):
        await accounts.append("account-1", [Deposited(1.0)], expected=1)
    with pytest.raises(ConcurrencyError):
        await accounts.read("account-1", expected="no_stream")


async def test_all_streams_are_read_without_other_types(store: EventStore) -> None:
    accounts = TYPES.on(store)
    await accounts.append("account-1", [Opened("ada")])
    await store.append("other-1", [NewEvent("Elsewhere", 1)])
    await accounts.append("account-2", [Deposited(5.0)])
    expected = [Opened("ada"), Deposited(5.0)]
    found = await accounts.read_all()
    assert [event.data for event in found.events] == expected
    assert found.position >= found.events[-1].position
    assert [event.data async for event in accounts.iterate_all()] == expected
    later = [event.data async for event in accounts.iterate_all(after=found.events[0].position)]
    assert later == [Deposited(5.0)]
    one = [event.data async for event in accounts.iterate_all(prefix="account-2")]
    assert one == [Deposited(5.0)]


async def test_a_subscription_hands_out_instances(store: EventStore) -> None:
    accounts = TYPES.on(store)
    await accounts.append("account-1", [Opened("ada")])
    with no_hang():
        async with accounts.subscribe() as subscription:
            assert (await anext(subscription)).data == Opened("ada")
            await store.append("other-1", [NewEvent("Elsewhere", 1)])
            await accounts.append("account-2", [Deposited(5.0)])
            async for event in subscription:
                assert event.data == Deposited(5.0)
                assert subscription.position == event.position
                break
            position = subscription.position
        async with accounts.subscribe(after=position, prefix="account") as subscription:
            await accounts.append("account-3", [Opened("bob")])
            assert (await anext(subscription)).data == Opened("bob")


async def test_a_session_takes_instances(store: EventStore) -> None:
    if Capability.SESSIONS not in store.capabilities:
        pytest.skip("one stream only, which other tests do")
    async with store.session() as session:
        accounts = TYPES.on(session)
        await accounts.append("account-1", [Opened("ada")])
        await accounts.append("account-2", [Opened("bob")])
        assert [event.data for event in (await accounts.read("account-1")).events] == [
            Opened("ada")
        ]
    assert [event.data async for event in TYPES.on(store).iterate("account-2")] == [Opened("bob")]


async def test_appends_carry_the_context_and_metadata_of_their_own() -> None:
    async with MemoryEventStore() as store:
        with bind_context(correlation_id="request-7"):
            await TYPES.on(store).append("account-1", [Opened("ada")], metadata={"ip": "::1"})
        (event,) = (await store.read("account-1")).events
    assert event.metadata == {"ip": "::1", CORRELATION_ID: "request-7"}


async def test_nothing_is_written_if_one_of_the_instances_is_refused() -> None:
    async with MemoryEventStore() as store:
        with pytest.raises(InvalidEventError, match="amount"):
            await TYPES.on(store).append("account-1", [Opened("ada"), Deposited(math.nan)])
        assert not (await store.read("account-1")).exists


async def test_a_stream_with_another_type_is_refused_or_read_raw() -> None:
    async with MemoryEventStore() as store:
        await store.append("account-1", [NewEvent("Elsewhere", 1)])
        with pytest.raises(UnknownEventTypeError):
            await TYPES.on(store).read("account-1")
        raw = EventTypes[Opened | Any](Opened, unknown="raw").on(store)
        assert [event.data for event in (await raw.read("account-1")).events] == [1]
        assert [event.data async for event in raw.iterate_all()] == [1]


async def test_a_subscription_resumes_before_an_event_that_it_could_not_decode() -> None:
    async with MemoryEventStore() as store:
        accounts = TYPES.on(store)
        await accounts.append("account-1", [Opened("ada")])
        await store.append("account-1", [NewEvent("Deposited", {"amount": "much"})])
        await accounts.append("account-1", [Deposited(1.0)])
        with no_hang():
            async with accounts.subscribe() as subscription:
                first = await anext(subscription)
                with pytest.raises(EventDataError):
                    await anext(subscription)
                assert subscription.position == first.position
                assert (await anext(subscription)).data == Deposited(1.0)
                assert subscription.position == first.position + 2
