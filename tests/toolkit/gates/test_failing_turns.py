"""A gate's turn that fails: only what was decided in it fails, and no state is left half folded."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import anyio
import anyio.lowlevel
import msgspec
import pytest

from tests.tasks import task_group
from tests.toolkit.accounts import ACCOUNT, TYPES, AccountCommand, AccountEvent, Deposit, Deposited
from tests.toolkit.staged import Staged

from eventport import EventStore, StoreUnavailableError
from eventport.commands import CommandHandler, CommandResult, Decider, gate_states, gates

from eventport_conformance.waiting import no_hang


pytestmark = pytest.mark.usefixtures("in_time")


async def lose() -> None:
    raise StoreUnavailableError("the connection was dropped")


async def test_a_command_applied_before_does_not_fail_with_those_beside_it(staged: Staged) -> None:
    handler, id_ = CommandHandler(staged.as_store, ACCOUNT, gate=True), uuid4()
    first = await handler.handle("account-1", Deposit(5), id=id_)
    again = list[CommandResult[int]]()

    async def repeat() -> None:
        again.append(await handler.handle("account-1", Deposit(5), id=id_))

    async def fail() -> None:
        with pytest.raises(StoreUnavailableError):
            await handler.handle("account-1", Deposit(1))

    # The turn of both reads the events of the first one, and then appends.
    held, begun = anyio.Event(), len(staged.calls)
    staged.at = {begun: held.wait, begun + 4: lose}
    with no_hang():
        async with task_group() as tasks:
            for each in (lambda: handler.handle("account-1", Deposit(0)), repeat, fail):
                tasks.start_soon(each)
                await anyio.wait_all_tasks_blocked()
            held.set()
    assert again == [CommandResult("already applied", 5, 1, first.events, first.position)]


async def test_a_command_left_for_the_next_turn_does_not_fail_with_this_one(
    staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "MAX_TURN_EVENTS", 1)
    handler = CommandHandler(staged.as_store, ACCOUNT, gate=True)
    await handler.handle("account-1", Deposit(5))
    states = list[int]()

    async def fail() -> None:
        with pytest.raises(StoreUnavailableError):
            await handler.handle("account-1", Deposit(1))

    async def succeed() -> None:
        states.append((await handler.handle("account-1", Deposit(2))).state)

    held, begun = anyio.Event(), len(staged.calls)
    staged.at = {begun: held.wait, begun + 2: lose}
    with no_hang():
        async with task_group() as tasks:
            for each in (lambda: handler.handle("account-1", Deposit(0)), fail, succeed):
                tasks.start_soon(each)
                await anyio.wait_all_tasks_blocked()
            held.set()
    assert states == [7]


async def test_a_state_changed_in_place_is_not_folded_twice_after_a_lost_page(
    staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_states, "_PAGE", 2)

    def evolve(state: list[AccountEvent], event: AccountEvent) -> list[AccountEvent]:
        state.append(event)
        return state

    def decide(command: AccountCommand, _: list[AccountEvent]) -> list[AccountEvent]:
        return [Deposited(command.amount)] if command.amount else []

    decider = Decider(types=TYPES, initial=list[AccountEvent], evolve=evolve, decide=decide)
    handler = CommandHandler(staged.as_store, decider, gate=True, attempts=9)
    await handler.handle("account-1", Deposit(1))
    await staged.append("account-1", [TYPES.new(Deposited(n)) for n in range(2, 7)])
    # Nothing is decided, so it reads the head, then the first page of what is new, and the second.
    staged.at = {len(staged.calls) + 4: lose}
    with pytest.raises(StoreUnavailableError):
        await handler.handle("account-1", Deposit(0))
    result = await handler.handle("account-1", Deposit(7))
    assert [TYPES.new(event).data["amount"] for event in result.state] == list(range(1, 8))


async def test_what_was_truncated_before_it_was_folded_is_loaded_anew(store: EventStore) -> None:
    class Truncated(Staged):
        """A store that has no events below the last one, once they are removed."""

        removed = False

        def __getattr__(self, name: str) -> Any:
            inner = super().__getattr__(name)

            async def read(*arguments: Any, **options: Any) -> Any:
                await anyio.lowlevel.checkpoint()
                page = await inner(*arguments, **options)
                return msgspec.structs.replace(page, events=[]) if self.removed else page

            return read if name == "read" else inner

    truncated = Truncated(store)
    handler = CommandHandler(truncated.as_store, ACCOUNT, gate=True)
    await handler.handle("account-1", Deposit(1))
    await store.append("account-1", [TYPES.new(Deposited(2))])
    truncated.removed = True
    with no_hang():
        assert (await handler.handle("account-1", Deposit(4))).state == 7
