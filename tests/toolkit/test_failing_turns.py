"""A gate's turn that fails: only what was decided in it fails."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from uuid import uuid4

import anyio
import pytest

from tests.tasks import task_group
from tests.toolkit.accounts import ACCOUNT, Deposit
from tests.toolkit.staged import Staged

from eventport import EventStore, StoreUnavailableError, connect
from eventport.commands import CommandHandler, CommandResult, gates

from eventport_conformance.waiting import no_hang


pytestmark = pytest.mark.usefixtures("in_time")


@pytest.fixture
async def store() -> AsyncGenerator[EventStore, None]:
    async with connect("memory://") as opened:
        yield opened


@pytest.fixture
def staged(store: EventStore) -> Staged:
    return Staged(store)


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
