"""A gate recognises commands that come again, as far as it looks back, and after lost answers."""

from __future__ import annotations

from typing import Any, cast
from uuid import uuid4

import pytest

from tests.tasks import task_group
from tests.toolkit.accounts import ACCOUNT, TYPES, Deposit, Deposited, Withdraw
from tests.toolkit.gated import Outcomes, data, gated
from tests.toolkit.staged import Staged

from eventport import EventStore, StoreUnavailableError
from eventport.commands import CommandIdReusedError, CommandResult, gate_states
from eventport.commands.gate_states import HeldStream
from eventport.folding import replay
from eventport.snapshots import MemorySnapshotStore, Snapshots, every

from eventport_conformance.waiting import no_hang


pytestmark = pytest.mark.usefixtures("in_time")


async def test_a_command_that_is_delivered_again_is_applied_once(staged: Staged) -> None:
    handler, id_ = gated(staged), uuid4()
    outcomes = Outcomes(handler)
    with no_hang():
        async with task_group() as tasks:
            for number in range(9):
                tasks.start_soon(outcomes.handle, number, Deposit(5), id_)
                tasks.start_soon(outcomes.handle, number + 9, Deposit(1))
    assert not outcomes.errors
    statuses = [outcomes.results[number].status for number in range(9)]
    assert sorted(statuses) == ["already applied"] * 8 + ["executed"]
    stored = await data(cast("EventStore", staged))
    assert (stored.count(Deposited(5)), len(stored)) == (1, 10)
    first, again = outcomes.results[0], await gated(staged).handle("account-1", Deposit(5), id=id_)
    assert (again.state, again.version, again.events) == (14, 10, first.events)


async def test_what_has_followed_is_in_the_state_of_a_repeated_command(store: EventStore) -> None:
    handler, id_ = gated(store), uuid4()
    first = await handler.handle("account-1", Withdraw(0), id=uuid4())
    first = await handler.handle("account-1", Deposit(5), id=id_)
    await store.append("account-1", [TYPES.new(Deposited(1)) for _ in range(700)])
    again = await handler.handle("account-1", Deposit(5), id=id_)
    assert again == CommandResult("already applied", 705, 701, first.events, first.position)


@pytest.mark.parametrize("other_gate", [False, True])
async def test_another_command_under_the_same_id_is_refused(
    store: EventStore, other_gate: bool
) -> None:
    handler, id_ = gated(store), uuid4()
    await handler.handle("account-1", Deposit(5), id=id_)
    second = gated(store) if other_gate else handler
    with pytest.raises(CommandIdReusedError, match=str(id_)):
        await second.handle("account-1", Deposit(6), id=id_)
    assert (await second.handle("account-2", Deposit(6), id=id_)).status == "executed"


async def test_a_command_applied_elsewhere_meanwhile_is_recognised(
    store: EventStore, staged: Staged
) -> None:
    handler, id_ = gated(staged), uuid4()
    await handler.handle("account-1", Deposit(1))
    other: list[CommandResult[int]] = []

    async def elsewhere() -> None:
        other.append(await gated(store).handle("account-1", Deposit(5), id=id_))

    staged.at[len(staged.calls)] = elsewhere
    handled = await handler.handle("account-1", Deposit(5), id=id_)
    assert (handled.status, handled.state) == ("already applied", 6)
    assert (handled.events, handled.position) == (other[0].events, other[0].position)
    assert await data(store) == [Deposited(1), Deposited(5)]


async def test_with_snapshots_it_looks_back_as_far_as_asked_for(store: EventStore) -> None:
    snapshots = Snapshots(MemorySnapshotStore(), int, policy=every(1))
    ids = [uuid4() for _ in range(9)]
    for id_ in ids:
        await gated(store).handle("account-1", Deposit(1), id=id_)
    await snapshots.load(store, "account-1", ACCOUNT.fold)
    handler = gated(store, loader=snapshots, lookback=4)
    statuses = [
        (await handler.handle("account-1", Deposit(1), id=id_)).status for id_ in ids[:4:-1]
    ]
    assert statuses == ["already applied"] * 4
    assert (await handler.handle("account-1", Deposit(1), id=ids[0])).status == "executed"


async def test_it_knows_a_bounded_number_of_commands(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_states, "MAX_KNOWN", 3)
    handler = gated(store)
    ids = [uuid4() for _ in range(5)]
    for id_ in ids:
        await handler.handle("account-1", Deposit(1), id=id_)
    held = HeldStream(store, ACCOUNT, replay, 100, "account-1")
    await held.refresh()  # all of the stream is new to it
    gate: Any = handler._gate
    for known in (gate._lanes["account-1"]._held._known, held._known):
        assert [known.first(str(id_)) for id_ in ids] == [None, None, 3, 4, 5]


async def test_a_lost_answer_fails_all_of_its_commit_and_is_made_good_by_the_same_commands(
    store: EventStore, staged: Staged
) -> None:
    async def lose() -> None:
        raise StoreUnavailableError("the connection was dropped")

    handler, ids = gated(staged), [uuid4() for _ in range(5)]
    await handler.handle("account-1", Deposit(100))
    staged.at[len(staged.calls) + 1] = lose
    lost = Outcomes(handler)
    async with task_group() as tasks:
        for number, id_ in enumerate(ids):
            tasks.start_soon(lost.handle, number, Deposit(1), id_)
        tasks.start_soon(lost.handle, 5, Withdraw(1000))  # its refusal depends on them
    assert [type(one) for one in lost.errors.values()] == [StoreUnavailableError] * 6
    for id_ in ids:
        assert (await handler.handle("account-1", Deposit(1), id=id_)).status == "already applied"
    assert (await store.read("account-1")).version == 6
