"""A server that speaks MongoDB's wire protocol, for platforms without a `mongod` in a wheel."""

from __future__ import annotations

import subprocess
import sys

from pathlib import Path
from typing import Final


PACKAGE: Final = "secantusdb==0.7.0b3"
"""Where the server is from. It runs in an environment of its own and is never imported."""


def command(port: int, data: Path, *options: str, standalone: bool) -> list[str]:
    """Return how to start the server: the interpreter of its environment, so it is one process."""
    uv = [sys.executable, "-m", "uv", "--quiet", "tool", "run", "--from", PACKAGE]
    found = subprocess.run(
        [*uv, "python", "-c", "import sys; print(sys.executable)"],
        check=False,
        capture_output=True,
        text=True,
    )
    if found.returncode != 0:
        message = f"{PACKAGE} cannot be installed:\n{found.stderr}"
        raise RuntimeError(message)
    start = [found.stdout.strip(), "-c", "from secantus.cli import main; main()"]
    place = ["--port", str(port), "--storage-path", str(data)]
    # Without the first, an acknowledged write is lost when the process is killed.
    kind = ["--sync-on-commit", "--standalone" if standalone else "--enable-test-commands"]
    return [*start, *place, *kind, *options]
