"""The README and the guide: their programs run, and all links between pages lead somewhere."""

from __future__ import annotations

import importlib
import pkgutil
import re

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doc_examples import run_page

import eventport

from eventport import EventportError


ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "adapters/*/*.md", "conformance/*.md")
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize(
    ("page", "programs"),
    [
        ("README.md", 1),
        ("docs/guide.md", 7),
        ("docs/tutorial.md", 6),
        ("docs/typed-events.md", 5),
        ("docs/commands.md", 7),
        ("docs/aggregates.md", 7),
        ("docs/inline-projections.md", 2),
        ("docs/read-models.md", 1),
        ("docs/reactors.md", 1),
        ("docs/boundaries.md", 3),
        ("docs/telemetry.md", 2),
        ("docs/coming-from-emmett.md", 1),
        ("docs/coming-from-eventsourcing.md", 1),
        ("docs/coming-from-marten.md", 1),
    ],
)
def test_the_programs_of_a_page_run(tmp_path: Path, page: str, programs: int) -> None:
    assert run_page(ROOT / page, tmp_path, languages=["python"]) == programs


def test_the_tests_of_the_page_about_testing_pass(tmp_path: Path) -> None:
    assert run_page(ROOT / "docs/testing.md", tmp_path) == 4


def test_the_program_that_joins_a_session_of_sqlalchemy_runs_on_sqlite(tmp_path: Path) -> None:
    assert run_page(ROOT / "docs/joining.md", tmp_path) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), f"{page.name} links to {target}"
        if heading:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert heading in slugs, f"{page.name} links to {target}"


def test_readme_shows_the_two_commands_before_the_first_heading() -> None:
    readme = (ROOT / "README.md").read_text()
    ci = (ROOT / ".ci" / "run").read_text()
    opening = readme.partition("\n## ")[0]
    commands = re.findall(r"^\$ (.+?) +#", opening, re.MULTILINE)
    assert commands[0].endswith("python3 -m nox -s demo")
    assert commands[1] in ci


def _public_modules() -> Iterator[str]:
    """Name the modules that programs import, and neither adapters nor the command line."""
    for module in pkgutil.walk_packages(eventport.__path__, "eventport."):
        parts = module.name.split(".")
        if parts[1] not in {"adapter", "cli"} and not any(part.startswith("_") for part in parts):
            yield module.name


def test_the_guide_explains_every_error() -> None:
    guide = (ROOT / "docs/guide.md").read_text()
    classes = {
        name
        for module in _public_modules()
        for name, found in vars(importlib.import_module(module)).items()
        if isinstance(found, type) and issubclass(found, EventportError)
    }
    rows = set(
        re.findall(r"`(\w+Error)`", " ".join(re.findall(r"^\|(.+?)\|", guide, re.MULTILINE)))
    )
    assert classes - rows == {"EventportError"}


def test_the_page_about_adapters_shows_parts_of_the_example() -> None:
    page = (ROOT / "docs/write-an-adapter.md").read_text()
    example = ROOT / "examples/file_store"
    code = "".join((example / name).read_text() for name in ("file_store.py", "test_file_store.py"))
    shown = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(shown) == 7
    assert all(part in code for part in shown)
