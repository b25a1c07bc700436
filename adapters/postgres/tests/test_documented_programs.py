"""Proves that the programs for PostgreSQL in the documentation do what they say."""

from __future__ import annotations

import os
import sys

from collections.abc import AsyncGenerator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from anyio import run_process
from tests.doc_examples import run_page


PAGE = Path(__file__).parents[3] / "docs" / "inline-projections.md"


@pytest.fixture
async def database(url: str, schema: str, admin: asyncpg.Connection) -> AsyncGenerator[str, None]:
    """A database of its own, since a program works in the schemas that are there by default."""
    await admin.execute(f"CREATE DATABASE {schema}")
    yield urlsplit(url)._replace(path=f"/{schema}").geturl()
    await admin.execute(f"DROP DATABASE {schema}")


async def test_the_inline_projection(tmp_path: Path, database: str) -> None:
    assert run_page(PAGE, tmp_path, languages=()) == 0  # it writes the program
    done = await run_process(
        [sys.executable, tmp_path / "orders_on_postgres.py"],
        env={**os.environ, "EVENTPORT_URL": database},
    )
    assert done.stdout.decode().splitlines() == [
        "<Record status='shipped' version=2>",
        "NotNullViolationError False",
        "bob",
    ]
