"""Proves in which form events lie in the file, and that what others have broken is named."""

from __future__ import annotations

import sqlite3

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from eventport import ConcurrencyError, CorruptEventError, NewEvent

from eventport_sqlite import SQLiteEventStore


Query = Callable[..., list[tuple[object, ...]]]


async def test_json_is_text_and_bytes_are_a_blob(store: SQLiteEventStore, query: Query) -> None:
    await store.append(
        "s", [NewEvent("Text", {"a": [1, "é"]}, {"by": "me"}), NewEvent("Raw", b"1")]
    )
    rows = query("SELECT typeof(data), data, typeof(metadata), metadata FROM eventport_events")
    assert rows == [
        ("text", '{"a":[1,"é"]}', "text", '{"by":"me"}'),
        ("blob", b"1", "text", "{}"),
    ]
    assert query("SELECT data ->> '$.a[1]' FROM eventport_events WHERE type = 'Text'") == [("é",)]


async def test_a_stream_whose_first_events_were_deleted_by_hand_goes_on(
    store: SQLiteEventStore, path: Path
) -> None:
    await store.append("s", [NewEvent("Stored", n) for n in range(3)])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DELETE FROM eventport_events WHERE version < 3")
    for expected in ("no_stream", 0, 1, 2):
        with pytest.raises(ConcurrencyError) as caught:
            await store.append("s", [NewEvent("Lone", None)], expected=expected)
        assert caught.value.actual == 3
    written = await store.append("s", [NewEvent("Lone", None)], expected=3)
    assert (written.version, written.created) == (4, False)
    (read,) = (await store.read("s", from_version=4)).events
    assert (read.position, read.type) == (written.position, "Lone")


BROKEN = {
    "data is no JSON": "UPDATE eventport_events SET data = '{'",
    "data is a number": "UPDATE eventport_events SET data = 3",
    "metadata is no JSON": "UPDATE eventport_events SET metadata = ''",
    "id is too short": "UPDATE eventport_events SET id = x'00'",
    "time is beyond all calendars": "UPDATE eventport_events SET recorded_at = 9000000000000000000",
}


@pytest.mark.parametrize("statement", BROKEN.values(), ids=BROKEN)
async def test_what_somebody_else_has_broken_is_named(
    store: SQLiteEventStore, path: Path, statement: str
) -> None:
    await store.append("s", [NewEvent("Stored", {"a": n}) for n in range(3)])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(statement)
    with pytest.raises(CorruptEventError, match=r"position 1|event 1 of stream 's'") as first:
        await store.read("s")
    with pytest.raises(CorruptEventError, match=r"position 1|event 1 of stream 's'") as second:
        await store.read_all()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        # No read transaction was left open, or the log could not be emptied.
        assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    assert first.value is not second.value  # both are kept until here, with their tracebacks
