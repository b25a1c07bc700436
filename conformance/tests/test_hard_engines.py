"""The store passes the clauses about paging and batching on engines that are hard on it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

import pytest

from eventport import EventStore, NewEvent
from eventport.adapter import AllQuery, Engine, Store, StreamQuery

from eventport_conformance import Capabilities, Harness
from eventport_conformance.clause import Clause
from eventport_conformance.hard import SlowAnswers, TinyPages
from eventport_conformance.proof.mutation import clauses_for
from eventport_conformance.running import run_clause
from eventport_memory.engine import MemoryEngine


SEED: Final = 20_251

MAKERS: Final[dict[str, Callable[[], Engine]]] = {
    "tiny pages": lambda: TinyPages(MemoryEngine()),
    f"tiny pages, slow answers with seed {SEED}": lambda: SlowAnswers(
        TinyPages(MemoryEngine()), SEED
    ),
}

GROUPS: Final = ("REA", "ITR", "AGG", "GLO", "SUB", "SES", "CON", "HOK", "SIZ", "CLO")


def harness_of(make: Callable[[], Engine]) -> type[Harness]:
    class HardHarness(Harness):
        name = "hard"
        capabilities = Capabilities.only("sessions", "global_order", "hooks")

        @asynccontextmanager
        async def open(self) -> AsyncGenerator[EventStore, None]:
            async with Store(make(), batching="always") as store:
                yield store

    return HardHarness


HARNESSES: Final = {name: harness_of(make) for name, make in MAKERS.items()}
CLAUSES: Final = [one for one in clauses_for(harness_of(MemoryEngine)) if one.group in GROUPS]


@pytest.mark.parametrize("harness", HARNESSES.values(), ids=HARNESSES)
@pytest.mark.parametrize("clause", CLAUSES, ids=lambda one: one.id)
def test_memory_passes_on_hard_engines(harness: type[Harness], clause: Clause) -> None:
    outcome = run_clause(harness, clause, "asyncio", seed=SEED)
    assert outcome.result == "held", outcome.details


@pytest.mark.anyio
async def test_pages_are_short_by_number_by_bytes_and_by_what_is_scanned() -> None:
    engine = TinyPages(MemoryEngine())
    async with Store(engine) as store:
        await store.append("small", [NewEvent("A", n) for n in range(10)])
        await store.append("large", [NewEvent("B", "x" * 40_000) for _ in range(3)])
        small = await engine.read_stream(StreamQuery("small", backwards=True))
        large = await engine.read_stream(StreamQuery("large"))
        assert [event.version for event in small.events] == [10, 9, 8]
        assert (small.version, large.version, len(large.events)) == (10, 3, 1)
        nothing = await engine.read_all(AllQuery(types=frozenset({"B"})))
        assert (nothing.events, nothing.position, nothing.head) == ([], 4, 13)
        one = await engine.read_all(AllQuery(after=9))
        assert ([event.position for event in one.events], one.position) == ([10, 11], 11)
