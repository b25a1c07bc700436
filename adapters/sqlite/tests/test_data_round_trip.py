"""Proves that whatever an event may hold comes out as it went in, from SQLite and from memory."""

from __future__ import annotations

import math
import sqlite3

from collections.abc import AsyncGenerator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventport import CorruptEventError, EventStore, InvalidEventError, NewEvent, connect

from eventport_sqlite import SQLiteEventStore


Query = Callable[..., list[tuple[object, ...]]]

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=120)
STREAMS = NAMES.filter(lambda name: not name.startswith("$"))
KEYS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from([-0.0, 1.0, 1e300, 5e-324, 2**53 + 1, -(2**63), "\0", "", "{}", "null"])
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=12
)
METADATA = st.dictionaries(KEYS, JSON, max_size=4) | st.fixed_dictionaries(
    {"version": SCALARS, "position": SCALARS, "$id": SCALARS, "stream.name": SCALARS}
)
EVENTS = st.builds(NewEvent, NAMES, JSON | st.binary(), METADATA, st.uuids())


@pytest.fixture(params=["memory", "sqlite"])
async def any_store(request: pytest.FixtureRequest, path: Path) -> AsyncGenerator[EventStore, None]:
    async with connect("memory://" if request.param == "memory" else f"sqlite:///{path}") as store:
        yield store


def same(left: Any, right: Any) -> bool:
    """Compare more strictly than ``==``: types, signs of zero, and the order of keys count."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return bool(left == right)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=STREAMS, events=st.lists(EVENTS, min_size=1, max_size=4, unique_by=lambda e: e.id))
async def test_what_goes_in_comes_out(
    any_store: EventStore, name: str, events: list[NewEvent]
) -> None:
    before = (await any_store.read(name)).version
    after = (await any_store.read_all(max_count=10_000)).position
    await any_store.append(name, events, expected=before)
    recorded = (await any_store.read(name, from_version=before + 1)).events
    assert recorded == (await any_store.read_all(after=after)).events
    for version, (event, found) in enumerate(zip(events, recorded, strict=True), before + 1):
        assert (found.stream, found.version, found.id) == (name, version, event.id)
        assert same(found.type, event.type)
        assert same(found.data, event.data)
        assert same(found.metadata, event.metadata)


@pytest.mark.parametrize(
    "data",
    [
        float("nan"),
        [float("inf")],
        2**63,
        {"n": -(2**63) - 1},
        "\ud800",
        {"\udfff": 1},
        {1: 1},
        {"a\0b": 1},
        {"raw": b"bytes"},
        (1, 2),
        {1, 2},
        uuid4(),
        object(),
    ],
)
async def test_what_could_not_come_out_does_not_go_in(any_store: EventStore, data: Any) -> None:
    good = NewEvent("Good", 1)
    with pytest.raises(InvalidEventError):
        await any_store.append("s", [good, NewEvent("Bad", data)])
    with pytest.raises(InvalidEventError):
        await any_store.append("s", [good, NewEvent("Bad", None, {"key": data})])
    assert (await any_store.read("s")).version == 0
    assert (await any_store.append("s", [good])).position == 1


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
