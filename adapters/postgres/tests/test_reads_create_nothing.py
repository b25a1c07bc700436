"""Commands that only read create nothing, and name the remedy when a name is mistyped."""

from __future__ import annotations

import subprocess
import sys

from pathlib import Path

import asyncpg
import pytest

from anyio import to_thread

from eventport import NewEvent

from eventport_postgres import PostgresEventStore


VIEW = """
from eventport.projections import Projection
numbers = Projection("numbers")
@numbers.on("E")
async def handle(event, context): ...
"""


async def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("eventport")), *arguments]
    return await to_thread.run_sync(
        lambda: subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    )


@pytest.mark.parametrize(
    "command",
    [("read", "s"), ("export", "f.ndjson"), ("tail",), ("projection", "status", "view:numbers")],
    ids=lambda command: command[0],
)
async def test_a_mistyped_schema_is_an_error(
    url: str, schema: str, admin: asyncpg.Connection, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "view.py").write_text(VIEW)
    mistyped = f"{url}{'&' if '?' in url else '?'}schema={schema}"
    done = await run(tmp_path, *command, "--store", mistyped)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"schema '{schema}' is not there: check" in done.stderr
    assert not await admin.fetchval("SELECT to_regnamespace($1) IS NOT NULL", schema)
    assert not (tmp_path / "f.ndjson").exists()


async def test_mistyped_checkpoints_are_an_error(
    url: str,
    schema: str,
    admin: asyncpg.Connection,
    store: PostgresEventStore,
    tmp_path: Path,
) -> None:
    (tmp_path / "view.py").write_text(VIEW)
    await store.append("s", [NewEvent("E", 1)])
    there = f"{url}{'&' if '?' in url else '?'}schema={schema}"
    other = f"{there}_mistyped"
    status = ("projection", "status", "view:numbers", "--store", there)
    done = await run(tmp_path, *status, "--checkpoints", other)
    assert (done.returncode, "there are no checkpoints in schema" in done.stderr) == (1, True)
    assert not await admin.fetchval("SELECT to_regnamespace($1) IS NOT NULL", f"{schema}_mistyped")
    done = await run(tmp_path, *status, "--checkpoints", "sqlite:///typo.db")
    assert (done.returncode, "typo.db does not exist" in done.stderr) == (1, True)
    assert not (tmp_path / "typo.db").exists()
    done = await run(tmp_path, *status)
    assert done.returncode == 0, done.stderr
