"""Log records say which store, stream and position they are about, for programs to read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from anyio import create_task_group

from eventport import NewEvent, RecordedEvent
from eventport.projections import Projection, ProjectionContext, Retries, Runner, StreamCheckpoints

from eventport_conformance.waiting import no_hang
from eventport_memory import MemoryEventStore


pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


def places(caplog: pytest.LogCaptureFixture, begin: str) -> dict[str, object]:
    """Return the attributes of the one record whose text begins so."""
    (found,) = (record for record in caplog.records if record.getMessage().startswith(begin))
    return {name: value for name, value in vars(found).items() if name.startswith("eventport.")}


async def test_a_failed_hook(caplog: pytest.LogCaptureFixture) -> None:
    async with MemoryEventStore() as store:

        @store.after_commit
        async def fail(_: Sequence[RecordedEvent]) -> None:
            raise LookupError

        await store.append("order-1", [NewEvent("A", {}), NewEvent("B", {})])
    found = places(caplog, "after-commit hook")
    assert str(found.pop("eventport.store")).startswith("<MemoryEventStore: ")
    assert found == {
        "eventport.stream": "order-1",
        "eventport.version": 2,
        "eventport.position": 2,
    }


async def test_an_event_that_a_projection_gives_up(caplog: pytest.LogCaptureFixture) -> None:
    cases = Projection[None](
        "cases", on_poison="dead_letter", retries=Retries(attempts=2, first_pause=0)
    )

    @cases.on("A")
    async def fail(_: RecordedEvent, to: ProjectionContext[None]) -> None:
        raise LookupError

    async with MemoryEventStore() as store:
        await store.append("order-1", [NewEvent("A", {})])
        runner = Runner(store, cases, StreamCheckpoints(store))
        async with no_hang(), create_task_group() as group:
            group.start_soon(runner.run)
            await runner.wait_until(1)
            group.cancel_scope.cancel()
    for begin in ("projection cases@1: LookupError in", "projection cases@1 continues"):
        found = places(caplog, begin)
        assert str(found.pop("eventport.store")).startswith("<MemoryEventStore: ")
        assert found == {
            "eventport.projection": "cases@1",
            "eventport.stream": "order-1",
            "eventport.version": 1,
            "eventport.position": 1,
        }
