"""Events and progress as output shows them: on a terminal for people, else for programs.

Most runs of the command have no terminal, and to import Rich takes a quarter of their start.
"""

from __future__ import annotations

import sys

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from eventport.cli.ndjson import recorded_line
from eventport.events import RecordedEvent


def event_writer(*, json: bool) -> Callable[[RecordedEvent], None]:
    """Return what writes events to standard output: for people on a terminal, else as NDJSON."""
    if json or not sys.stdout.isatty():
        return _write_line
    from eventport.cli.terminal import coloured_writer  # noqa: PLC0415  # see above

    return coloured_writer()


def progress_bar(what: str, total: int | None) -> AbstractContextManager[Callable[[int], object]]:
    """Show progress on standard error while the block runs, if that is a terminal."""
    if not sys.stderr.isatty():
        return nullcontext(lambda _: None)
    from eventport.cli.terminal import counting_bar  # noqa: PLC0415  # see above

    return counting_bar(what, total)


def catch_up_bar(
    what: str,
) -> AbstractContextManager[Callable[[int, int, float], object] | None]:
    """Show progress on standard error if that is a terminal; give None if it is not.

    The function that it gives takes a position, the head and the events handled per second.
    """
    if not sys.stderr.isatty():
        return nullcontext()
    from eventport.cli.terminal import lag_bar  # noqa: PLC0415  # see above

    return lag_bar(what)


def _write_line(event: RecordedEvent) -> None:
    out = sys.stdout.buffer
    out.write(recorded_line(event))
    out.flush()
