"""The store passes the clauses about paging and batching on an engine that is hard on it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import anyio
import pytest

from eventport import Capability, EventStore, NewEvent, adapter
from eventport.adapter import AllQuery, Store, StreamQuery
from eventport.projections import CheckpointStore, open_checkpoints
from eventport.snapshot_stores import SnapshotStore, StreamSnapshotStore
from eventport.transactions import DocumentReader, InlineHandler

from eventport_conformance import Capabilities, Harness
from eventport_conformance.clause import Clause
from eventport_conformance.hard import OPTIONAL, SlowAnswers, TinyPages, without_polling
from eventport_conformance.notes import DocumentNotes, Notes
from eventport_conformance.proof.mutation import clauses_for
from eventport_conformance.running import run_clause
from eventport_conformance.waiting import no_hang, until
from eventport_memory.engine import MemoryEngine


SEED: Final = 20_251

GROUPS: Final = (
    *("IDM", "REA", "ITR", "AGG", "GLO", "SUB", "SES", "QRY", "GRD", "HOK", "TAG", "CPY", "SIZ"),
    *("CON", "CLO", "CKP", "SNP", "INL"),
)


class HardStore(Store):
    """The store in memory on an engine that is hard on it, with its handlers and documents."""

    def __init__(self) -> None:
        self.memory = MemoryEngine()
        super().__init__(SlowAnswers(TinyPages(self.memory), SEED), batching="always")

    def inline(self, handler: InlineHandler[None]) -> InlineHandler[None]:
        return self.memory.inline.add(handler)

    @asynccontextmanager
    async def read_models(self) -> AsyncGenerator[DocumentReader]:
        yield self.memory.documents


class HardHarness(Harness):
    """Slow answers let tasks overtake each other. It judges random mutants, too."""

    name = f"tiny pages, slow answers with seed {SEED}"
    capabilities = Capabilities.only(
        "sessions", "global_order", "guards", "conditions", "times", "catalogue", "hooks"
    )

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[EventStore, None]:
        async with HardStore() as store:
            yield store

    def inline_notes(self, store: EventStore) -> AbstractAsyncContextManager[Notes]:
        return DocumentNotes.open(store)

    def checkpoints(self, store: EventStore) -> AbstractAsyncContextManager[CheckpointStore[Any]]:
        return open_checkpoints(store)

    def snapshots(self, store: EventStore) -> SnapshotStore:
        return StreamSnapshotStore(store)


CLAUSES: Final = [one for one in clauses_for(HardHarness) if one.group in GROUPS]


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda one: one.id)
def test_memory_passes_on_a_hard_engine(clause: Clause) -> None:
    outcome = run_clause(HardHarness, clause, "asyncio", seed=SEED)
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


def test_no_optional_part_is_left_out() -> None:
    parts = [getattr(adapter, name) for name in adapter.__all__]
    protocols = [one for one in parts if getattr(one, "_is_runtime_protocol", False)]
    members = {name for one in protocols for name in vars(one) if not name.startswith("_")}
    assert members == set(OPTIONAL)


class Pushing(MemoryEngine):
    """Others commit, too, and it is woken only when a test says so."""

    capabilities = MemoryEngine.capabilities | {Capability.SHARED, Capability.PUSH}

    def __init__(self) -> None:
        super().__init__()
        self.is_closed = False
        self.signs, self.received = anyio.create_memory_object_stream[None](10)

    async def listen(self) -> AsyncGenerator[None, None]:
        async for sign in self.received:
            yield sign

    async def close(self) -> None:
        self.is_closed = True
        self.signs.close()
        self.received.close()


@pytest.mark.anyio
async def test_without_polling_only_push_wakes_a_subscription() -> None:
    engine = Pushing()
    found: list[object] = []
    async with Store(engine) as store:
        async with without_polling(store) as other, other.subscribe() as subscription:

            async def follow() -> None:
                async for event in subscription:
                    found.append(event.data)  # noqa: PERF401  # one by one, as they come

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(follow)
                with no_hang("the subscription catches up"):
                    await subscription.caught_up.wait()
                await store.append("a", [NewEvent("A", 1)])
                await anyio.sleep(0.3)  # a busy machine can only make it see less
                assert not found
                await engine.signs.send(None)
                await until(lambda: found == [1], "the sign wakes the subscription")
                tasks.cancel_scope.cancel()
        assert not engine.is_closed
    assert engine.is_closed
