"""A projection's handler that appends to the store of its events, in its own transaction."""

from __future__ import annotations

import asyncio

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import aiosqlite
import pytest

from tests.toolkit.accounts import ACCOUNT, Deposit
from tests.toolkit.read_models import PLACES
from tests.toolkit.stages import QUICK, running

from eventport import ConcurrencyError, NewEvent, NotSupportedError, RecordedEvent, connect
from eventport.callbacks import InlineStore
from eventport.commands import CommandHandler
from eventport.projections import (
    Projection,
    ProjectionContext,
    ProjectionStoppedError,
    Runner,
    open_checkpoints,
)

from eventport_conformance.waiting import no_hang
from eventport_sqlite import SQLiteEventStore


@pytest.mark.parametrize("database", PLACES)
@pytest.mark.parametrize("fails", [False, True])
async def test_what_a_handler_appends_is_committed_with_the_checkpoint(
    request: pytest.FixtureRequest, database: str, fails: bool
) -> None:
    place = PLACES[database](request)
    async with connect(place.url) as store, open_checkpoints(store, place.url) as checkpoints:
        projection: Projection[Any] = Projection("bonus", prefix="order-", retries=QUICK)
        failures = [RuntimeError()] * 2 if fails else []

        @projection.on("Added")
        async def added(event: RecordedEvent, context: ProjectionContext[Any]) -> None:
            joined = store.using(context.connection)  # type: ignore[attr-defined]  # both have it
            await CommandHandler(joined, ACCOUNT).handle("account-1", Deposit(5))
            await CommandHandler(joined, ACCOUNT).handle("account-2", Deposit(7))
            if failures:
                raise failures.pop()

        result = await store.append("order-1", [NewEvent("Added", {})])
        runner = Runner(store, projection, checkpoints)
        async with running(runner):
            await runner.wait_until(result.position or 0)
        cause = (await store.read("order-1")).events[0]
        for account in ("account-1", "account-2"):
            (event,) = (await store.read(account)).events
            assert event.metadata["causation_id"] == str(cause.id)
        assert len((await store.read_all(prefix="account-")).events) == 2


async def test_an_append_that_would_wait_for_its_own_handler_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'place.db'}"
    async with connect(url) as store, open_checkpoints(store, url) as checkpoints:
        projection: Projection[Any] = Projection("stuck", retries=QUICK)
        later: list[asyncio.Task[Any]] = []
        released = asyncio.Event()

        async def after_it() -> None:
            await released.wait()
            await store.append("later-1", [NewEvent("Late", {})])

        @projection.on("Added")
        async def added(event: RecordedEvent, context: ProjectionContext[Any]) -> None:
            later.append(asyncio.create_task(after_it()))
            await store.append("other-1", [NewEvent("Never", {})])

        await store.append("order-1", [NewEvent("Added", {})])
        with no_hang(), pytest.raises(ProjectionStoppedError) as caught:
            await Runner(store, projection, checkpoints).run()
        assert isinstance(caught.value.__cause__, NotSupportedError)
        assert "using(context.connection)" in str(caught.value)
        assert not (await store.read("other-1")).exists
        released.set()
        await asyncio.gather(*later)  # the transaction has ended: nothing is refused any more
        assert (await store.read("later-1")).version == 3


@pytest.mark.parametrize("place", ["memory", "sqlite"])
async def test_a_command_that_would_wait_for_its_own_handler_is_refused_with_a_gate_too(
    tmp_path: Path, place: str
) -> None:
    """Its commit would wait for the handler, and the handler for the gate."""
    url = "memory://" if place == "memory" else f"sqlite:///{tmp_path / 'place.db'}"
    errors: list[Exception] = []
    async with connect(url) as store:
        accounts = CommandHandler(store, ACCOUNT, gate=True)

        async def react(events: Sequence[RecordedEvent], transaction: Any) -> None:
            if events[0].type == "Added":
                try:
                    await accounts.handle("account-1", Deposit(1))
                except NotSupportedError as exc:
                    errors.append(exc)

        cast("InlineStore", store).inline(react)
        with no_hang():
            await store.append("order-1", [NewEvent("Added", {})])
        assert len(errors) == 1
        assert (await accounts.handle("account-1", Deposit(1))).state == 1


async def test_a_command_in_a_checkpoints_transaction_is_refused_with_a_gate_too(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'place.db'}"
    async with connect(url) as store, open_checkpoints(store, url) as checkpoints:
        accounts = CommandHandler(store, ACCOUNT, gate=True)
        projection: Projection[Any] = Projection("stuck", retries=QUICK)

        @projection.on("Added")
        async def added(event: RecordedEvent, context: ProjectionContext[Any]) -> None:
            await accounts.handle("account-1", Deposit(1))

        await store.append("order-1", [NewEvent("Added", {})])
        with no_hang(), pytest.raises(ProjectionStoppedError) as caught:
            await Runner(store, projection, checkpoints).run()
        assert isinstance(caught.value.__cause__, NotSupportedError)


async def test_a_transaction_of_the_callers_on_sqlite(tmp_path: Path) -> None:
    file = tmp_path / "events.db"
    async with (
        await SQLiteEventStore.open(file) as store,
        aiosqlite.connect(file, isolation_level=None) as own,
        aiosqlite.connect(tmp_path / "other.db", isolation_level=None) as other,
    ):
        joined = store.using(own)
        with pytest.raises(NotSupportedError, match="BEGIN"):
            await joined.append("a-1", [NewEvent("A", {})])
        await other.execute("BEGIN IMMEDIATE")
        with pytest.raises(NotSupportedError, match="same file"):
            await store.using(other).append("a-1", [NewEvent("A", {})])
        own.row_factory = aiosqlite.Row
        await own.execute("BEGIN IMMEDIATE")
        await joined.append("a-1", [NewEvent("A", {"n": 1})], expected=0)
        with pytest.raises(ConcurrencyError):
            await joined.append("a-1", [NewEvent("A", {})], expected=0)
        async with joined.session() as session:
            await session.append("a-1", [NewEvent("A", {"n": 2})])
            await session.append("b-1", [NewEvent("B", {})])
        assert [e.data for e in (await joined.read("a-1")).events] == [{"n": 1}, {"n": 2}]
        assert not (await store.read("a-1")).exists
        await own.rollback()
        assert not (await store.read("a-1")).exists
        await own.execute("BEGIN IMMEDIATE")
        result = await joined.append("a-1", [NewEvent("A", {})])
        await own.commit()
        (event,) = (await store.read("a-1")).events
        assert event.position == result.position
