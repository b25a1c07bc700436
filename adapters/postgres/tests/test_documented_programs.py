"""Proves that the programs for PostgreSQL in the documentation do what they say."""

from __future__ import annotations

import os
import sys

from collections.abc import AsyncGenerator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from anyio import run_process, to_thread
from tests.doc_examples import run_page


DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
async def database(url: str, schema: str, admin: asyncpg.Connection) -> AsyncGenerator[str, None]:
    """A database of its own, since a program works in the schemas that are there by default."""
    await admin.execute(f"CREATE DATABASE {schema}")
    yield urlsplit(url)._replace(path=f"/{schema}").geturl()
    await admin.execute(f"DROP DATABASE {schema}")


async def test_the_inline_projection(tmp_path: Path, database: str) -> None:
    assert (
        run_page(DOCS / "inline-projections.md", tmp_path, languages=()) == 0
    )  # it writes the program
    done = await run_process(
        [sys.executable, tmp_path / "orders_on_postgres.py"],
        env={**os.environ, "EVENTPORT_URL": database},
    )
    assert done.stdout.decode().splitlines() == [
        "<Record status='shipped' version=2>",
        "NotNullViolationError False",
        "bob",
    ]


async def test_the_program_that_joins_a_session_of_sqlalchemy(
    tmp_path: Path, database: str
) -> None:
    scheme, _, rest = database.partition("://")
    assert scheme in {"postgres", "postgresql"}
    environment = {"EVENTPORT_URL": database, "SQLALCHEMY_URL": f"postgresql+asyncpg://{rest}"}

    def run() -> int:
        return run_page(DOCS / "joining.md", tmp_path, environment=environment)

    assert await to_thread.run_sync(run) == 1
