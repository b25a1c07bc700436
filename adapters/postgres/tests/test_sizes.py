"""Proves that the size of an append is counted in bytes, as the server counts them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from eventport import NewEvent, PayloadTooLargeError
from eventport.adapter import Commit, EncodedEvent, StreamWrite

from eventport_postgres import PostgresEventStore, arguments
from eventport_postgres.batches import Statements
from eventport_postgres.schema import Place


def commit(*data: str | bytes) -> list[Commit]:
    events = [EncodedEvent("E", one, "{}", uuid4(), size=len(one)) for one in data]
    return [Commit((StreamWrite("s", "any", events),))]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("one", "size"), [("a", 1), ("ß", 2), ("€", 3), ("😀", 4), (b"a", 1)])
def test_the_limit_counts_bytes(
    monkeypatch: pytest.MonkeyPatch, one: str | bytes, size: int, count: int
) -> None:
    monkeypatch.setattr(arguments, "MAX_BYTES", 12_000 + 2 * count)
    statements = Statements("s", Place(1, 0, ""))
    many: Any = one
    most = many * (12_000 // size // count)
    statements.write(commit(*[most] * count))
    with pytest.raises(PayloadTooLargeError, match=r"an append of 120.. bytes is too large"):
        statements.write(commit(*[most] * (count - 1), most + many))


def test_names_and_types_count_for_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "MAX_MESSAGE", 10_000)
    statements = Statements("s", Place(1, 0, ""))
    event = EncodedEvent("E", "1", "{}", uuid4(), 3)
    long = StreamWrite("s" * 200, "any", [event] * 40)
    statements.write([Commit((StreamWrite("s", "any", [event] * 40),))])
    with pytest.raises(PayloadTooLargeError, match=r"the most is 10000; append fewer events"):
        statements.write([Commit((long,))])


async def test_emoji_beyond_the_limit_are_refused_with_nothing_written(
    store: PostgresEventStore,
) -> None:
    text = "😀" * (65 * 1024 * 1024)
    with pytest.raises(PayloadTooLargeError, match="the most is 268435456"):
        await store.append("s", [NewEvent("E", text)])
    assert not (await store.read("s")).exists


async def test_a_batch_keeps_line_ends_and_empty_values(store: PostgresEventStore) -> None:
    events = [
        NewEvent("E", "a\nb\r\n\x0b\x0c\x1c\x85\u2028\u2029"),
        NewEvent("E", b"\n"),
        NewEvent("E", {"\n": "\n", "": ""}, {"\n": "\n\n"}),
        NewEvent("E", b""),
        NewEvent("E", ""),
        NewEvent("E", None, {"": None}),
    ]
    await store.append("s", events)
    found = (await store.read("s")).events
    assert [(e.data, e.metadata, e.id) for e in found] == [
        (e.data, e.metadata, e.id) for e in events
    ]
