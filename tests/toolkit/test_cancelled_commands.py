"""A gate: a caller that is cancelled, wherever that is, leaves its command whole or not at all."""

from __future__ import annotations

import asyncio
import random

from collections.abc import AsyncGenerator
from itertools import count
from pathlib import Path
from uuid import UUID, uuid4

import anyio
import pytest

from anyio.lowlevel import checkpoint
from tests.tasks import task_group
from tests.toolkit.accounts import ACCOUNT, TYPES, AccountCommand, AccountEvent, Deposit, Deposited
from tests.toolkit.staged import Staged

from eventport import EventStore, connect
from eventport.commands import CommandHandler

from eventport_conformance.waiting import no_hang


pytestmark = pytest.mark.usefixtures("in_time")


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture
async def store() -> AsyncGenerator[EventStore, None]:
    async with connect("memory://") as opened:
        yield opened


class Caller:
    """A task that handles one command, and can be cancelled alone."""

    def __init__(
        self,
        store: EventStore,
        handler: CommandHandler[int, AccountCommand, AccountEvent],
        amount: int,
    ) -> None:
        self._store = store
        self._handler = handler
        self._scope = anyio.CancelScope()
        self._task: asyncio.Task[None] | None = None
        self.amount = amount
        self.handled = False
        self.ended = anyio.Event()
        self.written_at_its_end = 0

    async def run(self) -> None:
        """Handle the command, and note what is stored of it when that has ended."""
        try:
            with self._scope:
                await self._handler.handle("account-1", Deposit(self.amount))
                self.handled = True
        finally:
            with anyio.CancelScope(shield=True):
                self.written_at_its_end = await self.written()
            self.ended.set()

    def run_natively(self) -> None:
        """Let asyncio run it in a task that is cancelled as asyncio does it."""
        self._task = asyncio.ensure_future(self.run())

    def cancel(self) -> None:
        """Cancel it."""
        if self._task is None:
            self._scope.cancel()
        else:
            self._task.cancel()

    async def written(self) -> int:
        """Return how often its command is stored."""
        events = (await self._store.read("account-1")).events
        return [event.data["amount"] for event in events].count(self.amount)


@pytest.mark.parametrize("way", ["scope", "task"])
@pytest.mark.parametrize("others", [0, 2])
async def test_a_caller_that_is_cancelled_at_any_wait_of_the_gate(
    store: EventStore, anyio_backend: str, way: str, others: int
) -> None:
    """The turn catches up with another writer, has a conflict, and is decided again."""
    native = way == "task" and anyio_backend == "asyncio"
    amounts = count(10)
    for wait in count():
        staged = Staged(store)
        handler = CommandHandler(staged.as_store, ACCOUNT, gate=True)
        await handler.handle("account-1", Deposit(1))
        callers = [Caller(store, handler, next(amounts)) for _ in range(others + 1)]
        first, reached = callers[0], False

        async def cancel(caller: Caller = first) -> None:
            nonlocal reached
            reached = True
            caller.cancel()
            for _ in range(5):
                await checkpoint()  # it gets its turn

        before = len(staged.calls)
        staged.at[before + wait] = cancel
        await store.append("account-1", [TYPES.new(Deposited(1))])
        with no_hang():
            async with task_group() as tasks:
                if native:
                    first.run_natively()
                for caller in callers[1 if native else 0 :]:
                    tasks.start_soon(caller.run)
                await first.ended.wait()
        assert first.written_at_its_end == await first.written() <= 1, f"wait {wait}"
        assert first.written_at_its_end or not first.handled
        assert [one.handled for one in callers[1:]] == [True] * others
        assert [await one.written() for one in callers[1:]] == [1] * others
        assert (await handler.handle("account-1", Deposit(0))).version == (
            await store.read("account-1")
        ).version
        if not reached:
            assert wait >= 6
            break


async def test_one_that_waits_is_dropped_at_once(store: EventStore) -> None:
    staged, held = Staged(store), anyio.Event()
    handler = CommandHandler(staged.as_store, ACCOUNT, gate=True)
    first, waiting, last = (Caller(store, handler, amount) for amount in (10, 11, 12))
    staged.at[2] = held.wait  # its append
    with no_hang():
        async with task_group() as tasks:
            tasks.start_soon(first.run)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(waiting.run)
            tasks.start_soon(last.run)
            await anyio.wait_all_tasks_blocked()
            waiting.cancel()
            await waiting.ended.wait()
            assert not first.ended.is_set()
            held.set()
    assert [await one.written() for one in (first, waiting, last)] == [1, 0, 1]


async def test_one_that_is_being_committed_waits_for_the_end(store: EventStore) -> None:
    staged, held = Staged(store), anyio.Event()
    handler = CommandHandler(staged.as_store, ACCOUNT, gate=True)
    await handler.handle("account-1", Deposit(1))
    first, second = (Caller(store, handler, amount) for amount in (10, 11))
    staged.at[len(staged.calls)] = held.wait
    with no_hang():
        async with task_group() as tasks:
            tasks.start_soon(first.run)
            tasks.start_soon(second.run)
            await anyio.wait_all_tasks_blocked()
            for _ in range(2):
                first.cancel()
                await anyio.wait_all_tasks_blocked()
                assert not first.ended.is_set()
            held.set()
    assert first.written_at_its_end == await second.written() == 1
    assert second.handled


async def test_a_commit_ends_early_when_nobody_waits_for_it(store: EventStore) -> None:
    staged = Staged(store)
    handler = CommandHandler(staged.as_store, ACCOUNT, gate=True)
    await handler.handle("account-1", Deposit(1))
    callers = [Caller(store, handler, amount) for amount in (10, 11, 12)]
    staged.at[len(staged.calls)] = anyio.sleep_forever  # a server that is silent
    with no_hang():
        async with task_group() as tasks:
            for caller in callers:
                tasks.start_soon(caller.run)
            await anyio.wait_all_tasks_blocked()
            for caller in callers:
                caller.cancel()
    assert [one.written_at_its_end for one in callers] == [0, 0, 0]
    assert (await handler.handle("account-1", Deposit(1))).state == 2


@pytest.mark.parametrize("place", ["memory", "sqlite"])
async def test_a_storm_of_cancellations(anyio_backend: str, tmp_path: Path, place: str) -> None:
    if place == "sqlite" and anyio_backend == "trio":
        return  # SQLite runs under asyncio
    url = "memory://" if place == "memory" else f"sqlite:///{tmp_path}/events.db"
    chance, handled = random.Random(7), set[UUID]()
    async with connect(url) as store:
        handlers = [CommandHandler(store, ACCOUNT, gate=True) for _ in range(2)]

        async def handle(id_: UUID, tries: int) -> None:
            for waits in (*(chance.randrange(6) for _ in range(tries)), None):
                with anyio.CancelScope() as scope:
                    async with task_group() as tasks:
                        if waits is not None:
                            tasks.start_soon(cancel_after, scope, waits)
                        await chance.choice(handlers).handle("account-1", Deposit(1), id=id_)
                        handled.add(id_)

        async def cancel_after(scope: anyio.CancelScope, waits: int) -> None:
            for _ in range(waits):
                await checkpoint()
            scope.cancel()

        ids = [uuid4() for _ in range(200)]
        with no_hang():
            async with task_group() as tasks:
                for id_ in ids:
                    tasks.start_soon(handle, id_, chance.randrange(3))
        found = [UUID(e.metadata["command_id"]) for e in (await store.read("account-1")).events]
    assert sorted(found) == sorted(ids)
    assert handled == set(ids)
