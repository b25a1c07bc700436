"""The double keeps the rules of the real server that the adapter has to cope with."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from adapters.eventstoredb.tests.double.database import (
    ANY,
    EXISTS,
    LAST_REVISION,
    NO_STREAM,
    Appended,
    Database,
    InvalidPosition,
    NotFound,
    Proposed,
    Record,
    StreamDeleted,
    TooLarge,
    WrongExpectedVersion,
    matcher,
)


def event(id_: str = "a", size: int = 2) -> Proposed:
    return Proposed(str(UUID(int=ord(id_))), "T", "application/json", b"1" * size, b"")


def metadata(text: str) -> Proposed:
    return Proposed(str(uuid4()), "$metadata", "application/json", text.encode(), b"")


def ids(database: Database, stream: str = "s") -> list[str]:
    return [letter(r) for r in database.read(stream, None, 100, backwards=False)]


def letter(record: Record) -> str:
    return chr(UUID(record.event.id).int)


def test_an_exact_retry_succeeds_with_the_original_position() -> None:
    database = Database()
    first = database.append("s", NO_STREAM, [event("a"), event("b")])
    assert database.append("s", NO_STREAM, [event("a"), event("b")]) == first
    assert database.append("s", NO_STREAM, [event("a")]) == Appended(0, database.log[1].position)
    with pytest.raises(WrongExpectedVersion):
        database.append("s", NO_STREAM, [event("a"), event("b"), event("c")])
    with pytest.raises(WrongExpectedVersion):
        database.append("s", NO_STREAM, [event("b")])
    assert ids(database) == ["a", "b"]


def test_at_the_head_no_ids_are_compared() -> None:
    database = Database()
    database.append("s", NO_STREAM, [event("a")])
    database.append("s", 0, [event("a")])
    assert ids(database) == ["a", "a"]


@pytest.mark.parametrize(("remembered", "count"), [(100, 1), (0, 2)])
def test_any_knows_a_retry_only_by_its_cache(remembered: int, count: int) -> None:
    database = Database(remembered_ids=remembered)
    for _ in range(2):
        database.append("s", ANY, [event("a")])
    assert len(ids(database)) == count


def test_a_conflict_tells_the_current_revision() -> None:
    database = Database()
    database.append("s", ANY, [event("a"), event("b")])
    with pytest.raises(WrongExpectedVersion) as caught:
        database.append("s", 7, [event("c")])
    assert caught.value.current == 1
    with pytest.raises(WrongExpectedVersion) as caught:
        database.append("missing", 7, [event("c")])
    assert caught.value.current == -1


def test_exists_is_content_with_metadata() -> None:
    database = Database()
    with pytest.raises(WrongExpectedVersion):
        database.append("s", EXISTS, [event("a")])
    database.append("$$s", ANY, [metadata('{"$maxCount": 9}')])
    database.append("s", EXISTS, [event("a")])
    assert ids(database) == ["a"]


def test_a_soft_deletion_hides_and_the_numbering_goes_on() -> None:
    database = Database()
    database.append("s", ANY, [event("a"), event("b")])
    database.delete("s", 1)
    with pytest.raises(NotFound):
        ids(database)
    assert database.append("s", NO_STREAM, [event("c")]).revision == 2
    assert ids(database) == ["c"]


def test_an_empty_append_undeletes() -> None:
    database = Database()
    database.append("s", ANY, [event("a")])
    database.delete("s", ANY)
    database.append("s", ANY, [])
    assert ids(database) == []


def test_a_tombstone_is_for_good() -> None:
    database = Database()
    database.append("s", ANY, [event("a")])
    database.tombstone("s", ANY)
    for expected in (ANY, NO_STREAM, EXISTS, 0):
        with pytest.raises(StreamDeleted):
            database.append("s", expected, [event("b")])
    with pytest.raises(StreamDeleted):
        ids(database)
    assert database.log[-1].revision == LAST_REVISION


def test_truncation_hides_the_oldest() -> None:
    database = Database()
    database.append("s", ANY, [event(c) for c in "abcde"])
    database.append("$$s", ANY, [metadata('{"$maxCount": 2}')])
    assert ids(database) == ["d", "e"]
    assert [letter(r) for r in database.read("s", 0, 1, backwards=False)] == ["d"]
    database.append("$$s", ANY, [metadata('{"$tb": 9}')])
    assert ids(database) == []
    assert [letter(r) for r in database.log if r.stream == "s"] == list("abcde")


def test_positions_are_byte_offsets() -> None:
    database = Database()
    database.append("s", ANY, [event("a"), event("b", 50)])
    positions = [record.position for record in database.log]
    assert positions == sorted(set(positions))
    assert database.index_of(positions[2]) == 2
    with pytest.raises(InvalidPosition):
        database.index_of(positions[2] - 1)
    assert database.index_of(10**9) == len(database.log)


def test_an_append_has_a_largest_size() -> None:
    database = Database(max_append_size=10)
    with pytest.raises(TooLarge):
        database.append("s", ANY, [event("a", 6), event("b", 6)])
    assert len(database.log) == 1


def test_filters_are_patterns_or_prefixes() -> None:
    assert matcher("^(?:a|bc)$", [])("bc")
    assert not matcher("^(?:a|bc)$", [])("abc")
    assert matcher("", ["ab", "x"])("abc")
    assert not matcher("", ["ab"])("xab")
