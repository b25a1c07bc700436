"""Other processes that import what they need, and begin together."""

from __future__ import annotations

import subprocess
import sys

from pathlib import Path


WORKERS = Path(__file__).parent / "workers"


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Start one, which waits until it is told to begin."""
    return subprocess.Popen(
        [sys.executable, str(WORKERS / script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run_together(processes: list[subprocess.Popen[str]], timeout: float = 300) -> list[str]:
    """Let them begin, and return what each of them prints."""
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        printed = [process.communicate(timeout=timeout)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return printed
