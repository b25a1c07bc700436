"""The command `eventport`; without its extra it says what to install."""

from __future__ import annotations

import sys

from importlib.util import find_spec


def main() -> int:
    """Run the command that this process was asked for, and return its exit code."""
    if find_spec("rich") is None or find_spec("typer") is None:
        help_ = "the command line needs an extra: python -m pip install 'eventport[cli]'"
        print(f"eventport: {help_}", file=sys.stderr)  # noqa: T201  # what it is for
        return 2
    try:
        from eventport.cli.app import app  # noqa: PLC0415  # nothing else needs the extra

        app()
    except KeyboardInterrupt:  # before the command itself could take care of it
        return 130
    return 0
