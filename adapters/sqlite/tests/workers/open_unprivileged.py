"""Try to open files as a user who must not write where they are, and tell what is said."""

from __future__ import annotations

import asyncio
import os
import tempfile

from pathlib import Path

from eventport import ConfigurationError, NewEvent

from eventport_sqlite import SQLiteEventStore


NOBODY = 65_534


async def refusal(path: Path) -> str:
    """Return the name of the error that opening raises."""
    try:
        await (await SQLiteEventStore.open(path)).aclose()
    except ConfigurationError as exc:
        return f"{type(exc).__name__}: {exc}"
    return "opened"


async def fill(path: Path) -> None:
    """Make a store."""
    async with await SQLiteEventStore.open(path) as store:
        await store.append("s", [NewEvent("Stored", None)])


with tempfile.TemporaryDirectory() as name:
    place = Path(name)
    asyncio.run(fill(place / "there.db"))
    (place / "theirs.db").touch(mode=0o644)
    (place / "there.db").chmod(0o666)
    place.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    for file in ("new.db", "there.db", "theirs.db"):
        print(asyncio.run(refusal(place / file)))  # noqa: T201  # to the test
    print(sorted(os.listdir(place)))  # noqa: T201, PTH208  # to the test
    if os.getuid() == 0:
        os.seteuid(0)
    place.chmod(0o755)
