"""Other processes that import what they need, and begin together."""

from __future__ import annotations

from pathlib import Path

from eventport_conformance.scripts import Script, go_together


WORKERS = Path(__file__).parent / "workers"


def start(script: str, *arguments: object) -> Script:
    """Start one, which waits for its start signal."""
    return Script(WORKERS / script, *arguments)


def run_together(processes: list[Script]) -> list[str]:
    """Let them begin, and return what each of them prints."""
    try:
        go_together(*processes)
        return [process.output() for process in processes]
    finally:
        for process in processes:
            process.end()
