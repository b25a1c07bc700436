"""Deposits on one account from many tasks at once, and says how many gave up."""

from __future__ import annotations

import asyncio
import sys

from collections.abc import Awaitable, Callable

from tests.toolkit.accounts import ACCOUNT, Deposit, Deposited

from eventport import ConcurrencyError, EventStore, Session, connect, run_in_session
from eventport.aggregates import Repository
from eventport.commands import CommandHandler


async def main(url: str, way: str, count: int) -> None:
    async with connect(url) as store:
        print("ready", flush=True)  # noqa: T201  # the test waits for it
        await asyncio.to_thread(sys.stdin.readline)
        deposit = by_session(store) if way == "session" else by_command(store, gate=way == "gate")
        results = await asyncio.gather(*(deposit() for _ in range(count)), return_exceptions=True)
        others = [r for r in results if r is not None and not isinstance(r, ConcurrencyError)]
        print(sum(r is not None for r in results), others[:1], flush=True)  # noqa: T201  # as above


def by_command(store: EventStore, *, gate: bool) -> Callable[[], Awaitable[None]]:
    handler = CommandHandler(store, ACCOUNT, gate=gate)

    async def deposit() -> None:
        await handler.handle("account-1", Deposit(1))

    return deposit


def by_session(store: EventStore) -> Callable[[], Awaitable[None]]:
    accounts = Repository.of_fold(store, "account", ACCOUNT.fold)

    async def change(session: Session) -> None:
        async with accounts.unit_of_work(session) as work:
            account = await work.load("1")
            account.record(Deposited(1))

    async def deposit() -> None:
        await run_in_session(store, change)

    return deposit


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
