"""The commands: what they accept, what they print, and how they end."""

from __future__ import annotations

import signal
import sys

from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, BinaryIO, Final, TypeAlias

import anyio
import msgspec
import typer

from eventport import connect
from eventport._config.connecting import connect_existing
from eventport._config.schemas import StoreSchema
from eventport._config.targets import lives_in_memory
from eventport.boundaries import Query
from eventport.cli import (
    adapters,
    copying,
    diagnosing,
    exporting,
    giving_up,
    importing,
    listing,
    moving,
    projecting,
    reading,
    tailing,
    verifying,
)
from eventport.cli.endings import end_as_by_ctrl_c, ending, say
from eventport.cli.options import (
    Checkpoints,
    Json,
    OneObject,
    Prefix,
    ProjectionName,
    Store,
    Tags,
    Types,
    query_of,
)
from eventport.cli.showing import event_writer, progress_bar


app: Final = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


schema_app: Final = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make the schema of a store, or print its SQL.",
)
app.add_typer(schema_app, name="schema")


projection_app: Final = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Run or rebuild a projection, or show its progress.",
)
app.add_typer(projection_app, name="projection")
projection_app.add_typer(giving_up.app, name="dead-letters")

Lease: TypeAlias = Annotated[
    float,
    typer.Option(
        min=0.1, metavar="SECONDS", help="How many seconds until another runner takes over."
    ),
]


def _show_version(asked: bool) -> None:  # noqa: FBT001  # typer calls it
    if asked:
        print(version("eventport"))  # noqa: T201  # what it is for
        raise typer.Exit


