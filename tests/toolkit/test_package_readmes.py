"""The README of each adapter's distribution: its program runs, with the URL of a server of ours."""

from __future__ import annotations

import re

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from os import getpid
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from adapters.eventstoredb.tests.double.server import serve
from adapters.eventstoredb.tests.double.state import Double
from adapters.mongodb.tests.servers import new_database
from anyio import to_thread
from tests.doc_examples import run_page


ROOT: Final = Path(__file__).parents[2]


@asynccontextmanager
async def as_written(_: pytest.FixtureRequest) -> AsyncGenerator[None]:
    yield None


@asynccontextmanager
async def postgres(request: pytest.FixtureRequest) -> AsyncGenerator[str]:
    url: str = request.getfixturevalue("postgres_url")
    yield f"{url}{'&' if '?' in url else '?'}schema=readme_{getpid()}"


@asynccontextmanager
async def mongodb(request: pytest.FixtureRequest) -> AsyncGenerator[str]:
    async with new_database(request.getfixturevalue("mongodb_url")) as url:
        yield url


@asynccontextmanager
async def eventstoredb(_: pytest.FixtureRequest) -> AsyncGenerator[str]:
    async with serve(Double()) as double:
        yield double.uri


Place: TypeAlias = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[str | None]]

URLS: Final[dict[str, Place]] = {
    "memory": as_written,
    "sqlite": as_written,
    "postgres": postgres,
    "mongodb": mongodb,
    "eventstoredb": eventstoredb,
}


def test_every_adapter_is_here() -> None:
    assert {path.parent.name for path in ROOT.glob("adapters/*/pyproject.toml")} == URLS.keys()


@pytest.mark.parametrize("adapter", URLS)
async def test_the_readme_says_how_to_install_and_its_program_runs(
    request: pytest.FixtureRequest, tmp_path: Path, adapter: str
) -> None:
    text = (ROOT / "adapters" / adapter / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# eventport-{adapter}\n\nKeeps events in ")
    assert re.search(rf"pip install 'eventport[-\[]{adapter}\b", text)
    async with URLS[adapter](request) as url:
        page = tmp_path / "README.md"
        here = text if url is None else re.sub(r'connect\(".*?"', f'connect("{url}"', text)
        page.write_text(here, encoding="utf-8")
        assert await to_thread.run_sync(lambda: run_page(page, tmp_path)) == 1
