"""What only a terminal gets: colours and moving bars, by Rich."""

from __future__ import annotations

import re

from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic
from typing import Final

import msgspec

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from eventport.events import RecordedEvent


# JSON leaves these as they are, and a terminal may take them for commands.
_CONTROL: Final = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_REFRESH: Final = 0.05
"""How many seconds a bar stands still at least."""


def coloured_writer() -> Callable[[RecordedEvent], None]:
    """Return what writes events to standard output, for people."""
    console = Console(highlight=False)

    def show(event: RecordedEvent) -> None:
        console.print(_render(event), soft_wrap=True)

    return show


@contextmanager
def counting_bar(what: str, total: int | None) -> Generator[Callable[[int], object]]:
    """Show on standard error how many steps of a total were done."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        waiting, shown = 0, monotonic()

        def advance(steps: int) -> None:
            nonlocal waiting, shown
            waiting += steps
            # Many steps take less time than it takes to show one of them.
            if (now := monotonic()) - shown >= _REFRESH:
                progress.advance(task, waiting)
                waiting, shown = 0, now

        try:
            yield advance
        finally:
            progress.advance(task, waiting)


@contextmanager
def lag_bar(what: str) -> Generator[Callable[[int, int, float], object]]:
    """Show on standard error how far a position is from the head, which may move."""
    columns = (
        TextColumn(what),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("lag {task.fields[lag]}, {task.fields[rate]:,.0f} events/s"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None, lag="?", rate=0)

        def show(position: int, head: int, rate: float) -> None:
            lag = f"{max(0, head - position):,}"
            progress.update(task, completed=position, total=max(head, 1), lag=lag, rate=rate)

        yield show


def _render(event: RecordedEvent) -> Text:
    metadata = _plain(event.metadata) if event.metadata else ""
    return Text.assemble(
        (f"{event.position:>6} ", "dim"),
        f"{event.stream} ",
        (f"{event.version} ", "cyan"),
        (event.type, "bold"),
        (f"  {event.recorded_at:%Y-%m-%d %H:%M:%S} UTC\n", "dim"),
        f"       {_plain(event.data)}",
        (f"  {metadata}" if metadata else "", "dim"),
        (f"  {_plain(sorted(event.tags))}" if event.tags else "", "cyan"),
    )


def _plain(value: object) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes: {value[:32].hex(' ')}{' …' if len(value) > 32 else ''}"
    text = msgspec.json.encode(value).decode()
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
