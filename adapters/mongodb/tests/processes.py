"""Other processes that work on a store, and what they print."""

from __future__ import annotations

import json
import subprocess
import sys

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias


WORKERS: Final = Path(__file__).parent / "workers"

Start: TypeAlias = Callable[..., subprocess.Popen[str]]
"""Starts a script with arguments, and waits until it is ready."""


@contextmanager
def starting() -> Generator[Start, None, None]:
    """Give what starts other processes, and end them in the end."""
    started: list[subprocess.Popen[str]] = []

    def start_(script: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(WORKERS / script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start_
    for process in started:
        process.kill()
        process.wait(10)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def output(process: subprocess.Popen[str], seconds: float = 120) -> Any:
    """Let a process begin, or end, and return what it prints last, within some seconds."""
    text, _ = process.communicate("go\n", timeout=seconds)
    assert process.returncode == 0
    return json.loads(text)
