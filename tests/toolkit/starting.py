"""Starts the programs in `workers`, which import what they share with the tests."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from eventport_conformance.scripts import Start, modules


def workers() -> AbstractContextManager[Start]:
    """Give a function that starts a worker by its name; all of them are ended with the block."""
    return modules("tests.toolkit.workers", Path(__file__).parents[2])
