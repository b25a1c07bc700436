"""Proves that a pass over a million events takes little memory."""

from __future__ import annotations

import sqlite3

from contextlib import closing
from pathlib import Path

import pytest

from eventport_conformance.scripts import Start
from eventport_sqlite.schema import prepare


EVENTS = 1_000_000
MOST_KIB = 50 * 1024

# The same rows as appends of one event each would leave, only sooner.
FILL = """
    WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
    INSERT INTO eventport_events (stream, version, type, data, metadata, id, recorded_at)
    SELECT 'large', n, 'Counted', json_object('n', n, 'pad', 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'),
        '{}', randomblob(16), 1700000000000000 + n
    FROM numbers
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "events.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        prepare(db, str(path))
        db.execute("PRAGMA synchronous = OFF")
        db.execute(FILL, (EVENTS,))
    return path


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("aggregate", EVENTS),
        ("iterate", EVENTS),
        ("iterate_backwards", EVENTS),
        ("iterate_all", EVENTS),
        ("iterate_all_filtered", 0),
    ],
)
def test_a_pass_over_all_events_takes_little_memory(
    large: Path, start: Start, how: str, expected: int
) -> None:
    process = start("fold.py", large, how)
    output = process.output()
    count, growth = map(int, output.split())
    print(f"{how}: {count} events, peak + {growth} KiB")  # noqa: T201  # for those who pass -s
    assert count == expected
    assert growth <= MOST_KIB
