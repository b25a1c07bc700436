"""Builds the distributions, and makes environments with them."""

from __future__ import annotations

import subprocess
import sys

from pathlib import Path
from typing import Final


ROOT: Final = Path(__file__).parents[2]


def uv(*args: str | Path) -> str:
    """Run uv, and return what it prints."""
    command = [sys.executable, "-m", "uv", "--quiet", *map(str, args)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wheel(dist: Path, name: str) -> Path:
    """Return the wheel of a distribution."""
    (found,) = dist.glob(f"{name.replace('-', '_')}-*.whl")
    return found


def environment(folder: Path, *requirements: str | Path) -> Path:
    """Make an environment with these wheels and what they need, and return its Python."""
    uv("venv", "--python", sys.executable, folder)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    uv("pip", "install", "--python", python, *requirements)
    return python


def run(python: Path, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run an environment's Python."""
    return subprocess.run(
        [str(python), *args], check=False, capture_output=True, text=True, cwd=cwd
    )
