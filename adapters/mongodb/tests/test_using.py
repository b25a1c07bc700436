"""Proves that a store inside the caller's transaction shares its fate, and says what it cannot."""

from __future__ import annotations

import asyncio

from typing import Any

import pytest

from adapters.mongodb.tests.conftest import needs_mongod
from pymongo import AsyncMongoClient

from eventport import ConcurrencyError, NewEvent, NotSupportedError, StoreUnavailableError

from eventport_conformance.cancelling import cancel_everywhere
from eventport_conformance.helpers import make
from eventport_conformance.waiting import no_hang
from eventport_mongodb import MongoDBEventStore


pytestmark = needs_mongod


async def test_documents_and_events_are_committed_together(url: str) -> None:
    async with AsyncMongoClient[Any](url) as client:
        orders = client.get_default_database()["orders"]
        async with (
            await MongoDBEventStore.open(client) as store,
            client.start_session() as session,
        ):
            for commits in (False, True):
                async with await session.start_transaction():
                    await orders.insert_one({"_id": 1}, session=session)
                    await store.using(session).append("order-1", make(2), expected=0)
                    with pytest.raises(ConcurrencyError):
                        await store.using(session).append("order-1", make(1), expected=0)
                    if not commits:
                        await session.abort_transaction()
                assert await orders.count_documents({}) == int(commits)
                assert (await store.read("order-1")).version == 2 * commits


async def test_an_append_that_is_cancelled_at_any_wait_leaves_nothing(url: str) -> None:
    runs = 0
    async with (
        AsyncMongoClient[Any](url) as client,
        await MongoDBEventStore.open(client) as store,
        client.start_session() as session,
    ):

        async def work() -> None:
            await store.using(session).append(f"s-{runs}", make(2))

        await session.start_transaction()
        async for run in cancel_everywhere("asyncio", work):
            if session.in_transaction:
                await session.commit_transaction()
            head = (await store.read(f"s-{runs}")).version
            assert head == (2 if run.finished else 0), str(run)
            runs += 1
            await session.start_transaction()
    assert runs > 4


async def test_of_two_transactions_one_has_to_be_run_again(url: str) -> None:
    async with (
        AsyncMongoClient[Any](url) as client,
        no_hang(),
        await MongoDBEventStore.open(client) as store,
        client.start_session() as first,
        client.start_session() as second,
    ):
        await first.start_transaction()
        await store.using(first).append("a", make(1))
        await second.start_transaction()
        with pytest.raises(StoreUnavailableError, match="run it again"):
            await store.using(second).append("b", make(1))
        assert not second.in_transaction
        waiting = asyncio.create_task(store.append("c", make(1)))
        await first.commit_transaction()
        assert (await waiting).version == 1
        await second.start_transaction()
        await store.using(second).append("b", make(1))
        await second.commit_transaction()
        streams = [event.stream for event in (await store.read_all()).events]
        assert sorted(streams) == ["a", "b", "c"]


async def test_what_it_refuses(url: str) -> None:
    async with (
        AsyncMongoClient[Any](url) as client,
        AsyncMongoClient[Any](url) as other,
    ):
        store = await MongoDBEventStore.open(client)
        async with client.start_session() as session, other.start_session() as foreign:
            joined = store.using(session)
            with pytest.raises(NotSupportedError, match="no transaction is open"):
                await joined.append("s", [NewEvent("E", 1)])
            await foreign.start_transaction()
            with pytest.raises(NotSupportedError, match="of another client"):
                await store.using(foreign).read("s")
            await foreign.abort_transaction()
            await store.aclose()
