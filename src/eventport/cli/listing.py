"""`eventport streams` and `eventport stats`: which streams there are, and how much is in them."""

from __future__ import annotations

import sys

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Annotated, Any, Final, TypeAlias

import anyio
import msgspec
import typer

from eventport._config.connecting import connect_existing
from eventport.catalogue import Totals, count_streams, iterate_streams, measure_streams
from eventport.cli.endings import ending
from eventport.cli.measuring import measured
from eventport.cli.options import Json, OneObject, Prefix, Store
from eventport.cli.showing import progress_bar
from eventport.results import StreamInfo
from eventport.validation import TOOLKIT_STREAMS


Category: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Only streams of this category, such as order for order-7."),
]

_COLUMNS: Final = "{:>10}  {:>12}  {}"


def show_streams(
    *,
    store: Store = None,
    prefix: Prefix = None,
    category: Category = None,
    count: Annotated[
        bool, typer.Option("--count", help="Only how many there are, and how many events.")
    ] = False,
    json: Json = False,
) -> None:
    """List the streams by name, each with its version and the time of its last event.

    The toolkit's own streams are listed with --prefix eventport/.
    """

    async def work() -> None:
        async with connect_existing(store) as source:
            if count:
                totals = await count_streams(source, prefix=prefix, category=category)
                _print([_sum(totals, json=json)])
                return
            await _show(iterate_streams(source, prefix=prefix, category=category), json=json)

    with ending():
        anyio.run(work)


def show_stats(
    store: Store = None,
    *,
    measure: Annotated[
        bool,
        typer.Option("--bytes", help="The bytes of the events, too, for which all are read."),
    ] = False,
    json: OneObject = False,
) -> None:
    """Count the streams and the events, by category. Without --bytes no event is read."""

    async def count() -> tuple[dict[str, Any], list[str]]:
        async with connect_existing(store) as source:
            own = await count_streams(source)
            toolkit = await count_streams(source, prefix=TOOLKIT_STREAMS)
        return _numbers(own, toolkit), _table(own, toolkit)

    async def weigh() -> tuple[dict[str, Any], list[str]]:
        async with connect_existing(store) as source:
            with progress_bar("measuring", None) as progress:
                return measured(await measure_streams(source, progress=progress))

    with ending():
        numbers, table = anyio.run(weigh if measure else count)
        _print([msgspec.json.encode(numbers).decode()] if json else table)


async def _show(found: AsyncGenerator[StreamInfo, None], *, json: bool) -> None:
    plain = not json and sys.stdout.isatty()
    async with aclosing(found) as streams:
        async for one in streams:
            time = f"{one.recorded_at:%Y-%m-%d %H:%M:%S} UTC"
            _print([f"{one.version:>8}  {time}  {one.stream}" if plain else _line(one)])


def _line(one: StreamInfo) -> str:
    return msgspec.json.encode(one).decode()


def _sum(totals: Totals, *, json: bool) -> str:
    if json:
        return msgspec.json.encode({"streams": totals.streams, "events": totals.events}).decode()
    return f"{totals.streams} streams, {totals.events} events"


def _numbers(own: Totals, toolkit: Totals) -> dict[str, Any]:
    return {
        "streams": own.streams,
        "events": own.events,
        "categories": {
            name: {"streams": streams, "events": events}
            for name, (streams, events) in own.categories.items()
        },
        "toolkit": {"streams": toolkit.streams, "events": toolkit.events},
    }


def _table(own: Totals, toolkit: Totals) -> list[str]:
    rows = [
        (streams, events, name or "(no category)")
        for name, (streams, events) in own.categories.items()
    ]
    rows.append((own.streams, own.events, "in all"))
    if toolkit.streams:
        rows.append((toolkit.streams, toolkit.events, "of the toolkit"))
    head = _COLUMNS.format("streams", "events", "category")
    return [head, *(_COLUMNS.format(f"{row[0]:,}", f"{row[1]:,}", row[2]) for row in rows)]


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)  # noqa: T201  # what it is for
