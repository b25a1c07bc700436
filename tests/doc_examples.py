"""Runs the examples of a page of documentation, from top to bottom, as a reader would.

A page's fenced blocks share one directory:

- a block whose first line names a file, such as ```` ```toml eventport.toml ````, is written there;
- a ``python`` block is a program that must end well; a ``text`` block right behind it is what it
  prints;
- in a ``console`` block, lines that begin with ``$`` are commands, and the others what they print;
- all other blocks are only read.

In what is printed, ``...`` stands for anything.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

from collections.abc import Collection, Iterator, Mapping
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path
from typing import Final, NamedTuple


SECONDS: Final = 300
RUNNABLE: Final = ("python", "console")

_BLOCK: Final = re.compile(r"^```(\w+)(?: +(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block."""

    line: int
    language: str
    file: str | None
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """Find the fenced blocks of a page."""
    content = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(content):
        line = content.count("\n", 0, match.start()) + 1
        yield Block(line, match[1], match[2], match[3])


def run_page(
    page: Path,
    directory: Path,
    *,
    languages: Collection[str] = RUNNABLE,
    environment: Mapping[str, str] | None = None,
    python: Path = Path(sys.executable),
) -> int:
    """Run the examples of a page in a directory, and return how many there were.

    Args:
        page: A file in Markdown.
        directory: Where to; best an empty one.
        languages: Which blocks to run.
        environment: What to add to the environment variables.
        python: What runs the programs; commands are found beside it first.

    Raises:
        AssertionError: an example prints something else than the page says; it names the line.
    """
    runs = 0
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, **(environment or {})}
    found = list(blocks(page))
    for block, after in zip(found, [*found[1:], None], strict=True):
        place = f"{page.name}:{block.line}"
        if block.file is not None:
            (directory / block.file).write_text(block.text, encoding="utf-8")
        elif block.language not in languages:
            continue
        elif block.language == "python":
            output = after.text if after is not None and after.language == "text" else None
            _run([str(python), "-c", block.text], directory, variables, place, output)
            runs += 1
        else:
            for command, output in _commands(block.text):
                _run(["bash", "-c", command], directory, variables, f"{place}: {command}", output)
                runs += 1
    return runs


def _commands(text: str) -> Iterator[tuple[str, str]]:
    """Split a console block into commands and what each prints."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def _run(
    command: list[str],
    directory: Path,
    variables: Mapping[str, str],
    place: str,
    expected: str | None,
) -> None:
    """Run a command; without an expected output, all that counts is that it ends well."""
    done = subprocess.run(
        command,
        cwd=directory,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if expected is None:
        assert done.returncode == 0, f"{place}\n{done.stdout}"
    else:
        same = OutputChecker().check_output(expected, done.stdout, ELLIPSIS)
        assert same, f"{place}\nexpected:\n{expected}\nbut it printed:\n{done.stdout}"
