"""A command that is delivered more than once is applied once."""

from __future__ import annotations

from typing import Any, cast
from uuid import uuid4

import anyio
import pytest

from tests.toolkit.accounts import (
    TYPES,
    Deposit,
    Deposited,
    E,
    S,
    Withdraw,
    accounts,
    data,
)

from eventport import (
    EventStore,
    StoreUnavailableError,
    Streams,
)
from eventport.commands import CommandIdReusedError, CommandResult
from eventport.folding import Fold
from eventport.results import AggregateResult
from eventport.snapshots import MemorySnapshotStore, Snapshots, every
from eventport.typed import EventTypes

from eventport_conformance.waiting import no_hang


async def test_a_repeated_command_is_recognised(store: EventStore) -> None:
    handler, id_ = accounts(store), uuid4()
    first = await handler.handle("account-1", Deposit(5), id=id_)
    again = await handler.handle("account-1", Deposit(5), id=id_)
    assert again == CommandResult("already applied", 5, 1, first.events, first.position)
    other = await handler.handle("account-1", Deposit(5), id=uuid4())
    assert (other.status, other.state) == ("executed", 10)


async def test_a_repeated_command_that_would_now_be_refused_is_recognised(
    store: EventStore,
) -> None:
    handler, id_ = accounts(store), uuid4()
    await handler.handle("account-1", Deposit(5))
    await handler.handle("account-1", Withdraw(5), id=id_)
    again = await handler.handle("account-1", Withdraw(5), id=id_)
    assert (again.status, again.state) == ("already applied", 0)


async def test_it_is_looked_through_all_that_is_replayed(store: EventStore) -> None:
    handler, id_ = accounts(store, lookback=1), uuid4()
    first = await handler.handle("account-1", Deposit(5), id=id_)
    await store.append("account-1", [TYPES.new(Deposited(1)) for _ in range(700)])
    again = await handler.handle("account-1", Deposit(5), id=id_)
    assert again == CommandResult("already applied", 705, 701, first.events, first.position)


class Remembering:
    """A loader that has the first versions of a stream by heart, as from a snapshot."""

    def __init__(self, versions: int) -> None:
        self.versions = versions

    async def load(
        self, streams: Streams, stream: str, fold: Fold[S, E], *, to_version: int | None = None
    ) -> AggregateResult[S]:
        state, version = fold.initial(), 0
        async for event in streams.iterate(stream, to_version=to_version):
            types = cast("EventTypes[E]", TYPES) if event.version <= self.versions else fold.types
            state, version = fold.evolve(state, types.decode(event)), event.version
        return AggregateResult(state, version, version > 0)


@pytest.mark.parametrize("remembered", [0, 2, 5, 6, 8, 9])
@pytest.mark.parametrize("lookback", [3, 4, 5])
async def test_with_snapshots_it_is_looked_back_as_far_as_asked_for(
    store: EventStore, remembered: int, lookback: int
) -> None:
    """The command's events are 5 and 6 of 9."""
    id_ = uuid4()
    await store.append("account-1", [TYPES.new(Deposited(1)) for _ in range(4)])
    await accounts(store).handle("account-1", Withdraw(4), id=id_)
    await store.append("account-1", [TYPES.new(Deposited(2)) for _ in range(3)])
    handler = accounts(store, loader=Remembering(remembered), lookback=lookback)
    again = await handler.handle("account-1", Withdraw(4), id=id_)
    is_seen = remembered < 6 or lookback > 3
    assert again.status == ("already applied" if is_seen else "executed")
    assert again.state == (6 if is_seen else 2)


async def test_a_lost_answer_is_made_good_by_the_same_command(store: EventStore) -> None:
    class Deaf:
        """The store, but its answers to appends are lost on the way."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        async def append(self, *arguments: Any, **options: Any) -> Any:
            await store.append(*arguments, **options)
            raise StoreUnavailableError("the line was cut")

    id_ = uuid4()
    with pytest.raises(StoreUnavailableError):
        await accounts(cast("EventStore", Deaf())).handle("account-1", Deposit(5), id=id_)
    handled = await accounts(store).handle("account-1", Deposit(5), id=id_)
    assert (handled.status, handled.state) == ("already applied", 5)


async def test_of_deliveries_at_the_same_time_one_is_applied(store: EventStore) -> None:
    id_, handled = uuid4(), list[CommandResult[int]]()

    async def deliver() -> None:
        handler = accounts(store, attempts=20)  # its own, as in a process of its own
        handled.append(await handler.handle("account-1", Deposit(5), id=id_))

    with no_hang():
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(deliver)
    assert sorted(one.status for one in handled) == ["already applied"] * 9 + ["executed"]
    assert await data(store, "account-1") == [Deposited(5)]


async def test_one_id_may_stand_for_one_command_on_each_of_several_streams(
    store: EventStore,
) -> None:
    handler, id_ = accounts(store), uuid4()
    for stream in ("account-1", "account-2"):
        assert (await handler.handle(stream, Deposit(5), id=id_)).status == "executed"
        assert (await handler.handle(stream, Deposit(5), id=id_)).status == "already applied"
    ids = {(await store.read(f"account-{number}")).events[0].id for number in (1, 2)}
    assert len(ids) == 2


async def test_in_one_session_a_repeated_command_is_recognised(store: EventStore) -> None:
    handler, id_ = accounts(store), uuid4()
    async with store.session() as session:
        first = await handler.handle("account-1", Deposit(5), id=id_, session=session)
        again = await handler.handle("account-1", Deposit(5), id=id_, session=session)
        assert again == CommandResult("already applied", 5, 1, first.events, None)
    assert (await store.read("account-1")).version == 1


async def test_another_command_under_the_same_id_is_refused(store: EventStore) -> None:
    handler, id_ = accounts(store), uuid4()
    await handler.handle("account-1", Deposit(5), id=id_)
    for other in (Deposit(6), Withdraw(5)):
        with pytest.raises(CommandIdReusedError, match=str(id_)):
            await handler.handle("account-1", other, id=id_)
    assert (await store.read("account-1")).version == 1
    # For another stream it is another command.
    assert (await handler.handle("account-2", Deposit(6), id=id_)).status == "executed"


async def test_a_repeated_command_returns_all_of_its_events(store: EventStore) -> None:
    await accounts(store).handle("account-1", Deposit(5))
    snapshots = Snapshots(MemorySnapshotStore(), int, policy=every(1))
    for handler in (accounts(store), accounts(store, loader=snapshots)):
        id_ = uuid4()
        first = await handler.handle("account-1", Withdraw(5), id=id_)
        assert len(first.events) == 2
        again = await handler.handle("account-1", Withdraw(5), id=id_)
        assert (again.status, again.events) == ("already applied", first.events)
        assert again.position == first.position
        await handler.handle("account-1", Deposit(5))
