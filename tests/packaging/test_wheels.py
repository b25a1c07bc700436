"""What is built can be installed alone, brings nothing it does not need, and works."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.packaging.building import ROOT, environment, run, uv, wheel


CORE: Final = {"anyio", "eventport", "idna", "msgspec"}
# What each distribution may bring into an empty environment, itself included.
BRINGS: Final = {
    "eventport": CORE,
    "eventport-memory": CORE | {"eventport-memory"},
    "eventport-eventstoredb": CORE | {"eventport-eventstoredb"},  # its clients are extras
    "eventport-sqlite": CORE | {"eventport-sqlite", "aiosqlite"},
    "eventport-postgres": CORE | {"eventport-postgres", "asyncpg"},
    "eventport-mongodb": CORE | {"eventport-mongodb", "pymongo", "dnspython"},  # Motor is an extra
    "eventport-conformance": None,  # pytest's and Hypothesis's dependencies are theirs to choose
}
# anyio needs it below Python 3.13.
MAYBE: Final = {"typing-extensions"}


def pyprojects() -> list[Path]:
    places = ("pyproject.toml", "conformance/pyproject.toml", "adapters/*/pyproject.toml")
    return [path for place in places for path in ROOT.glob(place)]


def test_all_distributions_have_one_version() -> None:
    projects = [tomllib.loads(path.read_text())["project"] for path in pyprojects()]
    assert {project["name"] for project in projects} == set(BRINGS)
    (version,) = {project["version"] for project in projects}
    groups = [
        group
        for project in projects
        for group in (project["dependencies"], *project.get("optional-dependencies", {}).values())
    ]
    pins = [pin for group in groups for pin in group if pin.startswith("eventport")]
    assert pins
    assert all(pin.endswith(f"=={version}") for pin in pins)


def test_all_distributions_say_where_they_come_from_and_what_they_are_for() -> None:
    projects = [tomllib.loads(path.read_text())["project"] for path in pyprojects()]
    (urls,) = {tuple(project["urls"].items()) for project in projects}
    assert {name for name, _ in urls} == {"Documentation", "Source", "Changelog", "Issues"}
    common = set.intersection(*(set(project["classifiers"]) for project in projects))
    assert "Typing :: Typed" in common
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13, 14)} <= common
    assert all(project["keywords"] and project["description"] for project in projects)


def test_an_index_would_take_every_wheel_and_sdist(dist: Path) -> None:
    files = [path for path in dist.iterdir() if path.name.endswith((".whl", ".tar.gz"))]
    assert len(files) == 2 * len(BRINGS)
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, files)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_links_of_the_readme_are_whole_in_an_index(dist: Path) -> None:
    with zipfile.ZipFile(wheel(dist, "eventport")) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        text = archive.read(metadata).decode()
    links = re.findall(r"\]\((.*?)\)", text)
    assert "https://github.com/eventport/eventport/blob/main/docs/guide.md" in links
    assert all(link.startswith("https://") for link in links)


@pytest.mark.parametrize("name", BRINGS)
def test_wheel_holds_one_typed_package(dist: Path, name: str) -> None:
    package = name.replace("-", "_")
    with zipfile.ZipFile(wheel(dist, name)) as archive:
        names = archive.namelist()
        (license_file,) = [path for path in names if path.endswith("/licenses/LICENSE")]
        assert archive.read(license_file) == (ROOT / "LICENSE").read_bytes()
    assert f"{package}/py.typed" in names
    folders = ("src", "conformance/src", "adapters/*/src")
    (source,) = [path for folder in folders for path in ROOT.glob(f"{folder}/{package}")]
    scripts = {path.relative_to(source.parent).as_posix() for path in source.rglob("*.sql")}
    assert scripts <= set(names)
    assert {Path(path).parts[0].split("-")[0] for path in names} == {package}
    assert any(path.endswith("/METADATA") for path in names)


def test_root_sdist_does_not_swallow_the_adapters(dist: Path) -> None:
    (sdist,) = dist.glob("eventport-[0-9]*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = [Path(path).parts[1] for path in archive.getnames() if len(Path(path).parts) > 1]
    assert not {"adapters", "conformance", "benchmarks"} & set(names)
    assert {"src", "pyproject.toml", "README.md", "LICENSE"} <= set(names)


@pytest.fixture(scope="module", params=BRINGS)
def installed(
    request: pytest.FixtureRequest, dist: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """Install one distribution, and the core, into an empty environment."""
    name: str = request.param
    folder = tmp_path_factory.mktemp(name) / "env"
    yield name, environment(folder, *{wheel(dist, "eventport"), wheel(dist, name)})
    shutil.rmtree(folder)


def test_distribution_works_alone(installed: tuple[str, Path], tmp_path: Path) -> None:
    name, python = installed
    done = run(python, "-W", "error", "-c", f"import {name.replace('-', '_')}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    brought = {line.split("==")[0] for line in uv("pip", "freeze", "--python", python).splitlines()}
    brought = {line.split(" @")[0] for line in brought}
    assert name in brought
    if (expected := BRINGS[name]) is not None:
        assert brought - MAYBE == expected
    else:
        assert not brought & {"aiosqlite", "asyncpg", "pymongo", "motor"}


USE = """
import asyncio, sys
from eventport import NewEvent, connect

