"""What the tests of configuration share: a directory each, and an adapter of somebody else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


THIRD_PARTY = """
from typing import Literal
from eventport.adapter import Adapter
from eventport_memory import MemoryEventStore

last = {}

async def open_store(url: str, *, size: int = 1, fast: bool = False, name: str | None = None,
                     mode: Literal["a", "b"] = "a", ratio: float = 0.5, anything=None):
    last.clear()
    last.update(url=url, size=size, fast=fast, name=name, mode=mode, ratio=ratio, anything=anything)
    return MemoryEventStore()

ADAPTER = Adapter(open=open_store)
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # all that aiosqlite can do


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a directory of its own, and no default store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVENTPORT_URL", raising=False)


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """Install an adapter of somebody else for ``other://``, and some that are broken."""
    site = tmp_path / "site"
    info = site / "eventport_other-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: eventport-other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[eventport.adapters]\n"
        "other = eventport_other:ADAPTER\n"
        "missing = eventport_not_there:open_store\n"
        "attribute = eventport_other:nothing\n"
        "broken = eventport_broken:open_store\n"
        "plain = eventport_other:open_store\n"
        "unclear = eventport_unclear:ADAPTER\n"
    )
    (site / "eventport_other.py").write_text(THIRD_PARTY)
    (site / "eventport_broken.py").write_text("raise RuntimeError('no such CPU')\n")
    (site / "eventport_unclear.py").write_text(
        "from __future__ import annotations\n"
        "from eventport.adapter import Adapter\n"
        "async def open_store(url: str, *, n: Nothing): ...\n"
        "ADAPTER = Adapter(open=open_store)\n"
    )
    monkeypatch.syspath_prepend(site)

    def last() -> dict[str, Any]:
        import eventport_other  # type: ignore[import-not-found]  # noqa: PLC0415

        called: dict[str, Any] = eventport_other.last
        return called

    return last
