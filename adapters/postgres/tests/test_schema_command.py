"""Proves `eventport schema`: it shows and makes the schema that a store's configuration names."""

from __future__ import annotations

import subprocess
import sys

from pathlib import Path

import asyncpg

from anyio import to_thread

from eventport import NewEvent

from eventport_postgres import PostgresEventStore


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("eventport"), "schema", *arguments],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )


async def test_the_schema_is_made_and_shown(
    url: str, schema: str, admin: asyncpg.Connection, tmp_path: Path
) -> None:
    (tmp_path / "eventport.toml").write_text(
        f'[stores.orders]\nurl = "{url}"\nschema = "{schema}"\n'
        'pool_size = 2\nmigrate = "explicit"\n'
    )
    for said in ("5, before it was 0", "5, as before"):
        done = await to_thread.run_sync(run, tmp_path, "upgrade", "--store", "orders")
        assert (done.returncode, said in done.stderr) == (0, True), done.stderr
    async with await PostgresEventStore.connect(url, schema=schema, migrate="explicit") as store:
        await store.append("s", [NewEvent("E", 1)])
    shown = await to_thread.run_sync(run, tmp_path, "sql", "--store", "orders")
    assert shown.returncode == 0
    await admin.execute(f"DROP SCHEMA {schema} CASCADE")
    await admin.execute(shown.stdout)
    async with await PostgresEventStore.connect(url, schema=schema, migrate="explicit") as store:
        await store.append("s", [NewEvent("E", 1)])


async def test_stores_without_a_schema_say_so(tmp_path: Path) -> None:
    done = await to_thread.run_sync(run, tmp_path, "upgrade", "--store", "sqlite:///a.db")
    assert done.returncode == 1
    assert "opening one is enough" in done.stderr
