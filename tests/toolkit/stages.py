"""What tests of projections run on: a store, a checkpoint store and a read model of each kind."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from anyio import create_task_group
from tests.toolkit.backends import BACKENDS
from tests.toolkit.read_models import PLACES, Place, execute

from eventport import EventStore, NewEvent, RecordedEvent, connect
from eventport.projections import (
    CheckpointStore,
    MemoryCheckpoints,
    Projection,
    ProjectionContext,
    Retries,
    Runner,
    StreamCheckpoints,
    open_checkpoints,
)

from eventport_conformance.waiting import no_hang


if TYPE_CHECKING:
    import pytest


QUICK: Final = Retries(attempts=3, first_pause=0.001, max_pause=0.01)


class Model(Protocol):
    """Where handlers note the events that they have handled."""

    async def prepare(self, context: ProjectionContext[Any]) -> None: ...
    async def note(
        self, events: Sequence[RecordedEvent], context: ProjectionContext[Any]
    ) -> None: ...
    async def noted(self, generation: int = 1) -> list[int]: ...


class ListModel:
    """Notes that nothing undoes."""

    def __init__(self) -> None:
        self._noted: dict[int, list[int]] = {}

    async def prepare(self, context: ProjectionContext[Any]) -> None:
        assert context.connection is None
        self._noted.setdefault(context.generation, [])

    async def note(self, events: Sequence[RecordedEvent], context: ProjectionContext[Any]) -> None:
        self._noted[context.generation] += [event.position for event in events]

    async def noted(self, generation: int = 1) -> list[int]:
        return self._noted.get(generation, [])


class TableModel:
    """Notes in a table; the order of their numbers is that of writing."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def prepare(self, context: ProjectionContext[Any]) -> None:
        await execute(
            context.connection,
            f"CREATE TABLE IF NOT EXISTS noted{context.suffix} (number bigint, position bigint)",
        )

    async def note(self, events: Sequence[RecordedEvent], context: ProjectionContext[Any]) -> None:
        table = f"noted{context.suffix}"
        for event in events:
            sql = f"INSERT INTO {table} SELECT count(*), CAST($1 AS bigint) FROM {table}"
            await execute(context.connection, sql, event.position)

    async def noted(self, generation: int = 1) -> list[int]:
        rows = await self._place.query(f"SELECT position FROM noted_{generation} ORDER BY number")
        return [position for (position,) in rows]


class Stage:
    """A store, a checkpoint store, and a read model."""

    def __init__(self, store: EventStore, checkpoints: CheckpointStore[Any], model: Model) -> None:
        self.store = store
        self.checkpoints = checkpoints
        self.model = model

    def projection(self, *types: str, name: str = "noted", **options: Any) -> Projection[Any]:
        """Make a projection that notes each event of these types; or any, in batches."""
        projection: Projection[Any] = Projection(name, retries=QUICK, **options)
        projection.prepare(self.model.prepare)

        async def note(event: RecordedEvent, context: ProjectionContext[Any]) -> None:
            await self.model.note([event], context)

        if types:
            projection.on(*types)(note)
        else:
            projection.on_batch()(self.model.note)
        return projection

    def runner(self, projection: Projection[Any], lease: float = 15.0) -> Runner[Any]:
        return Runner(self.store, projection, self.checkpoints, lease=lease)

    async def append(self, stream: str, *types: str) -> list[int]:
        """Append events, and return their positions."""
        version = (await self.store.read(stream, max_count=0)).version
        await self.store.append(
            stream, [NewEvent(type_, {"n": n}) for n, type_ in enumerate(types)]
        )
        found = await self.store.read(stream, from_version=version + 1)
        return [event.position for event in found.events]

    async def run_until(self, projection: Projection[Any], position: int) -> Runner[Any]:
        """Run a projection until it has handled all up to a position."""
        runner = self.runner(projection)
        async with running(runner):
            await runner.wait_until(position)
        return runner


@asynccontextmanager
async def running(*runners: Runner[Any]) -> AsyncGenerator[None, None]:
    with no_hang():
        async with create_task_group() as group:
            for runner in runners:
                group.start_soon(runner.run)
            yield
            group.cancel_scope.cancel()


KINDS: Final = ["memory", *(f"streams of {name}" for name in BACKENDS), *PLACES]


@asynccontextmanager
async def open_stage(request: pytest.FixtureRequest, kind: str) -> AsyncGenerator[Stage, None]:
    """Open a stage of one of `KINDS`."""
    async with AsyncExitStack() as stack:
        if kind in PLACES:
            place = PLACES[kind](request)
            store = await stack.enter_async_context(connect(place.url))
            checkpoints = await stack.enter_async_context(open_checkpoints(store, place.url))
            yield Stage(store, checkpoints, TableModel(place))
            return
        open_store = await stack.enter_async_context(
            BACKENDS[kind.removeprefix("streams of ")](request)
        )
        store = await stack.enter_async_context(open_store())
        kept = MemoryCheckpoints() if kind == "memory" else StreamCheckpoints(store)
        yield Stage(store, kept, ListModel())
