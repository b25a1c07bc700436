"""How a command ends: its exit code, and one line that says why."""

from __future__ import annotations

import os
import signal
import sys
import traceback

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import typer

import eventport

from eventport.errors import ConfigurationError, EventportError
from eventport.projections import ProjectionStoppedError


FAILED: Final = 1
"""The exit code of an error, which has been reported on one line."""

UNSOUND: Final = 3
"""The exit code if something is wrong with a store, or a copy differs; 1 says that it could not be
examined."""

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C: what shells report of other programs."""

NO_READER: Final = 141
"""The exit code when the output is closed: what shells report of other programs."""

_OURS: Final = Path(eventport.__file__).parent


class ImportFailedError(ConfigurationError):
    """A module of the user's cannot be imported; the cause is what it raised."""


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
        if isinstance(exc, ProjectionStoppedError | ImportFailedError) and exc.__cause__:
            show_trace(exc.__cause__)
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


def show_trace(error: BaseException) -> None:
    """Show where an error of the user's code comes from, on standard error.

    It has the class of the error and no text, which may hold the data of an event.
    """
    frames = traceback.extract_tb(error.__traceback__)
    outside = [
        index
        for index, frame in enumerate(frames)
        if frame.filename.startswith("<frozen") or Path(frame.filename).is_relative_to(_OURS)
    ]
    shown = frames[outside[-1] + 1 if outside else 0 :] or frames
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(shown)]
    print("".join(lines) + type(error).__name__, file=sys.stderr)  # noqa: T201  # what it is for


def say(message: str) -> None:
    """Report one line on standard error."""
    print(f"eventport: {message}", file=sys.stderr)  # noqa: T201  # what it is for