async def main():
    async with connect(sys.argv[1]) as store:
        await store.append("order-1", [NewEvent("Placed", {"total": 1.5})])
        print((await store.read("order-1")).events[0].data)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("name", "url"), [("memory", "memory://"), ("sqlite", "sqlite:///orders.db")]
)
def test_adapter_is_found_by_its_scheme(dist: Path, tmp_path: Path, name: str, url: str) -> None:
    wheels = wheel(dist, "eventport"), wheel(dist, f"eventport-{name}")
    python = environment(tmp_path / "env", *wheels)
    done = run(python, "-W", "error", "-c", USE, url, cwd=tmp_path)
    assert done.stdout == "{'total': 1.5}\n", done.stderr


def test_missing_adapter_is_named_with_the_command_that_helps(dist: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "env", wheel(dist, "eventport"))
    done = run(python, "-c", USE, "sqlite:///orders.db", cwd=tmp_path)
    assert done.returncode != 0
    assert "python -m pip install 'eventport[sqlite]'" in done.stderr


def test_command_line_without_its_extra_says_what_to_install(dist: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "env", wheel(dist, "eventport"))
    done = run(python.with_name("eventport"), "--help", cwd=tmp_path)
    assert done.returncode == 2
    assert "pip install 'eventport[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_suite_runs_without_the_source_tree_and_beside_other_plugins(
    dist: Path, tmp_path: Path
) -> None:
    names = ("eventport", "eventport-memory", "eventport-conformance")
    python = environment(
        tmp_path / "env", *(wheel(dist, name) for name in names), "pytest-asyncio", "pytest-xdist"
    )
    project = tmp_path / "project"
    project.mkdir()
    (project / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    readme = (ROOT / "conformance/README.md").read_text()
    (program,) = re.findall(
        r"^```python test_memory.py\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL
    )
    (project / "test_memory.py").write_text(program)
    require = ["--conformance-report=report.json", "--conformance-require=memory"]
    done = run(python, "-m", "pytest", "-q", "-n", "2", *require, cwd=project)
    assert done.returncode == 0, done.stdout
    assert "memory: conformant" in done.stdout
    assert '"verdict": "conformant"' in (project / "report.json").read_text()

    partial = run(python, "-m", "pytest", "-q", "-k", "VER_01", *require, cwd=project)
    assert partial.returncode != 0
    assert "memory: partial 1/" in partial.stdout


FIXTURES = """
from eventport import EventStore, NewEvent

async def test_the_store(event_store: EventStore) -> None:
    assert (await event_store.append("order-1", [NewEvent("Placed", {})])).version == 1
"""

OPENED = """
import pytest
from eventport import NewEvent

@pytest.mark.asyncio
async def test_the_store(open_event_store) -> None:
    async with open_event_store() as store:
        assert (await store.append("order-1", [NewEvent("Placed", {})])).version == 1
"""


def test_the_fixtures_get_on_with_pytest_asyncio(dist: Path, tmp_path: Path) -> None:
    wheels = wheel(dist, "eventport"), wheel(dist, "eventport-memory")
    python = environment(tmp_path / "env", *wheels, "pytest-asyncio")
    project = tmp_path / "project"
    project.mkdir()
    (project / "conftest.py").write_text('pytest_plugins = ["eventport.testing.fixtures"]\n')
    for mode, program in (("auto", FIXTURES), ("strict", OPENED)):
        (project / "test_orders.py").write_text(program)
        done = run(python, "-m", "pytest", "-q", f"--asyncio-mode={mode}", cwd=project)
        assert done.returncode == 0, done.stdout
        assert "1 passed" in done.stdout
