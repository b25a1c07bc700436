"""Other processes that work on a store, and what they print."""

from __future__ import annotations

import json

from pathlib import Path
from typing import Any, Final

from eventport_conformance.scripts import Script


WORKERS: Final = Path(__file__).parent / "workers"


def follow(process: Script) -> Any:
    """Let a process that is ready go on, and return what it prints last."""
    process.go()
    return json.loads(process.output())


def output(process: Script) -> Any:
    """Let a process begin as soon as it is ready, and return what it prints last."""
    process.ready()
    return follow(process)
