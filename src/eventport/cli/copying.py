"""`eventport copy`: all events of a store into another one, and a comparison at the end."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import anyio
import msgspec
import typer

from eventport import connect
from eventport._config.connecting import connect_existing
from eventport._config.targets import lives_in_memory, resolve
from eventport._config.urls import redact
from eventport.cli.endings import UNSOUND, ending, say
from eventport.cli.exporting import replacing
from eventport.cli.showing import progress_bar
from eventport.copying import CopyReport, copy_events


def copy_store(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="The store to copy: a URL, or its name.")
    ],
    target: Annotated[
        str, typer.Argument(metavar="DST", help="Where to: an empty store, or an earlier copy.")
    ],
    *,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Write the result here, as JSON."),
    ] = None,
) -> None:
    """Copy all events of a store to another one, on whichever backends, and compare them.

    Every event is checked before anything is written. Run again after an interruption, or when the
    source has grown, it writes only what is missing. The exit code is 3 if the stores differ at
    the end.
    """

    async def work() -> CopyReport:
        with Bars() as bars:
            async with connect_existing(source) as theirs, connect(target) as ours:
                return await copy_events(theirs, ours, progress=bars.show)

    with ending(said="stopped by Ctrl-C; run it again, and it goes on where it was"):
        for store in (source, target):
            refuse_memory(store, "copy", "eventport.copying.copy_events")
        done = anyio.run(work)
        if report is not None:
            _write(report, source, target, done)
        _say(done)
    if not done.is_equal:
        raise typer.Exit(UNSOUND)


def refuse_memory(store: str, verb: str, function: str) -> None:
    """Refuse a store that would be empty, and say which function does it in a program."""
    if lives_in_memory(store):
        message = (
            f"{store}: a store in memory begins and ends with this command: {verb} it in your "
            f"program, by {function}"
        )
        raise typer.BadParameter(message)


class Bars(ExitStack):
    """A bar for what is being done, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._what = ""
        self._advance: Any = None

    def show(self, what: str, events: int, total: int | None) -> None:
        """Show that something has been done for more events."""
        if what != self._what:
            self.close()
            self._what = what
            self._advance = self.enter_context(progress_bar(what, total))
        self._advance(events)


def _write(file: Path, source: str, target: str, done: CopyReport) -> None:
    stores = {"source": shown(source), "target": shown(target), "is_equal": done.is_equal}
    line = msgspec.json.encode({**stores, **msgspec.structs.asdict(done)})
    with replacing(file) as out:
        out.write(msgspec.json.format(line) + b"\n")


def shown(store: str) -> str:
    """Return the URL of a store without its password."""
    return redact(resolve(store, None).url)


def _say(done: CopyReport) -> None:
    say(
        f"{done.copied} events copied, {done.there} already there, {done.streams} streams, up to "
        f"position {done.position} of the source"
    )
    if done.copied and not done.times_kept:
        say("recorded_at is the time of this copy: this kind of store cannot keep that of others")
    if done.left_out:
        say(
            f"{done.left_out} events left out: checkpoints and dead letters of projections, which "
            "hold positions of the source"
        )
    if done.difference is not None:
        say(f"the stores differ: {done.difference}")
    else:
        say(f"both stores are equal: SHA-256 {done.target_hash}")
