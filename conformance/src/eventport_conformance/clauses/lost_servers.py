"""FLT: the server dies and comes back."""

# ruff: noqa: D205  # a clause is one sentence, and may take two lines

from __future__ import annotations

import anyio

from eventport import (
    ANY,
)

from eventport_conformance.clause import clause
from eventport_conformance.dropping import (
    Ledger,
    following,
    in_the_end,
    usable,
)
from eventport_conformance.helpers import fill, make
from eventport_conformance.trial import Trial
from eventport_conformance.waiting import until


async def _go_on(ledger: Ledger, what: str) -> None:
    """Wait until some more appends have succeeded."""
    enough = len(ledger.acknowledged) + 5
    await until(lambda: len(ledger.acknowledged) >= enough, what)


@clause("FLT-12", needs=("durable",), uses=("restart",), seconds=600)
async def the_server_dies(t: Trial) -> None:
    """Appends are each kept whole before, while and after the server dies and comes back."""
    ledger = Ledger()
    dying = True

    async def write(number: int) -> None:
        round_ = 0
        while dying:
            stream = f"s{number}" if round_ % 2 else "shared"
            await ledger.append(t.store, stream, make(1 + round_ % 3), ANY)
            await anyio.sleep(0.002)
            round_ += 1

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(write, number)
        for _ in range(3):
            await _go_on(ledger, "appends succeed before the server dies")
            await t.harness.restart()
            await _go_on(ledger, "appends succeed again")
        dying = False
    await usable(t, t.store)
    await ledger.check(t)


@clause("FLT-13", needs=("durable", "global_order"), uses=("restart",), seconds=600)
async def a_subscription_outlives_the_server(t: Trial) -> None:
    """A subscription resumes by itself after the server has died and come back, and misses and
    repeats nothing.
    """
    async with following(t.store) as followed:
        await fill(t.store, "a", 3)
        await followed.reaches(3)
        for round_ in range(1, 3):
            await fill(t.store, "b", 2)
            await t.harness.restart()
            events = make(2)
            head = await in_the_end("read", lambda: t.store.read("a", max_count=0))
            await in_the_end(
                "append after the restart",
                lambda events=events, head=head: t.store.append(  # type: ignore[misc]
                    "a", events, expected=head.version
                ),
            )
            await followed.reaches(3 + 4 * round_)
        truth = (await t.store.read_all()).events
        t.equal(followed.events, truth, "events that the subscription gave")
