"""`eventport verify`: check a store, and say what is wrong with it."""

from __future__ import annotations

from typing import Annotated, Any

import anyio
import msgspec
import typer

from eventport._config.connecting import connect_existing
from eventport.cli.endings import UNSOUND, ending, say
from eventport.cli.options import Checkpoints, OneObject, Projections, Store
from eventport.cli.projecting import load_object, opened
from eventport.cli.showing import progress_bar
from eventport.projections import Checkpoint
from eventport.projections.checkpoints import load_parts
from eventport.verification import Verdict, verify


def verify_store(
    *,
    store: Store = None,
    types: Annotated[
        str | None,
        typer.Option(
            "--types",
            metavar="MODULE:TYPES",
            help="Decode the program's events, too, with what is imported from here.",
        ),
    ] = None,
    replays: Annotated[
        str | None,
        typer.Option(
            "--replays",
            metavar="MODULE:FUNCTION",
            help="Compare snapshots with replays, too: a function of the program that takes the "
            "store and returns a list of eventport.verification.Replayed.",
        ),
    ] = None,
    projections: Projections = None,
    checkpoints: Checkpoints = None,
    json: OneObject = False,
) -> None:
    """Look at all events, and report what is out of order, missing, double or unreadable.

    Unique keys, snapshots, checkpoints and heads are compared with the events. Checkpoints in
    streams are found; those in a database are named by --projection. The exit code is 3 if
    anything is wrong.
    """

    async def work() -> Verdict:
        codec: Any = None if types is None else load_object(types, "types")
        make: Any = None if replays is None else load_object(replays, "function")
        loaded: dict[str, Checkpoint] = {}
        for name in projections or ():
            loaded |= await _checkpoints(name, store, checkpoints)
        async with connect_existing(store) as source:
            with progress_bar("verifying", None) as progress:
                return await verify(
                    source,
                    types=codec,
                    checkpoints=loaded,
                    replays=() if make is None else make(source),
                    progress=progress,
                )

    with ending():
        verdict = anyio.run(work)
        if json:
            print(msgspec.json.encode(verdict).decode())  # noqa: T201  # what it is for
        else:
            _report(verdict)
    if not verdict.is_sound:
        raise typer.Exit(UNSOUND)


async def _checkpoints(
    name: str, store: str | None, checkpoints: str | None
) -> dict[str, Checkpoint]:
    """Return how far the parts of a projection are, by their names and generation."""
    async with opened(name, store, checkpoints, create=False) as (projection, _, kept):
        return {str(id_): found for id_, found in (await load_parts(kept, projection.id)).items()}


def _report(verdict: Verdict) -> None:
    for one in verdict.findings:
        place = f"{one.stream} {one.version or ''}".strip()
        print(f"{one.kind}: {place}: {one.reason}" if place else f"{one.kind}: {one.reason}")  # noqa: T201  # what it is for
    wrong = len(verdict.findings) + verdict.more
    say(
        f"{verdict.events} events in {verdict.streams} streams, up to position "
        f"{verdict.position}: {f'{wrong} findings' if wrong else 'sound'}"
    )
