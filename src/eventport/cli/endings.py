"""How a command ends: its exit code, and one line that says why."""

from __future__ import annotations

import os
import signal
import sys

from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

import typer

from eventport.errors import EventportError


FAILED: Final = 1
"""The exit code of an error, which has been reported on one line."""

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C: what shells report of other programs."""

NO_READER: Final = 141
"""The exit code when the output is closed: what shells report of other programs."""


@contextmanager
def ending(*, interrupted: int = INTERRUPTED, said: str | None = None) -> Generator[None]:
    """Turn whatever ends a command early into an exit code, and a line if there is a reason."""
    try:
        yield
    except KeyboardInterrupt:
        if said is not None:
            say(said)
        raise typer.Exit(interrupted) from None
    except BrokenPipeError:
        _drop_output()
        raise typer.Exit(NO_READER) from None
    except OSError as exc:
        _drop_output()
        _fail(f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc))
    except EventportError as exc:
        _fail(str(exc))


def end_as_by_ctrl_c(number: int, frame: FrameType | None) -> None:
    """Handle another signal as Ctrl-C is handled."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        handler = signal.default_int_handler  # Ctrl-C is ignored: it runs in the background
    handler(number, frame)


def _drop_output() -> None:
    """Keep the interpreter from failing when it flushes standard output once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str) -> NoReturn:
    say(" ".join(message.split()))
    raise typer.Exit(FAILED) from None


def say(message: str) -> None:
    """Report one line on standard error."""
    print(f"eventport: {message}", file=sys.stderr)  # noqa: T201  # what it is for
