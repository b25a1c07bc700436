"""A gate: commands of one process are decided in turn, in memory, and committed together."""

from __future__ import annotations

import asyncio

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast
from uuid import UUID

import anyio
import pytest

from tests.tasks import task_group
from tests.toolkit.accounts import (
    TYPES,
    AccountCommand,
    AccountEvent,
    Deposit,
    Deposited,
    Emptied,
    NotEnoughMoneyError,
    Withdraw,
    decide,
    evolve,
)
from tests.toolkit.gated import Outcomes, data, gated
from tests.toolkit.staged import Staged

from eventport import (
    ConcurrencyError,
    EventStore,
    InvalidArgumentError,
    InvalidArgumentTypeError,
    InvalidEventError,
    NewEvent,
    RecordedEvent,
    WrongEventLoopError,
    connect,
)
from eventport.callbacks import HookStore
from eventport.command_log import CommandLog
from eventport.commands import CommandHandler, Decider, GateFullError, GateLimits
from eventport.context import CORRELATION_ID, bind_context

from eventport_conformance.waiting import no_hang


pytestmark = pytest.mark.usefixtures("in_time")


# Each command has its own outcome.


async def test_each_command_sees_those_before_it_and_has_its_own_result(staged: Staged) -> None:
    outcomes = Outcomes(gated(staged))
    await outcomes.in_one_turn(staged, [Deposit(number + 1) for number in range(50)])
    assert not outcomes.errors
    assert sorted(one.version for one in outcomes.results.values()) == list(range(1, 51))
    stored = (await staged.read("account-1")).events
    for number, result in outcomes.results.items():
        amounts = [event.data["amount"] for event in stored[: result.version]]
        assert (result.status, result.state) == ("executed", sum(amounts))
        assert amounts[-1] == number + 1
        assert [event.id for event in result.events] == [stored[result.version - 1].id]
        assert (result.position or 0) >= stored[result.version - 1].position
    assert staged.appends == 1


async def test_a_refusal_is_raised_in_its_own_caller_only(staged: Staged) -> None:
    outcomes = Outcomes(gated(staged))
    await outcomes.in_one_turn(
        staged, [Deposit(5), Withdraw(4), Withdraw(4), Deposit(9), Withdraw(10), Deposit(0)]
    )
    assert {number: type(one) for number, one in outcomes.errors.items()} == {
        2: NotEnoughMoneyError
    }
    assert [outcomes.results[number].state for number in (0, 1, 3, 4, 5)] == [5, 1, 10, 0, 0]
    assert (outcomes.results[5].events, outcomes.results[5].position) == ((), None)
    assert staged.appends == 1


async def test_what_the_store_refuses_fails_its_own_command_only(staged: Staged) -> None:
    class Careless:
        def new(
            self,
            event: AccountEvent,
            *,
            metadata: Mapping[str, Any] | None = None,
            id: UUID | None = None,  # noqa: A002  # as `NewEvent` calls it
        ) -> NewEvent:
            found = TYPES.new(event, metadata=metadata, id=id)
            bad = event == Deposited(13)
            return NewEvent(found.type, object() if bad else found.data, found.metadata, found.id)

        def decode(self, event: RecordedEvent) -> AccountEvent:
            return TYPES.decode(event)

    decider = Decider(types=Careless(), initial=int, evolve=evolve, decide=decide)
    outcomes = Outcomes(gated(staged, decider=decider))
    await outcomes.in_one_turn(staged, [Deposit(1), Deposit(13), Deposit(2), Withdraw(3)])
    assert [type(outcomes.errors.pop(1)), outcomes.errors] == [InvalidEventError, {}]
    assert [outcomes.results[number].state for number in (0, 2, 3)] == [1, 3, 0]


async def test_events_carry_the_context_of_their_own_caller(store: EventStore) -> None:
    handler = gated(store)

    async def request(name: str) -> None:
        with bind_context(correlation_id=name):
            await handler.handle("account-1", Deposit(1))

    async with task_group() as tasks:
        for number in range(9):
            tasks.start_soon(request, f"request-{number}")
    found = {event.metadata[CORRELATION_ID] for event in (await store.read("account-1")).events}
    assert found == {f"request-{number}" for number in range(9)}


async def test_a_turn_ends_before_it_is_huge(staged: Staged) -> None:
    def many(_: AccountCommand, __: int) -> list[AccountEvent]:
        return [Deposited(1)] * 400

    decider = Decider(types=TYPES, initial=int, evolve=evolve, decide=many)
    outcomes = Outcomes(gated(staged, decider=decider))
    await outcomes.in_one_turn(staged, [Deposit(1)] * 9)
    assert sorted(one.state for one in outcomes.results.values()) == [400 * n for n in range(2, 11)]
    assert staged.appends == 1 + 3


# Other writers.


def deposit_elsewhere(store: EventStore, amount: int) -> Callable[[], Awaitable[object]]:
    return lambda: store.append("account-1", [TYPES.new(Deposited(amount))])


