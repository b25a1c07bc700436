"""What goes wrong around a projection never moves its checkpoint past what was handled."""

from __future__ import annotations

import asyncio
import time

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.lowlevel
import pytest

from anyio import Event, create_task_group, sleep, sleep_forever
from tests.toolkit.accounts import ACCOUNT, Deposit
from tests.toolkit.stages import QUICK, Stage, running

from eventport import NewEvent, RecordedEvent, StoreUnavailableError
from eventport.adapter import AllPage, AllQuery, Commit, Outcome, Store
from eventport.commands import CommandHandler
from eventport.context import bind_context
from eventport.projections import (
    MemoryCheckpoints,
    Projection,
    ProjectionContext,
    ProjectionId,
    ProjectionStoppedError,
    Retries,
    Runner,
    StreamCheckpoints,
)

from eventport_conformance.waiting import no_hang
from eventport_memory import MemoryEventStore
from eventport_memory.engine import MemoryEngine
from eventport_sqlite import SQLiteEventStore
from eventport_sqlite.connection import open_connection
from eventport_sqlite.engine import SQLiteEngine
from eventport_sqlite.projections import SQLiteCheckpoints


class _Unlucky:
    """A handler that waits at one event, and then fails or goes on waiting."""

    def __init__(self, at: int, error: Exception | None) -> None:
        self._at = at
        self._error = error
        self.calls = 0
        self.seen: list[int] = []

    async def __call__(self, event: RecordedEvent, context: ProjectionContext[Any]) -> None:
        if event.position != self._at:
            self.seen.append(event.position)
            return
        self.calls += 1
        await sleep(0.05)
        if self._error is not None:
            raise self._error
        await sleep_forever()


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_a_renewal_that_falls_due_with_a_failure_stores_only_what_was_handled(
    stage: Stage, how: str
) -> None:
    for attempt in range(4):
        name = f"unlucky-{attempt}"
        positions = await stage.append(f"{name}-s", *["Added"] * 5)
        handler = _Unlucky(positions[2], TimeoutError() if how == "fails" else None)
        projection: Projection[Any] = Projection(
            name, prefix=f"{name}-", retries=Retries(attempts=1)
        )
        projection.on("Added")(handler)
        runner = stage.runner(projection, lease=0.3)
        with no_hang():
            async with create_task_group() as group:

                async def run(runner: Runner[Any] = runner) -> None:
                    if how == "fails":
                        with pytest.raises(ProjectionStoppedError):
                            await runner.run()
                    else:
                        await runner.run()

                group.start_soon(run)
                calls = 2 if how == "fails" else 1  # first the batch, and then the event alone
                while handler.calls < calls:  # noqa: ASYNC110  # there is no event for it
                    await sleep(0.005)
                if how != "fails":
                    asyncio.get_running_loop().call_later(0.01, group.cancel_scope.cancel)
                time.sleep(0.15)  # noqa: ASYNC251  # the loop is held up: all falls due at once
        checkpoint = await stage.checkpoints.load(projection.id)
        assert checkpoint.position < positions[2]
        assert runner.position < positions[2]


async def _cancelled_work() -> None:
    task = asyncio.create_task(sleep_forever())
    await anyio.lowlevel.checkpoint()
    task.cancel()
    await task  # it raises CancelledError; nobody has cancelled who waits


def _cancelling(stage: Stage, seen: list[int], **options: Any) -> Projection[Any]:
    projection: Projection[Any] = Projection("cancelling", retries=QUICK, **options)
    projection.prepare(stage.model.prepare)

    @projection.on_batch()
    async def handle(events: Sequence[RecordedEvent], context: ProjectionContext[Any]) -> None:
        for event in events:
            if event.type == "Poison":
                seen.append(event.position)
                await _cancelled_work()
        await stage.model.note(events, context)

    return projection


async def test_a_cancellation_that_a_handler_lets_out_is_an_error_of_the_handler(
    stage: Stage,
) -> None:
    good = await stage.append("order-1", "Added", "Added")
    (bad,) = await stage.append("order-1", "Poison")
    good += await stage.append("order-1", "Added")
    seen: list[int] = []
    with no_hang(), pytest.raises(ProjectionStoppedError) as caught:
        await stage.runner(_cancelling(stage, seen)).run()
    assert caught.value.event.position == bad
    assert seen == [bad] * 4  # once with its batch, three times alone
    assert await stage.model.noted() == good[:2]
    await stage.run_until(_cancelling(stage, seen, on_poison="dead_letter"), good[-1])
    assert await stage.model.noted() == good
    (letter,) = await stage.checkpoints.dead_letters(ProjectionId("cancelling", 1))
    assert letter.position == bad


async def test_a_preparation_that_lets_a_cancellation_out_ends_the_runner_with_an_error() -> None:
    async with MemoryEventStore() as store:
        projection: Projection[Any] = Projection("prepared", retries=QUICK)

        @projection.prepare
        async def prepare(context: ProjectionContext[Any]) -> None:
            await _cancelled_work()

        @projection.on("Added")
        async def added(event: RecordedEvent, context: ProjectionContext[Any]) -> None: ...

        with no_hang(), pytest.raises(Exception, match="cancelled"):
            await Runner(store, projection, MemoryCheckpoints()).run()


