"""Events for people to read, and progress on a terminal."""

from __future__ import annotations

import re
import sys

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

from eventport.cli.ndjson import recorded_line
from eventport.events import RecordedEvent


# JSON leaves these as they are, and a terminal may take them for commands.
_CONTROL: Final = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def event_writer(*, json: bool) -> Callable[[RecordedEvent], None]:
    """Return what writes events to standard output: for people on a terminal, else as NDJSON."""
    if json or not sys.stdout.isatty():
        return _write_line
    console = Console(highlight=False)

    def show(event: RecordedEvent) -> None:
        console.print(_render(event), soft_wrap=True)

    return show


_REFRESH: Final = 0.05
"""How many seconds a bar stands still at least."""


@contextmanager
def progress_bar(what: str, total: int | None) -> Generator[Callable[[int], object]]:
    """Show progress on standard error while the block runs, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
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
def catch_up_bar(what: str) -> Generator[Callable[[int, int, float], object] | None]:
    """Show progress on standard error if that is a terminal; yield None if it is not.

    The function that it yields takes a position, the head and the events handled per second.
    """
    if not sys.stderr.isatty():
        yield None
        return
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


def _write_line(event: RecordedEvent) -> None:
    out = sys.stdout.buffer
    out.write(recorded_line(event))
    out.flush()


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
