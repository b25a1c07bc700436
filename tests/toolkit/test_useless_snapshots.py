"""Snapshots that are of no use, and stores of them that fail or are slow, cost a replay at most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from tests.toolkit.moves import ACCOUNT, STREAM, Account, kept, move

from eventport import CorruptEventError, EventStore, InvalidArgumentError, NewEvent
from eventport.folding import Fold
from eventport.snapshots import (
    MemorySnapshotStore,
    Snapshot,
    Snapshots,
    SnapshotStore,
    StreamSnapshotStore,
    every,
)

from eventport_conformance.waiting import no_hang
from eventport_memory import MemoryEventStore


async def test_a_snapshot_of_another_schema_is_passed_over_and_replaced(
    store: EventStore, snapshot_store: SnapshotStore
) -> None:
    await move(store, 1, 2, 3)
    await Snapshots(snapshot_store, Account, policy=every(1)).load(store, STREAM, ACCOUNT)
    for other in (
        Snapshots(snapshot_store, Account, schema=2, policy=every(1)),
        Snapshots(snapshot_store, Account | None, schema=1, policy=every(1)),
    ):
        for _ in range(2):
            found = await other.load(store, STREAM, ACCOUNT)
            assert found.state == Account(6, 3, {1, 2, 3})
        assert (other.stats.outdated, other.stats.used, other.stats.taken) == (1, 1, 1)


async def test_a_snapshot_that_cannot_be_decoded_is_passed_over_and_counted(
    store: EventStore, snapshot_store: SnapshotStore, caplog: pytest.LogCaptureFixture
) -> None:
    await move(store, 1, 2, 3)
    last = (await store.read(STREAM)).events[-1]
    snapshots = Snapshots(snapshot_store, Account)
    await snapshot_store.save(kept(3, last.id, b'{"balance": "much"}'))
    found = await snapshots.load(store, STREAM, ACCOUNT)
    assert found.state == Account(6, 3, {1, 2, 3})
    assert (snapshots.stats.broken, snapshots.stats.used) == (1, 0)
    assert "snapshot of stream 'account-1' passed over" in caplog.text


async def test_a_snapshot_ahead_of_the_stream_or_of_other_events_is_passed_over(
    store: EventStore, snapshot_store: SnapshotStore
) -> None:
    await move(store, 1, 2, 3)
    second = (await store.read(STREAM)).events[1]
    state = b'{"balance": 1000}'
    snapshots = Snapshots(snapshot_store, Account)
    for number, wrong in enumerate([kept(4, None, state), kept(3, None, state)], 1):
        await snapshot_store.save(wrong)
        found = await snapshots.load(store, STREAM, ACCOUNT)
        assert found.state == Account(6, 3, {1, 2, 3})
        assert (snapshots.stats.diverged, snapshots.stats.used) == (number, 0)
    await snapshot_store.save(kept(2, second.id, state))
    assert (await snapshots.load(store, STREAM, ACCOUNT)).state.balance == 1003
    assert snapshots.stats.used == 1


async def test_a_stream_of_snapshots_that_others_wrote_to_breaks_nothing(store: EventStore) -> None:
    await move(store, 1, 2)
    snapshot_store = StreamSnapshotStore(store)
    snapshots = Snapshots(snapshot_store, Account)
    for surprise in (
        NewEvent("eventport.Surprise", {"a": 1}),
        NewEvent("eventport.Surprise", b"", {"version": "x"}),
    ):
        await store.append(snapshot_store.stream(STREAM), [surprise])
        with pytest.raises(CorruptEventError, match="is no eventport\\.SnapshotTaken"):
            await snapshot_store.latest(STREAM)
        assert (await snapshots.load(store, STREAM, ACCOUNT)).state.balance == 3
    assert snapshots.stats.broken == 2


class Failing:
    """A place for snapshots that is full, or away."""

    async def save(self, snapshot: Snapshot) -> None:
        raise OSError("no space left")

    async def latest(self, stream: str, *, to_version: int | None = None) -> Snapshot | None:
        raise OSError("not there")


async def test_a_snapshot_store_that_fails_costs_a_replay_and_is_counted(
    store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    await move(store, 1, 2)
    snapshots = Snapshots(Failing(), Account, policy=every(1))
    assert (await snapshots.load(store, STREAM, ACCOUNT)).state.balance == 3
    assert (snapshots.stats.broken, snapshots.stats.failed, snapshots.stats.taken) == (1, 1, 0)
    assert "OSError was raised" in caplog.text
    assert "OSError was raised" in caplog.text
    with pytest.raises(OSError, match="no space left"):
        await snapshots.snapshot_now(store, STREAM, ACCOUNT)


@dataclass
class Loose:
    """What JSON makes something else of, or cannot hold at all."""

    what: Any = None


@pytest.mark.parametrize("state", [(1, 2), float("nan"), object(), {1: 2}, {"a"}])
async def test_a_state_that_would_come_back_as_another_is_not_kept(state: object) -> None:
    fold = Fold(ACCOUNT.types, Loose, lambda _, __: Loose(state))
    snapshot_store = MemorySnapshotStore()
    snapshots = Snapshots(snapshot_store, Loose, policy=every(1))
    async with MemoryEventStore() as store:
        await move(store, 1)
        for _ in range(2):
            assert (await snapshots.load(store, STREAM, fold)).state.what is state
        assert (snapshots.stats.failed, snapshots.stats.taken) == (2, 0)
        with pytest.raises(InvalidArgumentError, match="pass a StateCodec"):
            await snapshots.snapshot_now(store, STREAM, fold)
    assert await snapshot_store.latest(STREAM) is None


class Slow(MemorySnapshotStore):
    """A place for snapshots that is far away."""

    def __init__(self) -> None:
        super().__init__()
        self.go = anyio.Event()

    async def save(self, snapshot: Snapshot) -> None:
        await self.go.wait()
        await super().save(snapshot)


async def test_a_task_group_takes_the_save_out_of_the_way(store: EventStore) -> None:
    snapshot_store = Slow()
    await move(store, 1, 2)
    group = anyio.create_task_group()
    snapshots = Snapshots(snapshot_store, Account, policy=every(1), task_group=group)
    with no_hang():
        async with group:
            for _ in range(3):
                await snapshots.load(store, STREAM, ACCOUNT)
            await anyio.wait_all_tasks_blocked()
            assert snapshots.stats.taken == 0
            snapshot_store.go.set()
    assert snapshots.stats.taken == 1  # of one stream, one at a time
    await snapshots.load(store, STREAM, ACCOUNT)
    assert snapshots.stats.used == 1


async def test_a_task_group_that_has_ended_fails_no_load(store: EventStore) -> None:
    await move(store, 1)
    group = anyio.create_task_group()
    snapshots = Snapshots(MemorySnapshotStore(), Account, policy=every(1), task_group=group)
    async with group:
        pass
    assert (await snapshots.load(store, STREAM, ACCOUNT)).state.balance == 1
    assert snapshots.stats.failed == 1