async def test_a_command_in_a_handler_belongs_to_the_event_that_is_handled(stage: Stage) -> None:
    with bind_context(correlation_id="request-1"):
        await CommandHandler(stage.store, ACCOUNT).handle("account-1", Deposit(5))
    await stage.append("order-1", "Opened")
    first = (await stage.store.read("account-1")).events[0]
    second = (await stage.store.read("order-1")).events[0]
    (last,) = await stage.append("order-2", "Opened")
    projection: Projection[Any] = Projection("reacting", retries=QUICK)
    reacted = Event()
    metadata: list[dict[str, Any]] = []

    @projection.on("Deposited", "Opened")
    async def react(event: RecordedEvent, context: ProjectionContext[Any]) -> None:
        if event.stream in {"account-1", "order-1"}:
            async with MemoryEventStore() as elsewhere:
                await CommandHandler(elsewhere, ACCOUNT).handle("account-2", Deposit(5))
                metadata.append(dict((await elsewhere.read("account-2")).events[0].metadata))
        else:
            reacted.set()

    async with running(stage.runner(projection)):
        await reacted.wait()
    ids = [(each["correlation_id"], each["causation_id"]) for each in metadata]
    assert ids == [("request-1", str(first.id)), (str(second.id), str(second.id))]
    assert last


class Readable(SQLiteEngine):
    """An engine whose reads of all streams can be made to fail, or to hang."""

    reads = "work"

    async def read_all(self, query: AllQuery, /) -> AllPage:
        if self.reads == "hang":
            await sleep_forever()
        if self.reads == "fail":
            raise StoreUnavailableError("no server answers")
        return await super().read_all(query)


async def _open_readable(file: Path) -> tuple[Readable, SQLiteEventStore]:
    writer, reader = [await open_connection(str(file), "full", 30) for _ in range(2)]
    engine = Readable(str(file), writer, reader, 30)
    return engine, SQLiteEventStore(engine, "full", 30)


async def _until(condition: Any) -> None:
    with no_hang():
        while not condition():  # noqa: ASYNC110  # there is no event for it
            await sleep(0.01)


@pytest.mark.parametrize("reads", ["fail", "hang"])
async def test_a_runner_that_cannot_read_gives_its_lease_to_a_stand_by(
    reads: str, tmp_path: Path
) -> None:
    file = tmp_path / "events.db"
    projection: Projection[Any] = Projection("fed", retries=QUICK)

    @projection.on("Added")
    async def added(event: RecordedEvent, context: ProjectionContext[Any]) -> None: ...

    readable, bad = await _open_readable(file)
    async with (
        bad,
        await SQLiteEventStore.open(file) as good,
        SQLiteCheckpoints.open(file) as checkpoints,
    ):
        # The leases last longer than a busy machine pauses, or they would change hands again.
        active = Runner(bad, projection, checkpoints, lease=2)
        stand_by = Runner(good, projection, checkpoints, lease=2)
        async with running(active):
            await _until(lambda: active.state == "live")
            async with running(stand_by):
                readable.reads = reads
                await _until(lambda: active.state != "live")
                await _until(lambda: stand_by.state == "live")
                await _until(lambda: active.state == "waiting")
                result = await good.append("order-1", [NewEvent("Added", {})])
                await stand_by.wait_until(result.position or 0)
                checkpoint = await checkpoints.load(projection.id)
                assert checkpoint.owner == stand_by.owner


async def test_a_subscription_that_ends_is_opened_again_and_makes_no_loop() -> None:
    class Ending(MemoryEventStore):
        opened = 0

        def subscribe(self, **options: Any) -> Any:
            if options.get("after") == "end":  # a look at where the end is
                return super().subscribe(**options)
            self.opened += 1
            return self._ending(super().subscribe(**options))

        @asynccontextmanager
        async def _ending(self, whole: Any) -> AsyncGenerator[Any, None]:
            async with whole as subscription:
                if self.opened <= 3:
                    subscription.leave()
                yield subscription

    async with Ending() as store:
        result = await store.append("order-1", [NewEvent("Added", {})])
        projection: Projection[Any] = Projection("ending", retries=QUICK)

        @projection.on("Added")
        async def added(event: RecordedEvent, context: ProjectionContext[Any]) -> None: ...

        runner = Runner(store, projection, MemoryCheckpoints(), lease=3.0)
        async with running(runner):
            await runner.wait_until(result.position or 0)
        assert store.opened == 4


class Answerless(MemoryEngine):
    """Commits checkpoints, and loses the answers to some of them."""

    lost = 0

    async def commit(self, batch: Sequence[Commit], /) -> Sequence[Outcome]:
        outcomes = await super().commit(batch)
        if self.lost and batch[0].writes[0].stream.startswith("eventport/projection/"):
            self.lost -= 1
            raise StoreUnavailableError("the answer was lost")
        return outcomes


async def test_checkpoints_go_on_after_their_answers_were_lost() -> None:
    engine = Answerless()
    async with Store(engine, batching="never") as store:
        seen: list[int] = []
        projection: Projection[Any] = Projection("answerless", retries=QUICK)

        @projection.on("Added")
        async def added(event: RecordedEvent, context: ProjectionContext[Any]) -> None:
            seen.append(event.position)

        checkpoints = StreamCheckpoints(store)
        runner = Runner(store, projection, checkpoints, lease=0.3)
        async with running(runner):
            for _ in range(3):
                engine.lost = 1
                result = await store.append("order-1", [NewEvent("Added", {})])
                await runner.wait_until(result.position or 0)
        positions = [event.position for event in (await store.read("order-1")).events]
        assert sorted(set(seen)) == positions  # in streams, an event may be handled again
        assert (await checkpoints.load(projection.id)).position >= positions[-1]
