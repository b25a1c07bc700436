"""Runs a reactor on the store of a URL until it is killed, maybe in the middle of a reaction."""

from __future__ import annotations

import asyncio
import sys

from datetime import timedelta

from tests.toolkit.accounts import ACCOUNT, Deposit

from eventport import NewEvent, RecordedEvent, connect
from eventport.commands import CommandHandler
from eventport.reactors import Reaction, Reactor, ReactorRunner, Timeout


async def main(url: str, lease: float) -> None:
    reactor = Reactor("saga", prefix="order-")
    async with connect(url) as store:
        accounts = CommandHandler(store, ACCOUNT)

        @reactor.on("Placed")
        async def placed(event: RecordedEvent, reaction: Reaction) -> None:
            n = event.data["n"]
            await reaction.append("log", [NewEvent("Noted", {"n": n})])
            await reaction.handle(accounts, f"account-{n % 10}", Deposit(n + 1))
            await reaction.schedule("unpaid", event.stream, after=timedelta(0), data=n)

        @reactor.on_timeout("unpaid")
        async def unpaid(expired: Timeout, reaction: Reaction) -> None:
            await reaction.append(expired.key, [NewEvent("Cancelled", {"n": expired.data})])
            await reaction.append("late", [NewEvent("Expired", {"n": expired.data})])

        print("ready", flush=True)  # noqa: T201  # the test waits for it
        await ReactorRunner(store, reactor, lease=lease).run()


asyncio.run(main(sys.argv[1], float(sys.argv[2])))
