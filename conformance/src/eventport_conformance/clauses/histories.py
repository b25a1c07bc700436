"""CON: histories of many tasks on one stream are linearizable."""

from __future__ import annotations

import random

from collections.abc import Sequence

from eventport import (
    ANY,
    NO_STREAM,
    ConcurrencyError,
    EventStore,
    Expectation,
)
from eventport.expectations import holds

from eventport_conformance.clause import clause
from eventport_conformance.helpers import at_once, make
from eventport_conformance.linearizability import Observation, Operation, Write, violation
from eventport_conformance.trial import Deviation, Trial


class _Clock:
    """Counts moments, so that it can be said what came before what."""

    def __init__(self) -> None:
        self.now = 0

    def tick(self) -> int:
        self.now += 1
        return self.now


async def history(
    clients: Sequence[EventStore], stream: str, tasks: int, rounds: int, seed: int
) -> list[Operation]:
    """Let tasks read and append at random, and write down what each saw, and when."""
    clock = _Clock()
    seen: list[Operation] = []

    async def work(number: int) -> None:
        chance = random.Random(f"{seed}-{stream}-{number}")  # noqa: S311  # no secret
        client = clients[number % len(clients)]
        head = 0
        for _ in range(rounds):
            kind = chance.choice(["read", "any", "exact", "exact", "no_stream"])
            called = clock.tick()
            if kind == "read":
                read = await client.read(stream)
                head = read.version
                seen.append(Observation(called, clock.tick(), len(read.events)))
                continue
            expected: Expectation = ANY
            if kind == "exact":
                expected = head
            elif kind == "no_stream":
                expected = NO_STREAM
            events = make(chance.randint(1, 3))
            try:
                result = await client.append(stream, events, expected=expected)
            except ConcurrencyError as exc:
                head = exc.actual
                seen.append(Observation(called, clock.tick(), head))
            else:
                head = result.version
                before = head - len(events)
                if not holds(expected, before):
                    what = "the version that an append was put on"
                    raise Deviation(what, repr(expected), str(before))
                seen.append(Write(called, clock.tick(), before, head))

    await at_once(tasks, work)
    return seen


@clause("CON-15")
async def histories_are_linearizable(t: Trial) -> None:
    """What tasks do to one stream could have happened one after the other, each within its call."""
    for number in range(12):
        seen = await history([t.store], f"s{number}", 6, 10, t.seed)
        t.equal(len(seen), 60, "operations in the history")
        t.equal(violation(seen), None, "what is wrong with the history")
        written = sum(one.after - one.before for one in seen if isinstance(one, Write))
        t.equal((await t.store.read(f"s{number}")).version, written, "head in the end")
        t.true(written > 0, "something was written")
