"""`eventport projection`: run a projection, rebuild it, and show its progress."""

from __future__ import annotations

import importlib
import sys

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias, cast

from anyio import sleep

from eventport import connect
from eventport._config.connecting import connect_existing
from eventport.cli.endings import ImportFailedError
from eventport.cli.showing import catch_up_bar
from eventport.errors import ConfigurationError, EventportError
from eventport.projections import (
    CheckpointStore,
    PartitionedRunner,
    PartitionsChangedError,
    Progress,
    Projection,
    ProjectionId,
    Runner,
    find_head,
    list_dead_letters,
    open_checkpoints,
)
from eventport.projections.partitions import Part
from eventport.projections.progress import lag_behind
from eventport.projections.racing import run_until_first
from eventport.protocols import EventStore


AnyRunner: TypeAlias = Runner[Any] | PartitionedRunner[Any]

_LOOK = 0.25
"""Seconds between two readings of a runner's progress."""


class NoRebuildError(EventportError):
    """There is nothing to rebuild: this generation is the active one, or an older one."""


def load_projection(name: str) -> Projection[Any]:
    """Import the projection that ``module:projection`` names."""
    found = load_object(name, "projection, such as shop.views:cases")
    if not isinstance(found, Projection):
        message = f"{name} is a {type(found).__name__}, not a Projection"
        raise ConfigurationError(message)
    return cast("Projection[object]", found)


def load_object(name: str, what: str) -> object:
    """Import what ``module:attribute`` names; modules of the current directory are found.

    Args:
        name: The name.
        what: What comes after the colon, for the message about a wrong name.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        message = f"{name!r} must be written module:{what}"
        raise ConfigurationError(message)
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name is not None and f"{module}.".startswith(f"{exc.name}."):
            message = f"{name}: there is no module {exc.name!r} in {here} or on sys.path"
            raise ConfigurationError(message) from exc
        raise _import_failed(name, module, exc) from exc
    except Exception as exc:  # it runs the user's code, which may raise anything
        raise _import_failed(name, module, exc) from exc
    found: object = getattr(imported, attribute, None)
    if found is None:
        message = f"{name}: module {module!r} has no {attribute!r}"
        raise ConfigurationError(message)
    return found


def _import_failed(name: str, module: str, exc: Exception) -> ImportFailedError:
    return ImportFailedError(f"{name}: {module!r} cannot be imported: {type(exc).__name__}: {exc}")


@asynccontextmanager
async def opened(
    name: str, store: str | None, checkpoints: str | None, *, create: bool = True
) -> AsyncGenerator[tuple[Projection[Any], EventStore, CheckpointStore[Any]]]:
    """Import a projection, and open its store and its checkpoints."""
    projection = load_projection(name)
    async with (
        (connect if create else connect_existing)(store) as events,
        open_checkpoints(events, checkpoints, create=create) as kept,
    ):
        yield projection, events, kept


async def run(name: str, store: str | None, checkpoints: str | None, lease: float) -> int:
    """Run a projection until a higher generation takes its place; return how much it handled."""
    async with opened(name, store, checkpoints) as (projection, events, kept):
        runner = _runner(projection, events, kept, lease)

        async def is_retired() -> bool:
            return runner.state == "retired"

        return (await _watch(runner, str(projection.id), is_retired)).handled


async def rebuild(
    name: str, store: str | None, checkpoints: str | None, lease: float
) -> tuple[ProjectionId, int]:
    """Run a new generation until it is the active one; return it, and how much it handled."""
    async with opened(name, store, checkpoints) as (projection, events, kept):
        if (active := await kept.active(projection.id.name)) >= projection.id.generation:
            message = (
                f"generation {active} of {projection.id.name!r} is active already: give the "
                f"projection generation={active + 1}, so that it is built beside that one"
            )
            raise NoRebuildError(message)
        runner = _runner(projection, events, kept, lease)

        async def is_built() -> bool:
            if isinstance(runner, Runner):
                return runner.state == "live"
            # The first generation is active before it has caught up, but none of its parts is.
            names = [projection.id.name, *(part.name for part in projection.parts)]
            return all([await kept.active(name) >= projection.id.generation for name in names])

        return projection.id, (await _watch(runner, str(projection.id), is_built)).handled


async def status(name: str, store: str | None, checkpoints: str | None) -> dict[str, Any]:
    """Return what is known about a projection, as JSON can hold it.

    If it is divided, its position is that of the part that is furthest behind, and so is its lag.
    """
    async with opened(name, store, checkpoints, create=False) as (projection, events, kept):
        begun = (await kept.load(projection.id)).partitions
        if begun not in {0, projection.partitions}:
            raise PartitionsChangedError(projection.id, begun, projection.partitions)
        head = await find_head(events)
        parts = [
            await _part_status(Part(projection, n), events, kept, head)
            for n in range(len(projection.parts))
        ]
        active = await kept.active(projection.id.name)
        letters = await list_dead_letters(projection, kept)
    divided: dict[str, Any] = {"runner": parts[0]["runner"]}
    if len(parts) > 1:
        divided = {"parts": parts}
    return {
        "projection": str(projection.id),
        "active_generation": active or None,
        "position": min(part["position"] for part in parts),
        "head": head,
        "lag": max(part["lag"] for part in parts),
        **divided,
        "dead_letters": [
            {"position": one.position, "type": one.type, "stream": one.stream, "error": one.error}
            for one in letters
        ],
    }


async def _part_status(
    part: Part[Any], events: EventStore, kept: CheckpointStore[Any], head: int
) -> dict[str, Any]:
    checkpoint = await kept.load(part.id)
    return {
        "part": part.id.name,
        "position": checkpoint.position,
        "lag": await lag_behind(events, part, checkpoint.position, head),
        "runner": checkpoint.owner or None,
    }


def lines_of(found: dict[str, Any]) -> list[str]:
    """Return the status of a projection as lines for people."""
    letters, parts = found["dead_letters"], found.get("parts", ())
    shown = {**found, "dead_letters": len(letters)}
    if parts:
        shown["parts"] = len(parts)
    return [
        *(
            f"{name.replace('_', ' ')}: {'none' if value is None else value}"
            for name, value in shown.items()
        ),
        *(
            f"- {one['part']}: position {one['position']}, lag {one['lag']}, "
            f"runner {one['runner'] or 'none'}"
            for one in parts
        ),
        *(
            f"- position {one['position']}: {one['type']} in {one['stream']}: {one['error']}"
            for one in letters
        ),
    ]


def _runner(
    projection: Projection[Any], events: EventStore, kept: CheckpointStore[Any], lease: float
) -> AnyRunner:
    if projection.partitions > 1:
        return PartitionedRunner[Any](events, projection, kept, lease=lease)
    return Runner[Any](events, projection, kept, lease=lease)


async def _watch(runner: AnyRunner, what: str, is_done: Callable[[], Awaitable[bool]]) -> Progress:
    """Run a projection and show its progress, until it ends or is where it was to go."""
    with catch_up_bar(what) as show:

        async def look() -> None:
            while not await is_done():
                await sleep(_LOOK)
                if show is not None:
                    progress = await runner.progress()
                    show(progress.position, progress.head, progress.rate)

        await run_until_first(runner.run, look)
    return await runner.progress()
