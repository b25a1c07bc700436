"""Exports as tables and archives, read back by libraries that others use for that."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import subprocess
import sys

from base64 import b64decode
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pytest

from tests.archives import zstd
from tests.cli_files import Command
from tests.copies import fill

from eventport import NewEvent, RecordedEvent
from eventport.cli import formats
from eventport.cli.formats import Format, writing

from eventport_sqlite import SQLiteEventStore


pq: Any = import_module("pyarrow.parquet")  # which has no types
Row: TypeAlias = tuple[Any, ...]


@pytest.fixture
def events(tmp_path: Path) -> list[RecordedEvent]:
    """All kinds of events, in the store of the test."""
    return asyncio.run(fill_and_read(tmp_path))


async def fill_and_read(tmp_path: Path) -> list[RecordedEvent]:
    async with await SQLiteEventStore.open(tmp_path / "s.db") as store:
        await fill(store, 200, 12, seed=3)
        awkward = {"text": 'a "quoted", text\r\nof\ttwo lines;=1+1'}
        await store.append("=A1,'\"; é", [NewEvent('"', awkward, tags={"a,b", '"', "é"})])
        return [event async for event in store.iterate_all()]


def row_of(event: RecordedEvent) -> Row:
    """Return what a table has to hold of an event; repr tells 1 from 1.0."""
    return (
        (event.position, event.stream, event.version, event.type, str(event.id)),
        (repr(event.data), repr(event.metadata), event.recorded_at, sorted(event.tags)),
    )


def row_from(values: dict[str, Any]) -> Row:
    own = ("position", "stream", "version", "type", "id")
    data = values["data_bytes"] if values["data"] is None else json.loads(values["data"])
    metadata = json.loads(values["metadata"])
    return (
        tuple(values[name] for name in own),
        (repr(data), repr(metadata), values["recorded_at"], values["tags"]),
    )


def from_csv(row: dict[str, str]) -> Row:
    values: dict[str, Any] = {
        **row,
        "position": int(row["position"]),
        "version": int(row["version"]),
        "data": row["data"] or None,
        "data_bytes": b64decode(row["data_base64"]),
        "recorded_at": datetime.fromisoformat(row["recorded_at"]),
        "tags": json.loads(row["tags"]),
    }
    return row_from(values)


def test_a_csv_file_holds_all_of_each_event(
    eventport: Command, tmp_path: Path, events: list[RecordedEvent]
) -> None:
    done = eventport("export", "all.csv")
    assert f"{len(events)} events exported" in done.stderr
    text = (tmp_path / "all.csv").read_text("utf-8")
    assert text.partition("\n")[0] == (
        "position,stream,version,type,data,data_base64,metadata,id,recorded_at,tags"
    )
    assert text.count("\n") == len(events) + 1  # each event is one line
    rows = csv.DictReader(io.StringIO(text, newline=""))
    assert [from_csv(row) for row in rows] == [row_of(event) for event in events]
    names = (
        duckdb.connect().execute(f"SELECT stream, data FROM '{tmp_path / 'all.csv'}'").fetchall()
    )
    assert names[-1] == ("=A1,'\"; é", json.dumps(events[-1].data, separators=(",", ":")))
    assert eventport("export", "-", "--format", "csv").stdout == text


def test_a_parquet_file_holds_all_of_each_event(
    eventport: Command, tmp_path: Path, events: list[RecordedEvent]
) -> None:
    assert f"{len(events)} events exported" in eventport("export", "all.parquet").stderr
    found = pq.read_table(tmp_path / "all.parquet").to_pylist()
    assert [row_from(row) for row in found] == [row_of(event) for event in events]
    query = f"SELECT count(*), count(DISTINCT stream) FROM '{tmp_path}/all.parquet'"
    counted = duckdb.connect().execute(query).fetchone()
    assert counted == (len(events), len({event.stream for event in events}))


def test_a_parquet_file_goes_through_a_pipe(tmp_path: Path, events: list[RecordedEvent]) -> None:
    file = tmp_path / "piped.parquet"
    command = f"{sys.executable} -m eventport export --format parquet --store sqlite:///s.db | cat"
    with file.open("wb") as out:
        subprocess.run(command, shell=True, cwd=tmp_path, stdout=out, check=True, timeout=60)
    assert pq.read_table(file).num_rows == len(events)


def test_an_export_of_nothing_has_the_columns(eventport: Command, tmp_path: Path) -> None:
    eventport("import", "-", stdin='{"stream": "s", "type": "E", "data": 1}\n')
    eventport("export", "none.parquet", "--after", "1")
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0
    eventport("export", "none.csv", "--after", "1")
    assert (tmp_path / "none.csv").read_text().count("\n") == 1


def test_a_parquet_file_is_written_in_groups(
    monkeypatch: pytest.MonkeyPatch, events: list[RecordedEvent]
) -> None:
    """So memory does not grow with the number of the events, nor with their size."""
    for name, limit, groups in (("ROW_GROUP_EVENTS", 50, 5), ("ROW_GROUP_BYTES", 1, len(events))):
        file = io.BytesIO()
        with monkeypatch.context() as patch:
            patch.setattr(formats, name, limit)
            with writing(Format.PARQUET, file) as write:
                for event in events:
                    write(event)
        file.seek(0)
        read = pq.ParquetFile(file)
        assert read.num_row_groups == groups
        assert read.metadata.num_rows == len(events)


@pytest.mark.parametrize(("ending", "unpack"), [("gz", gzip.decompress), ("zst", zstd.decompress)])
def test_an_export_is_compressed_as_its_name_says(
    eventport: Command, tmp_path: Path, events: list[RecordedEvent], ending: str, unpack: Any
) -> None:
    plain = eventport("export").stdout
    for name in (f"all.ndjson.{ending}", f"all.csv.{ending}"):
        assert f"{len(events)} events exported" in eventport("export", name).stderr
    packed = tmp_path / f"all.ndjson.{ending}"
    assert unpack(packed.read_bytes()).decode() == plain
    assert unpack((tmp_path / f"all.csv.{ending}").read_bytes()).startswith(b"position,stream,")
    done = eventport("import", packed.name, "--store", "sqlite:///copy.db")
    assert f"{len(events)} events written" in done.stderr
    again = eventport("export", "again." + ending, "--store", "sqlite:///copy.db")
    assert (tmp_path / f"again.{ending}").read_bytes() == packed.read_bytes(), again.stderr


def test_an_export_that_fails_leaves_no_table(
    eventport: Command, tmp_path: Path, events: list[RecordedEvent]
) -> None:
    assert events
    for name in ("all.parquet", "all.csv.zst"):
        failed = eventport("export", name, "--store", "sqlite:///missing.db")
        assert failed.returncode == 1
        missing = eventport("export", f"nowhere/{name}")
        assert "nowhere: No such file" in missing.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if "s.db" not in path.name) == []


@pytest.mark.parametrize(
    ("arguments", "library", "extra"),
    [
        (["export", "all.parquet"], "pyarrow", "parquet"),
        (["export", "all.csv.zst"], "zstd", "zstd"),
        (["import", "log.zst"], "zstd", "zstd"),
    ],
)
def test_a_missing_extra_is_named(
    tmp_path: Path, arguments: list[str], library: str, extra: str
) -> None:
    (tmp_path / "log.zst").write_bytes(zstd.compress(b'{"stream":"s","type":"E","data":1}\n'))
    blocked = {"pyarrow": ["pyarrow"], "zstd": ["compression.zstd", "backports.zstd"]}[library]
    program = f"""
import sys
sys.modules.update(dict.fromkeys({blocked!r}))  # an import of these fails, as if not installed
from eventport.cli import main
sys.exit(main())
"""
    subprocess.run(
        [sys.executable, "-m", "eventport", "import", "-", "--store", "sqlite:///s.db"],
        cwd=tmp_path,
        input=b"",
        check=True,
        timeout=60,
    )
    before = sorted(path.name for path in tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, "--store", "sqlite:///s.db"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=60,
        text=True,
    )
    assert done.returncode == 1
    assert f"python -m pip install 'eventport[{extra}]'" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before
