"""`eventport projection dead-letters`: list, retry or drop what a projection could not handle."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

import anyio
import msgspec
import typer

from eventport.cli.endings import UNSOUND, ending, say
from eventport.cli.options import Checkpoints, Lines, ProjectionName, Store
from eventport.cli.projecting import opened
from eventport.projections import (
    CheckpointStore,
    DeadLetter,
    Projection,
    discard,
    list_dead_letters,
    retry,
)
from eventport.projections.failures import describe


app: Final = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, retry or drop the events that a projection could not handle.",
)

Positions: TypeAlias = Annotated[
    list[int] | None,
    typer.Argument(metavar="[POSITION]...", help="Which ones, by their positions."),
]
All: TypeAlias = Annotated[bool, typer.Option("--all", help="All that there are now.")]


@app.command("list")
def list_letters(
    projection: ProjectionName,
    *,
    store: Store = None,
    checkpoints: Checkpoints = None,
    json: Lines = False,
) -> None:
    """Show the events that were given up, in the order of the store, without their data."""

    async def work() -> list[DeadLetter]:
        async with opened(projection, store, checkpoints, create=False) as (which, _, kept):
            return await list_dead_letters(which, kept)

    with ending():
        for one in anyio.run(work):
            text = (
                msgspec.json.encode(one).decode()
                if json
                else f"position {one.position}: {one.type} in {one.stream}: {one.error}"
            )
            print(text)  # noqa: T201  # what it is for


@app.command("retry")
def retry_letters(
    projection: ProjectionName,
    positions: Positions = None,
    *,
    everything: All = False,
    store: Store = None,
    checkpoints: Checkpoints = None,
) -> None:
    """Handle events that were given up once more, and take those off the list that succeed.

    The exit code is 3 if any of them fails again; those stay on the list.
    """
    _check(positions, everything=everything)

    async def work() -> tuple[int, int]:
        handled = failed = 0
        async with opened(projection, store, checkpoints, create=False) as (which, events, kept):
            for position in positions or await _listed(which, kept):
                try:
                    await retry(events, which, kept, position)
                except Exception as exc:  # a handler may raise anything
                    if position not in await _listed(which, kept):
                        raise
                    say(f"position {position}: {describe(exc)}")
                    failed += 1
                else:
                    handled += 1
        return handled, failed

    with ending():
        handled, failed = anyio.run(work)
        say(f"{handled} handled, {failed} failed again")
    if failed:
        raise typer.Exit(UNSOUND)


@app.command("drop")
def drop_letters(
    projection: ProjectionName,
    positions: Positions = None,
    *,
    everything: All = False,
    store: Store = None,
    checkpoints: Checkpoints = None,
) -> None:
    """Take events off the list without handling them; the events themselves stay in the store."""
    _check(positions, everything=everything)

    async def work() -> int:
        async with opened(projection, store, checkpoints, create=False) as (which, _, kept):
            chosen = positions or await _listed(which, kept)
            for position in chosen:
                await discard(which, kept, position)
            return len(chosen)

    with ending():
        say(f"{anyio.run(work)} dropped")


async def _listed(which: Projection[Any], kept: CheckpointStore[Any]) -> list[int]:
    return [one.position for one in await list_dead_letters(which, kept)]


def _check(positions: list[int] | None, *, everything: bool) -> None:
    if bool(positions) == everything:
        raise typer.BadParameter("give positions, or --all")
