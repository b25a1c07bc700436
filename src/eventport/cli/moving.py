"""`eventport move` and `eventport unfence`: all events to another store, while writers go on."""

from __future__ import annotations

from typing import Annotated, Any, Final

import anyio
import msgspec
import typer

from eventport import connect
from eventport._config.connecting import connect_existing
from eventport.cli.copying import Bars, refuse_memory, shown
from eventport.cli.endings import UNSOUND, ending, say
from eventport.cli.options import OneObject
from eventport.fencing import unfence
from eventport.moving import MoveReport, move_events


_STOPPED: Final = (
    "stopped by Ctrl-C; the source takes appends, unless it had been moved by then; run it again, "
    "and it goes on where it was"
)


def move_store(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="The store to move: a URL, or its name.")
    ],
    target: Annotated[
        str, typer.Argument(metavar="DST", help="Where to: an empty store, or a copy of it.")
    ],
    *,
    writers_stopped: Annotated[
        bool,
        typer.Option(
            "--writers-stopped",
            help="Nobody writes to SRC: needed where SRC cannot refuse the appends of others.",
        ),
    ] = False,
    json: OneObject = False,
) -> None:
    """Move all events of a store to another one, while programs write, and refuse later appends.

    The events are copied and compared first. Then appends to SRC fail with an error that names
    DST, the rest is copied, and checkpoints in streams get the positions of DST. Killed at any
    moment and run again, it ends right. The exit code is 3 if the stores differ; then SRC takes
    appends as before.
    """

    async def work() -> MoveReport:
        with Bars() as bars:
            async with connect_existing(source) as theirs, connect(target) as ours:
                return await move_events(
                    theirs,
                    ours,
                    to=shown(target),
                    writers_stopped=writers_stopped,
                    progress=bars.show,
                )

    with ending(said=_STOPPED):
        for store in (source, target):
            refuse_memory(store, "move", "eventport.moving.move_events")
        done = anyio.run(work)
        if json:
            stores: dict[str, Any] = {"source": shown(source), "target": shown(target)}
            print(msgspec.json.encode({**stores, **msgspec.structs.asdict(done)}).decode())  # noqa: T201  # what it is for
        else:
            _say(done)
    if not done.is_done:
        raise typer.Exit(UNSOUND)


def unfence_store(
    store: Annotated[str, typer.Argument(metavar="STORE", help="The store: a URL, or its name.")],
) -> None:
    """Let a store take appends again, whose events are being moved, or have moved.

    Events that were appended to the target since then are not in it.
    """

    async def work() -> str | None:
        async with connect_existing(store) as opened:
            return await unfence(opened)

    with ending():
        said = anyio.run(work)
        say(
            "it had no fence" if said is None else f"it takes appends again; its fence said: {said}"
        )


def _say(done: MoveReport) -> None:
    if done.copy is None:
        say("the events had been moved by an earlier run")
        return
    copy = done.copy
    if copy.difference is not None:
        say(f"the stores differ, and nothing was moved: {copy.difference}")
        return
    say(
        f"{copy.copied + copy.there} events moved, {copy.streams} streams, up to position "
        f"{copy.position} of the source; SHA-256 {copy.target_hash}"
    )
    for one in done.checkpoints:
        own = ", which is the target's own" if one.is_own else ""
        say(
            f"checkpoint {one.projection}: {one.source_position} in the source, "
            f"{one.target_position} in the target{own}"
        )
    if done.pause is not None:
        say(f"appends were refused for {done.pause * 1000:.0f} ms before all was there")
    if done.is_fenced:
        say("the source refuses appends from now on: give programs the URL of the target")
