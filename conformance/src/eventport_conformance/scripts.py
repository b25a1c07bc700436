"""Other processes of a test: the one way to start them, and to wait for their lines.

A script imports all that it needs, prints ``ready``, and waits for a line before it begins, so
that several of them begin together. It reports what it has done line by line; so a test can kill it
after something that it has seen, and not after a time.
"""

from __future__ import annotations

import subprocess
import sys

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import TypeAlias

from eventport_conformance.trial import Deviation
from eventport_conformance.waiting import HANG_SECONDS, START_SECONDS


class Script(subprocess.Popen[str]):
    """A process that runs a Python script, or the module after ``-m``.

    Args:
        script: The path of the script, or ``-m``.
        arguments: What it is given; each is turned into text.
        folder: Where it runs, and from where a module is found; None for that of this process.
    """

    def __init__(self, script: str | Path, *arguments: object, folder: Path | None = None) -> None:
        super().__init__(
            [sys.executable, str(script), *map(str, arguments)],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._name = " ".join(Path(str(one)).name for one in (script, *arguments[:1]))

    def line(self, seconds: float = HANG_SECONDS) -> str:
        """Wait for the next line, and return it without its end; empty if the process has ended.

        Raises:
            Deviation: It does not come, and the process was killed.
        """
        if self.stdout is None:  # cannot be: it is a pipe
            raise RuntimeError
        late: list[bool] = []

        def give_up() -> None:
            late.append(True)
            self.kill()

        timer = Timer(seconds, give_up)
        timer.daemon = True
        timer.start()
        try:
            line = self.stdout.readline()
        finally:
            timer.cancel()
        if late:
            seen = f"nothing in {seconds:.0f} seconds"
            raise Deviation(self._what("reports something"), "a line", seen)
        # What a kill has truncated is no line.
        return line.removesuffix("\n") if line.endswith("\n") else ""

    def ready(self) -> None:
        """Wait until it is ready.

        Raises:
            Deviation: It has ended, printed something else, or hangs.
        """
        line = self.line(START_SECONDS)
        if line != "ready":
            raise Deviation(self._what("starts"), "ready", line or "its end")

    def go(self) -> None:
        """Let it begin, or go on."""
        if self.stdin is None:  # cannot be: it is a pipe
            raise RuntimeError
        self.stdin.write("go\n")
        self.stdin.flush()

    def lines(self) -> list[str]:
        """Wait for the end of a process that was killed, or ends, and return its last lines."""
        found: list[str] = []
        while line := self.line():
            found.append(line)
        self.wait(HANG_SECONDS)
        return found

    def output(self, seconds: float = 5 * HANG_SECONDS) -> str:
        """Wait for its end, and return the rest of what it prints.

        Raises:
            Deviation: It has not ended well.
            subprocess.TimeoutExpired: It hangs.
        """
        text, _ = self.communicate(timeout=seconds)
        if self.returncode != 0:
            raise Deviation(self._what("ends well"), "exit code 0", str(self.returncode))
        return text

    def end(self) -> None:
        """Kill it if it still runs, and close its pipes."""
        self.kill()
        self.wait(HANG_SECONDS)
        for pipe in (self.stdin, self.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # what was not sent cannot be sent any more
                    pipe.close()

    def _what(self, does: str) -> str:
        return f"{self._name} {does}"


Start: TypeAlias = Callable[..., Script]
"""Starts the script of a name with arguments."""


def scripts(folder: Path) -> AbstractContextManager[Start]:
    """Give a function that starts scripts of a folder; all of them are ended with the block."""
    return _starting(lambda name, *arguments: Script(folder / name, *arguments))


def modules(package: str, folder: Path) -> AbstractContextManager[Start]:
    """Do as `scripts` does with modules of a package, which is found from a folder."""
    return _starting(
        lambda name, *arguments: Script("-m", f"{package}.{name}", *arguments, folder=folder)
    )


@contextmanager
def _starting(make: Start) -> Generator[Start]:
    with ExitStack() as stack:

        def start(name: str, *arguments: object) -> Script:
            script = make(name, *arguments)
            stack.callback(script.end)
            return script

        yield start


def go_together(*started: Script) -> None:
    """Let processes begin at the same moment, when all of them are ready."""
    for script in started:
        script.ready()
    for script in started:
        script.go()
