"""The formats of an export: NDJSON, which can be imported, and tables of CSV and Parquet."""

from __future__ import annotations

import csv

from base64 import b64encode
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC
from enum import StrEnum
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, TypeAlias

import msgspec

from eventport.cli.compression import compression_of
from eventport.cli.ndjson import export_line
from eventport.errors import ConfigurationError
from eventport.events import RecordedEvent


ROW_GROUP_EVENTS: Final = 10_000
"""How many events a row group of Parquet has, at most."""

ROW_GROUP_BYTES: Final = 16 * 1024 * 1024
"""How many bytes of data and metadata a row group has, at most, and one event more."""

Write: TypeAlias = Callable[[RecordedEvent], object]
"""Writes one event."""


class Format(StrEnum):
    """What a file of events looks like."""

    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"


def format_of(path: Path) -> Format:
    """Return the format that the name of a file stands for, such as `orders.csv.gz`."""
    name = path.stem if compression_of(path) else path.name
    ending = Path(name).suffix.removeprefix(".")
    return Format(ending) if ending in {Format.CSV, Format.PARQUET} else Format.NDJSON


def writing(kind: Format, file: BinaryIO) -> AbstractContextManager[Write]:
    """Write events to a file, which is complete when the block ends.

    Raises:
        ConfigurationError: the extra for that format is not installed.
    """
    return _WRITERS[kind](file)


@contextmanager
def _ndjson(file: BinaryIO) -> Generator[Write]:
    yield lambda event: file.write(export_line(event))


class _Row(NamedTuple):
    """An event as a row of a table, whose columns have these names."""

    position: int
    stream: str
    version: int
    type: str
    data: str | None
    """JSON text; None if the data is bytes."""
    data_bytes: bytes | None
    """The data, if it is bytes."""
    metadata: str
    id: str
    recorded_at: Any
    tags: Any


_text: Final = msgspec.json.Encoder().encode


def _row(event: RecordedEvent) -> _Row:
    data = event.data
    return _Row(
        event.position,
        event.stream,
        event.version,
        event.type,
        None if isinstance(data, bytes) else _text(data).decode(),
        data if isinstance(data, bytes) else None,
        _text(event.metadata).decode(),
        str(event.id),
        event.recorded_at,
        sorted(event.tags),
    )


@contextmanager
def _csv(file: BinaryIO) -> Generator[Write]:
    text = TextIOWrapper(file, "utf-8", newline="")
    out = csv.writer(text, lineterminator="\n")
    out.writerow("data_base64" if name == "data_bytes" else name for name in _Row._fields)

    def write(event: RecordedEvent) -> None:
        row = _row(event)
        texts = {
            "data_bytes": None if row.data_bytes is None else b64encode(row.data_bytes).decode(),
            "recorded_at": f"{row.recorded_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "tags": _text(row.tags).decode(),
        }
        out.writerow((row._asdict() | texts).values())

    try:
        yield write
    finally:
        text.detach()  # which flushes it, and leaves the file open


@contextmanager
def _parquet(file: BinaryIO) -> Generator[Write]:
    pyarrow, parquet = _import_pyarrow()
    text, number = pyarrow.string(), pyarrow.int64()
    types = {
        "position": number,
        "version": number,
        "data_bytes": pyarrow.binary(),
        "recorded_at": pyarrow.timestamp("us", tz="UTC"),
        "tags": pyarrow.list_(text),
    }
    schema = pyarrow.schema([(name, types.get(name, text)) for name in _Row._fields])
    rows: list[_Row] = []
    size = 0

    def write_group() -> None:
        columns = zip(*rows, strict=True)
        arrays = [
            pyarrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)
        ]
        out.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
        rows.clear()

    def write(event: RecordedEvent) -> None:
        nonlocal size
        row = _row(event)
        rows.append(row)
        size += len(row.data or row.data_bytes or "") + len(row.metadata)
        if len(rows) == ROW_GROUP_EVENTS or size >= ROW_GROUP_BYTES:
            write_group()
            size = 0

    with parquet.ParquetWriter(_Counted(file), schema, compression="zstd") as out:
        yield write
        if rows:
            write_group()


class _Counted:
    """A file that knows where it is, even if it is a pipe."""

    closed = False
    mode = "wb"

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._place = 0

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self._place += len(data)
        return len(data)

    def tell(self) -> int:
        return self._place

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Leave the file open."""


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ModuleNotFoundError as exc:
        message = "Parquet needs an extra: python -m pip install 'eventport[parquet]'"
        raise ConfigurationError(message) from exc


_WRITERS: Final[dict[Format, Callable[[BinaryIO], AbstractContextManager[Write]]]] = {
    Format.NDJSON: _ndjson,
    Format.CSV: _csv,
    Format.PARQUET: _parquet,
}
