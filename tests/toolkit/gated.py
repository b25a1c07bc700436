"""Gated handlers of the example account, and what becomes of commands handled at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias
from uuid import UUID

import anyio

from tests.tasks import task_group
from tests.toolkit.accounts import ACCOUNT, TYPES, AccountCommand, AccountEvent, Deposit
from tests.toolkit.staged import Staged

from eventport import EventStore
from eventport.commands import CommandHandler, CommandResult

from eventport_conformance.waiting import no_hang


Handler: TypeAlias = CommandHandler[int, AccountCommand, AccountEvent]


def gated(store: EventStore | Staged, **options: Any) -> Handler:
    found = store.as_store if isinstance(store, Staged) else store
    settings: dict[str, Any] = {"gate": True, **options}
    return CommandHandler(found, settings.pop("decider", ACCOUNT), **settings)


class Outcomes:
    """What became of each of some commands that were handled at once, in order."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.results: dict[int, CommandResult[int]] = {}
        self.errors: dict[int, Exception] = {}

    async def handle(self, number: int, command: AccountCommand, id_: UUID | None = None) -> None:
        try:
            self.results[number] = await self._handler.handle("account-1", command, id=id_)
        except Exception as exc:  # noqa: BLE001  # the test looks at it
            self.errors[number] = exc

    async def in_one_turn(self, staged: Staged, commands: Sequence[AccountCommand]) -> None:
        """Let commands arrive in this order while the gate is busy with one before them."""
        held = anyio.Event()
        staged.at[len(staged.calls)] = held.wait
        with no_hang():
            async with task_group() as tasks:
                tasks.start_soon(self._handler.handle, "account-1", Deposit(0))
                for number, command in enumerate(commands):
                    await anyio.wait_all_tasks_blocked()
                    tasks.start_soon(self.handle, number, command)
                await anyio.wait_all_tasks_blocked()
                held.set()


async def data(store: EventStore) -> list[AccountEvent]:
    return [TYPES.decode(event) for event in (await store.read("account-1")).events]