@pytest.mark.parametrize("in_place", [False, True])
async def test_after_a_conflict_all_are_decided_again(
    store: EventStore, staged: Staged, in_place: bool
) -> None:
    """Also those that were refused, since the state that they were refused on never was."""

    def added(state: list[int], event: AccountEvent) -> list[int]:
        if not in_place:
            return [evolve(state[0], event)]
        state[0] = evolve(state[0], event)
        return state

    decider: Decider[list[int], AccountCommand, AccountEvent] = Decider(
        types=TYPES, initial=lambda: [0], evolve=added, decide=lambda c, s: decide(c, s[0])
    )
    handler = CommandHandler(staged.as_store, decider, gate=True)
    await handler.handle("account-1", Deposit(1))
    assert staged.calls[-2:] == ["append", "append returned"]
    staged.at[len(staged.calls)] = deposit_elsewhere(store, 100)  # right before the next append
    with no_hang():
        async with task_group() as tasks:
            for command in (Deposit(2), Withdraw(30), Withdraw(31), Withdraw(32)):
                tasks.start_soon(handler.handle, "account-1", command)
    before, other, *after = await data(store)
    assert [before, other] == [Deposited(1), Deposited(100)]
    assert sorted(one.amount for one in after if not isinstance(one, Emptied)) == [2, 30, 31, 32]
    loads = staged.calls.count("aggregate")
    assert loads == (2 if in_place else 1)  # a state that was not changed catches up


async def test_nothing_is_refused_on_a_state_that_is_not_the_newest(store: EventStore) -> None:
    handler = gated(store)
    await handler.handle("account-1", Deposit(1))
    await deposit_elsewhere(store, 100)()
    assert (await handler.handle("account-1", Withdraw(50))).state == 51
    await deposit_elsewhere(store, 100)()
    unchanged = await handler.handle("account-1", Deposit(0))
    assert (unchanged.state, unchanged.version) == (151, 4)


async def test_the_last_conflict_is_raised(store: EventStore, staged: Staged) -> None:
    outcomes = Outcomes(gated(staged, attempts=3))
    for call in (2, 5, 8):  # the appends; before each there is a read, and its return
        staged.at[call] = deposit_elsewhere(store, 1)
    with no_hang():
        await outcomes.handle(0, Deposit(5))
    assert [type(one) for one in outcomes.errors.values()] == [ConcurrencyError], staged.calls
    assert await data(store) == [Deposited(1)] * 3
    await outcomes.handle(1, Deposit(5))
    assert outcomes.results[1].state == 8


async def test_a_history_that_was_replaced_is_loaded_anew(store: EventStore) -> None:
    async with connect("memory://") as other:
        staged = Staged(store)
        handler = gated(staged)
        for _ in range(3):
            await handler.handle("account-1", Deposit(1))
        await other.append("account-1", [TYPES.new(Deposited(70))])
        staged._store = other  # as if a backup had been restored
        handled = await handler.handle("account-1", Deposit(1))
    assert (handled.state, handled.version) == (71, 2)


# What is kept.


async def test_no_more_commands_wait_than_may(staged: Staged) -> None:
    handler, held = gated(staged, gate=GateLimits(waiting=3)), anyio.Event()
    staged.at[0] = held.wait
    outcomes = Outcomes(handler)
    with no_hang():
        async with task_group() as tasks:
            for number in range(5):
                tasks.start_soon(outcomes.handle, number, Deposit(1))
            await anyio.wait_all_tasks_blocked()
            refused = {str(one) for one in outcomes.errors.values()}
            held.set()
    message = (
        "3 commands wait at the gate already, so this one was not taken: let callers try again "
        "later, or raise GateLimits(waiting=...)"
    )
    assert refused == {message}
    assert [type(one) for one in outcomes.errors.values()] == [GateFullError] * 2
    assert len(outcomes.results) == 3
    await outcomes.handle(9, Deposit(1))
    assert outcomes.results[9].state == 4


@pytest.mark.parametrize(
    ("limits", "loads"),
    [
        (GateLimits(), 2),
        (GateLimits(states=1), 3),
        (GateLimits(states=0), 5),
        (GateLimits(idle=0), 5),
    ],
)
async def test_states_that_nobody_needs_are_let_go(
    staged: Staged, limits: GateLimits, loads: int
) -> None:
    handler = gated(staged, gate=limits)
    for number in (1, 1, 2, 2, 1):
        await handler.handle(f"account-{number}", Deposit(1))
    assert staged.calls.count("aggregate") == loads


async def test_a_hook_may_handle_commands_of_the_same_stream(store: EventStore) -> None:
    handler = gated(store)

    async def bonus(events: Sequence[RecordedEvent]) -> None:
        if events[-1].data == {"amount": 70}:
            await handler.handle("account-1", Deposit(7))

    cast("HookStore", store).after_commit(bonus)
    with no_hang():
        await handler.handle("account-1", Deposit(70))
    assert (await handler.handle("account-1", Deposit(1))).state == 78


async def test_in_a_session_a_command_passes_by_the_gate(store: EventStore) -> None:
    handler = gated(store)
    await handler.handle("account-1", Deposit(5))
    async with store.session() as session:
        assert (await handler.handle("account-1", Deposit(1), session=session)).state == 6
        assert (await store.read("account-1")).version == 1
    assert (await handler.handle("account-1", Deposit(1))).state == 7


async def test_a_gate_belongs_to_one_event_loop(store: EventStore) -> None:
    handler = gated(store)
    await handler.handle("account-1", Deposit(5))

    def elsewhere() -> None:
        asyncio.run(handler.handle("account-1", Deposit(5)))

    with pytest.raises(WrongEventLoopError):
        await anyio.to_thread.run_sync(elsewhere)


# Bad input.


async def test_what_no_gate_can_be_is_refused(store: EventStore) -> None:
    with pytest.raises(InvalidArgumentTypeError, match=r"gate must be True, False or GateLimits"):
        gated(store, gate=cast("bool", 5))
    with pytest.raises(InvalidArgumentError, match="leave out one of the two"):
        gated(store, log=CommandLog(store))
    for wrong in ({"waiting": 0}, {"states": -1}, {"idle": -1.0}, {"idle": float("nan")}):
        with pytest.raises(InvalidArgumentError, match=f"{next(iter(wrong))} must be"):
            GateLimits(**cast("dict[str, Any]", wrong))