@app.callback()
def _main(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Look into event stores, and move events between them and files."""


@app.command("import")
def import_events(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="NDJSON; - is standard input.")],
    *,
    store: Store = None,
    renumber: Annotated[
        bool,
        typer.Option("--renumber", help="Count the versions of each stream from 1 anew."),
    ] = False,
) -> None:
    """Append the events of a file, which may be compressed by gzip or zstd.

    Every line is checked before anything is written. Run again, with the same file or with one
    that has grown, it writes only what is missing. Versions are kept, so that a later part of an
    export can be imported after an earlier one.
    """

    async def work(source: importing.Source) -> importing.Imported:
        async with connect(store) as target:
            with progress_bar("importing", source.events) as progress:
                return await importing.write(target, source, progress)

    stopped = "stopped by Ctrl-C; run it again, and it writes what is not there yet"
    with (
        ending(said=stopped),
        _open_input(file) as opened,
        importing.readable_twice(opened) as readable,
    ):
        with progress_bar("checking", importing.size_of(readable)) as progress:
            source = importing.check_all(readable, progress, renumber=renumber)
        written, stamped = anyio.run(work, source)
        there = source.events - written
        say(f"{written} events written, {there} already there, {source.streams} streams")
        if stamped:
            say(
                f"recorded_at of {stamped} of them is the time of this import: this kind of store "
                "cannot keep that of the file"
            )
        if source.left_out:
            say(
                f"{source.left_out} events left out: checkpoints and dead letters of projections, "
                "which hold positions of the store that they were exported from"
            )
        if lives_in_memory(store):
            say("memory:// forgets all of it now: name another store with --store")


app.command("export")(exporting.export_events)


@app.command("read")
def read_stream(
    stream: Annotated[
        str | None,
        typer.Argument(metavar="STREAM", help="The name of the stream; without one, all streams."),
    ] = None,
    *,
    store: Store = None,
    types: Types = None,
    tags: Tags = None,
    from_version: Annotated[
        int, typer.Option(min=1, metavar="VERSION", help="The lowest version.")
    ] = 1,
    to_version: Annotated[
        int | None, typer.Option(min=0, metavar="VERSION", help="The highest version.")
    ] = None,
    max_count: Annotated[
        int | None, typer.Option(min=0, metavar="COUNT", help="At most this many events.")
    ] = None,
    backwards: Annotated[bool, typer.Option("--backwards", help="Newest first.")] = False,
    json: Json = False,
) -> None:
    """Show the events of one stream, or those of all streams with some types or tags."""
    chosen = query_of(types, tags)
    if stream is None and (chosen is None or from_version > 1 or to_version is not None):
        raise typer.BadParameter("without a STREAM, give --type or --tag, and no versions")

    async def work() -> None:
        show = event_writer(json=json)
        async with connect_existing(store) as source:
            if stream is None:
                query = chosen or Query.all()
                found = await source.query(query, max_count=max_count, backwards=backwards)
                for event in found.events:
                    show(event)
                return
            versions = reading.Versions(from_version, to_version, backwards)
            await reading.show_stream(source, stream, versions, chosen, max_count, show)

    with ending():
        anyio.run(work)


@app.command("tail")
def tail_store(
    *,
    store: Store = None,
    prefix: Prefix = None,
    types: Types = None,
    tags: Tags = None,
    stream: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only the stream of exactly this name.")
    ] = None,
    after: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="POSITION", help="Only events after this position of the whole store."
        ),
    ] = None,
    last: Annotated[
        int | None,
        typer.Option(min=0, metavar="COUNT", help="Begin with the last events; 0 for new ones."),
    ] = None,
    json: Json = False,
) -> None:
    """Show all events, or the last ones, then each new one.

    An event has to match all filters that are given. Ctrl-C ends it, with exit code 0.
    """
    if after is not None and last is not None:
        raise typer.BadParameter("give --after or --last, not both")
    chosen = tailing.Selection(types or None, prefix, stream, query_of(None, tags))

    async def work() -> None:
        show = event_writer(json=json)
        async with connect_existing(store) as source:
            begin = after or 0
            if last is not None:
                begin = await tailing.find_start(source, chosen, last)
            async with source.subscribe(after=begin, **msgspec.structs.asdict(chosen)) as events:
                async for event in events:
                    show(event)

    with ending(interrupted=0):
        anyio.run(work)


app.command("streams")(listing.show_streams)
app.command("stats")(listing.show_stats)
app.command("verify")(verifying.verify_store)
app.command("stores")(adapters.show_stores)
app.command("doctor")(diagnosing.examine_store)
app.command("copy")(copying.copy_store)
app.command("move")(moving.move_store)
app.command("unfence")(moving.unfence_store)


@schema_app.command("sql")
def show_schema(
    *,
    store: Store = None,
    since: Annotated[
        int, typer.Option(min=0, metavar="VERSION", help="The version that the store has.")
    ] = 0,
) -> None:
    """Print the SQL that makes a store's schema, for an administrator to run."""
    with ending():
        print(StoreSchema(store).sql(since), end="")  # noqa: T201  # what it is for


@schema_app.command("upgrade")
def upgrade_schema(store: Store = None) -> None:
    """Upgrade a store's schema to the newest version; running it again changes nothing."""
    with ending():
        before, after = anyio.run(StoreSchema(store).upgrade)
        say(
            f"schema version {after}, as before"
            if before == after
            else f"schema version {after}, before it was {before}"
        )


@projection_app.command("run")
def run_projection(
    projection: ProjectionName,
    *,
    store: Store = None,
    checkpoints: Checkpoints = None,
    lease: Lease = 15.0,
) -> None:
    """Keep a projection up to date until it is stopped.

    Start as many as you like: one is active, and another one takes over if it dies. It ends when
    a higher generation of the projection becomes the active one. If it is divided, they
    share its parts, and a part that cannot continue is tried again after a pause. Ctrl-C and
    SIGTERM end it, with exit code 0.
    """
    # Service managers send this; a clean end spares the next runner the wait for the lease.
    signal.signal(signal.SIGTERM, end_as_by_ctrl_c)
    with ending(interrupted=0):
        handled = anyio.run(projecting.run, projection, store, checkpoints, lease)
        say(f"a higher generation has taken its place; {handled} events handled")


@projection_app.command("rebuild")
def rebuild_projection(
    projection: ProjectionName,
    *,
    store: Store = None,
    checkpoints: Checkpoints = None,
    lease: Lease = 15.0,
) -> None:
    """Build a new generation of a projection, beside the active one, and switch to it.

    The generation is the one that the program gives. Run again after an interruption, it continues
    where it was.
    """
    with ending():
        built, handled = anyio.run(projecting.rebuild, projection, store, checkpoints, lease)
        say(f"{built} is active now; {handled} events handled")


@projection_app.command("status")
def show_projection(
    projection: ProjectionName,
    *,
    store: Store = None,
    checkpoints: Checkpoints = None,
    json: OneObject = False,
) -> None:
    """Show a projection's progress, its runner, and the events that it could not handle."""
    with ending():
        found = anyio.run(projecting.status, projection, store, checkpoints)
        lines = [msgspec.json.encode(found).decode()] if json else projecting.lines_of(found)
        for line in lines:
            print(line)  # noqa: T201  # what it is for


def _open_input(file: Path) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if file == exporting.DASH else file.open("rb")
