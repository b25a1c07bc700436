"""The clauses about several processes, and about killed ones, find what is wrong."""

from __future__ import annotations

import os

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import pytest

from conformance.tests import shared_file_store
from conformance.tests.shared_file_store import (
    ADAPTERS,
    SharedFileEngine,
    SkipsHalfLines,
    Torn,
    WithoutLock,
    WritesLater,
)

from eventport import EventStore
from eventport.adapter import Store

from eventport_conformance import Capabilities, Harness, Supported, Unsupported
from eventport_conformance.clause import Clause, all_clauses
from eventport_conformance.proof.noop_store import NoOpStore
from eventport_conformance.running import run_clause


CLAUSES = {
    one.id: one for one in all_clauses() if "url" in one.uses and "conditions" not in one.needs
}
KILLED_BY: dict[type[SharedFileEngine], str] = {
    WithoutLock: "SHA-13",
    SkipsHalfLines: "SHA-14",
    WritesLater: "DUR-05",
    Torn: "DUR-05",
}

SEEN: dict[str, tuple[str, ...]] = {
    "SHA-13": ("what the processes reported of stream",),
    "SHA-14": ("number of events that the subscription gave",),
    "DUR-05": ("what was acknowledged is there", "events of a part of an append"),
}


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let other processes find the stores, as if a distribution of them were installed."""
    info = tmp_path / "shared_files-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: shared-file-stores\nVersion: 1.0\n"
    )
    names = [*ADAPTERS.values(), "nothing"]
    lines = [f"{name.replace('_', '-')} = shared_file_store:{name}" for name in names]
    (info / "entry_points.txt").write_text("\n".join(["[eventport.adapters]", *lines]))
    here = Path(shared_file_store.__file__ or "").parent
    example = here.parents[1] / "examples" / "file_store"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (tmp_path, here, example))))


class FileHarness(Harness):
    name = "file"
    capabilities = Capabilities(
        sessions=Supported(),
        global_order=Supported(),
        push=Unsupported("it polls"),
        shared=Supported(),
        durable=Supported(),
        guards=Unsupported("it checks only the streams that it writes"),
        conditions=Unsupported("it has no index"),
        times=Supported(),
        catalogue=Unsupported("it has no list"),
        hooks=Supported(),
    )
    engine: ClassVar[type[SharedFileEngine]] = SharedFileEngine
    path = Path()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[EventStore, None]:
        with TemporaryDirectory() as folder:
            self.path = Path(folder, "events")
            async with self.second_client() as opened:
                yield opened

    @asynccontextmanager
    async def second_client(self) -> AsyncGenerator[EventStore, None]:
        async with Store(self.engine(self.path)) as opened:
            yield opened

    def url(self) -> str:
        return f"{ADAPTERS[self.engine].replace('_', '-')}:///{self.path}"


@pytest.mark.parametrize("one", CLAUSES.values(), ids=lambda one: one.id)
def test_a_file_with_a_lock_passes_each(one: Clause) -> None:
    outcome = run_clause(FileHarness, one, "asyncio")
    assert outcome.result == "held", outcome.details


@pytest.mark.parametrize(
    ("engine", "id_"), KILLED_BY.items(), ids=[engine.__name__ for engine in KILLED_BY]
)
def test_a_mutant_is_killed(
    engine: type[SharedFileEngine], id_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileHarness, "engine", engine)
    outcome = run_clause(FileHarness, CLAUSES[id_], "asyncio")
    assert outcome.result == "failed", f"{id_} does not see it"
    assert outcome.reason.startswith(SEEN[id_]), outcome.details


def test_each_clause_kills_a_mutant() -> None:
    assert set(KILLED_BY.values()) == set(CLAUSES)


class NothingHarness(FileHarness):
    name = "nothing"

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[EventStore, None]:
        yield NoOpStore()

    def url(self) -> str:
        return "nothing://"


@pytest.mark.parametrize("one", CLAUSES.values(), ids=lambda one: one.id)
def test_the_noop_store_fails(one: Clause) -> None:
    outcome = run_clause(NothingHarness, one, "asyncio")
    assert outcome.result == "failed"
    assert "opens the store" not in outcome.reason
