"""Runs a server for as long as any process of the tests holds the file of its users.

It is run as a script, and takes its leave of the process that started it. It needs nothing but the
standard library, so it starts at once.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys

from pathlib import Path


def main(folder: Path, command: list[str]) -> None:
    """Start the server, and kill it when the last user has gone, however that ended."""
    if os.fork():
        return
    os.setsid()
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    (folder / "pid").write_text(str(server.pid))
    with (folder / "users").open("rb+") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        (folder / "url").unlink(missing_ok=True)
        server.kill()
        server.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
