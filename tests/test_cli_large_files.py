"""An import of ten thousand events is whole, in one stream and in thousands."""

from __future__ import annotations

import json

from pathlib import Path

import anyio
import pytest

from tests.cli_files import EVENTPORT

from eventport_sqlite import SQLiteEventStore


COUNT = 10_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # all that aiosqlite can do


@pytest.mark.anyio
@pytest.mark.parametrize("streams", [1, 5_000])
async def test_ten_thousand_events(tmp_path: Path, streams: int) -> None:
    lines = [
        json.dumps({"stream": f"s-{n % streams}", "type": f"T{n % 7}", "data": {"n": n}})
        for n in range(COUNT)
    ]
    tmp_path.joinpath("log.ndjson").write_text("\n".join(lines) + "\n")
    command = [EVENTPORT, "import", "log.ndjson", "--store", "sqlite:///s.db"]
    for written in (COUNT, 0):
        done = await anyio.run_process(command, cwd=tmp_path)
        assert f"{written} events written, {COUNT - written} already there" in done.stderr.decode()
    async with await SQLiteEventStore.open(tmp_path / "s.db") as store:
        found = [event async for event in store.iterate_all()]
        last = await store.read(f"s-{streams - 1}", max_count=0)
    assert [event.data["n"] for event in found] == list(range(COUNT))
    assert last.version == COUNT // streams
