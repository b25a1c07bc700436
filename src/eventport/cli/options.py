"""The options that several commands have."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from eventport.boundaries import Match, Query


def _refuse_lists(types: list[str] | None) -> list[str] | None:
    for name in types or ():
        if "," in name:
            message = f"{name!r} would match no type: repeat the option, as in --type A --type B"
            raise typer.BadParameter(message)
    return types


Store: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME_OR_URL",
        help="A URL, or a store's name in eventport.toml. "
        "[default: what EVENTPORT_URL says, or the store named default]",
    ),
]
ProjectionName: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="MODULE:PROJECTION", help="What to import, such as shop.views:cases."),
]
Projections: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--projection",
        metavar="MODULE:PROJECTION",
        help="Look at how far this projection is, too; can be repeated.",
    ),
]
Checkpoints: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME_OR_URL",
        help="Where the checkpoints are: a database, or streams for the store's own streams. "
        "[default: where the events are]",
    ),
]
After: TypeAlias = Annotated[
    int,
    typer.Option(min=0, metavar="POSITION", help="Only events after this global position."),
]
Prefix: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Only streams whose name starts with this.")
]
Types: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        metavar="TYPE",
        callback=_refuse_lists,
        help="Only events of this type; can be repeated.",
    ),
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="NDJSON, which is what files and pipes get anyway.")
]
Lines: TypeAlias = Annotated[bool, typer.Option("--json", help="NDJSON, for programs.")]
OneObject: TypeAlias = Annotated[bool, typer.Option("--json", help="One object, for programs.")]
Tags: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--tag", metavar="TAG", help="Only events with this tag; repeat it for more that they have."
    ),
]


def query_of(types: list[str] | None, tags: list[str] | None) -> Query | None:
    """Return what `--type` and `--tag` ask for; None for all events."""
    if not types and not tags:
        return None
    return Query.of(Match(frozenset(types or ()), frozenset(tags or ())))
