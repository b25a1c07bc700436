"""Snapshots change no result, only the work, whatever becomes of them."""

from __future__ import annotations

import pickle

import anyio
import pytest

from tests.toolkit.backends import OpenStore
from tests.toolkit.moves import ACCOUNT, STREAM, Account, Moved, evolve, kept, move

from eventport import EventStore, InvalidArgumentError
from eventport.commands import CommandHandler, Decider
from eventport.folding import Fold, replay
from eventport.snapshots import (
    MemorySnapshotStore,
    Snapshots,
    SnapshotStore,
    StateCodec,
    StreamSnapshotStore,
    every,
)

from eventport_conformance.waiting import no_hang


async def test_no_result_is_another_than_that_of_a_replay(
    store: EventStore, snapshot_store: SnapshotStore
) -> None:
    snapshots = Snapshots(snapshot_store, Account, policy=every(3))
    for version in range(13):
        for to_version in (None, 0, 1, version // 2, version, version + 1):
            found = await snapshots.load(store, STREAM, ACCOUNT, to_version=to_version)
            assert found == await replay.load(store, STREAM, ACCOUNT, to_version=to_version)
        await move(store, version)
    assert snapshots.stats.used > 0
    assert snapshots.stats.taken == 4


async def test_a_load_folds_only_what_came_since_the_last_snapshot(
    store: EventStore, snapshot_store: SnapshotStore
) -> None:
    snapshots = Snapshots(snapshot_store, Account)
    stats = snapshots.stats
    await move(store, *range(99))
    await snapshots.load(store, STREAM, ACCOUNT)
    assert (stats.events, stats.taken) == (99, 0)
    await move(store, 99)
    await snapshots.load(store, STREAM, ACCOUNT)  # it crosses the hundredth
    assert (stats.events, stats.taken, stats.used, stats.missing) == (199, 1, 0, 2)
    await snapshots.load(store, STREAM, ACCOUNT)
    await move(store, 1000, 1001)
    found = await snapshots.load(store, STREAM, ACCOUNT)
    assert (stats.events, stats.taken, stats.used, stats.loads) == (201, 1, 2, 4)
    assert (found.version, found.state.largest) == (102, 1001)


async def test_a_policy_of_ones_own_decides(
    store: EventStore, snapshot_store: SnapshotStore
) -> None:
    asked: list[tuple[int, int]] = []

    def large(since: int, account: Account) -> bool:
        asked.append((since, account.balance))
        return account.balance >= 10

    snapshots = Snapshots(snapshot_store, Account, policy=large)
    for amount in (4, 5, 6, 7):
        await move(store, amount)
        await snapshots.load(store, STREAM, ACCOUNT)
    assert asked == [(1, 4), (2, 9), (3, 15), (1, 22)]
    assert snapshots.stats.taken == 2


async def test_without_anything_new_no_snapshot_is_taken_again(
    store: EventStore, snapshot_store: SnapshotStore
) -> None:
    snapshots = Snapshots(snapshot_store, Account, policy=lambda *_: True)
    await move(store, 1)
    for _ in range(3):
        await snapshots.load(store, STREAM, ACCOUNT)
    assert (snapshots.stats.taken, snapshots.stats.used) == (1, 2)


async def test_an_earlier_version_is_loaded_from_an_earlier_snapshot(
    store: EventStore, snapshot_store: SnapshotStore
) -> None:
    snapshots = Snapshots(snapshot_store, Account, policy=every(10))
    for ten in range(5):
        await move(store, *range(ten * 10, ten * 10 + 10))
        await snapshots.load(store, STREAM, ACCOUNT)
    # Three are kept: those of the versions 30, 40 and 50.
    for version, events in {50: 0, 49: 9, 31: 1, 30: 0, 29: 29}.items():
        before = snapshots.stats.events
        found = await snapshots.load(store, STREAM, ACCOUNT, to_version=version)
        assert found.version == version
        assert found.state.balance == sum(range(version))
        assert snapshots.stats.events - before == events
    assert snapshots.stats.taken == 5


async def test_what_a_session_has_only_in_mind_is_not_kept(
    store: EventStore, snapshot_store: SnapshotStore
) -> None:
    snapshots = Snapshots(snapshot_store, Account, policy=every(1))

    async def give_up() -> None:
        async with store.session() as session:
            await session.append(STREAM, [ACCOUNT.types.new(Moved(1000))])
            found = await snapshots.load(session, STREAM, ACCOUNT)
            assert found.state.balance == 1006
            with pytest.raises(InvalidArgumentError, match="not committed yet"):
                await snapshots.snapshot_now(session, STREAM, ACCOUNT)
            raise RuntimeError

    await move(store, 1, 2, 3)
    with pytest.raises(RuntimeError):
        await give_up()
    assert snapshots.stats.taken == 0
    await move(store, 4)
    assert (await snapshots.load(store, STREAM, ACCOUNT)).state.balance == 10
    assert snapshots.stats.taken == 1


async def test_a_codec_of_ones_own_keeps_what_json_cannot(
    store: EventStore, snapshot_store: SnapshotStore
) -> None:
    fold = Fold(ACCOUNT.types, tuple[int, ...], lambda state, event: (*state, event.amount))
    codec = StateCodec[tuple[int, ...]](pickle.dumps, pickle.loads, "amounts")
    snapshots = Snapshots(snapshot_store, codec, policy=every(2))
    for amount in range(5):
        await move(store, amount)
        found = await snapshots.load(store, STREAM, fold)
        assert found.state == tuple(range(amount + 1))
    assert (snapshots.stats.taken, snapshots.stats.used) == (2, 3)


async def test_a_state_is_kept_as_it_was_whatever_its_owner_does(
    store: EventStore, snapshot_store: SnapshotStore
) -> None:
    await move(store, 1, 2)
    group = anyio.create_task_group()
    snapshots = Snapshots(snapshot_store, Account, policy=every(1), task_group=group)
    with no_hang():
        async with group:
            found = await snapshots.load(store, STREAM, ACCOUNT)
            found.state.balance = 1000
    again = await snapshots.load(store, STREAM, ACCOUNT)
    assert again.state.balance == 3
    assert snapshots.stats.used == 1


async def test_a_snapshot_can_be_taken_at_any_time(
    store: EventStore, snapshot_store: SnapshotStore
) -> None:
    snapshots = Snapshots(snapshot_store, Account, policy=every(1_000))
    assert await snapshots.snapshot_now(store, STREAM, ACCOUNT) == 0
    await move(store, 1, 2)
    assert await snapshots.snapshot_now(store, STREAM, ACCOUNT) == 2
    assert await snapshots.snapshot_now(store, STREAM, ACCOUNT) == 2  # there is nothing new
    assert snapshots.stats.taken == 1
    await move(store, 3)
    before = snapshots.stats.events
    assert (await snapshots.load(store, STREAM, ACCOUNT)).state.balance == 6
    assert snapshots.stats.events - before == 1


async def test_memory_forgets_what_is_beyond_its_retention() -> None:
    memory = MemorySnapshotStore(retention=2)
    for version in (1, 2, 3):
        await memory.save(kept(version))
    assert await memory.latest(STREAM, to_version=1) is None
    found = await memory.latest(STREAM)
    assert found is not None
    assert found.version == 3


async def test_memory_forgets_the_streams_that_were_not_used_for_long() -> None:
    memory = MemorySnapshotStore(streams=2)
    for stream in "abac":
        await memory.save(kept(1, stream=stream))
    assert [await memory.latest(stream) is not None for stream in "abc"] == [True, False, True]
    await memory.latest("a")
    await memory.save(kept(1, stream="b"))
    assert [await memory.latest(stream) is not None for stream in "abc"] == [True, True, False]


async def test_folds_of_one_stream_keep_apart_by_name(store: EventStore) -> None:
    total = Fold(ACCOUNT.types, int, lambda state, event: state + event.amount)
    await move(store, 1, 2, 3)
    accounts = Snapshots(StreamSnapshotStore(store), Account, policy=every(1))
    totals = Snapshots(StreamSnapshotStore(store, name="total"), int, policy=every(1))
    for _ in range(2):
        assert (await accounts.load(store, STREAM, ACCOUNT)).state.balance == 6
        assert (await totals.load(store, STREAM, total)).state == 6
    assert (accounts.stats.used, totals.stats.used) == (1, 1)
    streams = {event.stream for event in (await store.read_all()).events}
    assert streams == {
        STREAM,
        "eventport/snapshot/account-1",
        "eventport/snapshot/account-1/total",
    }


async def test_commands_do_the_same_with_snapshots_and_with_less_work(store: EventStore) -> None:
    def decide(amount: int, account: Account) -> list[Moved]:
        return [Moved(amount)] if account.balance < 1_000 else []

    rules = Decider(types=ACCOUNT.types, initial=Account, evolve=evolve, decide=decide)
    snapshots = Snapshots(StreamSnapshotStore(store), Account, policy=every(10))
    with_snapshots = CommandHandler(store, rules, loader=snapshots)
    without = CommandHandler(store, rules)
    for amount in range(60):
        handled = await with_snapshots.handle(STREAM, amount)
        assert handled.state == (await without.handle("account-2", amount)).state
    last = await without.handle("account-2", 1)
    assert (last.version, last.events) == (46, ())
    assert (await replay.load(store, STREAM, ACCOUNT)).state == last.state
    # Without them, 0 + 1 + … + 45 events are folded, and 46 each time from then on.
    assert snapshots.stats.events < 60 * 10
    assert snapshots.stats.taken == 4


async def test_loads_and_writes_at_the_same_time_see_true_states(open_store: OpenStore) -> None:
    with no_hang():
        async with open_store() as store, open_store() as other:
            snapshots = Snapshots(StreamSnapshotStore(other), Account, policy=every(5))

            async def write() -> None:
                for _ in range(40):
                    await move(store, 1)

            async def watch() -> None:
                version = 0
                while version < 80:
                    found = await snapshots.load(other, STREAM, ACCOUNT)
                    assert found.state.balance == found.version >= version
                    version = found.version

            async with anyio.create_task_group() as group:
                for task in (write, write, watch, watch):
                    group.start_soon(task)
            assert snapshots.stats.used > 0


def test_bad_arguments_are_named_with_the_remedy() -> None:
    with pytest.raises(InvalidArgumentError, match="events must be from 1"):
        every(0)
    with pytest.raises(InvalidArgumentError, match="retention must be from 1"):
        MemorySnapshotStore(retention=0)
    with pytest.raises(InvalidArgumentError, match="pass a StateCodec"):
        Snapshots(MemorySnapshotStore(), 7)
